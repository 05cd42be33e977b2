"""The mean LPIPS of all pairs: against the lpips package, pair by pair, on random weights in files of the real kind."""

import hashlib
import itertools
from pathlib import Path

import pytest
import torch
from lpips_kit import NETS, options_of, package
from lpips_kit import random_trunks_fixture as random_trunks_fixture
from lpips_kit import trunk_files_fixture as trunk_files_fixture
from torch import Tensor
from torchvision.transforms.functional import resize as theirs_resized

from dmf.core import DataSpec
from dmf.plugins.features.fidelity import VGG16
from dmf.plugins.metrics import _lpips, lpips_diversity
from dmf.plugins.metrics.lpips_diversity import LpipsDiversity
from dmf.registry import build
from dmf.testing import check_metric
from dmf.testing.metrics import merged

CLASSES = ("a", "b", "c")
SPEC = DataSpec((3, 32, 32), CLASSES)
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
COUNT = len(LABELS)


@pytest.fixture(name="files")
def files_fixture(trunk_files: dict[str, Path]) -> dict[str, Path]:
    return trunk_files


def made(shape: tuple[int, ...] = SPEC.shape, count: int = COUNT) -> Tensor:
    """Images of unlike contrast: smooth at the beginning, noise at the end."""
    torch.manual_seed(3)
    noise = torch.rand(count, *shape)
    smooth = theirs_resized(torch.rand(count, shape[0], 4, 4), list(shape[1:]))
    share = torch.linspace(0, 1, count)[:, None, None, None]
    return ((noise * share + smooth * (1 - share)) * 255).round().to(torch.uint8)


def seen(metric: LpipsDiversity, images: Tensor, labels: Tensor | None = LABELS, batch: int = 5) -> dict[str, float]:
    """The values without net and hash in their names."""
    metric.check(DataSpec(images.shape[1:], () if labels is None else CLASSES), len(images))
    for rows in torch.split(torch.arange(len(images)), batch):
        metric.update(images[rows], labels=None if labels is None else labels[rows], index=rows)
    net = "" if metric.net == "alex" else f"_{metric.net}"
    hashed = f"lpips_diversity{net}_{metric.embedding.sha256[:8]}"
    return {name.replace(hashed, "lpips_diversity"): value for name, value in metric.compute().items()}


def test_two_nets_stand_beside_each_other_and_one_twice_is_told_before(files: dict[str, Path]) -> None:
    alex, vgg, larger = (
        LpipsDiversity(net=net, resize=side, **options_of(files[net]))  # type: ignore[arg-type]
        for net, side in (("alex", None), ("vgg", None), ("alex", 80))
    )
    names = {alex.told_apart_by(), vgg.told_apart_by(), larger.told_apart_by()}
    assert len(names) == 2 and alex.told_apart_by() == larger.told_apart_by()
    assert vgg.told_apart_by().startswith("lpips_diversity_vgg_")


def by_pairs(net: str, file: Path, x: Tensor, labels: Tensor = LABELS) -> tuple[float, float]:
    """Over all pairs, and within classes, with the package's distance of x, (N, 3, H, W) in [-1, 1]."""
    distance = package(net, file)
    pairs = list(itertools.combinations(range(len(x)), 2))
    i, j = (torch.tensor(side) for side in zip(*pairs, strict=True))
    with torch.no_grad():
        d = torch.cat([distance(x[a], x[b]) for a, b in zip(i.split(50), j.split(50), strict=True)]).flatten().double()
    same = [d[(labels[i] == c) & (labels[j] == c)] for c in range(len(CLASSES))]
    return float(d.mean()), float(torch.stack([one.mean() for one in same if len(one)]).mean())


@pytest.mark.parametrize("net", NETS)
def test_all_pairs_as_the_package_has_them(net: str, files: dict[str, Path]) -> None:
    images = made()
    got = seen(LpipsDiversity(net=net, **options_of(files[net])), images)
    over_all, within = by_pairs(net, files[net], images / 127.5 - 1)
    assert got == pytest.approx({"lpips_diversity": over_all, "lpips_diversity_within": within}, rel=1e-5)
    assert over_all > within > 0.01  # or nothing is tested


def test_grey_images_are_grey_in_three_channels(files: dict[str, Path]) -> None:
    images = made((1, 40, 33))
    got = seen(LpipsDiversity(**options_of(files["alex"])), images)
    over_all, within = by_pairs("alex", files["alex"], (images / 127.5 - 1).repeat(1, 3, 1, 1))
    assert got == pytest.approx({"lpips_diversity": over_all, "lpips_diversity_within": within}, rel=1e-5)


@pytest.mark.parametrize(("shape", "side"), [((3, 8, 8), 31), ((1, 28, 28), 64), ((3, 64, 48), 32)])
def test_resized_images(shape: tuple[int, ...], side: int, files: dict[str, Path]) -> None:
    images = made(shape)
    metric = LpipsDiversity(resize=side, **options_of(files["alex"]))
    x = theirs_resized(images / 127.5 - 1, [side, side], antialias=True).expand(-1, 3, -1, -1)
    assert seen(metric, images)["lpips_diversity"] == pytest.approx(by_pairs("alex", files["alex"], x)[0], rel=1e-5)
    assert metric.protocol()["resize"] == f"{side}x{side}, bilinear, antialiased"
    enlarged = "enlarged" in " ".join(metric.cautions(DataSpec(shape), 1000, None))
    assert enlarged == (side > min(shape[1:]))


def test_without_labels_there_is_one_value(files: dict[str, Path]) -> None:
    images, options = made(), options_of(files["alex"])
    want = seen(LpipsDiversity(**options), images)["lpips_diversity"]
    assert seen(LpipsDiversity(**options), images, None) == {"lpips_diversity": pytest.approx(want, rel=1e-12)}
    assert seen(LpipsDiversity(within=False, **options), images) == {"lpips_diversity": pytest.approx(want, rel=1e-12)}


def test_a_class_of_one_image_is_left_out_and_counted(files: dict[str, Path]) -> None:
    images, labels = made(), torch.tensor([0] * 6 + [1] * 5 + [2])
    got = seen(LpipsDiversity(**options_of(files["alex"])), images, labels)
    want = by_pairs("alex", files["alex"], images / 127.5 - 1, labels)[1]
    assert got["lpips_diversity_within"] == pytest.approx(want, rel=1e-5) and got["lpips_diversity_classes"] == 2
    alone = seen(LpipsDiversity(**options_of(files["alex"])), images[:3], torch.arange(3))
    assert alone.keys() == {"lpips_diversity", "lpips_diversity_classes"} and alone["lpips_diversity_classes"] == 0


def test_few_images_of_many_classes_are_cautioned(files: dict[str, Path]) -> None:
    metric = LpipsDiversity(**options_of(files["alex"]))
    assert not metric.cautions(SPEC, 30, None) and not metric.cautions(DataSpec((3, 32, 32)), 3, 9)
    assert "left out of lpips_diversity_within" in metric.cautions(SPEC, 29, None)[0]


def test_one_image_again_and_again_has_none(files: dict[str, Path]) -> None:
    images = made(count=1).expand(COUNT, -1, -1, -1)
    got = seen(LpipsDiversity(**options_of(files["alex"])), images)
    assert all(0 <= value < 1e-9 for value in got.values())


def test_a_small_difference_is_not_lost_in_the_sums(files: dict[str, Path]) -> None:
    """In float64 the sums of a thousand vectors of length 1 tell apart images that differ by one grey level."""
    pair = made(count=1).repeat(2, 1, 1, 1)
    pair[1, :, 10:20, 10:20] ^= 1
    with torch.no_grad():
        one = float(package("alex", files["alex"]).double()(*(pair / 127.5 - 1).double()[:, None]))
    assert one < 1e-4
    images = pair.repeat(500, 1, 1, 1)
    got = seen(LpipsDiversity(within=False, **options_of(files["alex"])), images, None, batch=100)
    assert got["lpips_diversity"] == pytest.approx(one * 500 * 500 / (1000 * 999 / 2), rel=1e-3)


def test_neither_ranks_nor_pieces_nor_autocast_change_it(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, options = made(), options_of(files["squeeze"], net="squeeze")
    want = seen(LpipsDiversity(**options), images)
    ranks = []
    for rank in range(4):  # the last sees nothing
        metric = LpipsDiversity(**options)
        metric.check(SPEC, COUNT)
        mine = torch.arange(COUNT)[rank::3] if rank < 3 else torch.arange(0)
        metric.update(images[mine], labels=LABELS[mine], index=mine)
        ranks.append(metric)
    assert list(merged(*ranks).compute().values()) == pytest.approx(list(want.values()), rel=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert seen(LpipsDiversity(**options), images) == pytest.approx(want, rel=1e-7)
    monkeypatch.setattr(lpips_diversity, "AT_ONCE", 1)
    assert seen(LpipsDiversity(**options), images) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("net", NETS)
def test_the_least_side_is_the_networks(net: str, files: dict[str, Path]) -> None:
    least = _lpips.TRUNKS[net].least_side  # type: ignore[index]
    theirs = package(net, files[net])
    with pytest.raises(RuntimeError):
        theirs(*torch.zeros(2, 1, 3, least - 1, 40))
    theirs(*torch.zeros(2, 1, 3, least, 40))
    ours = LpipsDiversity(net=net, **options_of(files[net]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"from {least} pixels on; got {least - 1}x40: write resize"):
        ours.check(DataSpec((3, least - 1, 40)), 10)
    seen(ours, made((3, least, 40)))
    with pytest.raises(ValueError, match=f"resize: {net} reads images from {least}"):
        LpipsDiversity(net=net, resize=least - 1, **options_of(files[net]))  # type: ignore[arg-type]


def test_the_sums_room_is_asked_for_before(files: dict[str, Path]) -> None:
    many = DataSpec((3, 256, 256), tuple(map(str, range(1000))))
    small = LpipsDiversity(**options_of(files["alex"]))
    with pytest.raises(ValueError, match=r"for each of 1,000 class\(es\), .* memory_gib: 2: write within: fal"):
        small.check(many, 5000)
    need = sum(small.embedding.lengths((256, 256))) * 8 * 1000 / 2**30
    assert f"takes {need:.1f} GiB" in _refusal(small, many, 5000)
    LpipsDiversity(within=False, **options_of(files["alex"])).check(many, 5000)
    LpipsDiversity(resize=32, **options_of(files["alex"])).check(many, 5000)


@pytest.mark.parametrize(
    ("shape", "images", "said"),
    [((4, 32, 32), 10, "grey or in colour"), ((3, 32), 10, "grey or in colour"), ((3, 32, 32), 1, "2 or more")],
)
def test_what_cannot_be_had_is_refused(shape: tuple[int, ...], images: int, said: str, files: dict[str, Path]) -> None:
    assert said in _refusal(LpipsDiversity(**options_of(files["alex"])), DataSpec(shape), images)


def _refusal(metric: LpipsDiversity, spec: DataSpec, images: int) -> str:
    with pytest.raises(ValueError) as error:
        metric.check(spec, images)
    return str(error.value)


def test_room_and_labels_are_asked_for(files: dict[str, Path]) -> None:
    metric = LpipsDiversity(**options_of(files["alex"]))
    with pytest.raises(ValueError, match="check"):
        metric.update(made())
    metric.check(SPEC, COUNT)
    with pytest.raises(ValueError, match="no labels"):
        metric.update(made())
    with pytest.raises(ValueError, match="got 0"):
        metric.compute()


def test_weights_of_another_network_or_none(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"of torchvision's AlexNet: \d+ of 10 tensors .* features.0.weight first"):
        LpipsDiversity(**options_of(files["vgg"]))
    with pytest.raises(ValueError, match=r"has sha256 .*, not 397923af"):
        LpipsDiversity(net="vgg", weights=str(files["alex"]))
    with pytest.raises(ValueError, match="cannot be read"):
        LpipsDiversity(weights=str(tmp_path / "none.pth"))


def test_vgg16_is_one_file_for_all_who_look_through_it(tmp_path: Path) -> None:
    assert _lpips.TRUNKS["vgg"].published is VGG16 and len(VGG16.sha256) == 64
    wrong = tmp_path / "vgg16-397923af.pth"
    wrong.write_bytes(b"other")
    with pytest.raises(ValueError, match=VGG16.sha256):
        LpipsDiversity(net="vgg", weights=str(wrong))


def test_the_published_weights_give_the_plain_name(random_trunks: dict[str, Path]) -> None:
    metric = build("metric", "lpips_diversity")
    metric.check(SPEC, COUNT)
    metric.update(made(), labels=LABELS)
    assert metric.compute().keys() == {"lpips_diversity", "lpips_diversity_within"}
    digits = hashlib.sha256(random_trunks["alex"].read_bytes()).hexdigest()
    protocol = metric.protocol()
    assert (protocol["net"], protocol["lpips"], protocol["net_sha256"]) == ("alex", "0.1", digits)
    assert protocol["heads_sha256"] == "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
    check_metric(metric)


def test_the_packages_heads_make_distances() -> None:
    """None is below 0, so that each has a root."""
    for net in NETS:
        heads = torch.load(_lpips._heads_file(net), map_location="cpu")  # type: ignore[arg-type]
        assert heads and all((weight >= 0).all() for weight in heads.values())
