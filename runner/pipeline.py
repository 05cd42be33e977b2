"""What `dmf run` does: train, sample, evaluate; each only when it is due."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from functools import partial

from ..core import Dataset, DataSpec
from ..files.sheets import save_png
from ..files.writing import write_json
from ..registry import InitFrom, Recipe, UserError
from .assemble import Model, build_dataset, build_model, spec_as_dict, tell_of_mirrors
from .average_rules import check_weights
from .compute import set_up
from .conditions import check_guidance
from .console import log
from .evaluation import Evaluation, Trained, table
from .evaluation.during import During
from .evaluation.evaluation import tell_errors
from .evaluation.first_images import scored_with_grid, told_as
from .evaluation.trained import load_trained
from .facts import check_codec, run_facts
from .feed import Feed, source_of
from .folder import RunFolder
from .latents.plan import training_feed
from .reference import check_reference, load_reference, reference_digest
from .sample_sheets import draw_preview, draw_sheets, stopping
from .session import Session
from .summary import network_summary
from .training import Trainer
from .training.init_from import FACTS, Started, start_from
from .training.memory import check_memory
from .training.precision import precision_of
from .training.sources import Source, read_source, with_step
from .training.strategies import strategy_class
from .training_images import show_data
from .weights import find_weights

PHASES = ("train", "sample", "evaluate")


def carry_out(session: Session, phases: Sequence[str] = PHASES) -> bool:
    """Do what is due of ``phases``.

    Returns:
        Whether anything was.
    """
    due = phases_due(session, phases)
    if not due and session.same_data:
        return False
    recipe, world = session.recipe, session.world
    session.check_stop()  # asked for while the folder was waited for
    dataset = build_dataset(recipe, world)
    check_ranks(len(dataset), world.size)
    session.check_data(world.first_alone(dataset.fingerprint))  # what rank 0 has read is kept for the others
    if not due:
        return False
    accept(session, dataset, due)
    model, started = model_to_begin_with(session, dataset, due)
    source = source_of(dataset, world.device, recipe.loading)
    scored = "evaluate" in due and wants_scores(recipe)
    evaluation = Evaluation(recipe, dataset, world, stopping(session), source) if scored else None
    if evaluation is not None:
        evaluation.check_model(model.codec)
    scores_often = "train" in due and recipe.evaluate.during.every > 0
    during = During(session, model, dataset, source) if scores_often else None
    feed = Feed(dataset, recipe.seed, recipe.train.batch_size, world, model.augmentations, source=source)
    with closing(feed):
        session.check_stop()
        begin(session, dataset, model, feed, started)
        if "train" in due:
            with closing(training_feed(session, model, feed)) as fed:
                train(session, model, fed, during)
            if is_in_parts(session, due) and due != ["train"]:
                model = build_model(recipe, dataset.spec)  # the trained one is in parts, and images need all of it
                model.backbone.to(world.device)
    show_and_score(session, model, evaluation, due)
    return True


def accept(session: Session, dataset: Dataset, due: Sequence[str]) -> None:
    """Hold the recipe against the data and other runs, and set up how the device computes.

    Raises:
        UserError: They do not go together.
    """
    recipe = session.recipe
    check_against(recipe, dataset.spec, session.files)
    check_weights(recipe, to_train="train" in due)
    set_up(recipe.compute, session.world.device)
    session.check_stop()


def check_against(recipe: Recipe, spec: DataSpec, home: RunFolder) -> None:
    """Accept how images are to be made, of such data, before any are.

    Args:
        recipe: The run's.
        spec: Of its data, in pixels.
        home: Its folder.

    Raises:
        UserError: Guidance away from something that is not there, or was never trained.
    """
    check_guidance(recipe.sampler, spec, recipe.train.label_dropout)
    check_reference(recipe, spec, home)


def model_to_begin_with(session: Session, dataset: Dataset, due: Sequence[str]) -> tuple[Model, Started | None]:
    """The model, with the weights of the recipe's `init_from` where it starts from some; on the device.

    Raises:
        UserError: Too large for the memory, or weights of another network.
    """
    recipe, world, training = session.recipe, session.world, "train" in due
    given = source_to_start_from(session) if training else None
    model = build_model(recipe, dataset.spec, partial(check_memory, recipe, world) if training else None)
    if training:
        tell_of_mirrors(recipe.augment, model.augmentations)
    if session.start_step:
        check_codec(model.codec, session.files)
    started = None if given is None else world.together(partial(start_from, recipe, model, given))
    session.check_stop()
    if not is_in_parts(session, due):  # else its parts go to the device, and the whole may be too much for it
        model.backbone.to(world.device)
    return model, started


def is_in_parts(session: Session, due: Sequence[str]) -> bool:
    """Whether a training is due in which no rank holds the whole network."""
    return "train" in due and strategy_class(session.recipe.distributed.strategy, session.world.size).sharded


def show_and_score(session: Session, model: Model, evaluation: Evaluation | None, due: Sequence[str]) -> None:
    """What comes after the training: the sheet of samples, then the scores; the first average is loaded once."""
    trained, weights = None, session.recipe.evaluate.weights
    if "sample" in due:
        trained = load_trained(model, session.files, find_weights(session.files, "ema"))
        session.world.first_only(partial(draw_sheets, session, trained))
        session.finish("sample", mark(session, "sample", trained.step))
    if evaluation is not None:
        if trained is None or weights != "ema":
            trained = load_trained(model, session.files, find_weights(session.files, weights))
        score(session, evaluation, trained)
        session.finish("evaluate", mark(session, "evaluate", trained.step))


def check_ranks(images: int, ranks: int) -> None:
    """Refuse more ranks than there are images: some would see nothing but what others see.

    Raises:
        UserError: Saying how many there may be.
    """
    if ranks > images:
        there = "1 image" if images == 1 else f"{images} images"
        raise UserError(f"{ranks} ranks, and the data set has {there}: start at most {images}, or give it more images")


def phases_due(session: Session, phases: Sequence[str]) -> list[str]:
    """The phases that are not done, or done of another recipe or other weights; the same on every rank."""
    if "train" in phases and not session.trained:
        return [p for p in phases if p != "evaluate" or wants_scores(session.recipe)]
    later = [p for p in phases if p == "sample" or (p == "evaluate" and wants_scores(session.recipe))]
    due: list[str] = session.world.tell([p for p in later if session.phase(p) != mark(session, p, session.start_step)])
    return due


def wants_scores(recipe: Recipe) -> bool:
    """Whether the recipe has an evaluation."""
    return recipe.evaluate.images > 0 and bool(recipe.evaluate.metrics)


def mark(session: Session, phase: str, step: int) -> str:
    """What a finished phase was made of: equal marks, equal results."""
    recipe = session.recipe.as_dict()
    recipe["evaluate"].pop("during")  # it is a part of training
    made_of = [step, recipe["sampler"], recipe[phase], reference_digest(session.recipe, session.files)]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def source_to_start_from(session: Session) -> Source | None:
    """The weights of the recipe's `init_from`; None where it has none, or goes on from its own checkpoint.

    Raises:
        UserError: There are none, or they are not the same on all ranks.
    """
    init, world = session.recipe.init_from, session.world
    if init is None or session.start_step:
        return None
    runs = session.folder.parent
    there: InitFrom = init if world.size == 1 else world.tell(world.first_only(lambda: with_step(init, runs)))
    source = world.together(lambda: read_source(there, runs))
    about, sha256 = world.tell((source.about, source.sha256))

    def alike() -> None:
        if source.sha256 != sha256:
            raise UserError(
                f"init_from: {init.source} is not the same on all ranks: {about} on rank 0, {source.about} with other "
                f"content on rank {world.rank}; put it where all machines see it"
            )

    world.together(alike)
    return source


def begin(session: Session, dataset: Dataset, model: Model, feed: Feed, started: Started | None = None) -> None:
    """Write down what the run is, with a sheet of its data, and tell the hooks."""
    before = {name: text for name, text in session.facts.items() if session.start_step and name.startswith(FACTS)}
    arithmetic = {"train.precision": precision_of(session.recipe, session.world, session.saved)}
    own = run_facts(session.recipe, dataset, model, session.world)
    facts = {**own, **arithmetic, **(started.facts if started else before)}
    run = session.files
    files = {
        run.network.name: network_summary(model.backbone, model.codec.spec),
        run.spec.name: json.dumps(spec_as_dict(dataset.spec), indent=2) + "\n",
    }
    if started is not None:
        files[run.started.name] = started.report
    if dataset.left_out:
        files[run.left_out.name] = "".join(f"{one.name} {one.reason}\n" for one in dataset.left_out)
    elif session.world.first:
        run.left_out.unlink(missing_ok=True)  # of an earlier start
    log.info("%s: %s", session.name, what_is_run(session, facts))
    shape, images = "x".join(map(str, dataset.spec.shape)), "image" if len(dataset) == 1 else "images"
    log.info("data: %s %s of %s %s", f"{len(dataset):,}", images, shape, feed.source.about())
    session.describe(facts, files)
    session.world.first_only(partial(show_data, session, dataset, feed.source))


def what_is_run(session: Session, facts: dict[str, str]) -> str:
    """One line for the start."""
    recipe = session.recipe
    start = f", going on from step {session.start_step}" if session.start_step else ""
    how = f" ({recipe.distributed.strategy})" if session.world.size > 1 else ""
    return (
        f"{recipe.backbone.name} with {int(facts['network.parameters']):,} parameters on {facts['dataset.images']} "
        f"images of {recipe.dataset.name}, {session.world.size} x {facts['machine.device']}{how}{start}; "
        f"folder {session.folder}"
    )


def train(session: Session, model: Model, feed: Feed, during: During | None) -> None:
    """Train to the end."""
    trainer = Trainer(session, model, feed, partial(draw_preview, session, model), during)
    trainer.begin()
    trainer.run()
    if during is not None and session.files.evaluations.exists():
        session.wrote(session.files.evaluations)


def score(session: Session, evaluation: Evaluation, trained: Trained) -> None:
    """Evaluate, write ``metrics.json``, tell the hooks, show the table.

    Raises:
        UserError: A metric gave nothing; what the others gave is written and shown before.
    """
    guide = load_reference(session.recipe, trained.model, session.files, trained.step, session.world)
    scored = scored_with_grid(evaluation, trained, guide)
    results, pictures = scored.results, scored.pictures
    if session.world.first:
        if results:
            write_json(session.files.metrics, results)
            session.hooks.call("dmf_metrics", run=session, step=trained.step, results=results)
            session.wrote(session.files.metrics)
        for name, picture in pictures.items():
            save_png(picture, session.folder / "evaluation" / f"{name}.png")
            session.hooks.call("dmf_images", run=session, step=trained.step, name=told_as(name), images=picture)
        if results:
            log.info("%s\nprotocol and values: %s", table(results), session.files.metrics)
    tell_errors(scored)
