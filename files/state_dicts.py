"""Weights in files of other programs: safetensors, or torch's own format. No pickle is executed.

torch reads its own format with ``weights_only``: tensors, numbers, texts and what holds them, and nothing that would
have to be called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch


def content_of(file: Path, option: str) -> Any:
    """What a file of weights holds, on the CPU: tensors by name, or whatever else was saved around them.

    Args:
        file: Safetensors by its suffix, else torch's own format.
        option: What the recipe calls it, for messages.

    Raises:
        ValueError: It is broken, or holds what would have to be executed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{option}: {file} cannot be read as a state dict, tensors by name, by torch.load with "
            f"weights_only=True or safetensors: {type(error).__name__}: {said}; dmf executes no pickle, so save it "
            "anew: torch.save(model.state_dict(), file)"
        ) from error
