"""The MLflow hook on a real sqlite store: what arrives, and what happens when a run stops and goes on."""

import logging
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow_kit import FakeRecipe, FakeRun, Look, loss_at, make, quiet, same, until_status
from mlflow_kit import fresh_database_fixture as fresh_database_fixture
from mlflow_kit import look_fixture as look_fixture
from mlflow_kit import no_worker_left_fixture as no_worker_left_fixture

from dmf.plugins.hooks import mlflow_run
from dmf.plugins.hooks.mlflow_params import as_name, flatten
from dmf.registry import HookCaller


def test_a_whole_run_arrives(look: Look, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dmf")
    tree = {"name": "r", "train": {"lr": 1e-4, "betas": [0.9, 0.99], "clip": None}, "note": "é" * 7000, "off": {}}
    facts = {"dataset.name": "digits", "dataset.fingerprint": "f" * 64, "t": "x" * 9000, "network.scan": "torch"}
    facts["codec.weights"] = "w" * 64
    run = make(recipe=FakeRecipe(tree), facts=facts)
    run.start()
    run.log(*range(0, 50, 10))
    run.image(20)
    run.image(40)
    run.file("samples/grid.png")
    run.file("metrics.json", "{}")
    run.checkpoint(50)
    run.hook.dmf_metrics(50, {"frechet": {"value": 1.5, "protocol": {"images": 1000}}, "fid@50k": {"value": 2}})
    run.end()

    (found,) = look.runs()
    assert (found.info.run_name, found.info.status, found.info.run_id) == ("r", "FINISHED", run.run_id)
    assert found.info.end_time >= found.info.start_time
    params = found.data.params
    assert params.pop("note") == "é" * 5999 + "…"
    assert params == {
        "name": "r",
        "train.lr": "0.0001",
        "train.betas.0": "0.9",
        "train.betas.1": "0.99",
        "train.clip": "null",
        "off": "{}",
        "network.scan": "torch",
        "codec.weights": "w" * 64,
    }
    tags = found.data.tags
    assert tags["dmf.run_dir"] == str(Path("runs/r").resolve()) and tags["dmf.checkpoint"] == "step-50"
    assert len(tags["t"]) == 8000 and tags["mlflow.user"] and "network.scan" not in tags
    assert look.points(run.run_id, "loss") == [(step, loss_at(step)) for step in range(0, 50, 10)]
    assert look.points(run.run_id, "eval/frechet") == [(50, 1.5)]
    assert look.points(run.run_id, "eval/fid_50k") == [(50, 2.0)]
    assert look.images(run.run_id) == [("samples", 20), ("samples", 40)]
    files = look.files(run.run_id)
    assert {"samples/grid.png", "metrics.json", "model/ema.safetensors", "model/recipe.yaml"} <= set(files)
    assert files["model/ema.safetensors"] == len(b"weights")
    assert look.datasets(run.run_id) == [("digits", "f" * 36, "training")]
    assert not Path("runs/r/mlflow-unsent").exists()
    assert caplog.messages[-1].startswith(
        "MLflow: `mlflow ui` in this folder, then http://127.0.0.1:5000/#/experiments/"
    )
    assert caplog.messages[-1].endswith(f"/runs/{run.run_id}?workflowType=machine_learning")


def test_numbers_that_are_none_and_all_are_kept_as_mlflow_keeps_them(look: Look) -> None:
    run = make().start()
    run.log(1, loss=math.nan, grad=math.inf)
    run.log(2, loss=0.5, grad=-math.inf)
    run.end()
    points = look.points(run.run_id, "loss")
    assert [step for step, _ in points] == [1, 2]
    assert all(same(got, wanted) for (_, got), wanted in zip(points, [math.nan, 0.5], strict=True))
    assert [value for _, value in look.points(run.run_id, "grad")] == pytest.approx(
        [sys.float_info.max, -sys.float_info.max]
    )


def test_images_are_true_to_the_pixel(look: Look, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    colour = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grey = colour[:1]
    run = make().start()
    run.hook.dmf_images(3, "preview/colour", colour)
    run.hook.dmf_images(4, "grey: one", grey)
    run.end()
    assert look.images(run.run_id) == [("grey_ one", 4), ("preview/colour", 3)]
    paths = sorted(path for path in look.files(run.run_id) if path.endswith(".png"))
    got = [np.asarray(Image.open(look.client.download_artifacts(run.run_id, path, str(tmp_path)))) for path in paths]
    assert np.array_equal(got[0], grey[0].numpy()) and np.array_equal(got[1], colour.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (RuntimeError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED")],
)
def test_the_end_has_a_status(look: Look, error: BaseException | None, status: str) -> None:
    run = make().start()
    run.checkpoint(1)
    run.end(error)
    (found,) = look.runs()
    assert found.info.status == status
    assert ("model/ema.safetensors" in look.files(run.run_id)) == (error is None)


def test_a_run_that_goes_on_is_the_same_run_without_a_zigzag(look: Look) -> None:
    first = make().start()
    first.log(*range(10))
    for step in (2, 5, 9):
        first.image(step)
    first.end(KeyboardInterrupt())
    second = make(start_step=4)  # the last checkpoint; steps 5 to 9 are trained once more
    second.start()
    assert until_status(look, "RUNNING")
    second.log(*range(5, 15))
    for step in (5, 9, 12):
        second.image(step)
    second.end()
    (found,) = look.runs()
    assert found.info.status == "FINISHED"
    assert look.points(first.run_id, "loss") == [(step, loss_at(step)) for step in range(15)]
    assert look.images(first.run_id) == [("samples", step) for step in (2, 5, 9, 12)]
    assert len(look.datasets(first.run_id)) == 1


def test_an_image_of_one_step_is_sent_again_only_if_it_is_another(look: Look) -> None:
    for start_step in (0, 0, 8):  # killed before the first checkpoint, then after the last
        run = make(start_step=start_step).start()
        run.image(0, "training images")
        run.image(8)
        run.end()
    assert look.images(run.run_id) == [("samples", 8), ("training images", 0)]
    run = make(start_step=8).start()
    run.hook.dmf_images(8, "samples", torch.zeros(3, 9, 9, dtype=torch.uint8))
    run.end()
    assert look.images(run.run_id) == [("samples", 8), ("samples", 8), ("training images", 0)]


def test_a_run_that_is_done_and_all_sent_wakes_nobody(look: Look) -> None:
    make().start().end()
    before = look.runs()[0].info.end_time
    make(start_step=9).end()
    assert look.runs()[0].info.end_time == before


def test_an_evaluation_counts_once_unless_it_says_something_else(look: Look) -> None:
    for value in (1.5, 1.5, 1.25):
        run = make(start_step=50).start()
        run.hook.dmf_metrics(50, {"frechet": {"value": value, "protocol": {}}})
        run.end()
    assert look.points(run.run_id, "eval/frechet") == [(50, 1.5), (50, 1.25)]


def test_scores_while_training_that_come_again_after_a_stop_count_once(look: Look) -> None:
    def scored(run: FakeRun, *steps: int, change: float = 0.0) -> None:
        for step in steps:
            run.hook.dmf_metrics(step, {"frechet_n100": {"value": loss_at(step) + change, "protocol": {}}})

    first = make().start()
    scored(first, 100, 120)
    first.end(KeyboardInterrupt())
    second = make(start_step=90).start()
    scored(second, 100, 120, 140, change=1e-9)  # on a GPU they may differ by rounding
    second.end()
    assert look.points(first.run_id, "eval/frechet_n100") == [
        (100, loss_at(100)),
        (120, loss_at(120)),
        (140, loss_at(140) + 1e-9),
    ]


def test_files_that_are_gone_are_named_and_nothing_else_suffers(look: Look, caplog: pytest.LogCaptureFixture) -> None:
    run = make().start()
    run.hook.dmf_file_written(run, run.folder / "gone.txt")
    outside = Path("elsewhere.txt")
    outside.write_text("hello")
    run.hook.dmf_file_written(run, outside)
    run.log(1)
    run.end()
    assert "elsewhere.txt" in look.files(run.run_id) and "gone.txt" not in look.files(run.run_id)
    assert [m for m in caplog.messages if "gone.txt is gone" in m] and look.points(run.run_id, "loss")


def test_a_run_without_an_average_uploads_its_weights(look: Look) -> None:
    run = make().start()
    run.checkpoint(1)
    (run.folder / "checkpoints/step-1/ema.safetensors").rename(run.folder / "checkpoints/step-1/model.safetensors")
    run.end()
    assert "model/model.safetensors" in look.files(run.run_id)


def test_system_metrics_go_on_where_they_stopped(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    for _ in range(2):
        run = make(hook=quiet(system_metrics=True)).start()
        time.sleep(0.6)
        run.end()
    steps = [step for step, _ in look.points(run.run_id, "system/cpu_utilization_percentage")]
    assert len(steps) >= 4 and steps == list(range(len(steps)))


def test_a_deleted_experiment_says_how_to_get_it_back(look: Look, caplog: pytest.LogCaptureFixture) -> None:
    make().start().end()
    experiment = look.client.get_experiment_by_name("dmf")
    assert experiment is not None
    look.client.delete_experiment(experiment.experiment_id)
    run = make(folder="runs/other", hook=quiet(patience_s=0.2)).start()
    run.log(1)
    run.end()
    assert any("mlflow experiments restore -x" in message for message in caplog.messages)
    assert caplog.messages[-1].startswith("not sent to MLflow at sqlite:///")
    look.client.restore_experiment(experiment.experiment_id)
    again = make(folder="runs/other", start_step=1).start()
    again.end()
    assert look.points(again.run_id, "loss") == [(1, loss_at(1))]


def test_files_are_kept_beside_a_database_that_is_elsewhere(look: Look, tmp_path: Path, fresh_database: Path) -> None:
    (tmp_path / "my store").mkdir()
    shutil.copy(fresh_database, tmp_path / "my store" / "x.db")
    uri = f"sqlite:///{tmp_path}/my store/x.db"
    run = make(hook=quiet(uri=uri)).start()
    run.file("a.txt")
    run.end()
    assert "a.txt" in Look(uri).files(run.run_id)
    assert list((tmp_path / "my store" / "mlruns").rglob("a.txt"))


def test_it_works_through_pluggy_and_never_makes_training_wait(look: Look) -> None:
    reports: list[str] = []
    hook = quiet()
    run = make(hook=hook)
    run.folder.mkdir(parents=True)
    hooks = HookCaller([hook], reports.append)
    hooks.call("dmf_run_started", run=run)
    began = time.perf_counter()
    for step in range(1000):
        hooks.call("dmf_logged", run=run, step=step, values={"loss": 1.0, "lr": 1.0, "images_per_s": 1.0})
    per_call_ms = time.perf_counter() - began
    hooks.call("dmf_images", run=run, step=1, name="samples", images=torch.zeros(1, 8, 8, dtype=torch.uint8))
    hooks.call("dmf_metrics", run=run, step=1, results={"kernel": {"value": 0.5, "protocol": {}}})
    hooks.call("dmf_file_written", run=run, path=Path(__file__))
    hooks.call("dmf_run_ended", run=run, error=None)
    assert reports == []
    assert per_call_ms < 2
    assert len(look.points(run.run_id, "lr")) == 1000


def test_nothing_is_imported_before_a_run_starts() -> None:
    code = "import sys; from dmf.plugins.hooks.mlflow import MLflow; MLflow(); sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_the_terminal_stays_quiet_and_telemetry_off(look: Look, tmp_path: Path) -> None:
    script = """
import os
from pathlib import Path
from mlflow_kit import FakeRun
from dmf.plugins.hooks.mlflow import MLflow
assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ
run = FakeRun(Path("runs/r"), MLflow()).start()
run.log(1)
run.image(1)
run.end()
assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
"""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    plain = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    (tmp_path / "mlflow.db").unlink()
    done = subprocess.run(
        [sys.executable, "-c", script], env={**plain, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_recipes_become_flat_parameters() -> None:
    assert flatten({"a": {"b": [1, {"c": True}], "d": None}, "e": 1e-4, "f": "no", "g": []}) == {
        "a.b.0": "1", "a.b.1.c": "true", "a.d": "null", "e": "0.0001", "f": "no", "g": "[]",
    }  # fmt: skip


def test_names_are_such_as_mlflow_takes(look: Look) -> None:
    names = {"fid@50k": "fid_50k", "a/b": "a/b", "../x": "x", "a//b/": "a/b", "é": "_", "": "_", "x" * 250: "x" * 250}
    client = look.client
    run_id = client.create_run(client.create_experiment("names")).info.run_id
    for text, name in names.items():
        assert as_name(text) == name
        client.log_metric(run_id, as_name(text), 1.0)
    with pytest.raises(MlflowException):
        client.log_metric(run_id, "fid@50k", 1.0)


def test_long_names_that_begin_alike_stay_two(look: Look) -> None:
    long = [f"{'steps:3 ' * 60}{end}" for end in ("ddim", "heun")]
    run = make().start()
    for i, name in enumerate(long):
        run.image(1, name)
        run.hook.dmf_metrics(1, {name: {"value": i}})
    run.end()
    (found,) = look.runs()
    assert sorted(value for key, value in found.data.metrics.items() if key.startswith("eval/")) == [0.0, 1.0]
    assert len({name for name, _ in look.images(run.run_id)}) == 2
    assert not Path("runs/r/mlflow-unsent").exists()


def test_a_name_that_the_store_cannot_take_holds_up_nothing(
    look: Look, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow_run, "IMAGE_NAME_CHARS", 250)  # and with what MLflow adds it is too long for a file
    run = make().start()
    run.image(1, "x" * 250)
    run.image(1, "grid")
    run.file("report.json", "{}")
    run.end()
    assert look.images(run.run_id) == [("grid", 1)] and "report.json" in look.files(run.run_id)
    assert "MLflow takes no image: its name is too long" in caplog.text
    assert not Path("runs/r/mlflow-unsent").exists()
