"""Ends a training whose loss, or a metric of it, has stopped getting better.

Source: Prechelt 1998, "Early Stopping - But When?" (LNCS 1524), section 2: the third class of criteria, s successive
strips without progress. Cost: a comparison a point. A diffusion loss is noisy, since the noise level of each image is
drawn anew: `window` takes the mean of several points, and a metric of samples says more.
"""

import json
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from ...registry.marks import hookimpl

if TYPE_CHECKING:
    from ...registry.hooks import RunInfo
    from ...registry.recipe_types import Recipe

LOGGED = ("loss", "gradient_norm")
SCORE = "eval/"
log = logging.getLogger("dmf")


class EarlyStopping:
    """Ends the training, with a checkpoint, once a value has not got better for so many points.

    A point of the loss comes every `log.every` steps, one of a metric with each evaluation while training goes on. A
    value that is no number is none that is better. A run that was stopped so counts as done; with other `train.steps`
    it goes on, and its patience begins anew. With another `on`, `window` or `better` all of its counting does, and with
    another sampler, seed or metric where it counts scores.

    Args:
        on: `loss`, `gradient_norm`, or a value of `evaluate.during` as `eval/NAME_nIMAGES`.
        patience: Points in a row without a better value, after which it ends.
        min_delta: By how much a value must be better to count.
        window: The mean of so many newest points is what is judged.
        better: Which way the value is better; null is `lower` for what is logged, and what a metric says of its own.
        after: Training steps before which no point counts.

    Raises:
        ValueError: A value that is not there to be judged.
    """

    def __init__(
        self,
        *,
        on: str = "loss",
        patience: Annotated[int, Ge(1)] = 10,
        min_delta: Annotated[float, Ge(0)] = 0.0,
        window: Annotated[int, Ge(1)] = 1,
        better: Literal["lower", "higher"] | None = None,
        after: Annotated[int, Ge(0)] = 0,
    ) -> None:
        if on not in LOGGED and not on.startswith(SCORE):
            raise ValueError(
                f"early_stopping.on is {on!r}; expected {', '.join(LOGGED)}, or a value of evaluate.during, such as "
                f"{SCORE}fid_n1000"
            )
        self.on, self.patience, self.min_delta = on, patience, min_delta
        self.window, self.better, self.after = window, better, after
        self._newest: list[float] = []
        self._best: float | None = None
        self._waited = 0
        self._scored_step = 0
        self._way: str | None = None  # in which scores that it has counted were measured
        self._stopped_of = 0  # the train.steps of the recipe under which it asked to stop

    def check(self, recipe: "Recipe") -> None:
        """Refuse, before anything is trained, a value that nobody would compute.

        Raises:
            ValueError: Saying what is wrong.
        """
        during = recipe.evaluate.during
        if not self.on.startswith(SCORE):
            return
        if during.every == 0:
            raise ValueError(
                f"early_stopping.on is {self.on}, a value of evaluations while training goes on, and "
                "evaluate.during.every is 0; write there how many images lie between two, or on: loss"
            )
        if not self.on.endswith(f"_n{during.images}"):
            raise ValueError(
                f"early_stopping.on is {self.on}, and values of evaluate.during have its number of images in their "
                f"names, {during.images} here: write {self.on.partition('_n')[0]}_n{during.images}"
            )

    @hookimpl
    def dmf_should_stop(self, run: "RunInfo", step: int, values: Mapping[str, float]) -> bool:
        """Count a point that is new."""
        if self._stopped_of:
            if self._stopped_of == run.recipe.train.steps:
                return True  # it has ended there, and the run's own note of that is gone
            self._stopped_of, self._waited = 0, 0
        value = self._new(run, step, values)
        if value is None:
            return False
        self._look_at_the_way(run)
        self._count(value, self.better or run.better.get(self.on, "lower"))
        if self._waited < self.patience:
            return False
        self._stopped_of = run.recipe.train.steps
        best = "none at all" if self._best is None else f"{self._best:.5g}"
        points = "1 point" if self._waited == 1 else f"{self._waited} points"
        log.info("%s has not been better than %s for %s", self.on, best, points)
        return True

    def state_dict(self) -> dict[str, Any]:
        """All that it counts, and of what."""
        return {
            "judged": self._judged,
            "newest": self._newest,
            "best": self._best,
            "waited": self._waited,
            "scored_step": self._scored_step,
            "way": self._way,
            "stopped_of": self._stopped_of,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`; what was counted of another value says nothing of this one."""
        if state.get("judged") != self._judged:
            log.info(
                "early_stopping counts anew: what it judges by on, window and better is %s now, and was %s",
                json.dumps(self._judged),
                json.dumps(state.get("judged")),
            )
            return
        self._newest, self._best = list(state["newest"]), state["best"]
        self._waited, self._scored_step, self._way = state["waited"], state["scored_step"], state.get("way")
        self._stopped_of = state["stopped_of"]

    @property
    def _judged(self) -> dict[str, Any]:
        """What numbers are of: those of one are not to be held against those of another."""
        return {"on": self.on, "window": self.window, "better": self.better}

    def _look_at_the_way(self, run: "RunInfo") -> None:
        """Count anew where samples are made, or scored, in another way than those that were counted."""
        way = json.dumps(self._measured(run.recipe.as_dict()) if self.on.startswith(SCORE) else None, sort_keys=True)
        if self._way not in (None, way):
            log.info("early_stopping counts anew: %s is measured in another way than before", self.on)
            self._newest, self._best, self._waited = [], None, 0
        self._way = way

    def _measured(self, recipe: Mapping[str, Any]) -> list[Any]:
        """What a score depends on: how samples are made, and the metrics that may give it, by the start of its name."""
        evaluate = recipe["evaluate"]
        during = evaluate["during"]["metrics"]
        asked = evaluate["metrics"] if during is None else during
        names = [one if isinstance(one, str) else one["name"] for one in asked]
        giving = [one for one, name in zip(asked, names, strict=True) if self.on.removeprefix(SCORE).startswith(name)]
        return [recipe["sampler"], evaluate["seed"], giving or asked]

    def _new(self, run: "RunInfo", step: int, values: Mapping[str, float]) -> float | None:
        """The value of this point; None where it counts as none.

        Raises:
            ValueError: An evaluation has been made, and has no such value.
        """
        if self.on.startswith(SCORE):
            scored_step = int(values.get(f"{SCORE}step", 0))
            if scored_step == self._scored_step:
                return None
            if self.on not in values:
                if scored_step <= run.start_step:
                    return None  # of an earlier start, whose recipe may have had other metrics
                there = ", ".join(sorted(name for name in values if name.startswith(SCORE) and name != f"{SCORE}step"))
                raise ValueError(f"nobody computes {self.on}; there are {there}: name one of them in early_stopping.on")
            step = self._scored_step = scored_step
        return values[self.on] if step > self.after else None

    def _count(self, value: float, better: str) -> None:
        """Take a point in; nothing is judged before the window is full."""
        if not math.isfinite(value):
            self._waited += 1
            return
        self._newest = [*self._newest, value][-self.window :]
        if len(self._newest) < self.window:
            return
        mean = math.fsum(self._newest) / self.window
        gain = math.inf if self._best is None else (self._best - mean) * (1 if better == "lower" else -1)
        if gain > self.min_delta:
            self._best, self._waited = mean, 0
        else:
            self._waited += 1
