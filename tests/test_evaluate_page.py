"""What the page on evaluation says can be typed, and does what it says."""

from collections.abc import Callable
from pathlib import Path

import docs_kit

Command = Callable[..., tuple[int, str, str]]
PAGE = docs_kit.ROOT / "docs/evaluation.md"
ELSEWHERE = {"cifar", "samples", "samples.npz", "cifar10"}  # what a reader has, and a test has not


def test_the_commands_of_the_page_run(workdir: Path, dmf_command: Command) -> None:
    short = ["train.steps=1", "train.batch_size=8", "hooks=[]", "evaluate.metrics.1.subsets=1", "evaluate.images=66"]
    small = ["backbone.hidden=16", "backbone.depth=1", "preview.every=0", "sampler.steps=1"]
    assert dmf_command("train", "digits_dit", *short, *small)[0] == 0
    done = 0
    for words in docs_kit.commands(PAGE):
        if len(words) > 1 and not ELSEWHERE & set(words):
            code, _, err = dmf_command(*words)
            assert code == 0, f"dmf {' '.join(words)}: {err}"
            done += 1
    assert done >= 6 and Path("report.json").exists() and Path("digits.npz").exists()
