"""DPM-Solver-2: the singlestep solver for a polynomial of the noise.

Source: Lu et al. 2022, "DPM-Solver" (arXiv 2206.00927), algorithm 1 (r1 = 1/2) and, for any r1, the general version
in its appendix. Order 2, two evaluations a step, one in the last.
"""

from torch import Tensor

from ...core import Level
from ...core.two_stages import TwoStages


class DPMSolver2(TwoStages):
    """DPM-Solver-2, singlestep, on the noise, order 2."""

    def gain(self, now: Level, mid: Level, then: Level) -> Tensor:
        """Of the last line, whose sigma_t (e^h - 1) is alpha_t (r_s - r_t)."""
        # - sigma_t / (2 r1) (e^h - 1) (eps_mid - eps), where eps_mid - eps = (x0 - x0_mid) / r_mid exactly:
        # both are taken of the same x, so its large part goes out here and not in the computer's digits
        return then.alpha * (now.ratio - then.ratio) / (2 * self.r1 * mid.ratio)
