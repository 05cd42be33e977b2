"""The contract kit: exact denoisers, measured orders, and checks for any sampler or schedule, ours or yours.

from dmf.testing import check_sampler

def test_my_sampler():
    check_sampler(MySampler())
"""

from .exact import Gaussian, Mixture
from .labels import LevelOfLabel
from .ode import reference_end
from .orders import errors_of, order_of, smooth_grid
from .samplers import PREDICTIONS, SAMPLER_CHECKS, check_agreement, check_sampler
from .schedules import SCHEDULE_CHECKS, Arc, Exploding, Straight, check_schedule, unlike_schedules

__all__ = [
    "PREDICTIONS",
    "SAMPLER_CHECKS",
    "SCHEDULE_CHECKS",
    "Arc",
    "Exploding",
    "Gaussian",
    "LevelOfLabel",
    "Mixture",
    "Straight",
    "check_agreement",
    "check_sampler",
    "check_schedule",
    "errors_of",
    "order_of",
    "reference_end",
    "smooth_grid",
    "unlike_schedules",
]
