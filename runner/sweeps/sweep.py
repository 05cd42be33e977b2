"""`dmf evaluate RUN --sweep`: a run scored with every combination of some settings, all with the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...files.words import counted, few
from ...files.writing import write_json, write_text
from ...registry import UserError
from ..assemble import Sampling, build_sampling
from ..average_rules import POSTHOC
from ..conditions import check_guidance
from ..console import TaskProgress, log
from ..evaluation.evaluation import Evaluation
from ..evaluation.first_images import GRID, scored_with_grid
from ..evaluation.origins import libraries, origins
from ..evaluation.protocol import computed
from ..evaluation.scored import Scored
from ..evaluation.tracking import Tracked, held, tracked
from ..evaluation.trained import Trained
from ..folder import RunFolder
from ..outputs import Outputs
from ..weights import Weights, find_weights
from ..world import World
from .best import check_best, write_best
from .cost import call_s, in_words, network_calls, samples_s
from .kept import Kept, Ledger, place_of
from .networks import Networks
from .plot import draw
from .points import Point, axes, points
from .report import Swept


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a sweep.

    Attributes:
        words: Those behind ``--sweep``.
        step: Of the checkpoint; None is the newest.
        overrides: Of the recipe, for all points.
        repeats: Seeds of each point.
        write_best: The value by which the best point becomes the run's own setting; None leaves the run alone.
        json: Where the points are written too.
        track: Whether the run's trackers are told.
        also: What tells the values apart and is not in the recipe, such as another reference.
    """

    words: Sequence[str]
    step: int | None = None
    overrides: Sequence[str] = ()
    repeats: int = 1
    write_best: str | None = None
    json: Path | None = None
    track: bool = True
    also: Sequence[str] = ()


def sweep(
    asked: Asked, folder: RunFolder, evaluation: Evaluation, trained: Trained, found: Weights, world: World
) -> None:
    """Score every point that is not done, tell of all, on every rank.

    Args:
        asked: What is wanted.
        folder: The run's.
        evaluation: Of the run; it has read the reference once for all points.
        trained: The network.
        found: Its weights.
        world: The ranks.

    Raises:
        UserError: A point that cannot be, before the first is scored; points that could not be scored, at the end.
    """
    wanted = points(asked.words, folder, asked.overrides)
    own = evaluation.recipe.evaluate.weights
    weights = world.tell(world.first_only(lambda: _weights(wanted, {own: found}, asked.step, folder)))
    networks = Networks(folder, world, trained, own, weights)
    samplings = [_sampling(point, networks, evaluation) for point in wanted]
    others = [asked.repeats, list(asked.also), world.first_only(lambda: _scored_with(evaluation))]
    made_with = [(weights[point.recipe.evaluate.weights], networks.guide(point.recipe)) for point in wanted]
    places = [place_of(point, folder, *with_what, others) for point, with_what in zip(wanted, made_with, strict=True)]
    ledger = Ledger(wanted, places, world)
    if ledger.left:
        _announce(asked, ledger, samplings, evaluation, trained, world)
    with Outputs() as files, tracked(folder, evaluation.recipe, world, wanted=asked.track, also=asked.also) as told:
        told.tell()  # parts have a parent
        with TaskProgress("sweep", len(wanted), len(wanted) - len(ledger.left), shown=world.first) as bar:
            _check_best(asked, ledger)
            for i in ledger.left:
                _score(i, ledger, networks, evaluation, asked.repeats)
                _check_best(asked, ledger)  # after the first values at the latest it is known which there are
                bar.step()
                _tell(told, ledger, i, trained.step)
        for i, *_ in ledger.there():
            if i not in ledger.left:
                _tell(told, ledger, i, trained.step)
        if world.first:
            _finish(asked, folder, ledger, told, files)
    _end(asked, ledger)


def _weights(
    wanted: Sequence[Point], found: dict[str, Weights], step: int | None, folder: RunFolder
) -> dict[str, Weights]:
    """Those of all points, by their names: now, for a training that goes on writes newer ones between two points.

    Args:
        wanted: The points.
        found: Those that are loaded.
        step: That was asked for; None is the newest, for all points the same one.
        folder: The run's.
    """
    ((name, loaded),) = found.items()
    for one in {point.recipe.evaluate.weights for point in wanted} - {name}:
        # averages that were made after the training have steps of their own
        apart = one.startswith(POSTHOC) or name.startswith(POSTHOC)
        found[one] = find_weights(folder, one, loaded.step if step is None and not apart else step)
    return found


def _check_best(asked: Asked, ledger: Ledger) -> None:
    if asked.write_best is not None:
        for _, results, better in ledger.there():
            check_best(asked.write_best, results, better)


def _sampling(point: Point, networks: Networks, evaluation: Evaluation) -> Sampling:
    """A point's sampling, so that what cannot be is told before the work."""
    recipe = point.recipe
    try:
        check_guidance(recipe.sampler, evaluation.dataset.spec, recipe.train.label_dropout)
        return build_sampling(recipe.sampler, networks.model.schedule, networks.guide(recipe))
    except UserError as error:
        raise UserError(f"--sweep: {point.name} is not possible: {error}") from error


def _scored_with(evaluation: Evaluation) -> list[Any]:
    """What values depend on besides the points: the metrics, the data, what is compared with."""
    scoring = evaluation.scoring
    metrics = [
        [one.name, one.protocol(one.metric), libraries(one.metric), origins(one.metric)] for one in scoring.metrics
    ]
    reference = scoring.against.protocol()  # of statistics alone, what they are
    return [metrics, evaluation.dataset.fingerprint(), reference, computed(evaluation.world.device)]


def _announce(
    asked: Asked,
    ledger: Ledger,
    samplings: Sequence[Sampling],
    evaluation: Evaluation,
    trained: Trained,
    world: World,
) -> None:
    """How many points, and about how long they take."""
    found, left = ledger.points, ledger.left
    calls = [network_calls(found[i].recipe, samplings[i]) for i in left]
    recipe = found[left[0]].recipe
    one_s = call_s(recipe, evaluation, trained, samplings[left[0]])
    taken = in_words(samples_s(calls, recipe, one_s, asked.repeats, world.size))
    several = [str(len(values)) for values in axes(asked.words).values() if len(values) > 1]
    sizes = f"{' x '.join(several)} = " if len(several) > 1 else ""
    seeds = f", {asked.repeats} seeds each" if asked.repeats > 1 else ""
    done = f"; {len(found) - len(left)} are done already" if len(left) < len(found) else ""
    besides = ", and those of adaptive samplers as long as they need" if None in calls else ""
    log.info(
        "sweep: %s%s of %s images%s%s; making the samples takes about %s%s, besides the scoring",
        *(sizes, counted(len(found), "point"), f"{recipe.evaluate.images:,}", seeds, done, taken, besides),
    )


def _score(i: int, ledger: Ledger, networks: Networks, evaluation: Evaluation, repeats: int) -> None:
    """Score a point, and keep what came of it, whole or not at all; one that fails takes nothing from the others."""
    point, recipe = ledger.points[i], ledger.points[i].recipe
    guide, trained = networks.guide(recipe), networks.of(recipe)
    first = scored_with_grid(evaluation, trained, guide, recipe=recipe)
    scored = evaluation.over_seeds(first, repeats, trained, guide, recipe=recipe)
    there = ", ".join(f"{name} {one['value']:.4g}" for name, one in scored.results.items())
    if scored.errors:
        why = ledger.failed[point.name] = "; ".join(scored.errors)
        if networks.world.first:
            log.warning("%s has no values: %s%s", point.name, why, f"; what there is: {there}" if there else "")
        return
    if networks.world.first:
        log.info("%s: %s", point.name, there)
        _keep(point, ledger.places[i], scored)
    ledger.kept[i] = scored.results, scored.better


def _keep(point: Point, place: Kept, scored: Scored) -> None:
    try:
        place.write(point, scored.results, scored.better, scored.pictures.get(GRID))
    except OSError as error:
        raise UserError(
            f"--sweep: {point.name} cannot be kept in {place.folder}: {error.strerror or error}; those before it "
            "are kept: make room, and give the same command again to go on"
        ) from error


def _tell(told: Tracked, ledger: Ledger, i: int, step: int) -> None:
    """A point as a part of the run, with its values and first images; of one that was told, what was not sent."""
    kept, point, place = ledger.kept[i], ledger.points[i], ledger.places[i]
    if kept is None:
        return
    with told.child(point.name, place.folder, point.recipe) as part:
        part.metrics(step, kept[0])
        if place.grid.exists():
            part.file(place.grid)


def _finish(asked: Asked, folder: RunFolder, ledger: Ledger, told: Tracked, files: Outputs) -> None:
    """Table, JSON, of several points a plot; the best into the run."""
    swept = ledger.swept()
    log.info("%s", swept.table())
    at = "" if asked.step is None else f"@{asked.step}"
    title = f"{folder.path.name}{at}: {' '.join(asked.words)}"
    for path in _written(swept, folder.path / "sweeps" / ledger.digest(), title, files):
        told.file(path)
    if asked.json is not None:
        files.write(asked.json, partial(write_json, asked.json, swept.as_dict()))
    champion = None if asked.write_best is None or swept.failed else swept.best(asked.write_best)
    if champion is not None:
        with held(folder):
            files.write(folder.recipe, lambda: write_best(champion, folder))


def _end(asked: Asked, ledger: Ledger) -> None:
    """Nothing, or a mistake, once all that there is has been written and told.

    Raises:
        UserError: Points have no values.
    """
    if ledger.failed:
        best = "; --write-best waits for all" if asked.write_best else ""
        raise UserError(
            f"--sweep: {len(ledger.failed)} of {counted(len(ledger.points), 'point')} have no values: "
            f"{few(list(ledger.failed))}; {'the others are kept' if ledger.there() else 'there are no others'}{best}. "
            "Take out what cannot be scored, or give the same command to try it again"
        )


def _written(swept: Swept, home: Path, title: str, files: Outputs) -> list[Path]:
    """The files of the sweep's folder, as far as they could be written."""
    works: dict[str, Callable[[Path], object]] = {"table.txt": lambda path: write_text(path, swept.table() + "\n")}
    if len(swept.points) > 1:
        works["plot.png"] = lambda path: draw(swept, path, title)
    works["sweep.json"] = lambda path: write_json(path, swept.as_dict())
    if not files.write(home, lambda: home.mkdir(parents=True, exist_ok=True)):
        return []
    written = [home / name for name, work in works.items() if files.write(home / name, partial(work, home / name))]
    if written:
        log.info("%s: %s", ", ".join(path.name for path in written), home)
    return written
