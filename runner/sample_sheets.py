"""Sheets of samples, while a training goes on and after it: always the same noise and labels, so that they compare."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.sampler import Watch
from ..files.sheets import class_rows, save_png, sheet
from ..registry import Recipe, UserError
from .assemble import Model, ReferenceModel, build_sampling
from .conditions import conditions
from .console import TaskProgress, log
from .evaluation import Trained
from .generate import Generator
from .reference import load_reference, not_yet
from .session import Session
from .strips import Strips
from .world import World

Sheets = dict[str, Tensor]  # pictures, uint8 (3, height, width): samples, and strips where they are wanted


def draw_preview(session: Session, model: Model, network: nn.Module, step: int) -> None:
    """Sheets while training goes on.

    Without its reference network there are none: they would show other images than the recipe asks for.
    """
    preview = session.recipe.preview
    try:
        if why := not_yet(session.recipe, session.files, step):
            raise UserError(why)
        reference = _reference_of(session, model, step)
        made = make_sheets(session, Trained(model, network, "", step), preview.per_class, preview.strips, reference)
    except UserError as error:  # what a preview lacks, or a sampler makes of so young a network, costs no training
        log.info("no preview at step %d: %s", step, error)
        return
    for name, picture in made.items():
        before = "step" if name == "samples" else name
        _save(session, session.files.samples / f"{before}-{step:08d}.png", step, name, picture)


def draw_sheets(session: Session, trained: Trained) -> None:
    """The final sheets."""
    reference, wanted = _reference_of(session, trained.model, trained.step), session.recipe.sample
    made = make_sheets(session, trained, wanted.per_class, wanted.strips, reference, "sample")
    for name, picture in made.items():
        name = "grid" if name == "samples" else name
        path = session.files.samples / f"{name}.png"
        _save(session, path, trained.step, name, picture)
        session.wrote(path)
        log.info("%s: %s", "samples" if name == "grid" else name, path)


def _save(session: Session, path: Path, step: int, name: str, picture: Tensor) -> None:
    save_png(picture, path, notes(session.recipe, step))
    session.hooks.call("dmf_images", run=session, step=step, name=name, images=picture)


def _reference_of(session: Session, model: Model, step: int) -> ReferenceModel | None:
    """The network that guides the model of a step, if the recipe has one, for rank 0 alone."""
    return load_reference(session.recipe, model, session.files, step, World(0, 1, session.world.device))


def make_sheets(
    session: Session,
    trained: Trained,
    per_class: int,
    pictures: int,
    reference: ReferenceModel | None,
    what: str | None = None,
) -> Sheets:
    """Samples 0, 1, 2, ... of the recipe's seed, one class a row; and how each came to be, a row an image.

    Args:
        session: Gives the recipe; a request to stop ends the work after the present step.
        trained: Whose samples.
        per_class: Images a row.
        pictures: Of each image on its way; 0 for none.
        reference: The network to guide away from, if the recipe has one.
        what: Name of the progress bar; None shows none.
    """
    model, recipe = trained.model, session.recipe
    labels, columns, names = class_rows(model.pixels.classes, per_class)
    count = len(labels) or per_class**2
    cond = conditions(labels, count, model.pixels, session.files.examples)
    sampling = build_sampling(recipe.sampler, model.schedule, reference)
    watch = stopping(session)
    strips = Strips(model.codec, sampling.levels, pictures, watch) if pictures else None
    maker = Generator(model, trained.network, sampling, session.world.device, strips or watch)
    images = []
    with TaskProgress(what or "", count, shown=what is not None) as bar:
        for batch in maker.batches(recipe.sample.seed, range(count), cond, recipe.sample.batch_size):
            images.append(batch.images)
            bar.step(len(batch.images))
    made = {"samples": sheet(torch.cat(images), columns, names)}
    return made if strips is None else {**made, "strips": strips.sheet([names[label] for label in labels])}


def stopping(session: Session) -> Watch:
    """Ends the work between two sampling steps when a stop was asked for."""
    return lambda index, x, level: session.signals.check()


def notes(recipe: Recipe, step: int) -> dict[str, str]:
    """What a picture says of itself."""
    return {
        "dmf.recipe": recipe.digest(),
        "dmf.run": recipe.name,
        "dmf.step": str(step),
        "dmf.seed": str(recipe.sample.seed),
        "dmf.sampler": json.dumps(recipe.as_dict()["sampler"]),
    }
