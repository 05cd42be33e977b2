"""Starting from weights that are there (`init_from`): read, held against the network, put into it, and told of.

The optimizer, the averages and the count of steps start afresh; averages begin with these weights. A run that goes on
from a checkpoint of its own needs the source no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from ...files.words import a_line_each, few
from ...registry import InitFrom, Recipe, UserError, differences, read
from ..assemble import Model, part
from ..average_rules import in_numbers
from ..console import log
from ..folder import RunFolder
from ..runs import spec_of
from .fitting import Fit, fit, put, unwrapped
from .patterns import chooses
from .sources import WHERE, Source

FACTS = f"{WHERE}."
SHOWN = 8
LIKE = ("backbone.", "codec.", "schedule.", "prediction.", "train.label_dropout")


@dataclass(frozen=True)
class Started:
    """A network that starts from weights that were there.

    Attributes:
        facts: What a run notes of it.
        report: All that was taken and all that was not, for a file of the run.
    """

    facts: Mapping[str, str]
    report: str


def start_from(recipe: Recipe, model: Model, source: Source) -> Started:
    """Put the weights that a recipe names into the model's backbone, and say what came of it.

    Args:
        recipe: With an `init_from`.
        model: Its backbone is on the CPU, not yet in anybody's hands.
        source: Those weights.

    Raises:
        UserError: Weights of another network; the message names the tensors.
    """
    init, network = recipe.init_from, model.backbone
    assert init is not None, "asked by the caller"
    _check_weights(init, source, network)
    tensors, stripped = unwrapped(source.tensors, network, init.weights != "raw")
    found = fit(tensors, network, lambda spec: part("backbone", recipe.backbone, spec), model.codec.spec)
    _check(found, init, source)
    put(tensors, found, network)
    lines = [*_summary(found, source, stripped), *_other_run(source.run, recipe, model)]
    for line in lines:
        log.info("%s: %s", WHERE, line)
    _warn(found, recipe)
    facts = {"source": source.about, "sha256": source.sha256, "taken": f"{len(found.taken)} of {_count(found)}"}
    return Started({FACTS + name: text for name, text in facts.items()}, _report(lines, found))


def _check_weights(init: InitFrom, source: Source, network: nn.Module) -> None:
    """Accept the weights that are asked for of a file: those that it holds; of a file with both, either.

    Raises:
        UserError: It holds others, or nobody knows which.
    """
    if init.weights is None or source.run is not None:
        return
    if source.kind is not None:
        if in_numbers(init.weights) == in_numbers(source.kind):
            return
        holds = f"holds {source.kind} weights: leave the key out, or name another file"
    elif len({unwrapped(source.tensors, network, averaged)[1] for averaged in (True, False)}) > 1:
        if init.weights in ("ema", "raw"):
            return
        holds = "holds averaged and raw weights: write ema or raw"
    else:
        holds = "holds one network, and does not say whether it is an average: leave the key out"
    raise UserError(f"{WHERE}.weights: {init.weights}: {source.about} {holds}")


def _check(found: Fit, init: InitFrom, source: Source) -> None:
    """Accept weights that fit, but for the classes; any that fit at all where the recipe is not strict."""
    if not found.taken:
        raise UserError(
            f"{WHERE}: {source.about}: none of its {len(found.extra) + len(found.reshaped)} weights has a name and "
            f"shape of this network's:{a_line_each(list(found.lines()))}\n"
            "Give weights of a network like the recipe's backbone"
        )
    if init.strict and found.wrong:
        raise UserError(
            f"{WHERE}: the weights of {source.about} are of another network than the recipe's:"
            f"{a_line_each(list(found.lines(of_classes=False)))}\n"
            f"Make the recipe's backbone like theirs, or take what fits: {WHERE}.strict=false"
        )


def _summary(found: Fit, source: Source, stripped: str) -> list[str]:
    lines = [f"{source.about}: {len(found.taken)} of {_count(found)} weights are taken"]
    if stripped:
        lines.append(f"without {stripped} in their names")
    if by_classes := list(found.lines(of_classes=True)):
        lines.append(
            "the number of classes is another, so what depends on it starts anew, and all else is kept: "
            f"{_few(by_classes, '; ')}"
        )
    if others := list(found.lines(of_classes=False)):
        lines.append(f"{len(others)} do not fit; the network's own of these start anew: {_few(others, '; ')}")
    return lines


def _other_run(run: RunFolder | None, recipe: Recipe, model: Model) -> list[str]:
    """What else differs between the two trainings and bears on what the weights mean."""
    if run is None:
        return []
    theirs, seen = read(run.recipe_as_trained), spec_of(run)
    changed = [line for line in differences(theirs, recipe) if f"{line.split(':')[0]}.".startswith(LIKE)]
    if seen.shape != model.pixels.shape:
        changed.append(f"images: {_by(seen.shape)} -> {_by(model.pixels.shape)}")
    if seen.classes != model.pixels.classes:
        changed.append(f"classes: {_few(seen.classes)} -> {_few(model.pixels.classes)}")
    return [f"those weights were trained otherwise: {'; '.join(changed)}"] if changed else []


def _warn(found: Fit, recipe: Recipe) -> None:
    """Of weights that start anew and are not trained: that is nobody's wish."""
    if idle := sorted(name for name in found.anew if any(chooses(pattern, name) for pattern in recipe.train.freeze)):
        log.warning(
            "%s: %s starts anew, and train.freeze keeps it as it is drawn; take it out of there", WHERE, _few(idle)
        )


def _report(lines: Iterable[str], found: Fit) -> str:
    kinds = {"taken": found.taken, "does not fit": tuple(found.lines())}
    listed = [line for kind, names in kinds.items() if names for line in ("", f"{kind}:", *(f"  {n}" for n in names))]
    return "\n".join([*lines, *listed]) + "\n"


def _count(found: Fit) -> int:
    """Weights of the network."""
    return len(found.taken) + len(found.anew)


def _few(names: Iterable[str], between: str = ", ") -> str:
    return few(list(names), between, SHOWN) or "none"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
