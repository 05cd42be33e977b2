"""What docs/distributed.md says of schedulers: its batch file runs, under a stand-in for srun; its Job is whole."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docs_kit import ROOT, blocks
from process_kit import kill_tree, lines, wait_for

from dmf.runner.cli import parse
from dmf.runner.launching import Plan, plan_for

PAGE = ROOT / "docs/distributed.md"
SRUN = """\
#!{python}
# starts two tasks of one node as srun does, passes SIGTERM on, and ends with the largest code
import os, signal, subprocess, sys
step = dict(SLURM_STEP_ID="0", SLURM_STEP_NUM_TASKS="2", SLURM_STEP_NODELIST="localhost", SLURM_NODEID="0")
def task(rank):
    own = dict(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_STEP_TASKS_PER_NODE="2")
    return subprocess.Popen(sys.argv[1:], env={{**os.environ, **step, **own}})
tasks = [task(rank) for rank in range(2)]
signal.signal(signal.SIGTERM, lambda *_: [one.send_signal(signal.SIGTERM) for one in tasks])
sys.exit(max(one.wait() for one in tasks))
"""


def program(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.slow
def test_the_batch_file_stops_in_time_and_goes_back_into_the_queue(tiny: Path) -> None:
    (script,) = [block.text for block in blocks(PAGE, "bash") if "#SBATCH" in block.text]
    assert "#SBATCH --signal=B:TERM@" in script
    short = "train.steps=100000 checkpoint.every=100000 log.every=2"
    program(tiny.parent / "job.sh", script.replace("dmf run digits_dit", f"dmf run {tiny} {short}"))
    home = tiny.parent / "bin"
    home.mkdir()
    program(home / "srun", SRUN.format(python=sys.executable))
    program(home / "dmf", f'#!/bin/sh\nexec {sys.executable} -m dmf "$@"\n')
    program(home / "scontrol", f'#!/bin/sh\necho "$@" > {tiny.parent}/scontrol.txt\n')
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_CPUS_PER_TASK": "1"}
    environment = {**os.environ, **job, "PATH": f"{home}:{os.environ['PATH']}"}
    batch = subprocess.Popen(
        ["bash", tiny.parent / "job.sh"], text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        run = tiny.parent / "runs/tiny"
        wait_for(lambda: lines(run / "history.jsonl") > 2, batch)
        batch.send_signal(signal.SIGTERM)  # to the batch shell alone: B:TERM
        out, err = batch.communicate(timeout=90)
    finally:
        if batch.poll() is None:
            kill_tree(batch.pid)
    assert batch.returncode == 143, out + err
    assert out.count("folder runs/tiny") == 1 and "2 x " in out  # two ranks, one run
    assert len(list((run / "checkpoints").glob("step-*"))) == 1
    assert (tiny.parent / "scontrol.txt").read_text() == f"requeue {os.getpid()}\n"


def test_the_job_of_kubernetes_is_whole() -> None:
    (block,) = blocks(PAGE, "yml")
    service, job = yaml.safe_load_all(block.text)
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    assert service["kind"] == "Service" and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    assert (job["kind"], spec["completionMode"], pod["subdomain"]) == ("Job", "Indexed", service["metadata"]["name"])
    (container,) = pod["containers"]
    assert "/" not in container["image"], "nobody else can fetch from a registry of one's own"
    words = [*container["command"], *container["args"]]
    assert words[0] == "dmf" and all(isinstance(word, str) for word in words)
    args = parse(words[1:])
    plan = plan_for(args, "cpu", "digits")
    meet = f"{name}-0.{pod['subdomain']}:29400"  # an Indexed Job's first pod, by the headless service
    assert plan == Plan("digits", 1, spec["completions"], meet, grace_s=args.grace)
    assert spec["parallelism"] == spec["completions"] and args.grace < pod["terminationGracePeriodSeconds"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
