"""What metrics saw of a reference is kept: read once, never another's, and nothing is lost where it cannot be."""

import importlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from process_kit import kill_tree
from scoring_kit import ALONE, Counting, images, stream
from torch import Tensor

from dmf import __version__
from dmf.core import InMemory, Metric
from dmf.files.cache import cache_folder
from dmf.plugins.metrics.frechet import Frechet
from dmf.plugins.metrics.kernel import Kernel
from dmf.runner.evaluation import Named, Results, Scoring, origins, protocol, reference_cache
from dmf.runner.evaluation.results import protocol_differences
from dmf.runner.world import World

KEPT = "reference statistics of real noise, 50 images: kept from an earlier evaluation"
Command = Callable[..., tuple[int, str, str]]


def metrics() -> dict[str, Metric]:
    return {"f": Frechet(features=Counting()), "k": Kernel(features=Counting(), subsets=3, subset_size=20)}


def evaluate(real: InMemory | None = None, parts: dict[str, Metric] | None = None) -> tuple[Results, int]:
    """The results, and how many images of the reference were read."""
    read = 0
    data = stream(images(50, 2) if real is None else real, "real noise")
    batches = data.batches

    def counted(world: World, batch_size: int) -> Any:
        nonlocal read
        for shown in batches(world, batch_size):
            read += len(shown.images)
            yield shown

    data.batches = counted  # type: ignore[method-assign]
    named = [Named(name, metric) for name, metric in (metrics() if parts is None else parts).items()]
    return Scoring(named, ALONE, 16, reference=data).score(stream(images(40, 1))).results, read


def kept() -> list[Path]:
    return sorted(cache_folder("reference").glob("[!.]*"))


def test_a_second_evaluation_reads_no_image_of_the_reference(caplog: pytest.LogCaptureFixture) -> None:
    first, read = evaluate()
    assert read == 50 and len(kept()) == 2 and KEPT not in caplog.text
    with caplog.at_level(logging.INFO):
        again, read = evaluate()
    assert read == 0 and again == first  # to the last bit
    assert caplog.text.count(KEPT) == 1 and "(f, k)" in caplog.text


class Renamed(Kernel):
    """Another metric of the same rows, and of the same distribution."""

    __module__ = "dmf.plugins.metrics.renamed"


def test_metrics_of_one_key_share_one_pass_and_one_file() -> None:
    same = Kernel(features=Counting(), subsets=3, subset_size=20)
    other = Renamed(features=Counting(), subsets=3, subset_size=20)
    Renamed.reference_key = Kernel.reference_key  # type: ignore[method-assign]
    other.reference_key = same.reference_key  # type: ignore[method-assign]
    other.compute = lambda: {"other": float(len(other.real))}  # type: ignore[method-assign]
    results, read = evaluate(parts={"a": same, "b": other})
    assert read == 50 and len(kept()) == 1 and same.features.calls.count((16, ("first",))) == 3 + 2  # type: ignore[attr-defined]
    assert "other" in results


@pytest.mark.parametrize(
    "change",
    [
        lambda: evaluate(images(51, 2)),
        lambda: evaluate(images(50, 3)),
        lambda: evaluate(parts={"f": Frechet(features=Counting(), layer="second")}),
        lambda: evaluate(parts={"f": Frechet(features=OtherWeights())}),
    ],
)
def test_what_is_kept_is_of_these_images_and_this_metric_alone(change: Callable[[], tuple[Results, int]]) -> None:
    evaluate()
    assert change()[1] > 0


class OtherWeights(Counting):
    def protocol(self) -> dict[str, str]:
        return {**super().protocol(), "features_sha256": "other"}


FACTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "dmf": lambda p: p.setattr(protocol, "__version__", "0.0.0"),
    "torch": lambda p: p.setattr(torch, "__version__", "1.0"),
    "arithmetic": lambda p: p.setattr(protocol, "arithmetic", lambda device: {"arithmetic": "other"}),
    "device": lambda p: p.setattr(reference_cache, "_machine", lambda world: "another GPU"),
    "libraries": lambda p: p.setattr(Counting, "libraries", ("numpy",)),
    "plugin": lambda p: p.setattr(origins, "_origin", lambda part: "plugin 2.0"),
}


@pytest.mark.parametrize("name", FACTS)
def test_what_is_kept_is_of_the_code_and_the_machine_that_made_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate()
    FACTS[name](monkeypatch)
    assert evaluate()[1] > 0


PLUGIN = """
import torch
from scoring_kit import Counting

class Own(Counting):
    name = "own"

    def __call__(self, images, layers):
        return {name: 1 * value for name, value in super().__call__(images, layers).items()}
"""


def test_features_of_a_plain_file_are_of_what_it_says_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def value(code: str) -> tuple[float, int]:
        (tmp_path / "plain_features.py").write_text(code)
        sys.modules.pop("plain_features", None)
        importlib.invalidate_caches()
        results, read = evaluate(parts={"f": Frechet(features=importlib.import_module("plain_features").Own())})
        return results["frechet_own"]["value"], read

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    first = value(PLUGIN)
    assert first[1] == 50 and value(PLUGIN) == (first[0], 0)
    other, read = value(PLUGIN.replace("1 *", "20 *"))
    assert read == 50 and other != first[0]
    monkeypatch.setenv("DMF_CACHE", str(tmp_path / "empty"))
    assert value(PLUGIN.replace("1 *", "20 *"))[0] == other


def test_of_code_that_is_nowhere_nothing_is_kept() -> None:
    scope: dict[str, Any] = {"__name__": "__nowhere__"}
    exec(PLUGIN, scope)
    for _ in range(2):
        assert evaluate(parts={"f": Frechet(features=scope["Own"]())})[1] == 50
    assert not kept()


def test_whose_code_values_come_of() -> None:
    assert origins.origins(Frechet(features=Counting()))[0] == f"dmf {__version__}"  # type: ignore[index]
    results = evaluate()[0]
    assert results["frechet_counting"]["protocol"]["version.torch"] == torch.__version__


@pytest.fixture(name="of_version")
def of_version_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], dict[str, str]]]:
    """The protocol of a value on features of a plugin of some version."""

    def protocol_of(version: str) -> dict[str, str]:
        monkeypatch.setattr(origins, "version", lambda name: version)
        origins._sources.cache_clear()
        found: dict[str, str] = evaluate()[0]["frechet_counting"]["protocol"]
        return found

    monkeypatch.setattr(origins, "_distributions", lambda: {"scoring_kit": ["acme-features"], "dmf": ["dmf"]})
    yield protocol_of
    origins._sources.cache_clear()


def test_another_version_of_a_plugin_is_another_protocol(of_version: Callable[[str], dict[str, str]]) -> None:
    old, new = of_version("1.0"), of_version("2.0")
    assert protocol_differences(old, new) == ["version.acme-features: 1.0 / 2.0"]
    assert protocol_differences(old, of_version("1.0")) == []
    assert "version.dmf" not in old and old["dmf"] == __version__  # which stands for all built-in parts


def test_what_depends_on_a_model_is_not_kept() -> None:
    class Asking(Kernel):
        needs = frozenset({"reference", "model"})

        def update(self, images: Tensor, **given: Any) -> None:
            assert "model" in given
            super().update(images, **given)

    data = stream(images(50, 2), "real noise")
    scoring = Scoring([Named("m", Asking(features=Counting(), subsets=2))], ALONE, 16, reference=data)
    scoring._accepted = [(data.spec, 40, False)]  # there is no model here
    one = scoring.score(stream(images(40, 1))).results
    assert scoring.score(stream(images(40, 1))).results == one and not kept()


def test_a_metric_without_a_key_has_nothing_kept() -> None:
    class Keyless(Kernel):
        def reference_key(self) -> dict[str, str]:
            return {}

    for _ in range(2):
        parts: dict[str, Metric] = {name: Keyless(features=Counting(), layer=name) for name in ("first", "second")}
        assert evaluate(parts=parts)[1] == 50
    assert not kept()


def test_a_damaged_file_is_told_and_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    first, _ = evaluate()
    for path in kept():
        path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    again, read = evaluate()
    assert read == 50 and again == first and caplog.text.count("is damaged") == 2
    assert evaluate() == (first, 0)


def test_where_nothing_can_be_kept_there_is_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DMF_CACHE", str(tmp_path / "file"))
    assert evaluate()[1] == 50 and "cannot keep" in caplog.text
    assert evaluate()[1] == 50


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
from test_reference_cache import evaluate, images
print("ready", flush=True)
while True:
    evaluate()
    for path in __import__("test_reference_cache").kept():
        path.unlink(missing_ok=True)
    print("once", flush=True)
"""


def test_killed_while_it_writes_and_beside_others_it_is_whole_or_not_there() -> None:
    """Two processes write and delete without end, and are killed; what is there then is right."""
    code = SCRIPT.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    try:
        for one in running:
            assert one.stdout is not None
            while "once" not in one.stdout.readline():
                assert one.poll() is None
        time.sleep(0.3)
    finally:
        for one in running:
            kill_tree(one.pid)
            one.communicate()
    results, _ = evaluate()
    assert evaluate() == (results, 0)


def test_a_command_evaluates_again_without_the_reference_and_the_cache_is_listed(
    tiny: Path, dmf_command: Command
) -> None:
    dmf_command("train", tiny, "train.steps=1")
    words = (
        "evaluate",
        "tiny",
        "--images",
        30,
        "--metrics",
        "[{name: kernel, features: digits}]",
        "--json",
        "out.json",
    )
    assert dmf_command(*words)[0] == 0
    first = Path("out.json").read_text()
    code, out, _ = dmf_command(*words)
    assert code == 0 and "reference statistics of digits, 1,497 images: kept from an earlier evaluation" in out
    assert Path("out.json").read_text() == first
    listed = dmf_command("data", "cache")[1]
    assert "reference" in listed and "1,497 images of digits, for kernel" in listed
    assert dmf_command("data", "cache", "--clear", "reference")[0] == 0 and not kept()
