"""Whether latents can be kept at all, by a recipe's parts alone: known before data are read and a network is built."""

from __future__ import annotations

from collections.abc import Iterable

from ...core import Codec
from ...registry import Recipe, UserError, load


def check_latents(recipe: Recipe) -> None:
    """Accept a recipe that does not demand what its parts never allow.

    Raises:
        UserError: It does.
    """
    if recipe.latents.cache is True:
        codec = load("codec", recipe.codec.name)
        has_moments = getattr(codec, "moments", None) is not Codec.moments
        changes = [(ref.name, load("augmentation", ref.name).mirrors) for ref in recipe.augment]
        if why_not := never(recipe.codec.name, has_moments, changes):
            raise UserError(f"latents.cache: {why_not}")


def never(codec: str, has_moments: bool, changes: Iterable[tuple[str, bool]]) -> str | None:
    """Why latents cannot be kept; None where they can.

    Args:
        codec: Its name.
        has_moments: Whether it has any.
        changes: Names of the augmentations, and whether each does nothing but mirror.
    """
    if not has_moments:
        return f"codec {codec} has no moments to keep; leave latents.cache out"
    for name, mirrors in changes:
        if not mirrors:
            return (
                f"augment: {name} makes other images each time, and latents are kept of images as they are and "
                "mirrored; write augment: [flip] or latents.cache: false"
            )
    return None
