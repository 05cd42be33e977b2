"""Putting somebody's weights into a network: what fits, what does not, and what that comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ...core import DataSpec, class_weights
from ...registry import UserError

WRAPPERS = ("module", "model", "ema", "ema_model", "network", "state_dict", "backbone")
COMPILED = "_orig_mod."
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Fit:
    """How weights fit a network; every name is the network's.

    Attributes:
        taken: Weights of the same name and shape.
        missing: Weights that the network has and the source lacks.
        extra: Weights that the source has and the network lacks.
        reshaped: Weights with another shape there, first, than here.
        by_classes: Those of the three that differ since the number of classes does.
    """

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reshaped: Mapping[str, tuple[Shape, Shape]]
    by_classes: frozenset[str]

    @property
    def wrong(self) -> bool:
        """Whether something differs that a change of classes does not explain."""
        return bool({*self.missing, *self.extra, *self.reshaped} - self.by_classes)

    @property
    def anew(self) -> frozenset[str]:
        """The weights of the network that start anew."""
        return frozenset((*self.missing, *self.reshaped))

    def lines(self, of_classes: bool | None = None) -> Iterator[str]:
        """What does not fit, a line each.

        Args:
            of_classes: Only what the classes explain, or only the rest; None is all.
        """
        told = {name: "missing there" for name in self.missing} | {name: "unknown here" for name in self.extra}
        told |= {name: f"{there} there, {here} here" for name, (there, here) in self.reshaped.items()}
        for name, text in told.items():
            if of_classes is None or (name in self.by_classes) == of_classes:
                yield f"{name}: {text}"


def fit(
    tensors: Mapping[str, Tensor], network: nn.Module, make: Callable[[DataSpec], nn.Module], spec: DataSpec
) -> Fit:
    """How weights fit a network.

    Args:
        tensors: The weights, by the network's names.
        network: What they are for.
        make: Builds such a network for a spec.
        spec: What the network sees.
    """
    mine = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in tensors.items()}
    taken = tuple(name for name in mine if theirs.get(name) == mine[name])
    missing = tuple(name for name in mine if name not in theirs and not _twin_in(name, network, theirs))
    extra = tuple(name for name in theirs if name not in mine)
    reshaped = {name: (theirs[name], mine[name]) for name in mine if theirs.get(name, mine[name]) != mine[name]}
    classes = class_weights(make, spec) if missing or extra or reshaped else {}
    by_classes = {name for name in (*missing, *extra) if name in classes}
    by_classes |= {name for name, (there, here) in reshaped.items() if _along(there, here, classes.get(name))}
    return Fit(taken, missing, extra, reshaped, frozenset(by_classes))


def put(tensors: Mapping[str, Tensor], found: Fit, network: nn.Module) -> None:
    """Put what fits into the network.

    Raises:
        UserError: Numbers that are no weights.
    """
    for name in found.taken:
        if not tensors[name].is_floating_point():
            raise UserError(
                f"init_from: {name} is of {tensors[name].dtype} there, which are no weights to train: convert them to "
                "floating point first"
            )
        if not tensors[name].isfinite().all():
            raise UserError(f"init_from: {name} holds numbers that are not finite; take weights from before they broke")
    network.load_state_dict({name: tensors[name] for name in found.taken}, strict=False)


def unwrapped(tensors: Mapping[str, Tensor], network: nn.Module, averaged: bool) -> tuple[dict[str, Tensor], str]:
    """The weights under the network's own names, without what others put before them; and what that was.

    ``_orig_mod.`` of compiled networks goes wherever it stands. A word of `WRAPPERS` before all names, or before those
    of one of several networks in a file, goes if more of the names are then the network's.

    Args:
        tensors: By the names that they have.
        network: What they are for.
        averaged: Whether the averaged weights are wanted of a file that has both.
    """
    mine = set(network.state_dict())
    plain = {name.replace(COMPILED, ""): value for name, value in tensors.items()}
    found = max(_unwrappings(plain, "", averaged), key=lambda one: len(mine & one[1].keys()))
    stripped = ([COMPILED] if plain.keys() != tensors.keys() else []) + ([found[0]] if found[0] else [])
    return found[1], " and ".join(stripped)


def _unwrappings(tensors: Mapping[str, Tensor], before: str, averaged: bool) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(what was stripped, what is left), the weights as they are first; of equals the first is taken."""
    yield before, dict(tensors)
    for word in sorted(WRAPPERS, key=lambda word: word.startswith("ema") != averaged):
        inner = {name[len(word) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{word}.")}
        if inner:
            yield from _unwrappings(inner, f"{before}{word}.", averaged)


def _twin_in(name: str, network: nn.Module, theirs: Mapping[str, Shape]) -> bool:
    """Whether a weight is there under its other name: safetensors holds tied weights once."""
    held = network.state_dict(keep_vars=True)
    return any(held[other] is held[name] for other in held if other != name and other in theirs)


def _along(there: Shape, here: Shape, dims: frozenset[int] | None) -> bool:
    """Whether two shapes differ in nothing but the dimensions that count classes."""
    if dims is None or len(there) != len(here):
        return False
    return {i for i, (a, b) in enumerate(zip(there, here, strict=True)) if a != b} <= dims
