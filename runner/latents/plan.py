"""Whether latents are kept, where, and what of them is there already."""

from __future__ import annotations

import shutil
from functools import partial

import torch

from ... import __version__
from ...core import Codec, Dataset
from ...files.cache import cache_folder
from ...files.words import told_size
from ...registry import Recipe, UserError
from ..assemble import Model
from ..console import log
from ..feed import Feed
from ..session import Session
from .feed import LatentFeed, latent_source
from .fill import Filler, remake
from .possible import never
from .store import CannotKeep, Contents, Store

WHAT = "latents"
SPARE = 0.05  # of the disk's free room
ELSEWHERE = (
    "set DMF_CACHE to a folder with more room, write latents.dtype: float16, which takes half of it, or "
    "latents.cache: false, which encodes each image whenever it is trained on; what there is of them stays, and "
    "dmf data cache --clear latents deletes it"
)


def training_feed(session: Session, model: Model, feed: Feed) -> Feed:
    """The feed to train on: of moments, all of them on disk, where they are kept; else the given one.

    Args:
        session: The run.
        model: Its codec encodes.
        feed: Of the images.

    Raises:
        UserError: The recipe demands that they are kept, and they cannot be; or an image cannot be read.
    """
    fed = _kept_or_not(session, model, feed)
    if model.codec.moment_shape is not None:
        _note(session, "kept" if fed is not feed else "encoded as they are trained on")
    return fed


def _note(session: Session, how: str) -> None:
    """Note how latents come, and say so where a run that goes on has had them otherwise."""
    before = session.phase(WHAT)
    if session.start_step and before not in (None, how):
        log.info("latents were %s, and are %s now: the same numbers, to the rounding of other batches", before, how)
    session.finish(WHAT, how)


def _kept_or_not(session: Session, model: Model, feed: Feed) -> Feed:
    recipe = session.recipe
    demanded = recipe.latents.cache is True
    if recipe.latents.cache is False or (model.codec.moment_shape is None and not demanded):
        return feed
    why_not = _why_not(recipe, model, feed.dataset, demanded)
    if why_not is None:
        try:
            return _of_moments(session, model, feed)
        except CannotKeep as error:
            why_not = f"{error}; {ELSEWHERE}"
            if not demanded:
                log.warning("latents are not kept: %s", why_not)
                return feed
    if demanded:
        raise UserError(f"latents.cache: {why_not}")
    log.info("latents are not kept, each image is encoded whenever it is trained on: %s", why_not)
    return feed


def _why_not(recipe: Recipe, model: Model, dataset: Dataset, demanded: bool) -> str | None:
    """Why latents cannot be kept, or by ``auto`` should not."""
    changes = [(ref.name, one.mirrors) for ref, one in zip(recipe.augment, model.augmentations, strict=True)]
    if why_never := never(recipe.codec.name, model.codec.moment_shape is not None, changes):
        return why_never
    if not model.codec.facts():
        return f"codec {recipe.codec.name} has no facts, such as its weights' sha256, that kept moments are known by"
    there, seen = _ways(recipe) * len(dataset), recipe.train.steps * recipe.train.batch_size
    if seen < there and not demanded:
        return f"the training sees {seen:,}, there are {there:,} to encode; latents.cache: true keeps them all the same"
    return None


def _ways(recipe: Recipe) -> int:
    return 2 if recipe.augment else 1


def _of_moments(session: Session, model: Model, feed: Feed) -> Feed:
    """A feed of moments, after all that are missing have been encoded.

    Raises:
        CannotKeep: There is no room, or no permission.
    """
    recipe, world = session.recipe, session.world
    stores = world.together(lambda: _stores(recipe, model.codec, feed.dataset))
    world.together(lambda: _check_room(stores))
    if int(world.max(torch.tensor(sum(len(store.missing()) for store in stores)))):
        log.info("latents: encoding %s", _told(stores))
        Filler(stores, feed.source, model.codec, world, session.signals).run()
    remaking = partial(remake, source=feed.source, codec=model.codec)
    source = world.together(lambda: latent_source(stores, world.device, recipe.loading, remaking))
    log.info("latents: %s; %s", _told(stores), source.about())
    return LatentFeed(feed, source)


def _stores(recipe: Recipe, codec: Codec, dataset: Dataset) -> list[Store]:
    """The caches, one of the images as they are and one of them mirrored, with what is there opened."""
    folder, about = cache_folder(WHAT), {"dataset": recipe.dataset.name, "run": recipe.name, "dmf": __version__}
    try:
        stores = [
            Store(_contents(recipe, codec, dataset, mirrored), folder, recipe.latents.shard_mib, about)
            for mirrored in (False, True)[: _ways(recipe)]
        ]
    except OSError as error:
        raise CannotKeep(f"{error.filename or folder} cannot be written ({error.strerror})") from error
    for store in stores:
        store.look()
    return stores


def _contents(recipe: Recipe, codec: Codec, dataset: Dataset, mirrored: bool) -> Contents:
    assert codec.moment_shape is not None
    _, cond = dataset.rows([0])
    forms = {name: (tuple(one.shape[1:]), str(one.dtype).removeprefix("torch.")) for name, one in cond.items()}
    of_data = (dataset.fingerprint(), len(dataset), mirrored)
    return Contents(recipe.codec.name, codec.facts(), *of_data, codec.moment_shape, recipe.latents.dtype, forms)


def _check_room(stores: list[Store]) -> None:
    """Accept a disk with room for what is missing.

    Raises:
        CannotKeep: It has less.
    """
    need = sum((store.contents.images - store.count()) * store.contents.row_bytes for store in stores)
    free = shutil.disk_usage(stores[0].folder).free
    if need > (1 - SPARE) * free:
        raise CannotKeep(
            f"they need {told_size(need)}, and {stores[0].folder.parent} has {told_size(free)} free, of which "
            f"{SPARE:.0%} are left to others, such as checkpoints"
        )


def _told(stores: list[Store]) -> str:
    """What is kept, in a few words."""
    images, size = stores[0].contents.images, sum(s.contents.images * s.contents.image_bytes for s in stores)
    there = sum(store.count() for store in stores)
    begun = f", {there:,} of {images * len(stores):,} are there" if there < images * len(stores) else ""
    how = f"{images:,} images as they are and mirrored" if len(stores) > 1 else f"{images:,} images"
    return f"{how}, {told_size(size)} in {stores[0].folder.parent}{begun}"
