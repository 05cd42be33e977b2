"""UniPC: a predictor and, from the same evaluation that the next step needs anyway, a corrector.

Source: Zhao et al. 2023, "UniPC" (arXiv 2302.04867), algorithms 5 to 8 (data prediction), section 3.2 for B(h).
One evaluation a step. UniP-p has order p, UniC-p one more, and so has what comes out; lower orders in the first steps,
and towards sigma = 0.
"""

import math
from typing import Literal, NamedTuple

from torch import Tensor

from ...core import Context, Denoise, Level, Sampler
from ...core.exponential import first_order
from ...core.multistep import Past, Point, beyond_first, data_moments, lam, remember, steps_left


class Predicted(NamedTuple):
    """What a step remembers.

    Attributes:
        x: Before it, corrected; (B, C, *size).
        level: Where that is.
        past: x0_hat there and before, as many as the step used.
    """

    x: Tensor
    level: Level
    past: Past


class UniPC(Sampler[Predicted]):
    """Unified predictor-corrector, UniPC-p.

    Args:
        order: p, of the predictor; the corrector, and with it the whole, has order p + 1.
        variant: B(h) of the paper: `bh1` is h, `bh2` is 1 - e^-h. It matters where two x0_hat are used.
        lower_order_final: Let the order fall to 1 in the last steps before sigma = 0.
    """

    def __init__(
        self,
        *,
        order: Literal[1, 2, 3] = 2,
        variant: Literal["bh1", "bh2"] = "bh2",
        lower_order_final: bool = True,
    ) -> None:
        self.points, self.variant, self.lower_order_final = order, variant, lower_order_final
        self.order = order + 1

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Predicted | None, context: Context
    ) -> tuple[Tensor, Predicted]:
        """Correct the step before, then predict this one."""
        new = Point(denoise(x, now), lam(now))
        if state is not None:
            x = self._move(state.x, (*state.past, new), state.level, now)
        past = remember(*new, state.past if state else None, self.points)
        if not then.sigma > 0:
            return then.alpha * new.value, Predicted(x, now, past)
        if self.lower_order_final and steps_left(context) < len(past):
            past = past[: int(steps_left(context))]
        return self._move(x, past, now, then), Predicted(x, now, past)

    def _move(self, x: Tensor, points: Past, now: Level, then: Level) -> Tensor:
        """X at ``then``, x0_hat running through the points, of which the first is at ``now``."""
        h = lam(then) - lam(now)
        moments = data_moments(h, len(points))
        if len(points) == 2:
            # appendix of the paper, p = 1 of UniC and p = 2 of UniP: a_1 = 1/2 whatever r_1, times B(h); further
            # points leave nothing to choose: R_p a = phi_p holds just when the polynomial is integrated exactly
            moments[1] = h / 2 * (h if self.variant == "bh1" else -math.expm1(-h))
        return first_order(x, points[0].value, now, then) + then.alpha * beyond_first(points, moments)
