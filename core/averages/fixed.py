"""An exponential average with a fixed decay.

Source: Ho et al. 2020 (arXiv 2006.11239), appendix B; the warm-up is that of TensorFlow's moving average.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Lt

from ..spans import Span, images_of
from .base import Average


class Fixed(Average):
    """decay a step, or during the warm-up (1 + k) / (10 + k) at step k, where that is less.

    Args:
        decay: Share of the old average that stays, per step.
        start: Until then, in steps or as `500k images`, the average is the weights themselves; k counts from there.
        interval: Steps from one update to the next. An update keeps decay to the power of `interval`, so that the
            average is as long as with every step. Whoever means the decay of an update writes its `interval`-th root.
        warmup: Whether k counts; without, the weights at the start stay in the average as long as any others.
    """

    def __init__(
        self,
        *,
        decay: Annotated[float, Gt(0), Lt(1)] = 0.999,
        start: Span = 0,
        interval: Annotated[int, Ge(1)] = 1,
        warmup: bool = True,
    ) -> None:
        self._decay, self._start, self._interval, self._warmup = decay, start, interval, warmup

    @property
    def label(self) -> str:
        """``fixed-0.999``, and what else is not the default: ``fixed-0.999-start-200-every-10``."""
        start = ["start", *str(self._start).split()] if self._start else []
        every = ["every", str(self._interval)] if self._interval > 1 else []
        return "-".join(["fixed", f"{self._decay:.15g}", *start, *every, *([] if self._warmup else ["cold"])])

    def decay(self, step: int, batch_size: int) -> float | None:
        """Rises to the decay that was asked for."""
        start = -(-images_of(self._start, batch_size) // batch_size)
        if step < start:
            return 0.0
        k = step - start
        if (k + 1) % self._interval:
            return None
        each = min(self._decay, (1 + k) / (10 + k)) if self._warmup else self._decay
        return float(each**self._interval)
