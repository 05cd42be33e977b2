"""Addresses of MLflow stores, and the birth of a sqlite store among rivals and kills."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import FULL

from dmf.plugins.hooks import mlflow_store
from dmf.plugins.hooks.mlflow import MLflow
from dmf.plugins.hooks.mlflow_store import Store, create_database, locate, masked

RIVALS = """
import os, sys
from pathlib import Path
from mlflow import MlflowClient
from dmf.plugins.hooks.mlflow_store import create_database

def child(number):
    path = Path("mlflow.db").absolute()
    create_database(path)
    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    run = client.create_run(client.create_experiment(f"e{number}"))
    client.log_metric(run.info.run_id, "loss", 1.0)

children = []
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        try:
            child(number)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""

KILLED = """
import os, signal, sys, time
from pathlib import Path
from dmf.plugins.hooks.mlflow_store import create_database, _is_whole

path = Path("mlflow.db").absolute()
for moment_s in map(float, sys.argv[1:]):
    pid = os.fork()
    if pid == 0:
        create_database(path)
        os._exit(0)
    time.sleep(moment_s)
    os.kill(pid, signal.SIGKILL)
    killed = os.waitpid(pid, 0)[1] == signal.SIGKILL
    print("killed" if killed else "done", "whole" if path.exists() and _is_whole(path) else
          "broken" if path.exists() else "absent", flush=True)
    path.unlink(missing_ok=True)
create_database(path)
assert _is_whole(path)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_the_default_is_a_file_that_plain_mlflow_ui_shows(here: Path) -> None:
    store = locate(None)
    assert store == Store(f"sqlite:///{here}/mlflow.db", here / "mlflow.db")
    assert store.view("1", "abc") == (
        "MLflow: `mlflow ui` in this folder, then http://127.0.0.1:5000/#/experiments/1/runs/abc?workflowType=machine_learning"
    )


def test_the_option_goes_before_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5123/")
    assert (
        locate(None).view("1", "abc")
        == "MLflow: http://127.0.0.1:5123/#/experiments/1/runs/abc?workflowType=machine_learning"
    )
    other = locate("sqlite:///else where/x.db?timeout=9")
    assert other == Store(f"sqlite:///{here}/else where/x.db?timeout=9", here / "else where/x.db")
    assert f"`mlflow ui --backend-store-uri 'sqlite:///{here}/else where/x.db?timeout=9'`" in other.view("1", "a")
    assert other.artifact_root("a b") == (here / "else where/mlruns/a_b").as_uri()


def test_passwords_are_not_shown() -> None:
    store = Store("postgresql+psycopg2://me:secret@db/mlflow")
    assert "secret" not in store.shown + store.view("1", "a") and "***@db/mlflow" in store.view("1", "a")
    assert masked("no http://a/b@c here") == "no http://a/b@c here"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("./mlruns", "folder of files"),
        ("file:///tmp/mlruns", "folder of files"),
        ("postgres://db/x", "unknown scheme 'postgres', expected one of .*did you mean 'postgresql'"),
        ("htp://u:secret@host", "htp://\\*\\*\\*@host.*did you mean 'http'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///folder", "is a folder; name a file in it"),
        ("sqlite:///notes.txt", "is no sqlite database"),
    ],
)
def test_addresses_that_cannot_work_are_refused_at_once(here: Path, uri: str, words: str) -> None:
    (here / "folder").mkdir()
    (here / "notes.txt").write_text("dear diary, today I")
    with pytest.raises(ValueError, match=words) as raised:
        MLflow(uri=uri)
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_an_old_file_store_in_the_folder_is_explained(here: Path) -> None:
    (here / "mlruns" / "0").mkdir(parents=True)
    assert locate(None).database is not None
    (here / "mlruns" / "0" / "meta.yaml").write_text("")
    with pytest.raises(ValueError, match=r"mlruns/0/meta\.yaml .*migrate-filestore") as raised:
        locate(None)
    assert "\n" not in str(raised.value)
    named = locate("sqlite:///mlflow.db")
    assert named.ui_command() == f"`mlflow ui --backend-store-uri sqlite:///{here}/mlflow.db`"


def test_someone_elses_half_made_database_is_waited_for(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_store, "HALF_MADE_WAIT_S", 0.5)
    path = here / "mlflow.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE experiments (name TEXT)")
    began = time.monotonic()
    create_database(path)
    assert time.monotonic() - began >= 0.5
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO experiments VALUES ('Default')")
    began = time.monotonic()
    create_database(path)
    assert time.monotonic() - began < 0.4


def test_a_finished_database_is_never_written_over(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here / "mlflow.db"

    def slower(draft: Path) -> None:
        draft.write_text("mine")
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE experiments (name TEXT)")
            database.execute("INSERT INTO experiments VALUES ('theirs')")

    monkeypatch.setattr(mlflow_store, "_migrate", slower)
    create_database(path)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT name FROM experiments").fetchone() == ("theirs",)
    assert [found.name for found in here.iterdir()] == ["mlflow.db"]


def test_drafts_of_the_dead_are_cleared_away(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = here / ".mlflow.db.1.tmp", here / ".mlflow.db.2.tmp-journal"
    for draft in (old, new):
        draft.write_text("")
    os.utime(old, (1, 1))
    monkeypatch.setattr(mlflow_store, "_migrate", lambda draft: draft.write_text(""))
    monkeypatch.setattr(mlflow_store, "HALF_MADE_WAIT_S", 0.0)
    create_database(here / "mlflow.db")
    assert not old.exists() and new.exists()


@pytest.mark.slow
def test_four_processes_may_be_the_first(here: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RIVALS, "4"], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(here / "mlflow.db") as database:
        names = {name for (name,) in database.execute("SELECT name FROM experiments")}
        assert database.execute("SELECT count(*) FROM metrics").fetchone() == (4,)
    assert names == {"Default", "e0", "e1", "e2", "e3"}
    assert not list(here.glob(".mlflow.db*"))


@pytest.mark.slow
def test_a_kill_while_it_is_made_leaves_nothing_or_all(here: Path) -> None:
    moments = [str(0.05 * n) for n in range(1, 51)] if FULL else ["0.3", "0.9", "1.3", "1.7"]
    done = subprocess.run([sys.executable, "-c", KILLED, *moments], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")[:-1]
    assert len(lines) == len(moments) and "killed absent" in lines
    assert set(lines) <= {"killed absent", "killed whole", "done whole"}
