"""The null condition and guidance: who is told "no class", and what comes of two answers."""

import pytest
import torch
from torch import Tensor

from dmf.core import (
    Cond,
    CondSpec,
    DataSpec,
    Denoiser,
    bind,
    complete,
    drop,
    generator,
    labels_cond,
    null_cond,
    predictions,
)
from dmf.core.guidance import CFG
from dmf.testing import Straight

SPEC = DataSpec((1, 2), ("cat", "dog", "owl"))
RICH = DataSpec((1, 2), ("cat", "dog"), {"pose": CondSpec("vector", (3,)), "text": CondSpec("tokens", (4, 5))})


def rich(batch: int) -> dict[str, Tensor]:
    return {"class": torch.arange(batch) % 2, "pose": torch.ones(batch, 3), "text": torch.ones(batch, 4, 5)}


def test_labels_are_real_classes() -> None:
    assert SPEC.null_class == 3
    got = labels_cond([0, 2, 1], SPEC)
    assert list(got) == ["class"] and got["class"].dtype == torch.int64 and got["class"].tolist() == [0, 2, 1]
    assert labels_cond(torch.tensor([1], dtype=torch.int32), SPEC)["class"].dtype == torch.int64


@pytest.mark.parametrize("label", [3, -1, 10])
def test_labels_out_of_range_are_named(label: int) -> None:
    """3 is the null class: users never say it."""
    with pytest.raises(ValueError, match=rf"label {label} out of range; the classes are 0 to 2 \(cat, dog, owl\)"):
        labels_cond([0, label], SPEC)


def test_labels_without_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="no classes"):
        labels_cond([0], DataSpec((1, 2)))


def test_dropped_images_get_the_null_class_and_the_others_keep_theirs() -> None:
    cond = labels_cond([0, 1, 2, 1], SPEC)
    got = drop(cond, SPEC, torch.tensor([False, True, False, True]))
    assert got["class"].tolist() == [0, 3, 2, 3]
    assert cond["class"].tolist() == [0, 1, 2, 1], "the given conditioning is not written to"
    assert null_cond(cond, SPEC)["class"].tolist() == [3, 3, 3, 3]


def test_vectors_and_tokens_say_none_by_zeros_and_a_flag() -> None:
    got = drop(rich(2), RICH, torch.tensor([False, True]))
    assert got["class"].tolist() == [0, 2]
    for name in ("pose", "text"):
        assert got[name][0].eq(1).all() and got[name][1].eq(0).all()
        assert got[f"{name}_given"].tolist() == [True, False]
    again = drop(got, RICH, torch.tensor([True, False]))
    assert again["pose_given"].tolist() == [False, False], "what is dropped stays dropped"
    assert complete(rich(2), RICH)["text_given"].tolist() == [True, True]
    assert "class_given" not in complete(rich(2), RICH)


def test_a_missing_condition_is_named() -> None:
    with pytest.raises(ValueError, match="pose, text"):
        complete({"class": torch.zeros(2, dtype=torch.int64)}, RICH)
    denoiser = Denoiser(lambda x, noise, cond: x, Straight(), predictions.x0)
    for guidance in (None, CFG(scale=2.0)):
        with pytest.raises(ValueError, match="conditioned on class"):
            bind(denoiser, {}, SPEC, guidance)


def test_guidance_without_classes_is_refused() -> None:
    denoiser = Denoiser(lambda x, noise, cond: x, Straight(), predictions.x0)
    with pytest.raises(ValueError, match="guidance needs a conditional model"):
        bind(denoiser, {}, DataSpec((1, 2)), CFG(scale=2.0))


class Recorder:
    """x0_hat = 10 + class, and a record of what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, list[int], list[float]]] = []

    def __call__(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        self.asked.append((len(x), cond["class"].tolist(), noise.tolist()))
        return (10.0 + cond["class"]).reshape(-1, 1, 1).expand(x.shape).to(x.dtype)


def answer(scale: float | Tensor | None) -> tuple[list[float], Recorder]:
    network = Recorder()
    guidance = None if scale is None else CFG(scale=scale)
    denoise = bind(Denoiser(network, Straight(), predictions.x0), labels_cond([0, 2], SPEC), SPEC, guidance)
    x = torch.zeros(2, 1, 2)
    out = denoise(x, Straight().at(0.5))
    assert out.dtype == x.dtype and out.shape == x.shape
    return out[:, 0, 0].tolist(), network


def test_guidance_is_one_doubled_batch_real_classes_first() -> None:
    got, network = answer(2.0)
    assert network.asked == [(4, [0, 2, 3, 3], [500.0] * 4)]
    # 13 + 2 (10 - 13), 13 + 2 (12 - 13)
    assert got == [7.0, 11.0]
    _, plain = answer(None)
    assert plain.asked == [(2, [0, 2], [500.0] * 2)]


@pytest.mark.parametrize(
    ("scale", "want"),
    [(1.0, [10.0, 12.0]), (0.0, [13.0, 13.0]), (None, [10.0, 12.0]), (torch.tensor([0.0, 3.0]), [13.0, 10.0])],
)
def test_scale_one_is_none_zero_is_unconditional_and_each_image_may_have_its_own(
    scale: float | Tensor | None, want: list[float]
) -> None:
    assert answer(scale)[0] == want


def test_cfg_is_the_papers_extrapolation() -> None:
    """Ho & Salimans, equation 6, (1 + w') eps(z, c) - w' eps(z) with w' = w - 1, of the noise that x0 implies."""
    random = generator(0, "cfg", 0)
    level = Straight().at(0.7)
    x, a, b = (torch.randn(3, 1, 2, generator=random, dtype=torch.float64) for _ in range(3))
    w = 2.5
    eps = level.noise_in(x, CFG(scale=w).combine(a, b, level))
    torch.testing.assert_close(eps, w * level.noise_in(x, a) - (w - 1) * level.noise_in(x, b))


def test_specs_that_cannot_be() -> None:
    for shape in ((3,), (0, 4), (1, -2)):
        with pytest.raises(ValueError, match="at least 1"):
            DataSpec(shape)
    with pytest.raises(ValueError, match="names its classes"):
        DataSpec((1, 2), (), {"class": CondSpec("class")})
    assert DataSpec((1, 2)).cond == {} and list(RICH.cond) == ["class", "pose", "text"]


# neutral conditions: zeros say that there is nothing special

NEUTRAL = DataSpec((1, 2), ("cat", "dog", "owl"), {"turned": CondSpec("vector", (2,), neutral=True)})
UNLABELLED = DataSpec((1, 2), (), {"turned": CondSpec("vector", (2,), neutral=True)})


def test_a_neutral_condition_is_filled_in_with_zeros() -> None:
    got = complete(labels_cond([0, 2], NEUTRAL), NEUTRAL)
    assert got["turned"].tolist() == [[0, 0], [0, 0]] and got["turned"].dtype == torch.float32
    assert got["turned_given"].tolist() == [True, True]
    given = {**labels_cond([0], NEUTRAL), "turned": torch.ones(1, 2)}
    assert complete(given, NEUTRAL)["turned"].tolist() == [[1, 1]]
    assert complete({}, UNLABELLED, 3, torch.device("meta"))["turned"].shape == (3, 2)
    assert complete({}, UNLABELLED, 3, torch.device("meta"))["turned"].device.type == "meta"
    with pytest.raises(ValueError, match="say so by `batch`"):
        complete({}, UNLABELLED)
    with pytest.raises(ValueError, match="conditioned on class, but no value"):
        complete({"turned": torch.ones(1, 2)}, NEUTRAL)


def test_a_neutral_condition_is_never_dropped() -> None:
    given = {**labels_cond([0, 1], NEUTRAL), "turned": torch.tensor([[1.0, 2.0], [0.0, 3.0]])}
    for got in (drop(given, NEUTRAL, torch.tensor([True, True])), null_cond(given, NEUTRAL)):
        assert got["class"].tolist() == [3, 3]
        assert torch.equal(got["turned"], given["turned"]) and got["turned_given"].tolist() == [True, True]
    assert drop({}, UNLABELLED, torch.tensor([True, False]))["turned"].tolist() == [[0, 0], [0, 0]]


def test_a_neutral_condition_gives_guidance_nothing_to_lead_away_from() -> None:
    assert NEUTRAL.droppable and RICH.droppable and not UNLABELLED.droppable and not DataSpec((1, 2)).droppable
    with pytest.raises(ValueError, match="guidance needs a conditional model"):
        null_cond({"turned": torch.ones(1, 2)}, UNLABELLED)
    denoiser = Denoiser(lambda x, noise, cond: x, Straight(), predictions.x0)
    with pytest.raises(ValueError, match="guidance needs a conditional model"):
        bind(denoiser, {}, UNLABELLED, CFG(scale=2.0))


@pytest.mark.parametrize("scale", [None, 1.0, 2.0])
@pytest.mark.parametrize("spec", [NEUTRAL, UNLABELLED], ids=["labelled", "unlabelled"])
def test_samples_are_told_zeros_of_it(spec: DataSpec, scale: float | None) -> None:
    """In both halves of a guided batch, and where nothing is given at all."""
    asked: list[Cond] = []

    def network(x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        asked.append(cond)
        return x

    if scale == 2.0 and spec is UNLABELLED:
        return
    cond = labels_cond([0, 2], spec) if spec.classes else {}
    guidance = None if scale is None else CFG(scale=scale)
    denoise = bind(Denoiser(network, Straight(), predictions.x0), cond, spec, guidance)
    for batch in (2, 2) if spec.classes else (2, 5):
        denoise(torch.zeros(batch, 1, 2), Straight().at(0.5))
        seen = asked[-1]
        many = 2 * batch if scale == 2.0 else batch
        assert seen["turned"].tolist() == [[0, 0]] * many and seen["turned_given"].tolist() == [True] * many


def test_a_class_is_not_neutral() -> None:
    with pytest.raises(ValueError, match="index 0 is the first class; make it a vector"):
        CondSpec("class", neutral=True)
