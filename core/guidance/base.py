"""The interface of guidance, and what those share that stand around another one."""

# annotations are types here, not texts: a text would be looked up in the module of each subclass
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from torch import Tensor

from ..level import Level


class Guidance(ABC):
    """Combines the denoiser's x0_hat with that of a reference: without the class, or of a weaker network.

    The reference is asked for only where `acts` says so, which saves its cost elsewhere. There `combine` is given the
    conditional x0_hat in its place.
    """

    @property
    def guides(self) -> bool:
        """Whether there is a level at which the reference is needed."""
        return True

    def acts(self, level: Level) -> bool:
        """Whether the reference is needed at ``level``; with a level an image, whether any image needs it."""
        return self.guides

    def for_images(self, numbers: Tensor) -> "Guidance":
        """The guidance of one batch, where options are lists: image k has their (k mod n)-th value.

        Args:
            numbers: k of each image, (B,) integers.
        """
        return self

    @abstractmethod
    def combine(self, conditional: Tensor, reference: Tensor, level: Level) -> Tensor:
        """The guided x0_hat, (B, C, *size), in the dtype of what is given.

        Args:
            conditional: x0_hat of the denoiser, (B, C, *size).
            reference: That of the reference, likewise; where the guidance does not act, ``conditional`` again.
            level: Where both were asked; 0-d fields, or one an image.
        """


@dataclass(frozen=True, kw_only=True)
class Around(Guidance):
    """A guidance that changes another one; it needs the reference where that one does.

    Attributes:
        of: The guidance inside; a number is the scale of `cfg`.
    """

    of: Guidance

    @property
    def guides(self) -> bool:
        """As the guidance inside."""
        return self.of.guides

    def acts(self, level: Level) -> bool:
        """As the guidance inside."""
        return self.of.acts(level)

    def for_images(self, numbers: Tensor) -> "Around":
        """With the values of these images inside."""
        return replace(self, of=self.of.for_images(numbers))
