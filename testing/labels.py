"""From the label that a network is told back to the level that is meant."""

from __future__ import annotations

import sys

import torch
from scipy.optimize import brentq
from torch import Tensor

from ..core import Level, NoiseSchedule

ROUNDING = 4 * sys.float_info.epsilon  # the least that SciPy takes


class LevelOfLabel:
    """The inverse of ``schedule.label``, for any label that rises or falls with t. Remembers what it has solved.

    Args:
        schedule: Whose labels they are.
    """

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule
        self.known: dict[float, float] = {}

    def __call__(self, labels: Tensor) -> Level:
        """The levels, with fields (B,) float64 on the CPU, of labels (B,)."""
        wanted = [float(one) for one in labels.tolist()]
        for one in wanted:
            if one not in self.known:
                self.known[one] = self._solve(one)
        return self.schedule.at(torch.tensor([self.known[one] for one in wanted], dtype=torch.float64))

    def _solve(self, label: float) -> float:
        noisiest, cleanest = self.schedule.ends()
        at_ends = self._label(cleanest), self._label(noisiest)
        inside = min(max(label, min(at_ends)), max(at_ends))  # float32 rounds beyond the ends
        solved: float = brentq(lambda t: self._label(t) - inside, cleanest, noisiest, xtol=1e-18, rtol=ROUNDING)
        return solved

    def _label(self, t: float) -> float:
        return float(self.schedule.label(self.schedule.at(t)))
