"""fid, kid, sfid and what they are made of: torch-fidelity's own results on the same images, the whole way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from conftest import FULL
from inception_kit import Random, random_inception_fixture
from inception_kit import tiny_inception_fixture as tiny_inception_fixture
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from dmf.core import DataSpec, FeatureMetric
from dmf.plugins.features.inception import INCEPTION
from dmf.plugins.metrics.fid import FID
from dmf.plugins.metrics.kid import KID
from dmf.plugins.metrics.sfid import SFID
from dmf.registry import UserError, build
from dmf.testing import check_metric

random_inception = random_inception_fixture
COUNT = 16 if FULL else 8  # each is 299 x 299 for the networks
SPLITS, SUBSETS, SUBSET_SIZE = 3, 20, 5
LAYERS = ("2048", "logits_unbiased", "spatial", "64")
Features = dict[str, Tensor]


class Images(Dataset[Tensor]):
    """As torch-fidelity takes them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def painted(seed: int, low: int, high: int, count: int = COUNT) -> Tensor:
    """Soft patches of colours between two, uint8 (count, 3, 24, 20)."""
    random = torch.Generator().manual_seed(seed)
    patches = torch.rand(count, 3, 4, 4, generator=random)
    soft = torch.nn.functional.interpolate(patches, (24, 20), mode="bicubic").clamp(0, 1)
    return (low + (high - low) * soft).round().to(torch.uint8)


MADE, REAL = painted(0, 0, 255), painted(1, 170, 255)


@pytest.fixture(scope="module", name="made")
def made_fixture(random_inception: Random) -> Features:
    return seen(random_inception, MADE)


@pytest.fixture(scope="module", name="real")
def real_fixture(random_inception: Random) -> Features:
    return seen(random_inception, REAL)


def seen(weights: Random, images: Tensor) -> Features:
    """What the part gives of images, by its name in a recipe, in one pass."""
    name, options = "inception", {key: value for key, value in weights.features.items() if key != "name"}
    found: Features = build("features", name, **options)(images, LAYERS)
    return found


@pytest.fixture(scope="module", name="theirs")
def theirs_fixture(random_inception: Random) -> dict[str, float]:
    """torch-fidelity's results, from images."""
    found: dict[str, float] = torch_fidelity.calculate_metrics(
        input1=Images(MADE),
        input2=Images(REAL),
        fid=True,
        isc=True,
        kid=True,
        isc_splits=SPLITS,
        kid_subsets=SUBSETS,
        kid_subset_size=SUBSET_SIZE,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=random_inception.file,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
    )
    return found


def ours(weights: Random, name: str, made: Features, real: Features, **options: Any) -> list[float]:
    """A metric's values, of features that come in uneven batches, as from the runner."""
    metric: FeatureMetric = build("metric", name, features=weights.features, **options)
    for images, f, is_real in ((REAL, real, True), (MADE, made, False)):
        for rows in torch.split(torch.arange(len(images)), 5):
            cut = {layer: one[rows] for layer, one in f.items()}
            metric.update(images[rows], real=is_real, index=rows, features=cut)
    values = metric.compute()
    assert all(name.endswith(("_sd", *(f"inception_{weights.sha256[:8]}{x}" for x in ("", "_64")))) for name in values)
    return list(values.values())


def test_frechet_is_its_fid(random_inception: Random, made: Features, real: Features, theirs: dict[str, float]) -> None:
    (value,) = ours(random_inception, "frechet", made, real)
    assert value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert value == pytest.approx(by_nuclear_norm(made["2048"], real["2048"]), rel=1e-9)


def test_inception_score_is_its(
    random_inception: Random, made: Features, real: Features, theirs: dict[str, float]
) -> None:
    value, sd = ours(random_inception, "inception_score", made, real, splits=SPLITS)
    assert value == pytest.approx(theirs["inception_score_mean"], rel=1e-6) and value > 1.1
    assert sd == pytest.approx(theirs["inception_score_std"], rel=1e-6)


def test_kernel_is_its_kid(random_inception: Random, made: Features, real: Features, theirs: dict[str, float]) -> None:
    """To 1e-6 of the kernel's own values, which it takes in float32; on the same features in float64 to 1e-9."""
    value, sd = ours(random_inception, "kernel", made, real, subsets=SUBSETS, subset_size=SUBSET_SIZE)
    sizes = {"kid_subsets": SUBSETS, "kid_subset_size": SUBSET_SIZE}
    exact = kid_features_to_metric(made["2048"].double(), real["2048"].double(), **sizes)
    assert value == pytest.approx(exact["kernel_inception_distance_mean"], rel=1e-9)
    assert sd == pytest.approx(exact["kernel_inception_distance_std"], rel=1e-9)
    x = real["2048"].double()
    scale = float(((x @ x.T / 2048 + 1) ** 3).mean())
    assert value == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6 * scale)
    assert sd == pytest.approx(theirs["kernel_inception_distance_std"], abs=1e-6 * scale)


def test_precision_and_recall_are_its(random_inception: Random, made: Features, real: Features) -> None:
    near = {"2048": torch.cat([made["2048"][: COUNT // 3] * 1.01, real["2048"][COUNT // 3 :]])}
    want = prc_features_to_metric(made["2048"], near["2048"], prc_neighborhood=3)
    found = ours(random_inception, "precision_recall", made, near, k=3)
    assert found == pytest.approx([want["precision"], want["recall"]], rel=1e-6) and 0 < found[0] < 1


def by_nuclear_norm(x: Tensor, y: Tensor) -> float:
    """The Fréchet distance of few vectors, (n, D): tr (S1 S2)^(1/2) is the nuclear norm of the centred X Y^T."""
    x, y = x.double(), y.double()
    mean = (x.mean(0) - y.mean(0)).square().sum()
    x, y = ((one - one.mean(0)) / (len(one) - 1) ** 0.5 for one in (x, y))
    return float(mean + x.square().sum() + y.square().sum() - 2 * np.linalg.norm((x @ y.T).numpy(), "nuc"))


@pytest.mark.parametrize("layer", ["spatial", "64"])
def test_frechet_on_other_layers(random_inception: Random, made: Features, real: Features, layer: str) -> None:
    metric = build("metric", "frechet", features=random_inception.features, layer=layer)
    metric.take(real[layer], real=True, labels=None, index=None)
    metric.take(made[layer], real=False, labels=None, index=None)
    (value,) = metric.compute().values()
    assert value == pytest.approx(by_nuclear_norm(made[layer], real[layer]), rel=1e-8)


# the names that papers use


@pytest.mark.parametrize(
    ("metric", "names", "like", "layer"),
    [
        (FID, ["fid"], "frechet", "2048"),
        (KID, ["kid", "kid_sd"], "kernel", "2048"),
        (SFID, ["sfid"], "frechet", "spatial"),
    ],
)
def test_they_are_frechet_and_kernel_on_inception(
    tiny_inception: Path, metric: Callable[[], FeatureMetric], names: list[str], like: str, layer: str
) -> None:
    own, other = metric(), build("metric", like, features="inception", layer=layer)
    for one in (own, other):
        one.update(REAL, real=True, index=torch.arange(COUNT))
        one.update(MADE, index=torch.arange(COUNT))
    values = own.compute()
    assert list(values) == names and list(values.values()) == list(other.compute().values())
    assert own.protocol() == other.protocol() and own.protocol()["layer"] == layer
    assert own.reference_key() == other.reference_key() or like == "kernel"


@pytest.mark.parametrize("metric", [FID, KID, SFID])
def test_their_contract(tiny_inception: Path, metric: Callable[[], FeatureMetric]) -> None:
    check_metric(metric())


@pytest.mark.parametrize("name", ["fid", "kid", "sfid"])
def test_other_weights_or_features_are_no_fid(random_inception: Random, name: str) -> None:
    with pytest.raises(UserError, match=f"has sha256 {random_inception.sha256}, not {INCEPTION.sha256}"):
        build("metric", name, weights=random_inception.file)
    with pytest.raises(UserError, match="features"):
        build("metric", name, features="digits")


def test_kid_says_that_it_is_of_fewer_images_than_its_subsets_have(tiny_inception: Path) -> None:
    spec = DataSpec((3, 8, 8))
    few, enough = KID().cautions(spec, 999, 1000), KID().cautions(spec, 1000, None)
    assert any("999" in one and "1000" in one for one in few) and len(few) == len(enough) + 1
    (said,) = KID().cautions(spec, 5000, 998)
    assert "998 images of the reference" in said


def test_a_user_without_weights_is_told_before_training(
    tiny: Path, dmf_command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    code, _, err = dmf_command("run", tiny, "evaluate.metrics=[fid]", "evaluate.images=20")
    assert code == 2 and INCEPTION.name in err and INCEPTION.sha256 in err and "put it at" in err
    assert "Traceback" not in err and not (tmp_path / "runs/tiny").exists()
