"""EDM's geometric changes against exact answers: each alone, all together, and what the label says of them."""

import math
from fractions import Fraction

import numpy
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor

from dmf.core import DataSpec
from dmf.plugins.augmentations import _warp
from dmf.plugins.augmentations._warp import H, warp
from dmf.plugins.augmentations.edm import EDM, Parameters, labels

Array = NDArray[numpy.float64]
NOISE = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)).mul(255).round()
NOTHING = Parameters(*torch.zeros(8, 1, dtype=torch.float64))
EVERYTHING = EDM(DataSpec((1, 32, 32)), probability=1.0)


def drawn(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, EDM.draws, generator=torch.Generator().manual_seed(seed))


def changed(images: Tensor, **by: float) -> Tensor:
    """The images under one change of the table."""
    edm = EDM(DataSpec(tuple(images.shape[1:])))
    a = NOTHING._replace(**{name: torch.tensor([value], dtype=torch.float64) for name, value in by.items()})
    return warp(images, edm.back(a, *images.shape[2:]).expand(len(images), 2, 3))


def forward(label: Tensor, sign: float, height: int, width: int) -> Array:
    """G of a label, 3 x 3, from the paper's table: homogeneous, x to the right, y down, from the middle in pixels.

    The label of a stretch by a5 is also that of one by -a5 in the opposite direction: ``sign`` is that of a5.
    """

    def scale(x: float, y: float) -> Array:
        return numpy.diag([x, y, 1.0])

    def rotate(angle: float) -> Array:
        c, s = math.cos(angle), math.sin(angle)
        return numpy.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    a0, a1, a2, cos_less_1, sin, x, y, a6, a7 = label.tolist()
    a3, a4, a5 = math.atan2(sin, cos_less_1 + 1), math.atan2(sign * y, sign * x), sign * math.hypot(x, y)
    shift = numpy.eye(3)
    shift[:2, 2] = width * a6 / 8, height * a7 / 8
    in_order = [
        scale(1 - 2 * a0, 1),
        scale(1, 1 - 2 * a1),
        scale(2 ** (0.2 * a2), 2 ** (0.2 * a2)),
        rotate(-a3),
        rotate(a4) @ scale(2 ** (0.2 * a5), 2 ** (-0.2 * a5)) @ rotate(-a4),
        shift,
    ]
    whole = numpy.eye(3)
    for one in in_order:  # the first is done first
        whole = one @ whole
    return whole


def places(height: int, width: int) -> Array:
    """(x, y, 1) of every pixel, from the middle: (3, H W)."""
    y, x = numpy.mgrid[:height, :width]
    return numpy.stack([x.ravel() - (width - 1) / 2, y.ravel() - (height - 1) / 2, numpy.ones(height * width)])


def folded(place: Array, side: int) -> Array:
    """Into the image, as if its edges were mirrors; from the middle."""
    m = numpy.mod(place + side / 2, 2 * side)
    return numpy.minimum(m, 2 * side - m) - side / 2


def picture(x: Array, y: Array) -> Array:
    """A smooth picture of 32 x 32, 10 to 245: a bright blob off the middle on slow waves."""
    blob = numpy.exp(-((x - 4) ** 2 / 30 + (y + 3) ** 2 / 18))
    return 100 + 90 * blob + 40 * numpy.sin(2 * numpy.pi * x / 24 + 1) * numpy.cos(2 * numpy.pi * y / 30)  # type: ignore[no-any-return]


def painted(height: int = 32, width: int = 32, back: Array | None = None) -> Tensor:
    """The picture, (1, 1, H, W), or under a transform of which `back` is the inverse: exact, with no resampling."""
    x, y, _ = (numpy.eye(3) if back is None else back) @ places(height, width)
    grey = picture(folded(x, width), folded(y, height))
    return torch.as_tensor(grey.reshape(1, 1, height, width)).float()


# the filter


def test_the_filter_is_symmetric_and_orthogonal_to_its_even_shifts() -> None:
    h = numpy.array(H)
    assert h.sum() == pytest.approx(1) and numpy.abs(h - h[::-1]).max() < 1e-15
    for k in range(8):
        assert (h[2 * k :] * h[: 16 - 2 * k]).sum() == pytest.approx(0.5 * (k == 0), abs=1e-4)


def test_it_is_the_same_wherever_tensors_are_made() -> None:
    with torch.device("meta"):
        assert _warp.lowpass() == H


def test_its_square_is_lagranges_interpolation_half_way() -> None:
    """The half-band filter of N = 5 interpolates polynomials of degree 9 from 10 places (Deslauriers & Dubuc 1989)."""
    h = numpy.array(H)
    for k in range(5):
        weight = Fraction(1)
        for j in range(-4, 6):
            if j != k + 1:
                weight *= (Fraction(1, 2) - j) / (k + 1 - j)
        assert (h[2 * k + 1 :] * h[: 15 - 2 * k]).sum() == pytest.approx(float(weight) / 2, abs=2e-4)


# exact answers


def test_nothing_whole_pixels_and_quarter_turns_are_exact() -> None:
    """Of white noise, the hardest picture there is; beyond the edges it is mirrored."""
    assert (changed(NOISE) - NOISE).abs().max() < 0.05
    mirrored = torch.as_tensor(numpy.pad(NOISE.numpy(), [(0, 0), (0, 0), (9, 9), (9, 9)], mode="symmetric"))
    for right, down in ((3, -2), (-9, 5), (8, 0)):
        want = mirrored[:, :, 9 - down : 41 - down, 9 - right : 41 - right]
        assert (changed(NOISE, shift_x=right / 4, shift_y=down / 4) - want).abs().max() < 0.05
    for quarters in (1, 2, 3, -1):  # a3 turns by -a3 with y down, as rot90 does
        got = changed(NOISE, rotation=quarters * math.pi / 2)
        assert (got - torch.rot90(NOISE, quarters, (2, 3))).abs().max() < 0.05


def test_an_oblong_picture_moves_by_its_own_sides() -> None:
    noise = NOISE[:, :, :16]
    want = torch.as_tensor(numpy.pad(noise.numpy(), [(0, 0), (0, 0), (4, 0), (4, 0)], mode="symmetric"))[:, :, :16, :32]
    assert (changed(noise, shift_x=4 * 8 / 32, shift_y=4 * 8 / 16) - want).abs().max() < 0.05
    half = changed(noise, rotation=math.pi)
    assert (half - noise.flip(-1, -2)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("by", "back"),
    [
        ({"scaling": 1.5}, numpy.diag([2**-0.3, 2**-0.3, 1])),
        ({"scaling": -2.0}, numpy.diag([2**0.4, 2**0.4, 1])),
        ({"anisotropy": 2.0}, numpy.diag([2**-0.4, 2**0.4, 1])),
        ({"anisotropy": 2.0, "direction": math.pi / 2}, numpy.diag([2**0.4, 2**-0.4, 1])),
        ({"shift_x": 0.33, "shift_y": -0.21}, numpy.array([[1, 0, -0.33 * 4], [0, 1, 0.21 * 4], [0, 0, 1]])),
        ({"rotation": math.pi / 6}, numpy.array([[3**0.5 / 2, -0.5, 0], [0.5, 3**0.5 / 2, 0], [0, 0, 1]])),
    ],
    ids=["larger", "smaller", "wider", "higher", "moved", "turned"],
)
def test_each_change_alone_of_a_painted_picture(by: dict[str, float], back: Array) -> None:
    off = (changed(painted(), **by) - painted(back=back)).abs()[0, 0]
    x, y, _ = torch.as_tensor(back @ places(32, 32)).reshape(3, 32, 32)
    assert (off * ((x.abs() < 14) & (y.abs() < 14))).max() < 1
    assert off.mean() < 0.4  # at the edges the mirror bends the picture


def test_there_and_back_again() -> None:
    for angle in (0.3, 1.1, -2.5):
        back = changed(changed(painted(), rotation=angle), rotation=-angle)
        y, x = torch.meshgrid(*[torch.arange(32) - 15.5] * 2, indexing="ij")
        assert ((back - painted()).abs() * (x.hypot(y) < 11)).max() < 1.5


# all together, from the draws


def test_the_label_says_what_was_done() -> None:
    """From the label alone, the picture is painted as it must be: parameters, order, signs, directions and mirrors."""
    edm, draws = EDM(DataSpec((1, 32, 32)), probability=0.6), drawn(60)
    before = painted().round().to(torch.uint8)
    after, label = edm(before.expand(60, 1, 32, 32), draws)
    signs = edm.parameters(draws).anisotropy.sign().tolist()

    def off(told: Tensor) -> Tensor:
        """Mean difference of each image from the one that is painted by a label."""
        backs = [numpy.linalg.inv(forward(one, sign, 32, 32)) for one, sign in zip(told, signs, strict=True)]
        return (after.float() - torch.cat([painted(back=back) for back in backs])).abs().mean((1, 2, 3))

    assert off(label).mean() < 0.4 and off(label).max() < 0.5
    assert (label != 0).any(0).all(), "each change was seen"
    for i in (2, 4, 5, 6, 7, 8):  # a wrong sign of any does not pass
        assert off(label * torch.ones(9).index_fill(0, torch.tensor(i), -1)).mean() > 2


def test_scipy_agrees() -> None:
    """Another implementation: splines of order 5, mirrored at the edges."""
    edm, draws = EDM(DataSpec((1, 24, 40)), probability=0.8), drawn(20, seed=3)
    images = painted(24, 40).round().to(torch.uint8).expand(20, 1, 24, 40)
    after, label = edm(images, draws)
    signs = edm.parameters(draws).anisotropy.sign().tolist()
    swap, middle = numpy.eye(3)[[1, 0, 2]], numpy.array([11.5, 19.5])
    for i in range(20):
        back = (swap @ numpy.linalg.inv(forward(label[i], signs[i], 24, 40)) @ swap)[:2]  # on (y, x, 1)
        offset = middle + back[:, 2] - back[:, :2] @ middle
        before = images[i, 0].double().numpy()
        want = ndimage.affine_transform(before, back[:, :2], offset, order=5, mode="reflect")
        assert numpy.abs(after[i, 0].numpy() - want).mean() < 0.5


def test_the_parameters_are_distributed_as_the_table_says() -> None:
    count, p = 100_000, 0.12
    a = EDM(DataSpec((1, 8, 8))).parameters(drawn(count))

    def share(value: Tensor, want: float) -> None:
        assert float((value != 0).double().mean()) == pytest.approx(want, abs=5 * (want * (1 - want) / count) ** 0.5)

    share(a.mirror_x, 0.5)
    share(a.mirror_y, p / 2)
    normal = stats.norm().cdf
    angle = stats.uniform(-math.pi, 2 * math.pi).cdf
    for value, law in (
        *((one, normal) for one in (a.scaling, a.anisotropy, a.shift_x, a.shift_y)),
        *((one, angle) for one in (a.rotation, a.direction)),
    ):
        share(value, p)
        assert stats.kstest(value[value != 0].numpy(), law).pvalue > 1e-4
    assert torch.equal(a.anisotropy != 0, a.direction != 0) and torch.equal(a.shift_x != 0, a.shift_y != 0)
    share(a.scaling * a.rotation, p * p)
    share(a.rotation * a.anisotropy, p * p)
    share(a.anisotropy * a.shift_x, p * p)
    share(a.mirror_x * a.scaling, p / 2)
    both = a.shift_x != 0
    assert abs(numpy.corrcoef(a.shift_x[both], a.shift_y[both])[0, 1]) < 0.05
    assert abs(numpy.corrcoef(a.anisotropy[a.direction != 0], a.direction[a.direction != 0])[0, 1]) < 0.05


def test_what_an_option_turns_off_is_never_done() -> None:
    spec, draws = DataSpec((1, 8, 8)), drawn(200)
    whole = labels(EDM(spec, probability=1.0).parameters(draws))
    off = {"scaling": [2], "rotation": [3, 4], "anisotropy": [5, 6], "translation": [7, 8]}
    for name, places_of in off.items():
        label = labels(EDM(spec, probability=1.0, **{name: 0.0}).parameters(draws))
        kept = [i for i in range(9) if i not in places_of]
        assert not label[:, places_of].any() and torch.equal(label[:, kept], whole[:, kept])
    turned = EDM(spec, probability=1.0, rotation=30.0).parameters(draws).rotation
    assert 0.5 < turned.abs().max() < math.pi / 6 + 1e-9


def test_who_is_told_of_nothing_is_untouched_and_who_is_mirrored_is_not_resampled() -> None:
    edm, draws = EDM(DataSpec((3, 32, 32))), drawn(400)
    before = NOISE[:1].to(torch.uint8).expand(400, 3, 32, 32)
    after, label = edm(before, draws)
    nothing = (label == 0).all(1)
    want = 0.5 * (1 - 0.06) * 0.88**4
    assert float(nothing.double().mean()) == pytest.approx(want, abs=0.08)
    assert torch.equal(after[nothing], before[nothing])
    assert not (after[~nothing] == before[~nothing]).flatten(1).all(1).any()
    only = (label[:, 2:] == 0).all(1)
    for i in only.nonzero().flatten().tolist():
        axes = [axis for axis, m in ((-1, label[i, 0]), (-2, label[i, 1])) if m]
        assert torch.equal(after[i], before[i].flip(axes) if axes else before[i])
    assert only.sum() > nothing.sum() > 50


def test_a_batch_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images = NOISE.to(torch.uint8)
    whole, _ = EDM(DataSpec((3, 32, 32)), probability=1.0)(images, drawn(6))
    monkeypatch.setattr(_warp, "AT_A_TIME_ON_CPU", 1)
    pieces, _ = EDM(DataSpec((3, 32, 32)), probability=1.0)(images, drawn(6))
    assert torch.equal(whole, pieces)
