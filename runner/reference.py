"""The reference network of guidance (autoguidance): another run's, or this run's own at an earlier step.

Source: Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself" (arXiv 2406.02507).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ..core import DataSpec, Denoiser
from ..registry import Recipe, Reference, UserError, read
from . import checkpoints
from .assemble import Model, ReferenceModel, build_model, is_unguided
from .facts import check_codec
from .folder import RunFolder
from .runs import BEST, find_run, is_trained, spec_of, step_of
from .weights import Weights, find_weights
from .world import World

WHERE = "sampler.reference"


def wanted(recipe: Recipe) -> Reference | None:
    """The recipe's reference; None where it has none, or where guidance needs none."""
    return None if recipe.sampler.reference is None or is_unguided(recipe.sampler) else recipe.sampler.reference


def check_reference(recipe: Recipe, spec: DataSpec, home: RunFolder) -> None:
    """Accept the reference of a run before its training.

    Args:
        recipe: The run's.
        spec: Of its data, in pixels.
        home: Its folder.

    Raises:
        UserError: The reference is not there, or will not be, or is of another kind of data.
    """
    reference = wanted(recipe)
    if reference is not None:
        folder = _check_there(reference, recipe, home, checkpoints.steps(home.checkpoints))
        _check_fits(reference, folder, recipe, spec, home)


def check_reference_anew(recipe: Recipe, home: RunFolder) -> None:
    """Accept the reference of a run that is to begin anew, as far as that can be told without its data.

    Args:
        recipe: The run's.
        home: Its folder; what lies there now will be no part of the run.

    Raises:
        UserError: The reference is not there, or will not be.
    """
    if (reference := wanted(recipe)) is not None:
        _check_there(reference, recipe, home, [])


def load_reference(recipe: Recipe, model: Model, home: RunFolder, step: int, world: World) -> ReferenceModel | None:
    """The reference network, ready, by all ranks together; None where there is none.

    Rank 0 finds its weights: while the other run is trained, each would find others.

    Args:
        recipe: Of the network that is guided.
        model: Of the same.
        home: Its run's folder.
        step: The training steps behind it.
        world: The ranks, and where to compute; one that has to do it alone gives a world of its own.

    Raises:
        UserError: As `check_reference`, or the reference is the very network that is to be guided.
    """
    reference = wanted(recipe)
    if reference is None:
        return None
    weights: Weights = world.tell(world.first_only(lambda: _found(reference, recipe, model, home, step)))
    return world.together(lambda: _loaded(reference, weights, recipe, model, home, world.device))


def _found(reference: Reference, recipe: Recipe, model: Model, home: RunFolder, step: int) -> Weights:
    """Its weights, accepted."""
    folder = _folder(reference, home)
    _check_fits(reference, folder, recipe, model.pixels, home)
    weights = _weights(reference, folder)
    if _same(folder, home) and weights.step >= step:
        raise UserError(f"{WHERE}: {_not_earlier(weights.step, step)}")
    return weights


def _loaded(
    reference: Reference, weights: Weights, recipe: Recipe, model: Model, home: RunFolder, device: torch.device
) -> ReferenceModel:
    folder = _folder(reference, home)
    theirs = recipe if _same(folder, home) else read(folder.recipe)
    other = build_model(replace(theirs, compute=recipe.compute, device=recipe.device), model.pixels)
    check_codec(model.codec, folder)
    other.backbone.load_state_dict(weights.read())
    # one schedule object says that levels need no matching
    schedule = model.schedule if theirs.schedule == recipe.schedule else other.schedule
    network = other.backbone.to(device).eval()
    denoiser = Denoiser(network, schedule, other.prediction, other.codec.sigma_data)
    return ReferenceModel(denoiser, other.codec.spec, reference.labels, _about(reference, weights))


def reference_digest(recipe: Recipe, home: RunFolder) -> str | None:
    """What the reference's weights are, by their SHA-256; None where there is no reference."""
    reference = wanted(recipe)
    if reference is None:
        return None
    return _weights(reference, _folder(reference, home)).sha256


def not_yet(recipe: Recipe, home: RunFolder, step: int) -> str | None:
    """Why there are no samples of this step yet: the reference is this run at a step to come; None when there are."""
    reference = wanted(recipe)
    if reference is None or not isinstance(reference.step, int) or step > reference.step:
        return None
    if not _same(_folder(reference, home), home):
        return None
    return f"guided by step {reference.step} of this run, which comes first"


def _folder(reference: Reference, home: RunFolder) -> RunFolder:
    try:
        return home if reference.run is None else find_run(reference.run, home.path.parent)
    except UserError as error:
        assert reference.run is not None, "the run itself is not looked for"
        if home.path.resolve() in (Path(reference.run).resolve(), (home.path.parent / reference.run).resolve()):
            return home  # which has no recipe yet
        raise UserError(f"{WHERE}: {error}") from None


def _check_there(reference: Reference, recipe: Recipe, home: RunFolder, there: list[int]) -> RunFolder:
    """Accept a network that is there, or will be; its run's folder.

    Args:
        reference: Which.
        recipe: The run's.
        home: Its folder.
        there: The steps of its checkpoints.
    """
    folder = _folder(reference, home)
    if _same(folder, home):
        _check_own_step(reference, recipe, home, there)
    else:
        _weights(reference, folder)
    return folder


def _weights(reference: Reference, folder: RunFolder) -> Weights:
    """Those that are meant, found."""
    try:
        return find_weights(folder, reference.weights, step_of(folder, reference.step))
    except UserError as error:
        raise UserError(f"{WHERE}: {error}") from None


def _same(folder: RunFolder, home: RunFolder) -> bool:
    return folder.path.resolve() == home.path.resolve()


def _about(reference: Reference, weights: Weights) -> str:
    """All that tells one reference from another."""
    told = "the same labels" if reference.labels == "same" else "no labels"
    return f"step {weights.step}, {weights.kind}, {told}, sha256 {weights.sha256}"


def _not_earlier(step: int, of: int) -> str:
    return (
        f"step {step} of this run is not earlier than the weights that it is to guide, of step {of}; write an earlier "
        "step, or another run"
    )


def _check_own_step(reference: Reference, recipe: Recipe, home: RunFolder, there: list[int]) -> None:
    """Accept a step of the run itself, which may be still to come, if it will be kept to the end."""
    steps, wanted, newest = recipe.train.steps, recipe.checkpoint, max(there, default=0)
    over = is_trained(home, newest, steps)
    if reference.step is None:
        raise UserError(f"{WHERE}: the newest weights of a run cannot guide themselves; write an earlier step")
    if reference.step == BEST and not over:
        raise UserError(
            f"{WHERE}: while a run is trained its best checkpoint may be its newest, which cannot guide itself; write "
            "an earlier step, or another run"
        )
    step = _weights(reference, home).step if reference.step == BEST else reference.step
    last = newest if over else max(steps, newest)
    if step >= last:
        raise UserError(f"{WHERE}: {_not_earlier(step, last)}")
    at_the_end = there if over else _at_the_end(recipe, there)
    if step not in at_the_end:
        raise UserError(
            f"{WHERE}: step {step} of this run will not be there when it is needed: with checkpoint.every "
            f"{wanted.every}, keep {wanted.keep} and keep_every {wanted.keep_every} the steps kept to the end are "
            f"{', '.join(map(str, at_the_end))}; write one of those before the last, or change checkpoint.keep_every"
        )


def _at_the_end(recipe: Recipe, there: list[int]) -> list[int]:
    """The steps whose checkpoints are there after the training, for certain.

    Args:
        recipe: The run's.
        there: Those that are there now.
    """
    from .training.cadence import checkpoint_due  # it asks the evaluation, which asks here

    steps, wanted, start = recipe.train.steps, recipe.checkpoint, max(there, default=0)
    to_come = [step for step in range(start + 1, steps + 1) if checkpoint_due(recipe, step)]
    if wanted.minutes is not None:  # the clock's push out others, nobody knows which
        wanted = replace(wanted, keep=1)
    return checkpoints.staying([*there, *to_come], wanted, None)


def _check_fits(reference: Reference, folder: RunFolder, recipe: Recipe, spec: DataSpec, home: RunFolder) -> None:
    """Accept a reference of the same data, codec and conditioning."""
    if reference.labels == "none" and not spec.droppable:
        raise UserError(f"{WHERE}.labels: this data has no classes that could be left out; write labels: same")
    own = _same(folder, home)
    theirs, their_spec = (recipe, spec) if own else (read(folder.recipe), spec_of(folder))
    if their_spec != spec:
        raise UserError(
            f"{WHERE}: {folder.path} was trained on {kind_of(their_spec, spec)}, this run on "
            f"{kind_of(spec, their_spec)}: give a run of the same data"
        )
    if theirs.codec != recipe.codec:
        raise UserError(
            f"{WHERE}: {folder.path} sees images through codec {theirs.codec.name}, this run through "
            f"{recipe.codec.name}, or with other options: give a run with the same codec"
        )
    if reference.labels == "none" and theirs.train.label_dropout == 0:
        raise UserError(
            f"{WHERE}.labels: {folder.path} was never trained without labels (its train.label_dropout is 0); write "
            "labels: same"
        )


def kind_of(spec: DataSpec, other: DataSpec) -> str:
    """What a kind of data is, in so many words that another one is told apart."""
    found = "x".join(map(str, spec.shape))
    found += f" with {len(spec.classes)} classes" if spec.classes else " without classes"
    if spec.classes != other.classes and len(spec.classes) == len(other.classes):
        pairs = zip(spec.classes, other.classes, strict=True)
        number, name = next((i, ours) for i, (ours, theirs) in enumerate(pairs) if ours != theirs)
        found += f", number {number} of them {name!r}"
    further = [f"{name} {one.kind} {one.shape}" for name, one in spec.cond.items() if one.kind != "class"]
    return found + (f" and {', '.join(further)}" if further else "")
