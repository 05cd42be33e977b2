"""DPM-Solver++(2M): Lu et al. 2022 (arXiv 2211.01095), algorithm 2. Order 2, one evaluation a step."""

from typing import NamedTuple

import torch
from torch import Tensor

from dmf.core import Context, Denoise, Level, Sampler


class Last(NamedTuple):
    """What a step remembers: its x0_hat, and its half log SNR."""

    x0: Tensor
    lam: Tensor


class DPMpp2M(Sampler[Last]):
    """DPM-Solver++(2M), order 2, one evaluation a step."""

    order = 2

    def step(
        self, denoise: Denoise, x: Tensor, now: Level, then: Level, state: Last | None, context: Context
    ) -> tuple[Tensor, Last | None]:
        """One step."""
        x0 = denoise(x, now)
        if not then.sigma > 0:
            return then.alpha * x0, None
        lam, h = now.log_snr / 2, (then.log_snr - now.log_snr) / 2
        d = x0 if state is None else x0 + (x0 - state.x0) * h / (2 * (lam - state.lam))
        return then.sigma / now.sigma * x - then.alpha * torch.expm1(-h) * d, Last(x0, lam)
