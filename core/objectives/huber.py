"""Huber's loss: squared for small errors, absolute for large ones.

Source: Huber 1964, "Robust Estimation of a Location Parameter" (Annals of Mathematical Statistics 35), section 4.
"""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from .base import Attempt


def huber(attempt: Attempt, *, delta: Annotated[float, Gt(0)] = 1.0) -> Tensor:
    """Half the square of errors up to delta, linear beyond, mean over an image; the error times the weight's root.

    Args:
        attempt: To be judged.
        delta: Where it turns linear. A large one gives half of `l2`, a small one delta times `l1`.
    """
    e = (attempt.weight.sqrt() * attempt.error).abs()
    # rho(e) = e^2 / 2 up to delta, delta e - delta^2 / 2 beyond
    return torch.where(e <= delta, e**2 / 2, delta * (e - delta / 2)).flatten(1).mean(1)
