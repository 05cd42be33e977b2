"""Starting `dmf` as a process of its own."""

import os
import subprocess
import sys


def start(*words: object) -> "subprocess.Popen[str]":
    """A `dmf` on one thread, its output in pipes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "dmf", *map(str, words)]
    return subprocess.Popen(command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
