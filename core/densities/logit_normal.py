"""Times whose logit is normal: more practice in the middle of the schedule's time.

Source: Esser et al. 2024, "Scaling Rectified Flow Transformers" (arXiv 2403.03206), equation 19.
"""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from ..schedule import NoiseSchedule


def logit_normal(
    u: Tensor, schedule: NoiseSchedule, *, mean: float = 0.0, std: Annotated[float, Gt(0)] = 1.0
) -> Tensor:
    """Logit of t is normal: more practice in the middle. It is about t, so other schedules get other levels.

    Args:
        u: Uniform numbers, (B,).
        schedule: Gives the range.
        mean: Of the logit; above 0 is noisier.
        std: Of the logit.
    """
    t = torch.sigmoid(mean + std * torch.special.ndtri(u.to(torch.float64)))
    return schedule.clip(schedule.t_min + (schedule.t_max - schedule.t_min) * t)
