"""Opening a run in an MLflow store: the same run after every start, told what it is told at the start.

All of it may be tried again at any moment, after an answer that was lost too.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from ...files.words import short
from .mlflow_params import as_name, changed_tags
from .mlflow_spool import log
from .mlflow_store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

ENTITIES_A_BATCH = 100
TAG_CHARS = 8000
DIGEST_CHARS = 36
# what MLflow's pages call an experiment that trains, as against one that holds chats with language models
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Facts:
    """What MLflow is told of a run when it opens; all of it known before training.

    Attributes:
        name: The run's name.
        folder: Its folder, with history.jsonl in it.
        experiment: The MLflow experiment.
        params: The flattened recipe, and what is known of the built network.
        tags: Versions, commit and the like.
        dataset: Name and digest of the training data, or None.
        start_step: The step that training (re)starts from.
        history_bytes: How much of history.jsonl was there when the process began.
        began_ms: When the process began.
        task: ``train``, or ``evaluate`` for values that are added to a trained run.
        parent: Folder of the run that this one is nested in.
    """

    name: str
    folder: Path
    experiment: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    dataset: tuple[str, str] | None
    start_step: int
    history_bytes: int
    began_ms: int
    task: str
    parent: Path | None

    @property
    def goes_on(self) -> bool:
        """Whether the MLflow run is at work as long as this process; else it is only added to."""
        return self.task == "train" or self.parent is not None


def find_or_make(client: "MlflowClient", store: Store, facts: Facts) -> "Run":
    """The MLflow run of this folder: the one in its mlflow.json, else a new one."""
    known = read_state(facts.folder)
    if run_id := known.get("run_id"):
        if (run := _get(client, run_id)) is not None:
            return run
        log.warning("MLflow at %s has no run %s (any more): a new one is made", store.shown, run_id)
        known = {}
    experiment_id = _experiment(client, store, facts.experiment)
    # The key is on disk before the run exists: an answer lost on the way, or kill -9, leaves no second run.
    key = known.get("key") or uuid4().hex
    write_state(facts.folder, {"key": key})
    run = _find(client, experiment_id, key) or _make(client, experiment_id, key, facts)
    where = {"run_id": run.info.run_id, "experiment": facts.experiment, "uri": store.shown}
    write_state(facts.folder, {**where, "key": key})
    return run


def describe(client: "MlflowClient", run: "Run", facts: Facts) -> None:
    """Send parameters, tags and the dataset; parameters that are there already are left, as MLflow demands."""
    from mlflow.entities import Param, RunTag

    run_id, known = run.info.run_id, run.data.params
    for params in batches(Param(key, value) for key, value in facts.params.items() if key not in known):
        client.log_batch(run_id, params=params, synchronous=True)
    changed, outdated = changed_tags(known, run.data.tags, facts.params)
    tags = {as_name(key): short(value, TAG_CHARS) for key, value in facts.tags.items()} | changed
    for some in batches(RunTag(key, value) for key, value in tags.items()):
        client.log_batch(run_id, tags=some, synchronous=True)
    for tag in outdated:
        client.delete_tag(run_id, tag)
    if facts.dataset is not None:
        _dataset(client, run_id, *facts.dataset)


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items, as many at a time as MLflow takes in one request."""
    rest = iter(items)
    while some := list(islice(rest, ENTITIES_A_BATCH)):
        yield some


def read_state(folder: Path) -> dict[str, Any]:
    """What mlflow.json in the run's folder says: run_id, experiment, uri, our key, and the images that were sent."""
    path = folder / "mlflow.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    log.warning("%s is damaged: the store gets a new run for this folder", path)
    return {}


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write mlflow.json, whole or not at all."""
    path = folder / "mlflow.json"
    draft = path.with_suffix(".json.tmp")
    draft.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)


def _get(client: "MlflowClient", run_id: str) -> "Run | None":
    """The run, unless the store has none of that name or its user deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _id_of(parent: Path) -> str:
    """The MLflow run of a folder that is a parent's.

    Raises:
        RuntimeError: There is none as yet; it is tried again.
    """
    run_id = read_state(parent).get("run_id")
    if run_id is None:
        raise RuntimeError(f"{parent}, the run that this one is a part of, is not in MLflow yet")
    return str(run_id)


def _find(client: "MlflowClient", experiment_id: str, key: str) -> "Run | None":
    found = client.search_runs([experiment_id], f"tags.`dmf.key` = '{key}'", max_results=1)
    return found[0] if found else None


def _make(client: "MlflowClient", experiment_id: str, key: str, facts: Facts) -> "Run":
    from mlflow.tracking.context.registry import resolve_tags  # user, command, git commit: what MLflow itself would say

    tags = {**resolve_tags(), "dmf.key": key, "dmf.run_dir": str(facts.folder.resolve())}
    if facts.parent is not None:
        tags["mlflow.parentRunId"] = _id_of(facts.parent)
    return client.create_run(experiment_id, start_time=facts.began_ms, tags=tags, run_name=facts.name)


def _experiment(client: "MlflowClient", store: Store, name: str) -> str:
    """The experiment's id; made if there is none.

    Raises:
        RuntimeError: It was deleted, which can be undone while we try again.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            root = store.artifact_root(name)
            return str(client.create_experiment(name, artifact_location=root, tags=EXPERIMENT_TAGS))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            # another process was quicker
    _check_experiment(found, store)
    return str(found.experiment_id)


def _check_experiment(experiment: "Experiment", store: Store) -> None:
    if experiment.lifecycle_stage != "active":
        raise RuntimeError(
            f"experiment {experiment.name!r} was deleted: `mlflow experiments restore -x {experiment.experiment_id}` "
            "brings it back, or give the mlflow hook another `experiment`"
        )
    if experiment.artifact_location.startswith("mlflow-artifacts:") and store.database is not None:
        log.warning(
            "MLflow experiment %r was made through a server and takes files through it only: "
            "set MLFLOW_TRACKING_URI to that server, or give the mlflow hook another `experiment`",
            experiment.name,
        )


def _dataset(client: "MlflowClient", run_id: str, name: str, digest: str) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"tags": {"dmf.dataset": name}})
    dataset = Dataset(name=name, digest=digest[:DIGEST_CHARS], source_type="code", source=source)
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
