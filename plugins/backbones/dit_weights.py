"""Weights of the original DiT, github.com/facebookresearch/DiT, for ours and back: the same numbers, other names.

    python -m dmf.plugins.backbones.dit_weights DiT-XL-2-256x256.pt dit_xl2.safetensors

writes what a recipe's `init_from` and `load_state_dict` take, and prints the backbone that it is of. Nothing in the
file is executed. Source: Peebles & Xie 2022 (arXiv 2212.09748). Cost: the weights once in memory.
"""

import argparse
import sys
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ...core import DataSpec
from ._embeddings import positions
from .dit import SIZES, DiT

State = Mapping[str, Tensor]

# their module: ours
OUTSIDE = {
    "x_embedder.proj": "patches.map",
    "t_embedder.mlp.0": "conditioning.noise.into",
    "t_embedder.mlp.2": "conditioning.noise.out",
    "y_embedder.embedding_table": "conditioning.conditions.classes",
    "final_layer.adaLN_modulation.1": "modulation",
    "final_layer.linear": "out.map",
}
IN_A_BLOCK = {
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.project",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
    "adaLN_modulation.1": "modulation",
}
PATCHES, PLACES = "x_embedder.proj.weight", "pos_embed"
CLASSES = "y_embedder.embedding_table.weight"


class Layout(NamedTuple):
    """What the shapes of original weights say of their network; all but the number of heads."""

    hidden: int
    depth: int
    patch: int
    channels: int
    side: int
    classes: int
    mlp_ratio: float
    learned_variance: bool

    @property
    def spec(self) -> DataSpec:
        """Of its latents, classes named by number."""
        side = self.side * self.patch
        return DataSpec((self.channels, side, side), tuple(map(str, range(self.classes))))

    def backbone(self) -> str:
        """As a recipe writes it."""
        named = [name for name, size in SIZES.items() if size[:2] == (self.hidden, self.depth)]
        heads = "heads: (as it was trained with; the file does not say)"
        size = f"size: {named[0]}" if named else f"hidden: {self.hidden}, depth: {self.depth}, {heads}"
        ratio = "" if self.mlp_ratio == 4 else f", mlp_ratio: {self.mlp_ratio}"
        variance = ", learned_variance: true" if self.learned_variance else ""
        return f"backbone: {{name: dit, {size}, patch: {self.patch}{ratio}{variance}}}"


def from_original(state: State) -> dict[str, Tensor]:
    """A state_dict of the original as one of `DiT` with the same options.

    Args:
        state: Of the original's names.

    Raises:
        ValueError: Names or shapes are not those of one, or its positions are not the fixed ones.
    """
    about = layout(state)
    names = _names(about.depth)
    ours = {names[name]: value for name, value in state.items() if name != PLACES}
    ours[names[PATCHES]] = state[PATCHES].flatten(1)  # a convolution that does not overlap is a linear map
    fits = _shapes(about)
    wrong = [
        f"{name}: {tuple(value.shape)}, where {fits[names[name]]} as ours would fit"
        for name, value in state.items()
        if name != PLACES and tuple(ours[names[name]].shape) != fits[names[name]]
    ]
    if wrong:
        raise ValueError(f"shapes that do not fit one another: {_listed(wrong)}")
    _check_places(state[PLACES], about.side, about.hidden)
    return {name: ours[name].contiguous() for name in fits}


def to_original(network: DiT) -> dict[str, Tensor]:
    """The weights of a `DiT` under the names of the original.

    Args:
        network: As the paper has it: square images with classes, none of the options that it does not know.

    Raises:
        ValueError: The network is one that the original cannot be.
    """
    grid, state = network.patches, network.state_dict()
    names = _names(len(network.layers))
    ours = {mine: name for name, mine in names.items()}
    other = sorted({*state} ^ {*ours})
    unlike = [
        *([f"{_listed(other)} (in one of them only)"] if other else []),
        *(["rotary positions"] if network.turns is not None else []),
        *(["RMS normalisation"] if not isinstance(network.norm, torch.nn.LayerNorm) else []),
        *([f"{grid.rows} x {grid.columns} patches"] if grid.rows != grid.columns else []),
    ]
    if unlike:
        raise ValueError(
            f"this network differs from the original DiT, which cannot hold its weights: {'; '.join(unlike)}"
        )
    theirs = {ours[name]: value for name, value in state.items()}
    theirs[PATCHES] = theirs[PATCHES].unflatten(1, (-1, grid.patch, grid.patch))
    width = len(theirs[PATCHES])
    return {PLACES: positions(grid.rows, grid.columns, width)[None].to(theirs[PATCHES]), **theirs}


def layout(state: State) -> Layout:
    """What network original weights are of.

    Raises:
        ValueError: Names are missing or unknown, or the first shapes are not those of a DiT.
    """
    depth = 1 + max((int(name.split(".")[1]) for name in state if _is_block(name)), default=0)
    expected = {*_names(depth), PLACES}
    missing, unknown = sorted(expected - set(state)), sorted(set(state) - expected)
    if missing or unknown:
        said = [f"{kind}: {_listed(some)}" for kind, some in (("missing", missing), ("unknown", unknown)) if some]
        raise ValueError(f"these are not the names of an original DiT's weights; {'; '.join(said)}")
    patches, places = state[PATCHES].shape, state[PLACES].shape
    if len(patches) != 4 or patches[2] != patches[3] or len(places) != 3 or isqrt(places[1]) ** 2 != places[1]:
        raise ValueError(
            f"{PATCHES} is (hidden, channels, patch, patch) and {PLACES} (1, side * side, hidden); got"
            f" {tuple(patches)} and {tuple(places)}"
        )
    hidden, channels, patch, _ = patches
    inside, out = len(state["blocks.0.mlp.fc1.weight"]), len(state["final_layer.linear.weight"])
    return Layout(
        hidden,
        depth,
        patch,
        channels,
        isqrt(places[1]),
        len(state[CLASSES]) - 1,  # the last row is "none", as ours: trained with label dropout, as all releases are
        inside / hidden,
        out == 2 * channels * patch * patch,
    )


def read_original(path: str | Path) -> dict[str, Tensor]:
    """The weights in a file of the original: of a release, or the averaged ones of a checkpoint of its training.

    Raises:
        ValueError: There is no such file, or it has something else in it.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # its training saves its settings so
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except Exception as error:  # whatever torch raises of bytes that it cannot make out; they have no common base
        said = str(error).strip().splitlines() or ["no more is said"]
        why = f"{type(error).__name__}: {said[0]}"  # with its name: all that a KeyError says is 101
        raise ValueError(f"{path} is no file of weights that torch reads without executing it: {why}") from None
    state = content["ema"] if isinstance(content, dict) and "ema" in content else content
    if not isinstance(state, dict) or not all(isinstance(n, str) and isinstance(v, Tensor) for n, v in state.items()):
        raise ValueError(f"{path} has no weights by name in it; expected those of a DiT, or a checkpoint with `ema`")
    return state


def _names(depth: int) -> dict[str, str]:
    """Their parameters to ours."""
    blocks = {f"blocks.{i}.{a}": f"layers.{i}.{b}" for i in range(depth) for a, b in IN_A_BLOCK.items()}
    names = {f"{a}.{part}": f"{b}.{part}" for a, b in {**OUTSIDE, **blocks}.items() for part in ("weight", "bias")}
    del names["y_embedder.embedding_table.bias"]
    return names


def _shapes(about: Layout) -> dict[str, tuple[int, ...]]:
    """Our parameters' shapes."""
    with torch.device("meta"):
        network = DiT(
            about.spec,
            hidden=about.hidden,
            depth=about.depth,
            heads=1,  # no shape depends on it
            patch=about.patch,
            mlp_ratio=about.mlp_ratio,
            learned_variance=about.learned_variance,
        )
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _is_block(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "blocks" and len(parts) > 1 and parts[1].isdecimal()


def _check_places(places: Tensor, side: int, hidden: int) -> None:
    if places.shape[2] != hidden or not torch.allclose(places[0].float(), positions(side, side, hidden), atol=1e-3):
        raise ValueError(
            f"{PLACES} is not the sines and cosines of a grid of {side} x {side} patches, which `dit` adds: it was"
            " trained or made otherwise, and these weights would mean something else here"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def main(words: list[str] | None = None) -> int:
    """Convert a file; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m dmf.plugins.backbones.dit_weights", description="Weights of the original DiT for ours"
    )
    parser.add_argument("original", metavar="IN.pt", help="weights of facebookresearch/DiT")
    parser.add_argument("converted", metavar="OUT.safetensors", type=Path, help="what init_from takes; must not exist")
    given = parser.parse_args(words)
    try:
        if given.converted.exists():
            raise ValueError(f"{given.converted} is there already; remove it, or name another")
        if not given.converted.parent.is_dir():
            raise ValueError(f"there is no folder {given.converted.parent}; make it, or name another")
        state = read_original(given.original)
        about, ours = layout(state), from_original(state)
        save_file(ours, given.converted)
    except (ValueError, OSError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shape = " x ".join(map(str, about.spec.shape))
    print(f"{given.converted}: {sum(v.numel() for v in ours.values()):,} weights, for {shape}, {about.classes} classes")
    print(about.backbone())
    return 0


if __name__ == "__main__":
    sys.exit(main())
