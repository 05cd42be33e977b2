"""Weights of the original DiT: names, shapes, there and back, the same function, and what a wrong file is told."""

import argparse
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dmf.core import DataSpec
from dmf.plugins.backbones.dit import DiT
from dmf.plugins.backbones.dit_weights import from_original, layout, main, read_original, to_original

D, DEPTH, HEADS, P, C, SIDE, K = 32, 3, 4, 2, 4, 5, 6
SPEC = DataSpec((C, SIDE * P, SIDE * P), tuple(map(str, range(K))))


def places(side: int, width: int) -> Tensor:
    """The original's positions, entry by entry: column before row, sine before cosine."""
    out = np.zeros((side, side, width))
    quarter = width // 4
    for row in range(side):
        for column in range(side):
            for i in range(quarter):
                omega = 10_000 ** (-i / quarter)
                waves = [f(place * omega) for place in (column, row) for f in (math.sin, math.cos)]
                out[row, column, i::quarter] = waves
    return torch.from_numpy(out.reshape(1, side * side, width)).float()


def original() -> dict[str, Tensor]:
    """Random weights of a small network as facebookresearch/DiT names and shapes them, with learned variances."""
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.proj": (D, C, P, P),
        "t_embedder.mlp.0": (D, 256),
        "t_embedder.mlp.2": (D, D),
        "final_layer.linear": (P * P * 2 * C, D),
        "final_layer.adaLN_modulation.1": (2 * D, D),
    }
    for i in range(DEPTH):
        inside: dict[str, tuple[int, int]] = {
            "attn.qkv": (3 * D, D),
            "attn.proj": (D, D),
            "mlp.fc1": (4 * D, D),
            "mlp.fc2": (D, 4 * D),
            "adaLN_modulation.1": (6 * D, D),
        }
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in inside.items()}
    draw = torch.Generator().manual_seed(0)
    state = {f"{name}.weight": 0.2 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    state |= {f"{name}.bias": 0.2 * torch.randn(shape[0], generator=draw) for name, shape in shapes.items()}
    state["y_embedder.embedding_table.weight"] = torch.randn(K + 1, D, generator=draw)
    return state | {"pos_embed": places(SIDE, D)}


def ours(**options: Any) -> DiT:
    return DiT(SPEC, **{"hidden": D, "depth": DEPTH, "heads": HEADS, "patch": P, "learned_variance": True, **options})


def converted() -> DiT:
    network = ours().eval()
    network.load_state_dict(from_original(original()))
    return network


def to_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original's weights under the names of diffusers, whose blocks each have a copy of the embeddings."""
    out = {f"pos_embed.proj.{part}": state[f"x_embedder.proj.{part}"] for part in ("weight", "bias")}
    for part in ("weight", "bias"):
        out[f"proj_out_1.{part}"] = state[f"final_layer.adaLN_modulation.1.{part}"]
        out[f"proj_out_2.{part}"] = state[f"final_layer.linear.{part}"]
    for i in range(DEPTH):
        there = f"transformer_blocks.{i}"
        out[f"{there}.norm1.emb.class_embedder.embedding_table.weight"] = state["y_embedder.embedding_table.weight"]
        for part in ("weight", "bias"):
            block = {name: state[f"blocks.{i}.{name}.{part}"] for name in ("attn.qkv", "attn.proj", "mlp.fc1")}
            for name, value in zip(("to_q", "to_k", "to_v"), block["attn.qkv"].split(D), strict=True):
                out[f"{there}.attn1.{name}.{part}"] = value
            out[f"{there}.attn1.to_out.0.{part}"] = block["attn.proj"]
            out[f"{there}.ff.net.0.proj.{part}"] = block["mlp.fc1"]
            out[f"{there}.ff.net.2.{part}"] = state[f"blocks.{i}.mlp.fc2.{part}"]
            out[f"{there}.norm1.linear.{part}"] = state[f"blocks.{i}.adaLN_modulation.1.{part}"]
            for mine, theirs in (("0", "linear_1"), ("2", "linear_2")):
                out[f"{there}.norm1.emb.timestep_embedder.{theirs}.{part}"] = state[f"t_embedder.mlp.{mine}.{part}"]
    return out


def diffusers_network(state: dict[str, Tensor]) -> Callable[..., Tensor]:
    from diffusers import DiTTransformer2DModel

    network = DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=D // HEADS,
        in_channels=C,
        out_channels=2 * C,
        num_layers=DEPTH,
        sample_size=SIDE * P,
        patch_size=P,
        num_embeds_ada_norm=K,
    ).eval()
    left = network.load_state_dict(to_diffusers(state), strict=False)
    assert left.missing_keys == [] or left.missing_keys == ["pos_embed.pos_embed"]
    assert left.unexpected_keys == []
    for block in network.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # theirs has 1 here, unlike the original: other frequencies

    def run(x: Tensor, noise: Tensor, cond: dict[str, Tensor]) -> Tensor:
        out: Tensor = network(x, timestep=noise, class_labels=cond["class"]).sample
        return out

    return run


def test_it_is_the_function_that_diffusers_has() -> None:
    """Positions, waves of the noise label, queries, keys and values, patches: all in their order."""
    draw = torch.Generator().manual_seed(1)
    x, noise = torch.randn(7, *SPEC.shape, generator=draw), 999 * torch.rand(7, generator=draw)
    given = {"class": torch.arange(7)}  # the last is "none"
    with torch.no_grad():
        got, want = converted()(x, noise, given), diffusers_network(original())(x, noise, given)
    assert got.shape == want.shape == (7, 2 * C, 2 * SIDE, 2 * SIDE)
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


def test_there_and_back_is_the_same() -> None:
    first, back = original(), to_original(converted())
    assert set(back) == set(first)
    for name, value in first.items():
        assert back[name].shape == value.shape
        assert torch.equal(back[name], value) or (name == "pos_embed" and torch.allclose(back[name], value, atol=1e-6))


def test_the_shapes_say_what_network_it_is() -> None:
    about = layout(original())
    assert about == (D, DEPTH, P, C, SIDE, K, 4.0, True) and about.spec == SPEC
    assert about.backbone().startswith("backbone: {name: dit, hidden: 32, depth: 3, heads: (as it was trained with")
    assert about.backbone().endswith("patch: 2, learned_variance: true}")
    xl = about._replace(hidden=1152, depth=28, learned_variance=False)
    assert xl.backbone() == "backbone: {name: dit, size: XL, patch: 2}"


@pytest.mark.parametrize(
    "options",
    [{"qk_norm": True}, {"norm": "rms"}, {"mlp": "swiglu"}, {"positions": "rotary"}],
    ids=["qk_norm", "rms", "swiglu", "rotary"],
)
def test_what_the_original_cannot_be_does_not_go_there(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="this network differs from the original DiT"):
        to_original(ours(**options))


def test_the_original_is_square_and_has_classes() -> None:
    with pytest.raises(ValueError, match="4 x 2 patches"):
        to_original(DiT(DataSpec((1, 8, 4), ("one",)), hidden=8, depth=1, heads=1))
    with pytest.raises(ValueError, match=r"conditioning\.conditions\.classes\.weight"):
        to_original(DiT(DataSpec((1, 8, 8)), hidden=8, depth=1, heads=1))


def save(path: Path, content: Any) -> str:
    torch.save(content, path)
    return str(path)


def test_the_command_makes_what_init_from_takes(tmp_path: Path) -> None:
    source, target = save(tmp_path / "in.pt", original()), tmp_path / "out.safetensors"
    words = [sys.executable, "-m", "dmf.plugins.backbones.dit_weights", source, str(target)]
    done = subprocess.run(words, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "weights, for 4 x 10 x 10, 6 classes" in done.stdout and "learned_variance: true" in done.stdout
    network = ours()
    network.load_state_dict(load_file(target))
    assert torch.equal(network.layers[1].mlp[0].bias, original()["blocks.1.mlp.fc1.bias"])  # type: ignore[index, union-attr]


def test_of_a_training_checkpoint_it_takes_the_average(tmp_path: Path) -> None:
    other = {name: value + 1 for name, value in original().items()}
    content = {"model": other, "ema": original(), "opt": {}, "args": argparse.Namespace(model="DiT-S/2")}
    state = read_original(save(tmp_path / "0050000.pt", content))
    assert all(torch.equal(state[name], value) for name, value in original().items())


class Harm:
    """What runs code when a pickle of it is read."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return print, ("harm done",)  # type: ignore[return-value]


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], source: Path) -> str:
    target = tmp_path / "out.safetensors"
    assert main([str(source), str(target)]) == 2
    assert not target.exists()
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err and err.startswith("error: ")
    return err


def test_files_that_are_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.pt"
    assert "there is no such file" in refused(tmp_path, capsys, source)
    for content in (b"", b"name: dit\n", b"hello\n", b"PK\x03\x04 cut short", pickle.dumps(Harm(), protocol=2)):
        source.write_bytes(content)
        assert "no file of weights that torch reads without executing it" in refused(tmp_path, capsys, source)
    assert "no file of weights" in refused(tmp_path, capsys, tmp_path)  # a folder
    for held in ([1, 2], {"a": 1}, torch.zeros(3)):
        save(source, held)
        assert "has no weights by name in it" in refused(tmp_path, capsys, source)
    save(source, {"layers.0.weight": torch.zeros(3)})
    said = refused(tmp_path, capsys, source)
    assert "missing: blocks.0.adaLN_modulation.1.bias" in said and "unknown: layers.0.weight" in said


def test_weights_that_do_not_fit_one_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(name: str, value: Tensor) -> str:
        save(tmp_path / "in.pt", {**original(), name: value})
        return refused(tmp_path, capsys, tmp_path / "in.pt")

    said = told("blocks.2.attn.proj.weight", torch.zeros(D, D + 1))
    assert "blocks.2.attn.proj.weight: (32, 33), where (32, 32) as ours would fit" in said
    assert "(hidden, channels, patch, patch)" in told("x_embedder.proj.weight", torch.zeros(D, C * P * P))
    assert "(1, side * side, hidden)" in told("pos_embed", torch.zeros(1, 24, D))
    swapped = places(SIDE, D).roll(D // 2, dims=2)  # row before column
    assert "not the sines and cosines of a grid of 5 x 5" in told("pos_embed", swapped)
    assert "final_layer.linear.weight: (48, 32)" in told("final_layer.linear.weight", torch.zeros(48, D))


def test_it_writes_over_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = save(tmp_path / "in.pt", original()), tmp_path / "out.safetensors"
    target.write_text("mine")
    assert main([source, str(target)]) == 2
    assert "is there already" in capsys.readouterr().err and target.read_text() == "mine"


def test_where_it_cannot_write_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "in.pt", original())
    assert main([source, str(tmp_path / "none" / "out.safetensors")]) == 2
    assert f"error: there is no folder {tmp_path / 'none'}; make it" in capsys.readouterr().err
    assert main([source, str(tmp_path / ("x" * 250 + ".safetensors"))]) == 2  # a name too long for the disk
    assert capsys.readouterr().err.startswith("error: ")
