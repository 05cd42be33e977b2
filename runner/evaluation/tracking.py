"""Values of a trained run on their way to its trackers: through the hooks that the run itself has.

What there is to tell is collected and told at the end, so that the run's folder is held for that moment only.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ...core import Way
from ...files.writing import read_json, write_text
from ...registry import HookCaller, Recipe, UserError, read
from ...registry.hooks import Task
from .. import checkpoints
from ..assemble import part
from ..console import log
from ..folder import InUse, RunFolder
from ..world import World
from .during import recipe_during
from .results import Results
from .settings import metric_words, numbered, settings

PATIENCE_S = 10.0  # for another evaluation of the run, which tells its values too


@dataclass(frozen=True)
class Told:
    """A trained run, as hooks see it.

    Attributes:
        name: The run's, or the part's.
        folder: Its folder.
        recipe: Its own, whatever the evaluation has changed; of a part, what it was scored with.
        facts: Of the run.
        start_step: Training steps behind the weights.
        parent: Folder of the run that it is a part of.
        task: It is evaluated.
        better: Nothing: it is not in training.
    """

    name: str
    folder: Path
    recipe: Recipe
    facts: Mapping[str, str]
    start_step: int
    parent: Path | None = None
    task: Task = "evaluate"
    better: Mapping[str, Way] = field(default_factory=dict)


class Tracked:
    """Collects what is to be told of a run.

    Args:
        run: What hooks see of it.
        hooks: Its hooks; None tells nobody.
        suffix: What the names of values and pictures end with.
        suffixes: What those of each of the recipe's metrics end with instead.
        images: How many images are scored, where that is not what the run's own recipe says.
        home: The run's folder; None for a part of a run.
        gave: Which of the recipe's metrics a value or a picture is of, by name; looked into when they come.
    """

    def __init__(
        self,
        run: Told | None,
        hooks: HookCaller | None,
        suffix: str = "",
        images: int | None = None,
        home: RunFolder | None = None,
        suffixes: Sequence[str] = (),
        gave: Mapping[str, int] | None = None,
    ) -> None:
        self.run, self.hooks, self.suffix, self.images, self.home = run, hooks, suffix, images, home
        self.suffixes, self.gave = suffixes, {} if gave is None else gave  # one that is empty is filled later
        self._scores: list[tuple[int, Results]] = []
        self._pictures: list[tuple[str, Tensor]] = []
        self._files: list[Path] = []

    def metrics(self, step: int, results: Results) -> None:
        """Values of the weights of ``step``."""
        names = results if self.images is None else numbered(results, self.images)
        told = zip(names, results.items(), strict=True)
        self._scores.append((step, {f"{name}{self._end(plain)}": result for name, (plain, result) in told}))

    def picture(self, name: str, image: Tensor) -> None:
        """A picture, uint8 (C, H, W)."""
        self._pictures.append((f"{name}{self._end(name)}", image))

    def file(self, path: Path) -> None:
        """A finished file."""
        self._files.append(path)

    @contextlib.contextmanager
    def child(self, name: str, folder: Path, recipe: Recipe) -> Iterator[Tracked]:
        """A part of the run with values of its own, such as a point of a sweep.

        Args:
            name: What it is called.
            folder: Its own; made if it is not there.
            recipe: What it is scored with.
        """
        if self.run is None or self.hooks is None:
            yield Tracked(None, None)
            return
        folder.mkdir(parents=True, exist_ok=True)
        run = Told(name, folder, recipe, self.run.facts, self.run.start_step, self.run.folder)
        part_of_it = Tracked(run, self.hooks)
        yield part_of_it
        if (folder / "recipe.yaml").exists():  # told before; what could not be sent then is
            self.hooks.call("dmf_run_ended", run=run, error=None)
            return
        part_of_it.tell()
        write_text(folder / "recipe.yaml", recipe.to_yaml())

    def tell(self) -> None:
        """Tell the hooks what was collected, from the start of a run to its end, and forget it.

        Of a run of its own its folder is held meanwhile: where another process does, nothing is told, and that is said.
        """
        if self.run is None or self.hooks is None:
            return
        with contextlib.ExitStack() as stack:
            if self.home is not None:
                try:
                    stack.enter_context(held(self.home))
                except UserError as error:
                    log.warning("the values are not tracked: %s", error)
                    return
            self._tell(self.run, self.hooks)

    def _end(self, name: str) -> str:
        return self.suffixes[self.gave[name]] if name in self.gave else self.suffix

    def _tell(self, run: Told, hooks: HookCaller) -> None:
        step = run.start_step
        hooks.call("dmf_run_started", run=run)
        for at, results in self._scores:
            hooks.call("dmf_metrics", run=run, step=at, results=results)
        for name, image in self._pictures:
            hooks.call("dmf_images", run=run, step=step, name=name, images=image)
        for path in self._files:
            hooks.call("dmf_file_written", run=run, path=path)
        hooks.call("dmf_run_ended", run=run, error=None)
        self._scores, self._pictures, self._files = [], [], []


@contextlib.contextmanager
def tracked(
    folder: RunFolder,
    recipe: Recipe,
    world: World,
    *,
    wanted: bool = True,
    also: Sequence[str] = (),
    gave: Mapping[str, int] | None = None,
) -> Iterator[Tracked]:
    """What an evaluation tells the trackers of the run: at the end of the block, unless it ends in an error.

    Entered before the work, so that a hook that cannot be costs none.

    Args:
        folder: The run's.
        recipe: What it is scored with: the run's own recipe and what was changed, which goes into the names.
        world: The ranks; the first one tells.
        wanted: Whether to tell at all.
        also: Further words for the names of values, such as another reference's.
        gave: Which of the recipe's metrics a value or a picture is of, by name: that one's options go into its name.
            Looked into when they come, and so may be filled by the work.

    Raises:
        UserError: A hook that cannot be.
    """
    found = world.first_only(lambda: _collector(folder, recipe, also, gave) if wanted and recipe.hooks else None)
    collector = found or Tracked(None, None)
    yield collector
    collector.tell()


def _collector(folder: RunFolder, recipe: Recipe, also: Sequence[str], gave: Mapping[str, int] | None) -> Tracked:
    own, saved = read(folder.recipe_as_trained), checkpoints.newest(folder.checkpoints, groups=())
    run = Told(own.name, folder.path, own, read_json(folder.facts) or {}, saved.step if saved else 0)
    hooks = HookCaller([part("hook", ref) for ref in recipe.hooks], log.warning, [ref.name for ref in recipe.hooks])
    images = recipe.evaluate.images
    number = None if images == own.evaluate.images else images
    curve = _of_that_curve(own, number)
    of_all = settings(curve, recipe)
    of_each = [_suffix([*of_all, *metric_words(curve, ref), *also]) for ref in recipe.evaluate.metrics]
    return Tracked(run, hooks, _suffix([*of_all, *also]), number, folder, of_each, gave)


def _suffix(words: Sequence[str]) -> str:
    return "".join(f" {word}" for word in words)


def _of_that_curve(own: Recipe, number: int | None) -> Recipe:
    """What the curve of a number of images, with no further words, is of: the scores while training have one too."""
    during = own.evaluate.during
    return recipe_during(own) if during.every > 0 and number == during.images else own


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """The folder, for this process alone: two that write to one tracker's run at once spoil its record.

    Raises:
        UserError: Another process keeps it, and did so for `PATIENCE_S`; or nothing can be written there.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            folder.hold()
            break
        except InUse:
            folder.release()
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
    try:
        yield
    finally:
        folder.release()
