"""Really imports parts, each in a process of its own, and says exactly what is wrong with those that fail."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from .discover import Part

TIMEOUT_S = 120.0
_SIGN = "dmf-check:"  # a plugin may print things of its own while it is imported
# the child's search path is this process's own: what it checks is what a run would import
_CHILD = f"""
import json, sys
path, part = json.loads(sys.argv[1])
sys.path[:] = path
from dmf.registry.check import verdict
print("\\n{_SIGN}" + json.dumps(verdict(part)), flush=True)
"""


def check(parts: Iterable[Part]) -> Iterator[tuple[Part, str | None]]:
    """(part, its error or None) in the order given; as many processes at a time as there are CPUs."""
    parts = list(parts)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from zip(parts, pool.map(_error, parts), strict=True)


def verdict(part: dict[str, object]) -> str | None:
    """Import a part given as its fields, and derive the schema of its options; the error's type and last line."""
    from .discover import load
    from .errors import PartError
    from .options import schema

    found = Part(**{**part, "rivals": ()})  # type: ignore[arg-type]
    try:
        schema(load(found), found.kind)
    except PartError as error:
        cause = error.__cause__
        return _last_line(cause) if cause is not None else str(error)
    return None


def _error(part: Part) -> str | None:
    command = [sys.executable, "-c", _CHILD, json.dumps([sys.path, asdict(part)])]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"its import was not done after {TIMEOUT_S:.0f} s"
    answers = [line for line in done.stdout.splitlines() if line.startswith(_SIGN)]
    if answers:
        found: str | None = json.loads(answers[-1].removeprefix(_SIGN))
        return found
    return f"its import ended the process with {_ending(done.returncode)}{_last_words(done.stderr)}"


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _last_words(text: str) -> str:
    lines = text.strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
