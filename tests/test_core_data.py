"""The interfaces around the mathematics: codec, data set, backbone, metric."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dmf.core import Backbone, Cond, Dataset, DataSpec, Example, Metric, Pixels

SPEC = DataSpec((1, 4, 4), ("a", "b"))


def test_pixels_round_trip_for_every_value() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    codec = Pixels(SPEC)
    x = codec.encode(images)
    assert x.dtype == torch.float32 and float(x.min()) == -1 and float(x.max()) == 1
    assert torch.equal(codec.decode(x), images)
    for dtype in (torch.float64, torch.float16):
        assert torch.equal(codec.decode(x.to(dtype)), images)
    for off in (-0.49, 0.49):  # to the nearest, not downwards
        assert torch.equal(codec.decode(x + off / 127.5)[..., 1:-1], images[..., 1:-1])


def test_pixels_beyond_the_range_are_clamped() -> None:
    x = torch.tensor([-7.0, -1.001, 1.001, 40.0]).reshape(1, 1, 2, 2)
    assert Pixels(SPEC).decode(x).flatten().tolist() == [0, 0, 255, 255]
    assert Pixels(SPEC).spec is SPEC and Pixels(SPEC).sigma_data == 0.5


class Row(Dataset):
    def __init__(self, images: Tensor, labels: Tensor, held: bool) -> None:
        self.spec, self.images, self.labels, self.held = SPEC, images, labels, held

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Example:
        return Example(self.images[i], {"class": self.labels[i]})

    def tensors(self) -> tuple[Tensor, Cond] | None:
        return (self.images, {"class": self.labels}) if self.held else None


def test_a_fingerprint_changes_with_every_pixel_label_and_place() -> None:
    images = torch.arange(48, dtype=torch.uint8).reshape(3, 1, 4, 4)
    labels = torch.tensor([0, 1, 0])
    for held in (True, False):
        first = Row(images, labels, held).fingerprint()
        assert len(first) == 64 and first == Row(images.clone(), labels.clone(), held).fingerprint()
        changed = images.clone()
        changed[2, 0, 3, 3] += 1
        others = [
            (changed, labels),
            (images, torch.tensor([0, 1, 1])),
            (images.flip(0), labels.flip(0)),
            (images[:2], labels[:2]),
        ]
        assert len({first, *(Row(*other, held).fingerprint() for other in others)}) == 5
    assert Row(images, labels, True).held_out() is None


class Net(Backbone):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.head = nn.ModuleList([nn.Linear(1, 1)])
        self.body = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])

    def forward(self, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return x


def test_blocks_are_the_longest_list() -> None:
    net = Net(SPEC)
    assert net.blocks() == list(net.body)
    net.body, net.head = nn.ModuleList(), nn.ModuleList()
    assert net.blocks() == []


class Spread(Metric):
    """One state of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.total: Tensor
        self.least: Tensor
        self.most: Tensor
        self.rows: Tensor
        self.rows_index: Tensor
        self.add_state("total", torch.zeros(1), "sum")
        self.add_state("least", torch.full((1,), torch.inf), "min")
        self.add_state("most", torch.full((1,), -torch.inf), "max")
        self.add_state("rows", torch.zeros(0, 2), "cat")

    def update(
        self,
        images: Tensor,
        *,
        real: bool = False,
        labels: Tensor | None = None,
        index: Tensor | None = None,
        **later: Any,
    ) -> None:
        values = images.flatten(1).float()
        self.total += values.sum()
        self.least = torch.minimum(self.least, values.min())
        self.most = torch.maximum(self.most, values.max())
        self.append("rows", values[:, :2], index)

    def compute(self) -> dict[str, float]:
        return {"total": float(self.total), "range": float(self.most - self.least)}


IMAGES = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_states_are_declared_and_add_up_over_batches() -> None:
    whole, pieces = Spread(), Spread()
    assert whole.states() == {"total": "sum", "least": "min", "most": "max", "rows": "cat"}
    whole.update(IMAGES, index=torch.arange(7))
    for a, b in ((0, 3), (3, 4), (4, 7)):
        pieces.update(IMAGES[a:b])
    assert whole.compute() == pieces.compute()
    assert torch.equal(whole.rows, pieces.rows)
    assert torch.equal(whole.rows_index, pieces.rows_index), "without an index rows are numbered as they come"


def test_states_of_two_ranks_become_one_by_their_declared_rules() -> None:
    """By hand, as the runner is to do it: ranks hold alternate images."""
    whole, ranks = Spread(), (Spread(), Spread())
    whole.update(IMAGES, index=torch.arange(7))
    for r, rank in enumerate(ranks):
        rank.update(IMAGES[r::2], index=torch.arange(7)[r::2])
    join = {"sum": lambda a, b: a + b, "min": torch.minimum, "max": torch.maximum}
    for name, reduce in whole.states().items():
        values = [getattr(rank, name) for rank in ranks]
        if reduce == "cat":
            order = torch.cat([getattr(rank, f"{name}_index") for rank in ranks]).argsort()
            merged = torch.cat(values)[order]
        else:
            merged = join[reduce](*values)
        assert torch.equal(merged, getattr(whole, name)), name


def test_reset_goes_back_to_the_start_and_is_not_shared() -> None:
    one, other = Spread(), Spread()
    one.update(IMAGES)
    assert float(other.total) == 0 and len(other.rows) == 0
    one.reset()
    assert float(one.total) == 0 and len(one.rows) == 0 and len(one.rows_index) == 0
    one.update(IMAGES)
    other.update(IMAGES)
    assert one.compute() == other.compute()


def test_states_move_and_wrong_rules_are_refused() -> None:
    metric = Spread()
    metric.update(IMAGES)
    assert metric.to(torch.device("meta")).total.device.type == "meta"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="sum, min, max or cat; got 'mean'"):
        metric.add_state("other", torch.zeros(1), "mean")  # type: ignore[arg-type]
    assert metric.protocol() == {} and metric.pictures(lambda numbers: numbers) == {} and metric.needs == frozenset()
