"""Classifiers from files: TorchScript, or weights and the name of the architecture that they belong to.

Architectures are torchvision's image classifiers, and the residual networks for CIFAR. No pickle is executed.
"""

from __future__ import annotations

import difflib
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._cifar_resnet import DEPTHS, CifarResNet
from ._weights import SHA256_DIGITS, Weights, sha256_of, tensors_in

TORCHSCRIPT = "TorchScript"
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
# further heads that are there for training alone: left out, as are their weights
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
COUNTER = ".num_batches_tracked"  # of a batch norm: not in old files, and nothing here depends on it
Make = Callable[[int | None], nn.Module]


class Found(NamedTuple):
    """A network, in eval mode, in float32, not to be trained.

    Attributes:
        network: From images (B, C, H, W), as it wants them, to (B, D).
        sha256: Of the file.
        kind: ``TorchScript``, or the architecture.
    """

    network: nn.Module
    sha256: str
    kind: str


def network_in(file: Path, sha256: str | None, architecture: str | None) -> Found:
    """The network in a file.

    Args:
        file: TorchScript, or a state dict as safetensors or as torch saves it.
        sha256: What the file must have, all 64 digits or the first of them, at least 8.
        architecture: Of which the state dict is; None for TorchScript.

    Raises:
        ValueError: No such file, another hash, a broken file, weights of something else.
    """
    weights = Weights(file, _hash(file, sha256))
    if _is_torchscript(file):
        if architecture is not None:
            raise ValueError(f"architecture: {file} is TorchScript and knows its own; leave out {architecture!r}")
        network = _scripted(file)
    elif architecture is None:
        raise ValueError(
            f"architecture: {file} is no TorchScript; if it holds the weights of a network, say of which: one of "
            f"torchvision's classifiers, such as resnet50, or of CIFAR's {', '.join(DEPTHS)}"
        )
    else:
        network = _filled(file, architecture, tensors_in(weights, "path"))
    for parameter in network.parameters():  # TorchScript has no requires_grad_ of its own
        parameter.requires_grad_(False)
    return Found(network.float().eval(), weights.sha256, architecture or TORCHSCRIPT)


def _hash(file: Path, want: str | None) -> str:
    digits = None if want is None else want.lower()
    if digits is not None and (not 8 <= len(digits) <= SHA256_DIGITS or set(digits) - set("0123456789abcdef")):
        raise ValueError(f"sha256: expected 8 to {SHA256_DIGITS} hexadecimal digits, as sha256sum prints; got {want!r}")
    try:
        found = sha256_of(file)
    except OSError as error:
        raise ValueError(
            f"path: {file.absolute()} cannot be read ({error.strerror}); expected the file of a classifier: "
            "TorchScript, safetensors or a state dict"
        ) from error
    if digits is not None and not found.startswith(digits):
        raise ValueError(f"sha256: {file} has {found}, expected {want}; take the right file, or write its own hash")
    return found


def _is_torchscript(file: Path) -> bool:
    """Whether it is a zip with code in it; one of a state dict has none."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any("/code/" in name for name in archive.namelist())


def _scripted(file: Path) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch would rather have another format
            network: nn.Module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"path: {file} cannot be loaded as TorchScript: {_line(error)}") from error
    return network


def _filled(file: Path, architecture: str, held: dict[str, Tensor]) -> nn.Module:
    """The architecture with these weights, as many classes as they have."""
    state = _stripped(held)
    auxiliary = AUXILIARY.get(architecture, ())
    state = {name: value for name, value in state.items() if not (auxiliary and name.startswith(auxiliary))}
    make = _maker(architecture, state)
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are thrown away: no random number is used up
        network = make(None)
        head = [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
        last = state.get(f"{head}.weight")
        if last is not None and last.dim() > 0 and last.shape != network.get_submodule(head).weight.shape:
            network = make(len(last))
    _check(file, architecture, network, state)
    network.load_state_dict(state, strict=False)
    return network


def _stripped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return _stripped({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def _maker(architecture: str, state: dict[str, Tensor]) -> Make:
    """Makes the architecture, for a number of classes or for as many as it usually has."""
    if architecture in DEPTHS:
        first = state.get("conv1.weight")
        channels = first.shape[1] if first is not None and first.dim() == 4 else 3
        return lambda classes: CifarResNet(DEPTHS[architecture], classes or 10, channels)
    from torchvision import models  # takes a second

    names = models.list_models(module=models)
    if architecture not in names:
        near = difflib.get_close_matches(architecture, [*DEPTHS, *names], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(
            f"architecture: expected one of CIFAR's {', '.join(DEPTHS)}, or of torchvision's classifiers, "
            f"{', '.join(names)}; got {architecture!r}{hint}"
        )
    more: dict[str, Any] = {"aux_logits": False, "init_weights": False} if architecture in AUXILIARY else {}

    def make(classes: int | None) -> nn.Module:
        given = {} if classes is None else {"num_classes": classes}
        made: nn.Module = models.get_model(architecture, weights=None, **more, **given)
        return made

    return make


def _check(file: Path, architecture: str, network: nn.Module, state: dict[str, Tensor]) -> None:
    """Accept weights of the names and shapes that the network has."""
    want = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    have = {name: tuple(value.shape) for name, value in state.items()}
    both = [name for name in want if name in have]
    wrong = [f"{name} {have[name]}, expected {want[name]}" for name in both if have[name] != want[name]]
    wrong += [f"{name}, missing" for name in want if name not in have and not name.endswith(COUNTER)]
    wrong += [f"{name}, not one of its own" for name in have if name not in want]
    if wrong:
        raise ValueError(
            f"path: the weights in {file} are not those of {architecture}: {len(wrong)} differ, such as {wrong[0]}; "
            "name the architecture that they belong to"
        )


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if lines[0].startswith("The following operation failed") else lines[0]
