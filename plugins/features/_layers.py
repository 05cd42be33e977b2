"""What the modules of a network give on the way, as one vector an image.

An output (B, D) is taken as it is; maps (B, C, H, W) are averaged over their pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import ScriptModule

FEATURES, LOGITS, OUTPUT = "features", "logits", "output"
OWN = (FEATURES, LOGITS, OUTPUT)
Note = Callable[[str, Any, Any], None]


class Layers:
    """The layers of a network, which one pass over ``x`` finds.

    ``features`` is what goes into the last linear layer, ``logits`` what comes out of it; of a network that does not
    end in one, ``output`` is what it gives. After those each module that is asked once in a pass, by its name, unless
    that is one of these three.

    Args:
        network: In eval mode. TorchScript has its output alone: nothing can be watched in it.
        x: Images as it wants them, (B, ...).

    Attributes:
        sizes: Length D of each layer's vectors.

    Raises:
        ValueError: The network does not give (B, D).
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self.network = network
        scripted = isinstance(network, ScriptModule)  # which takes no hooks
        names = [] if scripted else [name for name, _ in network.named_modules() if name]
        asked: list[tuple[str, int | None]] = []
        linear: list[tuple[str, Any, int]] = []

        def note(name: str, given: Any, made: Any) -> None:
            found = vectors(made)
            asked.append((name, None if found is None else found.shape[1]))
            if isinstance(network.get_submodule(name), nn.Linear):
                linear.append((name, made, given[0].shape[-1]))

        output = self._watched(x, names, note)
        if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != len(x):
            raise ValueError(f"expected the network to give (B, D), here ({len(x)}, D); got {_told(output)}")
        self._head, self.sizes = None, {OUTPUT: output.shape[1]}
        if linear and linear[-1][1] is output:
            self._head, _, width = linear[-1]
            self.sizes = {FEATURES: width, LOGITS: output.shape[1]}
        whole = [name for name, _ in asked]
        for name, dim in asked:
            if dim is not None and whole.count(name) == 1 and name not in OWN:
                self.sizes[name] = dim

    def __call__(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Vectors, float32 (B, D), of some layers in one pass over ``x``."""
        found: dict[str, Tensor] = {}
        places = {layer: self._place(layer) for layer in layers if layer != OUTPUT}

        def note(name: str, given: Any, made: Any) -> None:
            for layer, place in places.items():
                if place == name:
                    value = vectors(given[0] if layer == FEATURES else made)
                    assert value is not None
                    found[layer] = value.to(torch.float32)

        output = self._watched(x, sorted(set(places.values())), note)
        if OUTPUT in layers:
            found[OUTPUT] = output.to(torch.float32)
        return {layer: found[layer] for layer in layers}

    def _place(self, layer: str) -> str:
        """The module at which a layer is seen."""
        if self._head is not None and layer in (FEATURES, LOGITS):
            return self._head
        return layer

    def _watched(self, x: Tensor, names: Sequence[str], note: Note) -> Any:
        """The network's output; ``note`` is told of each named module what went in and what came out."""
        with ExitStack() as stack:
            for name in names:
                module = self.network.get_submodule(name)
                handle = module.register_forward_hook(lambda _, given, made, name=name: note(name, given, made))
                stack.callback(handle.remove)
            # TorchScript would watch its first passes and then run other kernels: other features of the same image
            stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
            return self.network(x)


def vectors(made: Any) -> Tensor | None:
    """One vector an image, a copy: what a module gave may be written over by the next one; None of other outputs."""
    if not isinstance(made, Tensor) or not made.is_floating_point():
        return None
    if made.dim() == 2:
        return made.clone()
    return made.mean((2, 3)) if made.dim() == 4 else None


def _told(output: Any) -> str:
    return f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
