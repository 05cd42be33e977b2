"""Dynamic negative square, entered halfway: betas start at a quarter of their end.

Source: an earlier DDPM code for CIFAR-10, its variant of `dns` with offset = T; in no paper.
"""

from .dns import DNS


class DNST(DNS):
    """The variant of dns whose square is entered halfway: noisier from the first step on."""

    @staticmethod
    def offset(steps: int) -> int:
        """How far the square is entered at the first step: T."""
        return steps
