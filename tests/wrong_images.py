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
    FeatureExtractor,
    FeatureMetric,
    InMemory,
    LeftOut,
    Metric,
    Pixels,
)
from dmf.testing import codecs as on_codecs
from dmf.testing import datasets as on_datasets
from dmf.testing import features as on_features
from dmf.testing import metrics as on_metrics

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

# -- features ----------------------------------------------------------------------------------------------------------


class Corner(FeatureExtractor):
    """Sixteen pixels, as features; correct, to be broken below."""

    name, layers = "corner", {"corner": 16}

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return {"corner": self.corner(images)}

    def corner(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :16].float()

    def protocol(self) -> dict[str, str]:
        return {"features": self.name}


class Wide(Corner):
    layers = {"corner": 17}  # noqa: RUF012


class Batched(Corner):
    def corner(self, images: Tensor) -> Tensor:
        f = super().corner(images)
        return f - f.mean(0)


class Restless(Corner):
    def corner(self, images: Tensor) -> Tensor:
        return super().corner(images) + 1e-6 * torch.rand(1)


class Blind(Corner):
    def corner(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), 16)


class Trained(Corner):
    def corner(self, images: Tensor) -> Tensor:
        return super().corner(images) * torch.ones(16, requires_grad=True)


class Anonymous(Corner):
    def protocol(self) -> dict[str, str]:
        return {}


class Scribbling(Corner):
    def corner(self, images: Tensor) -> Tensor:
        return super().corner(images.bitwise_not_())


class Cast(Corner):
    def corner(self, images: Tensor) -> Tensor:
        return ((super().corner(images) / 3) @ torch.eye(16)).float()


class Sentence(Corner):
    name = "a corner: the first one"


class Late(Corner):
    seen = 0

    def corner(self, images: Tensor) -> Tensor:
        self.seen = 1
        return super().corner(images)

    def protocol(self) -> dict[str, str]:
        return {"features": self.name, "seen": str(self.seen)}


class Torn(Corner):
    def corner(self, images: Tensor) -> Tensor:
        return super().corner(images) / (0 if images.shape[-1] == 224 else 1)


class Wordless(Corner):
    def check(self, spec: DataSpec) -> None:
        if spec.shape != (1, 8, 8):
            raise ValueError


FEATURES: Refused = [
    (Wide(), on_features.check_form, r"declares \(6, 17\), and gives \(6, 16\)"),
    (Trained(), on_features.check_form, "carry a gradient"),
    (Batched(), on_features.check_batches, "with the batch"),
    (Restless(), on_features.check_batches, "other features when asked again"),
    (Blind(), on_features.check_eyes, "two images the same"),
    (Scribbling(), on_features.check_form, "changes the images"),
    (Cast(), on_features.check_surroundings, "within autocast or inference mode"),
    (Anonymous(), on_features.check_protocol, "whose weights"),
    (Sentence(), on_features.check_protocol, "letters, digits"),
    (Late(), on_features.check_protocol, "another after the first images"),
    (Torn(), on_features.check_refuses, r"accepts \(3, 224, 224\), and then: .* not finite"),
    (Wordless(), on_features.check_refuses, "without a word"),
]

# -- metrics -----------------------------------------------------------------------------------------------------------


class Brightness(Metric):
    """The mean pixel; correct, to be broken below."""

    n: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("n", torch.zeros((), dtype=torch.int64), "sum")
        self.add_state("total", torch.zeros((), dtype=torch.float64), "sum")

    def check(self, spec: DataSpec, images: int) -> None:
        if images < 1:
            raise ValueError("brightness needs an image; got none")

    def update(self, images: Tensor, *, real: bool = False, index: Tensor | None = None, **later: Any) -> None:
        if not real:
            self.n = self.n + len(images)
            self.total = self.total + images.double().flatten(1).mean(1).sum()

    def compute(self) -> dict[str, float]:
        if not self.n:
            raise ValueError("brightness needs an image; got none")
        return {"brightness": float(self.total / self.n)}


class NotANumber(Brightness):
    def compute(self) -> dict[str, float]:
        return {"brightness": float("nan")}


class Random(Brightness):
    def compute(self) -> dict[str, float]:
        return {"brightness": super().compute()["brightness"] + float(torch.rand(()))}


class Hidden(Brightness):
    """Counts outside its states, so that other ranks do not count."""

    count = 0

    def update(self, images: Tensor, **given: Any) -> None:
        super().update(images, **given)
        self.count += len(images)

    def compute(self) -> dict[str, float]:
        return {"brightness": float(self.total / self.count)}


class Last(Brightness):
    """Remembers the last image that came."""

    def update(self, images: Tensor, **given: Any) -> None:
        super().update(images, **given)
        self.last = images[-1].double().mean()

    def compute(self) -> dict[str, float]:
        return {"brightness": float(self.last)}


class Lasting(Brightness):
    def reset(self) -> None:
        return None


class Consuming(Brightness):
    def compute(self) -> dict[str, float]:
        values = super().compute()
        self.total = self.total / 2
        return values


class Inventive(Brightness):
    def compute(self) -> dict[str, float]:
        return super().compute() if self.n else {"brightness": 42.0}


class Careless(Brightness):
    """Finds out after the long work that one image is not enough."""

    def compute(self) -> dict[str, float]:
        if self.n < 2:
            raise ValueError("one image is not enough")
        return super().compute()


class Numeric(Brightness):
    def protocol(self) -> dict[str, str]:
        return {"bins": 10}  # type: ignore[dict-item]


class Sums(FeatureMetric):
    """The difference of two means of features; correct, to be broken below."""

    needs = frozenset({"reference"})
    real_total: Tensor

    def __init__(self) -> None:
        super().__init__(Corner())
        for name in ("total", "real_total"):
            self.add_state(name, torch.zeros(2, dtype=torch.float64), "sum")

    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        name = "real_total" if real else "total"
        more = torch.tensor([len(f), float(f.double().mean(1).sum())], dtype=torch.float64)
        setattr(self, name, getattr(self, name) + more)

    def compute(self) -> dict[str, float]:
        (n, total), (n_real, real_total) = self.total.tolist(), self.real_total.tolist()
        if not n or not n_real:
            raise ValueError("sums needs images on either side")
        return {"sums": total / n - real_total / n_real}


class Unsharing(Sums):
    """Takes what is handed over for something else."""

    def update(self, images: Tensor, **given: Any) -> None:
        found = given.pop("features", None)
        super().update(images, **given, features=None if found is None else {"corner": found["corner"] / 2})


class Common(Brightness):
    """All copies share what they add to, in place."""

    def update(self, images: Tensor, *, real: bool = False, index: Tensor | None = None, **later: Any) -> None:
        if not real:
            self.seen.append(float(images.double().mean()) * len(images))
            self.n = self.n + len(images)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "Common":
        new = super().__deepcopy__(memo)
        new.seen = self.seen if self.seen else []
        return new

    def compute(self) -> dict[str, float]:
        return {"brightness": sum(self.seen)}


class Elsewhere(Sums):
    """Keeps what it saw of the reference outside its states."""

    kept = 0.0

    def take(self, f: Tensor, *, real: bool, labels: Tensor | None, index: Tensor | None) -> None:
        super().take(f, real=real, labels=labels, index=index)
        if real:
            self.kept += float(f.sum())

    def compute(self) -> dict[str, float]:
        return {"sums": super().compute()["sums"] + self.kept}


class Changing(Sums):
    """Keeps the reference under the number of images that it has seen."""

    def reference_key(self) -> dict[str, str]:
        return {"seen": str(self.real_total.tolist())}


class Shouting(Brightness):
    def cautions(self, spec: DataSpec, images: int, reference: int | None) -> list[str]:
        return ["few"]


class Painting(Brightness):
    def pictures(self, real: Any) -> dict[str, Tensor]:
        return {"mean": torch.full((3, 4, 4), float(self.total))}


class Asking(Sums):
    def pictures(self, real: Any) -> dict[str, Tensor]:
        return {"next": real(torch.tensor([int(self.real_total[0])]))[0]}


METRICS: Refused = [
    (NotANumber(), on_metrics.check_values, "brightness is nan"),
    (Random(), on_metrics.check_values, "of the images of which it gave"),
    (Hidden(), on_metrics.check_ranks, "two ranks with half of the images each"),
    (Last(), on_metrics.check_order, "in another order and other batches"),
    (Lasting(), on_metrics.check_reset, "after a reset"),
    (Consuming(), on_metrics.check_compute, "when asked again"),
    (Inventive(), on_metrics.check_empty, "of no images is {'brightness': 42.0}"),
    (Careless(), on_metrics.check_refuses, "accepts 1 image.*, and then: one image is not enough"),
    (Numeric(), on_metrics.check_protocol, "is to hold texts"),
    (Unsharing(), on_metrics.check_features, "with features handed over the images give"),
    (Common(), on_metrics.check_copies, "changes when a copy of it"),
    (Elsewhere(), on_metrics.check_reference_key, "kept from before the images give"),
    (Changing(), on_metrics.check_reference_key, "when it was seen"),
    (Shouting(), on_metrics.check_cautions, "is to give sentences; got .'few'."),
    (Painting(), on_metrics.check_pictures, "the picture mean is to be uint8"),
    (Asking(), on_metrics.check_pictures, "asks for the real images"),
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
    "features": FEATURES,
    "metric": METRICS,
    "dataset": DATASETS,
}
RIGHT: list[tuple[str, Any]] = [
    ("codec", Pixels),
    ("codec", Moments),
    ("features", Corner()),
    ("metric", Brightness()),
    ("metric", Sums()),
    ("dataset", Dots()),
]
