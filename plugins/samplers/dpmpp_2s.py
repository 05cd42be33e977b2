"""DPM-Solver++(2S): the singlestep solver for a polynomial of the denoised image.

Source: Lu et al. 2022, "DPM-Solver++" (arXiv 2211.01095), algorithm 1.
Order 2, two evaluations a step, one in the last.
"""

from torch import Tensor

from ...core import Level
from ...core.two_stages import TwoStages


class DPMpp2S(TwoStages):
    """DPM-Solver++(2S), singlestep, on the denoised image, order 2."""

    def gain(self, now: Level, mid: Level, then: Level) -> Tensor:
        """Of algorithm 1, line 6, whose -alpha_t (e^-h - 1) is alpha_t (1 - r_t / r_s)."""
        # line 5: D = (1 - 1 / (2 r1)) x0 + 1 / (2 r1) x0_mid = x0 + (x0_mid - x0) / (2 r1)
        return then.alpha * (1 - then.ratio / now.ratio) / (2 * self.r1)
