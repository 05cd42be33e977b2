"""The short words in which a command line says how images are made, and what the recipe has for them."""

from __future__ import annotations

import argparse
import json

from .runs import BEST

SAMPLER_KEYS = {
    "sampler": "sampler.name",
    "steps": "sampler.steps",
    "guidance": "sampler.guidance",
    "away_from": "sampler.reference",
    "device": "device",
}


def network_value(text: str) -> str:
    """The recipe's value for RUN, RUN@STEP, RUN@best, @STEP or @best; null and a mapping are such values.

    Raises:
        argparse.ArgumentTypeError: None of these.
    """
    if text == "null" or text.startswith("{"):
        return text
    if not text:
        raise argparse.ArgumentTypeError("an empty text is no run; write RUN, RUN@STEP, @STEP or null")
    run, at, step = text.rpartition("@") if "@" in text else (text, "", "")
    if at and step != BEST and not step.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r}: after @ stands the step of a checkpoint, as in {run or 'run'}@400, or {BEST}"
        )
    return json.dumps({"run": run or None, "step": int(step) if step.isdecimal() else step or None})
