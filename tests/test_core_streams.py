"""Random numbers are pure functions of what they are for."""

import itertools

import pytest
import torch
from torch import Tensor

from dmf.core import ImageStreams, generator, stream_seed

SHAPE = (2, 3, 3)


def draws(indices: range, seed: int = 7, rounds: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    """(rounds, B, *SHAPE)."""
    streams = ImageStreams(seed, indices, SHAPE, dtype=dtype)
    return torch.stack([streams.randn() for _ in range(rounds)])


@pytest.mark.parametrize("split", [(0, 1, 10), (0, 5, 10), (0, 3, 6, 9, 10), tuple(range(11))])
def test_image_k_has_its_numbers_in_any_batch(split: tuple[int, ...]) -> None:
    whole = draws(range(10))
    pieces = [draws(range(a, b)) for a, b in itertools.pairwise(split)]
    assert torch.equal(torch.cat(pieces, dim=1), whole)
    assert torch.equal(draws(range(9, -1, -1)).flip(1), whole)


def test_no_two_images_draws_or_seeds_are_alike() -> None:
    numbers = draws(range(50)).reshape(150, -1)
    assert len(set(map(tuple, numbers.tolist()))) == 150
    assert not torch.equal(draws(range(5)), draws(range(5), seed=8))
    assert abs(float(numbers.mean())) < 0.1 and abs(float(numbers.std()) - 1) < 0.1


def test_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    draws(range(3))
    torch.randn(2, generator=generator(0, "noise", 0))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(1)
    first = draws(range(3))
    torch.manual_seed(2)
    assert torch.equal(first, draws(range(3)))


def test_seeds_differ_by_each_of_their_three_parts() -> None:
    seeds = {
        stream_seed(seed, purpose, position)
        for seed in (-1, 0, 1, 11)
        for purpose in ("a", "b", "a/1")
        for position in (0, 1, 11, 2**40)
    }
    assert len(seeds) == 4 * 3 * 4 and all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_for_ever() -> None:
    """Samples of a published seed must come out again: these numbers may not change."""
    assert stream_seed(0, "image", 0) == 7512138834953151250
    assert stream_seed(42, "noise", 51200) == 762317384769163056


def test_dtype_and_place() -> None:
    assert draws(range(2), dtype=torch.float64).dtype == torch.float64
    assert draws(range(2)).shape == (3, 2, *SHAPE)
    one = torch.randn(SHAPE, generator=generator(7, "image", 4))
    assert torch.equal(draws(range(4, 5))[0, 0], one)
