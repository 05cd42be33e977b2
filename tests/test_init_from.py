"""Starting from weights that are there: what is found, what fits, what is told, and that it is those weights."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file
from torch import Tensor

from dmf.core import DataSpec, class_weights
from dmf.registry import InitFrom, UserError, build, parts
from dmf.runner.cli import main
from dmf.runner.training.fitting import fit, put, unwrapped
from dmf.runner.training.sources import read_source

Command = Callable[..., tuple[int, str, str]]
SPEC = DataSpec((1, 8, 8), tuple("abc"))
CLASSES = "conditioning.conditions.classes.weight"
SMALL = {"hidden": 32, "depth": 2, "heads": 2, "patch": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe, and its run."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY.replace("steps: 12", "steps: 60"), encoding="utf-8")
    assert main(["train", str(folder / "tiny.yaml"), "--runs", str(folder / "runs")]) == 0
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of that."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    made: torch.nn.Module = build("backbone", "dit", SPEC, **SMALL)
    return made


def make(spec: DataSpec, **options: int) -> torch.nn.Module:
    made: torch.nn.Module = build("backbone", "dit", spec, **{**SMALL, **options})
    return made


def weights(run: str | Path, step: int, group: str) -> dict[str, Tensor]:
    return load_file(Path(run) / f"checkpoints/step-{step:08d}/{group}.safetensors")


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def from_source(source: str | Path, weights: str | None = None, runs: Path = Path("runs")) -> dict[str, Tensor]:
    return dict(read_source(InitFrom(source=str(source), weights=weights), runs).tensors)


# where they are found


def test_a_run_by_name_by_folder_by_step_by_checkpoint(home: Path) -> None:
    ema, raw = weights("runs/tiny", 60, "ema"), weights("runs/tiny", 60, "model")
    assert not equal(ema, raw)
    assert equal(from_source("tiny"), ema) and equal(from_source("runs/tiny"), ema)
    assert equal(from_source("tiny", "raw"), raw)
    assert equal(from_source("tiny@55"), weights("runs/tiny", 55, "ema"))
    assert equal(from_source("runs/tiny/checkpoints/step-00000055", "raw"), weights("runs/tiny", 55, "model"))
    source = read_source(InitFrom(source="tiny@55"), Path("runs"))
    assert "step 55" in source.about and "ema" in source.about and source.run is not None


def test_a_file_a_folder_with_one_shards(home: Path, network: torch.nn.Module) -> None:
    state = network.state_dict()
    save_file(state, "w.safetensors")
    assert equal(from_source("w.safetensors"), state)
    Path("one").mkdir()
    save_file(state, "one/diffusion.safetensors")
    Path("one/config.json").write_text("{}")
    assert equal(from_source("one"), state)
    Path("shards").mkdir()
    names = sorted(state)
    parts = {"a-1-of-2.safetensors": names[:9], "a-2-of-2.safetensors": names[9:]}
    for file, some in parts.items():
        save_file({name: state[name] for name in some}, f"shards/{file}")
    where = {name: file for file, some in parts.items() for name in some}
    Path("shards/model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert equal(from_source("shards"), state)
    assert equal(from_source("shards/model.safetensors.index.json"), state)
    os.remove("shards/a-2-of-2.safetensors")
    with pytest.raises(UserError, match=r"a-2-of-2\.safetensors, not there"):
        from_source("shards")


def test_what_torch_saves_is_read_without_executing_it(home: Path, network: torch.nn.Module) -> None:
    state = network.state_dict()
    torch.save({"epoch": 3, "model": state, "optimizer": {"state": {0: {"step": torch.ones(())}}}}, "w.pt")
    found, stripped = unwrapped(from_source("w.pt"), network, averaged=True)
    assert equal({name: found[name] for name in state}, state) and stripped == "model."
    Path("made").unlink(missing_ok=True)

    class Bad:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (Path("made"),)

    with open("bad.ckpt", "wb") as file:
        pickle.dump({"model": Bad()}, file)
    with pytest.raises(UserError, match=r"dmf executes no pickle, so save it anew: torch\.save"):
        from_source("bad.ckpt")
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("tinny", "did you mean 'tiny'"),
        ("tiny@7", "no checkpoint of step 7; it has 55, 60"),
        ("empty", "holds no weights"),
        ("two", "a.safetensors, b.safetensors: name one of them"),
        ("torn.safetensors", "cannot be read as a state dict"),
        ("weights.txt", "expected .safetensors"),
        ("bad.index.json", "has no weight_map"),
    ],
)
def test_what_cannot_be_read_is_said(home: Path, source: str, sentence: str) -> None:
    Path("empty").mkdir()
    Path("two").mkdir()
    for name in ("two/a.safetensors", "two/b.safetensors", "torn.safetensors", "weights.txt", "bad.index.json"):
        Path(name).write_text("[]")
    with pytest.raises(UserError, match=r"^init_from: ") as error:
        from_source(source)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("file", "weights", "sentence"),
    [
        ("average.safetensors", "raw", "holds ema weights: leave the key out"),
        ("average.safetensors", "power-0.1", "holds ema weights"),
        ("average.safetensors", "ema", None),
        ("average.safetensors", "null", None),
        ("bare.safetensors", "ema", "does not say whether it is an average: leave the key out"),
        ("bare.safetensors", "null", None),
        ("both.safetensors", "raw", None),
        ("both.safetensors", "power-0.1", "write ema or raw"),
    ],
)
def test_other_weights_than_a_file_holds_are_refused(
    home: Path, dmf_command: Command, file: str, weights: str, sentence: str | None
) -> None:
    held = load_file("runs/tiny/checkpoints/step-00000060/ema.safetensors")
    save_file(held, "average.safetensors", {"dmf.weights": "ema"})
    save_file(held, "bare.safetensors")
    both = {f"{word}.{name}": value.clone() for word in ("ema", "model") for name, value in held.items()}
    save_file(both, "both.safetensors")
    words = [f"init_from={{source: {file}, weights: {weights}}}", "name=next", "train.steps=1"]
    code, _, err = dmf_command("train", "tiny.yaml", *words)
    assert code == (0 if sentence is None else 2) and (sentence or "") in " ".join(err.split())


# what fits


def all_parts() -> Iterator[tuple[str, DataSpec, set[str]]]:
    """Each backbone with its weights that depend on the classes, found by building it of two sizes for real."""
    for part in parts("backbone"):
        spec = DataSpec((3, 32, 32), tuple("abcd"))
        sizes = [build("backbone", part.name, replace(spec, classes=spec.classes[:k])).state_dict() for k in (2, 4)]
        yield part.name, spec, {name for name in sizes[0] if sizes[0][name].shape != sizes[1][name].shape}


def test_a_network_says_which_weights_depend_on_the_classes() -> None:
    for name, spec, changing in all_parts():
        found = class_weights(lambda one, name=name: build("backbone", name, one), spec)  # type: ignore[misc]
        assert {weight for weight, dims in found.items() if dims} == changing and len(changing) == 1
        bare = build("backbone", name, replace(spec, classes=(), cond={})).state_dict()
        told = build("backbone", name, spec).state_dict()
        assert found.keys() == (told.keys() ^ bare.keys()) | changing


@pytest.mark.parametrize("classes", [(), ("a",), tuple("abcd")])
def test_another_number_of_classes_makes_their_table_anew_and_nothing_else(
    network: torch.nn.Module, classes: tuple[str, ...]
) -> None:
    spec = DataSpec((1, 8, 8), classes)
    mine = make(spec)
    drawn = {name: value.clone() for name, value in mine.state_dict().items()}
    found = fit(network.state_dict(), mine, make, spec)
    assert found.by_classes == {CLASSES} and not found.wrong
    put(network.state_dict(), found, mine)
    for name, value in mine.state_dict().items():
        assert torch.equal(value, (drawn if name == CLASSES else network.state_dict())[name])
    back = fit(drawn, network, make, SPEC)
    assert back.by_classes == {CLASSES} and not back.wrong and back.anew == {CLASSES}


def test_a_table_of_classes_of_another_width_is_no_change_of_classes(network: torch.nn.Module) -> None:
    wide = make(SPEC, hidden=48)
    found = fit(network.state_dict(), wide, lambda spec: make(spec, hidden=48), SPEC)
    assert found.wrong and CLASSES in found.reshaped and CLASSES not in found.by_classes


def test_what_is_missing_what_is_extra_and_what_has_another_shape(network: torch.nn.Module) -> None:
    state = dict(network.state_dict())
    del state["out.map.bias"]
    state["more"] = torch.zeros(2)
    state["patches.map.bias"] = torch.zeros(5)
    found = fit(state, network, make, SPEC)
    assert found.missing == ("out.map.bias",) and found.extra == ("more",) and found.wrong
    assert found.reshaped == {"patches.map.bias": ((5,), (32,))} and not found.by_classes
    assert len(found.taken) == len(network.state_dict()) - 2
    assert set(found.lines()) == {
        "out.map.bias: missing there",
        "more: unknown here",
        "patches.map.bias: (5,) there, (32,) here",
    }


def test_tied_weights_may_be_there_once() -> None:
    tied = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    state = {name: torch.full_like(value, 3.0) for name, value in tied.state_dict().items() if name != "1.weight"}
    found = fit(state, tied, lambda spec: tied, SPEC)
    put(state, found, tied)
    assert not found.missing and torch.equal(tied[1].weight, torch.full((2, 2), 3.0))


@pytest.mark.parametrize("before", ["", "module.", "model.", "module.model.", "ema_model.module."])
def test_what_wrappers_put_before_names_goes(network: torch.nn.Module, before: str) -> None:
    state = network.state_dict()
    found, stripped = unwrapped({before + name: value for name, value in state.items()}, network, averaged=True)
    assert equal(found, dict(state)) and stripped == before
    compiled = {name.replace("layers.0.", "layers.0._orig_mod."): value for name, value in state.items()}
    found, stripped = unwrapped({f"_orig_mod.{name}": v for name, v in compiled.items()}, network, averaged=True)
    assert equal(found, dict(state)) and stripped == "_orig_mod."


def test_of_a_file_with_both_the_wanted_ones_are_taken(network: torch.nn.Module) -> None:
    state = network.state_dict()
    both = {f"model.{n}": v for n, v in state.items()} | {f"ema.{n}": v + 1 for n, v in state.items()}
    assert unwrapped(both, network, averaged=False)[1] == "model."
    found, stripped = unwrapped(both, network, averaged=True)
    assert stripped == "ema." and torch.equal(found[CLASSES], state[CLASSES] + 1)


@pytest.mark.parametrize(("value", "sentence"), [(float("nan"), "not finite"), (3, "are no weights to train")])
def test_numbers_that_are_no_weights_are_refused(network: torch.nn.Module, value: float, sentence: str) -> None:
    state = dict(network.state_dict())
    state["out.map.bias"] = torch.full_like(state["out.map.bias"], value, dtype=torch.tensor(value).dtype)
    with pytest.raises(UserError, match=sentence):
        put(state, fit(state, network, make, SPEC), make(SPEC))


# the whole way


def losses(run: str) -> list[float]:
    return [json.loads(line)["values"]["loss"] for line in Path(f"runs/{run}/history.jsonl").read_text().splitlines()]


def test_fine_tuning_on_fewer_classes_with_frozen_blocks(home: Path, dmf_command: Command) -> None:
    """It begins better than from scratch, what is frozen stays to the bit, and the rest is trained at its own rate."""
    from PIL import Image

    for label in ("ones", "twos", "threes"):
        Path("pictures", label).mkdir(parents=True)
    images, labels = build("dataset", "digits").tensors()
    for k, (image, label) in enumerate(zip(images, labels["class"], strict=True)):
        if 1 <= int(label) <= 3 and k < 300:
            name = ("ones", "twos", "threes")[int(label) - 1]
            Image.fromarray(image[0].numpy()).save(f"pictures/{name}/{k}.png")
    data = ["dataset={name: image_folder, root: pictures, size: 8, channels: 1}", "train.steps=6", "log.every=1"]
    tuned = [*data, "init_from=tiny", "train.lr=1e-4", "train.freeze=[layers.0, patches]"]
    tuned += ["train.lr_factors={layers.1.mlp: 1e-9}"]
    assert dmf_command("train", "tiny.yaml", "name=scratch", *data)[0] == 0
    code, out, err = dmf_command("train", "tiny.yaml", "name=tuned", *tuned)
    assert code == 0, err
    assert f"{CLASSES}: (11, 32) there, (4, 32) here" in out and "the number of classes is another" in out
    assert "30 of 31 weights are taken" in out and "frozen: 12 of 31 weights" in out
    assert "classes: 0, 1, 2" in out and "-> ones, threes, twos" in out
    assert sum(losses("tuned")) < 0.9 * sum(losses("scratch"))
    start, raw, ema = (
        weights("runs/tiny", 60, "ema"),
        weights("runs/tuned", 6, "model"),
        weights("runs/tuned", 6, "ema"),
    )
    for name, value in start.items():
        if name.startswith(("layers.0.", "patches.")):
            assert torch.equal(raw[name], value) and torch.equal(ema[name], value)
        elif name.startswith("layers.1.mlp."):
            assert 0 <= float((raw[name] - value).abs().max()) < 1e-9
        elif name != CLASSES:
            assert not torch.equal(raw[name], value)
    moments = load_file("runs/tuned/checkpoints/step-00000006/optimizer.safetensors")
    assert moments and not any("layers.0." in name or "patches." in name for name in moments)
    told = Path("runs/tuned/init_from.txt").read_text()
    assert CLASSES in told and "layers.0.mlp.0.weight" in told


def test_a_resumed_run_needs_the_source_no_more(home: Path, dmf_command: Command) -> None:
    words = ["train", "tiny.yaml", "init_from=tiny", "train.lr=1e-5"]
    assert dmf_command(*words, "name=whole", "train.steps=9")[0] == 0
    assert dmf_command(*words, "name=cut", "train.steps=5")[0] == 0
    before = json.loads(Path("runs/cut/facts.json").read_text())
    shutil.rmtree("runs/tiny")
    assert dmf_command(*words, "name=cut", "train.steps=9")[0] == 0
    assert equal(weights("runs/whole", 9, "model"), weights("runs/cut", 9, "model"))
    assert equal(weights("runs/whole", 9, "ema"), weights("runs/cut", 9, "ema"))
    after = json.loads(Path("runs/cut/facts.json").read_text())
    assert {k: v for k, v in before.items() if k.startswith("init_from.")} == {
        k: v for k, v in after.items() if k.startswith("init_from.")
    }
    assert len(before["init_from.sha256"]) == 64 and before["init_from.taken"] == "31 of 31"


def test_another_network_is_refused_or_taken_in_part(home: Path, dmf_command: Command) -> None:
    deeper = ["train", "tiny.yaml", "name=deeper", "init_from=tiny", "backbone.depth=3", "train.steps=1"]
    code, _, err = dmf_command(*deeper)
    assert code == 2 and "layers.2.mlp.0.weight: missing there" in err and "init_from.strict=false" in err
    assert not Path("runs/deeper/checkpoints").glob("step-*") or not list(
        Path("runs/deeper/checkpoints").glob("step-*")
    )
    freeze = "train.freeze=[layers.2.attention]"
    code, out, err = dmf_command(*deeper, "init_from.strict=false", "prediction=v", freeze)
    assert code == 0 and "31 of 41 weights are taken" in out
    assert "trained otherwise: backbone.depth: 2 -> 3; prediction.name: flow -> v" in out
    assert "layers.2.attention.project.bias, layers.2.attention.project.weight" in err and "as it is drawn" in err
    save_file({"other": torch.zeros(3)}, "other.safetensors")
    code, _, err = dmf_command("train", "tiny.yaml", "name=c", "init_from=other.safetensors", "init_from.strict=false")
    assert code == 2 and "none of its 1 weights has a name and shape" in err


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("train.freeze=[block.0]", "'block.0' is the name of no weight; the network's parts are patches,"),
        ("train.freeze=[layers.7.mlp]", "near it are layers.1.mlp, layers.0.mlp"),
        ("train.freeze=['*']", "nothing is left to train"),
        (
            "train.lr_factors={layer.0: 0.1}",
            "train.lr_factors: 'layer.0' is the name of no weight; near it are layers.0",
        ),
        ("train.lr_factors={layers.0: 0}", "expected a number above 0"),
        ("init_from={source: a, weight: raw}", "did you mean 'weights'"),
    ],
)
def test_patterns_that_choose_nothing_are_refused(tiny: Path, dmf_command: Command, word: str, sentence: str) -> None:
    code, _, err = dmf_command("train", tiny, word)
    assert code == 2 and sentence in " ".join(err.split())
