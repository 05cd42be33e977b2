"""Loss weightings: how much each level counts.

A weighting is a function (level, space, *, options) -> factor on the squared error of x0_hat, float64, shaped like the
level. It is turned into a factor on the squared error of the loss space once, in `dmf.core.training_loss`, so that it
means the same for every prediction: the error of x0_hat is c_out times the error there. All but `uniform` depend on
the log SNR (and on sigma_data) alone.
"""

from .base import LossSpace, Weighting
from .edm import edm
from .min_snr import min_snr
from .p2 import p2
from .sigmoid import sigmoid
from .snr import snr
from .uniform import uniform

__all__ = ["LossSpace", "Weighting", "edm", "min_snr", "p2", "sigmoid", "snr", "uniform"]
