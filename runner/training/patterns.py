"""Patterns over the names of weights: what `train.freeze` and `train.lr_factors` choose by.

A pattern names a weight or a part of the network, which stands for all the weights in it: `blocks.0` is the whole first
block. `*` is any text, dots included, `?` one character, `[ab]` one of these, `[!ab]` one of others; capital letters
count. The names are those of the backbone in a checkpoint; an objective's own weights have `objective.` before theirs.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from ...registry import UserError

SHOWN = 6


def matching(names: Iterable[str], patterns: Iterable[str], where: str) -> dict[str, list[str]]:
    """The names that each pattern chooses.

    Args:
        names: Of weights.
        patterns: The recipe's.
        where: The recipe's key, for the message.

    Raises:
        UserError: A pattern chooses nothing; the message shows names that look like it.
    """
    there = list(names)
    found = {pattern: [name for name in there if chooses(pattern, name)] for pattern in patterns}
    for pattern, chosen in found.items():
        if not chosen:
            raise UserError(f"{where}: {pattern!r} is the name of no weight{_near(pattern, there)}")
    return found


def chooses(pattern: str, name: str) -> bool:
    """Whether a pattern means this weight, or a part of the network that it lies in."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")


def factors_of(names: Sequence[str], factors: Mapping[str, float]) -> dict[str, float]:
    """The factor on the learning rate of each weight: the product over all patterns that choose it.

    A product, since it does not depend on the order in which the patterns are written.

    Args:
        names: Of weights.
        factors: `train.lr_factors`.

    Raises:
        UserError: A pattern chooses nothing.
    """
    found = dict.fromkeys(names, 1.0)
    for pattern, chosen in matching(names, factors, "train.lr_factors").items():
        for name in chosen:
            found[name] *= factors[pattern]
    return found


def freeze(module: nn.Module, patterns: Sequence[str]) -> None:
    """Take the weights that patterns choose out of training; before a strategy places the module.

    They have no gradient, so no decay, no moments, no share in the gradient's norm, and no exchange between ranks.
    Which weights of a strategy's groups want gradients must be known when it makes these, and the same on every rank.

    Args:
        module: A `Learner`.
        patterns: `train.freeze`.

    Raises:
        UserError: A pattern chooses nothing, or nothing is left to train.
    """
    if not patterns:
        return
    weights = {name_of(name): weight for name, weight in module.named_parameters()}
    chosen = {name for some in matching(weights, patterns, "train.freeze").values() for name in some}
    frozen = [name for name in weights if name in chosen]
    for name in frozen:
        weights[name].requires_grad_(False)
    if not any(weight.requires_grad for weight in weights.values()):
        raise UserError("train.freeze: all weights are frozen, and nothing is left to train; take a pattern out")


def name_of(weight: str) -> str:
    """What recipes call a weight of a `Learner`: its name in a checkpoint, so without ``backbone.`` before it."""
    return weight.removeprefix("backbone.")


def _near(pattern: str, names: Sequence[str]) -> str:
    """Names that look like a pattern; else the parts that the network is made of."""
    parts = {name: None for weight in names for name in _and_above(weight)}
    asked = pattern.replace("*", "0")
    near = difflib.get_close_matches(asked, parts, n=SHOWN, cutoff=0.6)
    if near:
        return f"; near it are {', '.join(near)}"
    tops = list(dict.fromkeys(weight.split(".")[0] for weight in names))
    more = ", ..." if len(tops) > 2 * SHOWN else ""
    return f"; the network's parts are {', '.join(tops[: 2 * SHOWN])}{more}"


def _and_above(name: str) -> list[str]:
    """A weight's name, and those of the parts that it lies in: a.b.c, a.b, a."""
    words = name.split(".")
    return [".".join(words[:count]) for count in range(len(words), 0, -1)]
