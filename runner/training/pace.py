"""How fast training goes, and how much of it is waiting for data; on the host's clock, without asking the device."""

from __future__ import annotations

import time


class Pace:
    """Times steps.

    A step on a GPU is only put in its queue, so the time of one is that of an interval over its steps, and what the
    host waits for data costs nothing while the queue is full: the share of waiting is then the most that it can be.

    Args:
        batch_size: Images a step.

    Attributes:
        first_s: What the first batch took, for which workers have to start; in no other figure. None before it.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.steps, self.waited_s = 0, 0.0
        self.first_s: float | None = None
        self._whole_s = self._whole_waited_s = 0.0
        self._clock = time.perf_counter()

    def restart(self) -> None:
        """Leave out what lies between the last point and now, such as the making of pictures."""
        self._clock, self.steps, self.waited_s = time.perf_counter(), 0, 0.0

    def step(self, waited_s: float) -> None:
        """Count a step, of which ``waited_s`` went into waiting for its images; the first wait is no training time."""
        self.steps += 1
        if self.first_s is None:
            self.first_s = waited_s
            self._clock += waited_s
        else:
            self.waited_s += waited_s

    def point(self) -> dict[str, float]:
        """The values since the last point."""
        taken_s, steps = time.perf_counter() - self._clock, max(self.steps, 1)
        self._whole_s, self._whole_waited_s = self._whole_s + taken_s, self._whole_waited_s + self.waited_s
        values = {
            "images_per_second": self.batch_size * steps / taken_s,
            "step_ms": 1000 * taken_s / steps,
            "data_wait_ms": 1000 * self.waited_s / steps,
        }
        self.restart()
        return values

    def waited(self) -> float | None:
        """The share of all points' time that went into waiting for data; None before the first."""
        return self._whole_waited_s / self._whole_s if self._whole_s else None
