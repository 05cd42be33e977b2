"""Loss weightings: how much each level counts.

A weighting is a function (level, coefficients) -> factor on the squared error of x0_hat, shaped like the level. It is
turned into a factor on the squared error of F once, in `dmf.core.objectives`, so that it means the same for every
prediction: the error of x0_hat is c_out times that of F.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .level import Level
from .predictions import Coefficients

Weighting = Callable[[Level, Coefficients], Tensor]


def uniform(level: Level, coefficients: Coefficients) -> Tensor:
    """Every level counts the same in what the network predicts: 1 / c_out^2 on x0_hat.

    Ho et al. 2020 (arXiv 2006.11239), equation 14, for epsilon prediction.
    """
    return coefficients.c_out**-2
