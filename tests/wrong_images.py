"""The contract kit must say no: checks of what images go through are shown parts that they have to refuse."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from refusal_kit import Refused
from torch import Tensor

from dmf.core import (
    Dataset,
    DataSpec,
    Example,
    InMemory,
    LeftOut,
    Pixels,
)
from dmf.testing import codecs as on_codecs
from dmf.testing import datasets as on_datasets

# -- codecs ------------------------------------------------------------------------------------------------------------


class Halved(Pixels):
    """Says that x is as large as the image, and halves it."""

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images)[..., ::2, ::2]


class Dull(Pixels):
    def decode(self, x: Tensor) -> Tensor:
        return super().decode(0.5 * x)


class Wrapping(Pixels):
    """Round and cast, without a clamp: 256 is 0 again."""

    def decode(self, x: Tensor) -> Tensor:
        return ((x + 1) * 127.5).round().to(torch.int64).remainder(256).to(torch.uint8)


class Normalising(Pixels):
    def encode(self, images: Tensor) -> Tensor:
        x = super().encode(images)
        return x / x.abs().max()


class Forgetful(Pixels):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(DataSpec(spec.shape))


class Promising(Pixels):
    """Says that it has moments, and gives none."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.moment_shape = spec.shape


class Moments(Promising):
    """x and a deviation of 1: right, but for what is spoilt below."""

    def moments(self, images: Tensor) -> Tensor:
        return self.encode(images)

    def draw(self, moments: Tensor, eps: Tensor) -> Tensor:
        return moments + eps

    def facts(self) -> dict[str, str]:
        return {"weights": "none"}


class Narrow(Moments):
    def moments(self, images: Tensor) -> Tensor:
        return super().moments(images)[..., :-1]


class Hidden(Moments):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.moment_shape = None


class Drawn(Moments):
    """Its moments are draws already."""

    def moments(self, images: Tensor) -> Tensor:
        return super().moments(images) + torch.randn(())


class Loose(Moments):
    """Draws with noise of its own."""

    def draw(self, moments: Tensor, eps: Tensor) -> Tensor:
        return moments + torch.randn_like(eps)


class Biased(Moments):
    def draw(self, moments: Tensor, eps: Tensor) -> Tensor:
        return moments + eps + 0.1


class Nameless(Moments):
    def facts(self) -> dict[str, str]:
        return {}


class Counting(Moments):
    """A fact of each object: the cache would be made anew at each start."""

    def facts(self) -> dict[str, str]:
        return {"weights": str(id(self))}


class Numbered(Moments):
    def facts(self) -> dict[str, Any]:
        return {"weights": 3}


CODECS: Refused = [
    (Halved, on_codecs.check_spec, "its spec says"),
    (Forgetful, on_codecs.check_spec, "loses classes"),
    (Dull, on_codecs.check_round_trip, "of 255 away on average"),
    (Wrapping, on_codecs.check_extremes, "beyond black and white"),
    (Normalising, on_codecs.check_batches, "with the batch"),
    (Promising, on_codecs.check_moments, "moments gave none"),
    (Hidden, on_codecs.check_moments, "moments gave some"),
    (Narrow, on_codecs.check_moments, "are to be float32"),
    (Drawn, on_codecs.check_moments, "moments change"),
    (Loose, on_codecs.check_moments, "draws change"),
    (Biased, on_codecs.check_moments, "away from what encode gives"),
    (Nameless, on_codecs.check_facts, "no facts"),
    (Counting, on_codecs.check_facts, "change with each one"),
    (Numbered, on_codecs.check_facts, "texts by name"),
]

# -- datasets ----------------------------------------------------------------------------------------------------------


class Dots(InMemory):
    """Twenty random images of two classes; correct, to be broken below."""

    def __init__(self, seed: int = 0) -> None:
        random = torch.Generator().manual_seed(seed)
        images = torch.randint(256, (20, 1, 4, 4), generator=random, dtype=torch.uint8)
        super().__init__(DataSpec((1, 4, 4), ("a", "b")), images, {"class": torch.arange(20) % 2})

    def held_out(self) -> Dataset | None:
        return Dots(1)


class Floating(Dots):
    def __getitem__(self, i: int) -> Example:
        return replace(super().__getitem__(i), image=self.images[i] / 255)


class Mislabelled(Dots):
    def __getitem__(self, i: int) -> Example:
        return Example(self.images[i], {"class": self.cond["class"][i] + 2})


class Flipping(Dots):
    def __getitem__(self, i: int) -> Example:
        self.flips = getattr(self, "flips", 0) + 1
        return replace(super().__getitem__(i), image=self.images[i].flip(-1) if self.flips % 2 else self.images[i])


class Shifted(Dots):
    def tensors(self) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.images.roll(1, 0), self.cond


class Sorted(Dots):
    """Gives rows in an order of its own."""

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Mapping[str, Tensor]]:
        return super().rows(sorted(numbers))


class Deduplicating(Dots):
    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Mapping[str, Tensor]]:
        return super().rows(list(dict.fromkeys(numbers)))


class Relabelled(Dots):
    def conditions(self) -> Mapping[str, Tensor]:
        return {"class": self.cond["class"].roll(1)}


class Nameless(Dots):
    def name_of(self, i: int) -> str:
        return f"image\n{i}"


class Namesakes(Dots):
    def name_of(self, i: int) -> str:
        return "dot"


class Unexplained(Dots):
    left_out = (LeftOut("a.png", ""),)


class Unsendable(Dots):
    """Read by others, and holds what no other process can have."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def tensors(self) -> None:  # type: ignore[override]
        return None


class Homesick(Dots):
    """Forgets in another process what it is."""

    def tensors(self) -> None:  # type: ignore[override]
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "images": self.images.flip(-1)}


class Leaking(Dots):
    def held_out(self) -> Dataset | None:
        return Dots()


class Forgetting(Dots):
    def _digest(self) -> str:
        return str(torch.rand(1))


class Alike(Dots):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.seed = seed

    def held_out(self) -> Dataset | None:
        return Alike(1) if self.seed == 0 else None

    def _digest(self) -> str:
        return "the dots"


DATASETS: Refused = [
    (Floating(), on_datasets.check_items, "the spec says uint8"),
    (Mislabelled(), on_datasets.check_items, r"expected a 0-d int64 in 0 \.\.\. 1"),
    (Flipping(), on_datasets.check_repeats, "another one when asked again"),
    (Shifted(), on_datasets.check_tensors, r"is not image 0 of tensors\(\)"),
    (Relabelled(), on_datasets.check_conditions, r"\[0\] has another class than conditions\(\)"),
    (Sorted(), on_datasets.check_rows, r"is not what rows\(.*\) gives at place 0"),
    (Deduplicating(), on_datasets.check_rows, "rows of 22 numbers are 20 images"),
    (Nameless(), on_datasets.check_names, r"a line of text; got 'image\\n0'"),
    (Namesakes(), on_datasets.check_names, "20 images have 1 names in all"),
    (Unexplained(), on_datasets.check_names, "a line of text; got ''"),
    (Unsendable(), on_datasets.check_pickled, "cannot be pickled, and other processes are to read it: .*lock"),
    (Homesick(), on_datasets.check_pickled, "another one in another process"),
    (Leaking(), on_datasets.check_held_out, "20 of 20 held-out images are trained on"),
    (Forgetting(), on_datasets.check_fingerprint, "of the same data changes"),
    (Alike(), on_datasets.check_fingerprint, "have the same fingerprint"),
]

# ----------------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, Refused] = {
    "codec": CODECS,
    "dataset": DATASETS,
}
RIGHT: list[tuple[str, Any]] = [
    ("codec", Pixels),
    ("codec", Moments),
    ("dataset", Dots()),
]
