"""Densities of training times: which levels a network practises on.

A density is a function (u, schedule, *, options) -> t that maps uniform numbers u in [0, 1), (B,), to times, float64:
the inverse of its distribution function, so that t grows with u. Where u comes from is not its business: independent
draws or those of `stratified` work alike.
"""

from .base import Density
from .discrete_uniform import discrete_uniform
from .log_normal import log_normal
from .logit_normal import logit_normal
from .strata import stratified
from .uniform import uniform

__all__ = ["Density", "discrete_uniform", "log_normal", "logit_normal", "stratified", "uniform"]
