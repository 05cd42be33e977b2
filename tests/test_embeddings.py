"""The embeddings that backbones share: waves of the noise label, places of the patches."""

import torch

from dmf.plugins.backbones._embeddings import NoiseEmbedding, positions, waves


def test_positions_tell_every_patch_from_every_other() -> None:
    places = positions(6, 9, 32)
    assert places.shape == (54, 32)
    assert torch.cdist(places, places).fill_diagonal_(9).min() > 0.5
    assert torch.equal(places[:9, 16:], places[:1, 16:].expand(9, 16))


def test_waves_are_the_formula() -> None:
    got = waves(torch.tensor([3.0, 999.0], dtype=torch.float64), 6)
    frequencies = torch.tensor([1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)], dtype=torch.float64)
    for row, label in zip(got, (3.0, 999.0), strict=True):
        assert torch.allclose(row, torch.cat([(label * frequencies).cos(), (label * frequencies).sin()]))


def test_bfloat16_keeps_neighbouring_noise_labels_apart() -> None:
    embed = NoiseEmbedding(256, 32)
    with torch.autocast("cpu", torch.bfloat16):
        near = embed(torch.tensor([999.0, 1000.0]))
    assert (near[0] - near[1]).abs().max() > 0.02
