"""Where the MLflow hook writes: the store's address, its checks, and the safe birth of a sqlite database.

Two processes that open a missing sqlite store at once, or one killed half-way, leave a database that MLflow can never
open again. So it is made under a name of its own and linked into place when it is whole: there or not there.
"""

import contextlib
import difflib
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
SQLITE = re.compile(r"(?P<scheme>sqlite(?:\+\w+)?)://(?:/(?P<path>[^?]*))?(?P<query>\?.*)?")
SQLITE_HEADER = b"SQLite format 3\0"
TRAINING_PAGES = "?workflowType=machine_learning"  # MLflow's pages are for language models unless told otherwise
HALF_MADE_WAIT_S = 20.0
ABANDONED_AFTER_S = 600.0
MIGRATION = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from mlflow import MlflowClient
MlflowClient(tracking_uri=sys.argv[2]).search_experiments(max_results=1)
"""


@dataclass(frozen=True)
class Store:
    """A checked tracking address.

    Attributes:
        uri: What MLflow is given; a sqlite path in it is absolute.
        database: The sqlite file, or None for any other store.
    """

    uri: str
    database: Path | None = None

    @property
    def shown(self) -> str:
        """The address without its password."""
        return masked(self.uri)

    def view(self, experiment_id: str, run_id: str) -> str:
        """One line that says how to look at the run."""
        page = f"#/experiments/{experiment_id}/runs/{run_id}{TRAINING_PAGES}"
        if self.uri.startswith(("http://", "https://")):
            return f"MLflow: {self.shown.rstrip('/')}/{page}"
        return f"MLflow: {self.ui_command()}, then http://127.0.0.1:5000/{page}"

    def ui_command(self) -> str:
        """The command that shows this store; plain `mlflow ui` looks for ./mlflow.db unless old files hide it."""
        if self.database == Path.cwd() / "mlflow.db" and _old_file_store() is None:
            return "`mlflow ui` in this folder"
        return f"`mlflow ui --backend-store-uri {shlex.quote(self.shown)}`"

    def artifact_root(self, experiment: str) -> str | None:
        """Where a new experiment keeps its files: beside the database; None leaves it to MLflow."""
        if self.database is None or self.database.parent == Path.cwd():
            return None
        return (self.database.parent / "mlruns" / re.sub(r"[^\w.-]", "_", experiment)).as_uri()


def masked(text: str) -> str:
    """The text with user and password of any address in it blotted out."""
    return re.sub(r"(?<=//)[^/@\s]+@", "***@", text)


def locate(uri: str | None) -> Store:
    """The store to use: the option, else MLFLOW_TRACKING_URI, else ./mlflow.db.

    Raises:
        ValueError: A file store, an unknown scheme, or a sqlite address that cannot keep a run.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not chosen:
        if old := _old_file_store():
            raise ValueError(
                f"MLflow no longer writes to file stores, and {old} makes `mlflow ui` look for one here: run "
                "`mlflow migrate-filestore --source mlruns --target sqlite:///mlflow.db` and move mlruns away, "
                "or name a store: MLFLOW_TRACKING_URI=sqlite:///mlflow.db"
            )
        chosen = f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    scheme = chosen if chosen == "databricks" else urlsplit(chosen).scheme.split("+")[0].lower()
    if scheme in ("", "file"):
        raise ValueError(
            f"MLflow store {chosen!r} is a folder of files, which MLflow no longer writes to: "
            "use sqlite:///PATH/mlflow.db or the http address of an MLflow server"
        )
    _check_scheme(scheme, chosen)
    return _sqlite(chosen) if scheme == "sqlite" else Store(chosen)


def create_database(path: Path) -> None:
    """Make the sqlite store if it is missing; any number of processes may call this at once.

    Raises:
        OSError: The folder cannot be written to.
        RuntimeError: MLflow could not make its tables.
    """
    if path.exists():
        _wait_until_whole(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        _migrate(draft)
        _move_into_place(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _wait_until_whole(path)  # another process, `mlflow ui` say, may have come first and be half-way


def _check_scheme(scheme: str, uri: str) -> None:
    """Refuse a scheme that neither MLflow nor a plugin of MLflow's knows."""
    known = sorted({*SCHEMES, *(point.name for point in entry_points(group="mlflow.tracking_store"))})
    if scheme in known:
        return
    near = difflib.get_close_matches(scheme, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"MLflow store {masked(uri)!r}: unknown scheme {scheme!r}, expected one of {', '.join(known)}{hint}"
    )


def _sqlite(uri: str) -> Store:
    parts = SQLITE.fullmatch(uri)
    if parts is None or not parts["path"] or parts["path"] == ":memory:":
        raise ValueError(f"MLflow store {uri!r} names no file that would keep the run: write sqlite:///PATH/mlflow.db")
    path = Path(os.path.abspath(parts["path"]))
    if path.is_dir():
        raise ValueError(f"MLflow store {uri!r}: {path} is a folder; name a file in it, {path / 'mlflow.db'}")
    if path.exists() and (head := _head(path)) and head != SQLITE_HEADER:
        raise ValueError(f"MLflow store {uri!r}: {path} is no sqlite database; name another file")
    return Store(f"{parts['scheme']}:///{path}{parts['query'] or ''}", path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(SQLITE_HEADER))


def _old_file_store() -> Path | None:
    """The file by which MLflow takes ./mlruns for a file store, if there is one."""
    return next((path for path in sorted(Path("mlruns").glob("*/meta.yaml")) if path.parent.name.isdigit()), None)


def _migrate(draft: Path) -> None:
    """Have MLflow make its tables, and its default experiment, in a new file.

    In a process of its own: the migrations cannot run twice at once in one process, and set up logging to their taste.
    """
    arguments = [json.dumps(sys.path), f"sqlite:///{draft}"]
    done = subprocess.run([sys.executable, "-c", MIGRATION, *arguments], capture_output=True, start_new_session=True)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"making the database failed: {said[-1] if said else f'exit code {done.returncode}'}")


def _move_into_place(draft: Path, path: Path) -> None:
    """Give the finished database its name, unless somebody else's has it by now."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:
        # a file system without hard links: rename would replace another's database, so look first
        if not path.exists():
            draft.rename(path)


def _remove_abandoned(path: Path) -> None:
    """Drafts of processes that were killed; a living one is done in seconds."""
    for draft in path.parent.glob(f".{path.name}.*.tmp*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > ABANDONED_AFTER_S:
                draft.unlink()


def _wait_until_whole(path: Path) -> None:
    """Give whoever is making the database in place time to finish; MLflow itself judges what is then there."""
    patience_ends = time.monotonic() + HALF_MADE_WAIT_S
    while not _is_whole(path) and time.monotonic() < patience_ends:
        time.sleep(0.2)


def _is_whole(path: Path) -> bool:
    """The default experiment is the last thing that MLflow writes into a new database."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError:  # no such table yet, or locked by the one who is making it
        return False
