"""What any density of training times must hold to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Density, NoiseSchedule, generator
from .claims import called, hold, require
from .schedules import unlike_schedules

DRAWS = 1000


def check_density(density: Density) -> None:
    """Hold a density to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(DENSITY_CHECKS, density)


def check_form(density: Density) -> None:
    """A float64 time for each u, of u's shape, u itself left alone; of 0 and of the number before 1 too."""
    for where, schedule, u in _draws(density):
        kept, t = u.clone(), density(u, schedule)
        require(t.shape == u.shape, f"{where}: {tuple(u.shape)} numbers u gave times of shape {tuple(t.shape)}")
        require(t.dtype == torch.float64, f"{where}: times are to be float64; got {t.dtype}")
        require(t.isfinite().all(), f"{where}: a time is not finite, of u = {u[~t.isfinite()][:3].tolist()}")
        require(torch.equal(u, kept), f"{where} writes into the u that it is given")


def check_ends(density: Density) -> None:
    """Times lie between the schedule's ends, where parts may be called."""
    for where, schedule, u in _draws(density):
        noisiest, cleanest = schedule.ends()
        t = density(u, schedule)
        outside = t[(t < cleanest) | (t > noisiest)]
        require(len(outside) == 0, f"{where} leaves {cleanest} ... {noisiest}: {outside[:3].tolist()}; clip them")


def check_order(density: Density) -> None:
    """t never falls as u grows: it is an inverse distribution function, so that stratified u give stratified t."""
    for where, schedule, u in _draws(density):
        t = density(u.sort().values, schedule)
        require((t.diff() >= 0).all(), f"{where}: t falls somewhere as u grows")
        require(t[-1] > t[0] or len(t) < 2, f"{where}: every u gives the same time")


def check_each(density: Density) -> None:
    """The time of a u does not depend on the others: ranks take slices of one draw."""
    for where, schedule, u in _draws(density):
        whole = density(u, schedule)
        parts = torch.cat([density(part, schedule) for part in torch.split(u, 300)])
        same = torch.allclose(whole, parts, rtol=1e-12, atol=0)  # the last bit may depend on a vector's length
        require(same, f"{where}: the time of a u depends on the batch that it comes in")


DENSITY_CHECKS = (check_form, check_ends, check_order, check_each)


def _draws(density: Density) -> list[tuple[str, NoiseSchedule, Tensor]]:
    """(where, schedule, u): ends of [0, 1) included, in the dtypes that users draw."""
    found = []
    for name, schedule in unlike_schedules().items():
        for dtype, last in ((torch.float32, 1 - 2**-24), (torch.float64, 1 - 2**-53)):
            drawn = torch.rand(DRAWS, dtype=dtype, generator=generator(0, "density", 0))
            u = torch.cat([torch.tensor([0.0, last], dtype=dtype), drawn])
            found.append((f"{called(density)} on schedule {name}", schedule, u))
    return found
