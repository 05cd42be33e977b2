"""The contract kit must say no: checks of augmentations are shown some that they have to refuse."""

from typing import Any

import torch
from refusal_kit import Refused
from torch import Tensor

from dmf.core import Augmentation, CondSpec
from dmf.plugins.augmentations.flip import Flip
from dmf.testing import augmentations as on_augmentations

Changed = tuple[Tensor, Tensor | None]


class Told(Augmentation):
    """Inverts the grey levels of every second image, and says so."""

    label = ("inverted", CondSpec("vector", (1,), neutral=True))
    draws = 1

    def __call__(self, images: Tensor, draws: Tensor) -> Changed:
        inverted = draws < 0.5
        return torch.where(inverted[:, :, None, None], 255 - images, images), inverted.float()


class Float(Flip):
    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        return super().__call__(images, draws)[0].float(), None


class Untold(Told):
    def __call__(self, images: Tensor, draws: Tensor) -> Changed:
        return super().__call__(images, draws)[0], None


class Droppable(Told):
    label = ("inverted", CondSpec("vector", (1,)))


class Wide(Told):
    label = ("inverted", CondSpec("vector", (2,), neutral=True))


class Double(Told):
    def __call__(self, images: Tensor, draws: Tensor) -> Changed:
        return images, draws.double()


class Countless(Flip):
    draws = 1.0  # type: ignore[assignment]


class InPlace(Flip):
    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        return images.add_(1), None


class Spent(Flip):
    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        return super().__call__(images, draws.mul_(0.5))


class Noisy(Flip):
    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        return super().__call__(images, torch.rand(draws.shape, device=draws.device))


class Sorted(Flip):
    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        return super().__call__(images, draws - draws.mean() + 0.5)


class LabelOfTheBatch(Told):
    def __call__(self, images: Tensor, draws: Tensor) -> Changed:
        changed, label = super().__call__(images, draws)
        assert label is not None
        return changed, label * len(images)


class Deaf(Flip):
    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        return images.flip(-1), None


class Logarithm(Told):
    def __call__(self, images: Tensor, draws: Tensor) -> Changed:
        return super().__call__(images, draws)[0], draws.log()


class Liar(Told):
    def __call__(self, images: Tensor, draws: Tensor) -> Changed:
        changed, label = super().__call__(images, draws)
        assert label is not None
        return changed, label * (draws < 0.25)


class Upright(Flip):
    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        return torch.where((draws < 0.5)[:, :, None, None], images.flip(-2), images), None


class LightToTheLeft(Flip):
    """Mirrors by what the picture shows."""

    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        left, right = images.float().chunk(2, -1)
        darker = left.mean((1, 2, 3)) < right.mean((1, 2, 3))
        mirrored = darker & (draws[:, 0] < 0.9)
        return torch.where(mirrored[:, None, None, None], images.flip(-1), images), None


class MirrorsAndTells(Flip):
    label = ("mirrored", CondSpec("vector", (1,), neutral=True))

    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        return super().__call__(images, draws)[0], (draws < 0.5).float()


class Waits(Flip):
    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        changed = images.clone()
        for i in range(len(images)):
            if draws[i] < 0.5:
                changed[i] = images[i].flip(-1)
        return changed, None


class Masks(Flip):
    def __call__(self, images: Tensor, draws: Tensor) -> Any:
        changed, mirrored = images.clone(), draws[:, 0] < 0.5
        changed[mirrored] = images[mirrored].flip(-1)
        return changed, None


REFUSED: dict[str, Refused] = {
    "augmentation": [
        (Float, on_augmentations.check_form, r"gave torch.float32 \(16, 3, 16, 16\), not torch.uint8"),
        (Untold, on_augmentations.check_form, "it gives a label and declares none, or the reverse"),
        (Droppable, on_augmentations.check_form, "must be a neutral vector"),
        (Wide, on_augmentations.check_form, r"its label has the shape \(16, 1\), not \(16, 2\)"),
        (Double, on_augmentations.check_form, "must be finite float32; got torch.float64"),
        (Countless, on_augmentations.check_form, "draws is 1.0, not a count"),
        (InPlace, on_augmentations.check_pure, "writes into the images"),
        (Spent, on_augmentations.check_pure, "writes into the draws"),
        (Noisy, on_augmentations.check_pure, "with the same draws the images are others"),
        (Sorted, on_augmentations.check_rows, "with the batch that it comes in"),
        (LabelOfTheBatch, on_augmentations.check_rows, "a label changes with the batch"),
        (Deaf, on_augmentations.check_random, "all images of a batch change alike"),
        (Logarithm, on_augmentations.check_random, "fails for draws of 0"),
        (Liar, on_augmentations.check_neutral, "but it is another one"),
        (Upright, on_augmentations.check_mirrors, "but there is another image"),
        (LightToTheLeft, on_augmentations.check_mirrors, "what an image shows decides whether"),
        (MirrorsAndTells, on_augmentations.check_mirrors, "latents that are kept have no label"),
        (Waits, on_augmentations.check_waits_for_nothing, "needs values on the host"),
        (Masks, on_augmentations.check_waits_for_nothing, "needs values on the host"),
    ]
}
RIGHT: list[tuple[str, Any]] = [("augmentation", Told), ("augmentation", Flip)]
