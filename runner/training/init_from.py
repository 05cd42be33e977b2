"""Starting from weights that are there (`init_from`)."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ...registry import UserError
from .. import checkpoints


def load_weights(network: nn.Module, source: str, runs: Path) -> None:
    """Start from the weights of a run, by folder or by name under ``runs``, or of a safetensors file.

    Raises:
        UserError: Nothing there, or weights of another network; the message names the tensors.
    """
    tensors, where = _weights_of(Path(source) if Path(source).exists() else runs / source)
    mine = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in tensors.items()}
    if mine != theirs:
        wrong = [
            f"{n}: {theirs.get(n, 'missing there')} -> {mine.get(n, 'unknown here')}"
            for n in sorted({*mine, *theirs})
            if mine.get(n) != theirs.get(n)
        ]
        listed = "\n  ".join(wrong[:8] + ([f"... and {len(wrong) - 8} more"] if len(wrong) > 8 else []))
        raise UserError(f"init_from: the weights of {where} are of another network than the recipe's:\n  {listed}")
    network.load_state_dict(dict(tensors))


def _weights_of(source: Path) -> tuple[checkpoints.Tensors, Path]:
    if source.is_file():
        try:
            return load_file(source), source
        except (OSError, SafetensorError) as error:
            raise UserError(f"init_from: {source} is no readable safetensors file: {error}") from None
    saved = checkpoints.newest(source / "checkpoints", None)
    if saved is None:
        raise UserError(f"init_from: {source} is neither a safetensors file nor a run folder with a checkpoint")
    return saved.tensors.get("ema", saved.tensors["model"]), saved.path
