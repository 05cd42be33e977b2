"""The contract kit must say no: checks of features and of metrics are shown parts that they have to refuse."""

from collections.abc import Sequence
from typing import Any

import torch
from refusal_kit import Refused
from torch import Tensor

from dmf.core import (
    DataSpec,
    FeatureExtractor,
    FeatureMetric,
    Metric,
)
from dmf.testing import features as on_features
from dmf.testing import metrics as on_metrics

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

# ----------------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, Refused] = {"features": FEATURES, "metric": METRICS}
RIGHT: list[tuple[str, Any]] = [("features", Corner()), ("metric", Brightness()), ("metric", Sums())]
