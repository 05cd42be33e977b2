"""The flags that say on how many ranks a command works."""

from __future__ import annotations

import argparse

from .orphans import DEFAULT_GRACE_S


def add_launch(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own. None of them has a default: that it was given is what matters."""
    group = parser.add_argument_group("ranks", "without these: every GPU that is found, a rank on each, or one CPU")
    group.add_argument("--gpus", type=_at_least(1), metavar="N", help="that many GPUs of this machine")
    group.add_argument("--gpu-ids", type=_ids, metavar="LIST", help="these GPUs, numbered from 0: 0,2")
    group.add_argument("--ranks", type=_at_least(1), metavar="N", help="processes on this machine; on CPUs too")
    group.add_argument(
        "--nodes", type=_at_least(1), metavar="N", help="machines; the same command is given on each of them"
    )
    group.add_argument(
        "--rendezvous", metavar="HOST:PORT", help="where they meet: one of the machines, and a port that is free there"
    )
    group.add_argument(
        "--restarts", type=_at_least(0), metavar="N", help="when a rank dies, start all again from the last checkpoint"
    )
    group.add_argument(
        "--grace",
        type=_at_least(1),
        metavar="SECONDS",
        help=f"time to stop in, a checkpoint included, after Ctrl-C or SIGTERM (default: {DEFAULT_GRACE_S})",
    )


def _at_least(least: int) -> type[int]:
    def read(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is not at least {least}")
        return value

    read.__name__ = "whole number"  # argparse says it of what int() refuses
    return read  # type: ignore[return-value]


def _ids(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers with commas between, as 0,2")
    return [int(word) for word in words]
