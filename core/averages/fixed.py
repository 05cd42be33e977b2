"""An exponential average with a fixed decay.

Source: Ho et al. 2020 (arXiv 2006.11239), appendix B; the warm-up is that of TensorFlow's moving average.
"""

from typing import Annotated

from annotated_types import Gt, Lt

from .base import Average


class Fixed(Average):
    """min(decay, (1 + step) / (10 + step)): the start is soon forgotten.

    Args:
        decay: Of a step.
    """

    def __init__(self, *, decay: Annotated[float, Gt(0), Lt(1)] = 0.999) -> None:
        self._decay = decay

    @property
    def label(self) -> str:
        """``fixed-0.999``."""
        return f"fixed-{self._decay:g}"

    def decay(self, step: int, batch_size: int) -> float:
        """Rises to the decay that was asked for."""
        return min(self._decay, (1 + step) / (10 + step))
