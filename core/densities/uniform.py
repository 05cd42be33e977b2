"""Times drawn evenly: t ~ U(cleanest, noisiest).

Source: Kingma et al. 2021, "Variational Diffusion Models" (arXiv 2107.00630), section 4.1.
"""

import torch
from torch import Tensor

from ..schedule import NoiseSchedule


def uniform(u: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Evenly over the schedule's range."""
    noisiest, cleanest = schedule.ends()
    return cleanest + (noisiest - cleanest) * u.to(torch.float64)
