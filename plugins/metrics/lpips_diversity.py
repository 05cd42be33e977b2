"""Diversity: how unlike each other images are, as the mean LPIPS of all pairs.

Source: Zhang et al. 2018 (arXiv 1801.03924), section 3, for the distance; the mean over pairs is that of Zhu et al.
2017, "Toward Multimodal Image-to-Image Translation" (arXiv 1711.11586), section 5.2, who draw pairs at random. Here all
pairs are in it, at the cost of one pass of the network an image: LPIPS is the squared distance of two vectors f, and

    sum over i < j of |f_i - f_j|^2 = n sum |f_i|^2 - |sum f_i|^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from ...core import DataSpec, Metric, Pixels, Way
from ._lpips import TRUNKS, VERSION, Embedding, Net, resized

AT_ONCE = 2**25  # numbers of vectors that are worked on at a time: 128 MiB, and twice that in float64
GIB = 2**30


class LpipsDiversity(Metric):
    """Mean LPIPS of all pairs of images: within a class (``_within``, mean over classes), and overall.

    A model that gives one image again and again has 0. The held-out images' value, beside, is what real images have.
    A class with fewer than two images is not in the mean; ``_classes`` then says how many are.

    Args:
        net: The network that LPIPS looks through; ``alex`` is the paper's choice for comparing images. Values have
            another's name in theirs.
        weights: File with torchvision's weights of that network; null looks where they are kept, and fetches them.
        sha256: Of that file, where it is not the published one; the values then have its first 8 digits in their names.
        resize: Images are made squares of this side first, bilinear and antialiased; null takes them as they are.
        within: Whether to give the mean within classes too; it takes as many sums as there are classes.
        memory_gib: Refuse to take more than so many GiB for the sums.
    """

    libraries = ("lpips", "torchvision")
    better: ClassVar[Mapping[str, Way]] = {"lpips_diversity": "higher"}

    def __init__(
        self,
        *,
        net: Net = "alex",
        weights: str | None = None,
        sha256: str | None = None,
        resize: Annotated[int, Ge(1)] | None = None,
        within: bool = True,
        memory_gib: Annotated[float, Gt(0)] = 2.0,
    ) -> None:
        super().__init__()
        self.net, self.resize, self.within, self.memory_gib = net, resize, within, memory_gib
        if resize is not None and resize < TRUNKS[net].least_side:
            raise ValueError(f"resize: {net} reads images from {TRUNKS[net].least_side} pixels on; got {resize}")
        self.embedding = Embedding(net, weights, sha256)
        self.labelled = False
        self._lengths: list[int] = []
        self._set_out(0, [])

    def _set_out(self, groups: int, lengths: list[int]) -> None:
        """Sums over the images of each group: their number, of f and of |f|^2."""
        self._lengths = lengths
        self.n: Tensor
        self.total: Tensor
        self.square: Tensor
        self.add_state("n", torch.zeros(groups, dtype=torch.int64), "sum")
        self.add_state("total", torch.zeros(groups, sum(lengths), dtype=torch.float64), "sum")
        self.add_state("square", torch.zeros(groups, dtype=torch.float64), "sum")

    def to(self, device: torch.device) -> Metric:
        """States and network."""
        self.embedding = self.embedding.to(device)
        return super().to(device)

    def check(self, spec: DataSpec, images: int) -> None:
        """Two images or more, which the network reads, and whose sums have room; makes that room."""
        if images < 2:
            raise ValueError(f"lpips_diversity compares pairs; got {images} image(s): take 2 or more")
        self._check_size(spec)
        side = self.resize
        lengths = self.embedding.lengths((spec.shape[1], spec.shape[2]) if side is None else (side, side))
        self.labelled = self.within and bool(spec.classes)
        groups = len(spec.classes) if self.labelled else 1
        if (need := 8 * groups * sum(lengths) / GIB) > self.memory_gib:
            fewer = "within: false, for the value over all alone, or " if self.labelled else ""
            raise ValueError(
                f"lpips_diversity adds up {sum(lengths):,} numbers an image for each of {groups:,} class(es), which "
                f"takes {need:.1f} GiB, more than memory_gib: {self.memory_gib:g}: write {fewer}a smaller resize, or "
                f"memory_gib: {need:.2g} or more"
            )
        self._set_out(groups, lengths)

    def _check_size(self, spec: DataSpec) -> None:
        channels, *size = spec.shape
        if len(size) != 2 or channels not in (1, 3):
            raise ValueError(f"lpips_diversity reads images, grey or in colour; got the shape {tuple(spec.shape)}")
        least = TRUNKS[self.net].least_side
        if self.resize is None and min(size) < least:
            others = ", ".join(f"{net} from {one.least_side} on" for net, one in TRUNKS.items() if net != self.net)
            raise ValueError(
                f"the network `{self.net}` reads images from {least} pixels on; got {size[0]}x{size[1]}: write resize: "
                f"{64 if least < 64 else least}, which enlarges them, or take another net ({others})"
            )

    def cautions(self, spec: DataSpec, images: int, reference: int | None) -> list[str]:
        """Classes that are met in few images; other weights than LPIPS has; images that are enlarged."""
        said = []
        if self.within and images < 10 * len(spec.classes):
            said.append(
                f"{images} images of {len(spec.classes)} classes are few pairs within a class, and a class with fewer "
                "than two images is left out of lpips_diversity_within"
            )
        if self.resize is not None and min(spec.shape[1:]) < self.resize:
            said.append("the network saw enlarged images; values compare with those of the same resize alone")
        return said

    def told_apart_by(self) -> str:
        """Net and weights."""
        return self._name

    def protocol(self) -> dict[str, str]:
        """Network, version, both hashes, and the size that is looked at."""
        side = self.resize
        return {
            "net": self.net,
            "lpips": VERSION,
            "net_sha256": self.embedding.sha256,
            "heads_sha256": self.embedding.heads_sha256,
            "resize": "none" if side is None else f"{side}x{side}, bilinear, antialiased",
            "pairs": "all",
        }

    def update(
        self,
        images: Tensor,
        *,
        real: bool = False,
        labels: Tensor | None = None,
        index: Tensor | None = None,
        **later: Any,
    ) -> None:
        """Add the images' vectors to the sums of their classes."""
        if not self._lengths:
            raise ValueError("lpips_diversity: call check(spec, images) first, which makes room for the sums")
        if self.labelled and labels is None:
            raise ValueError("lpips_diversity: the images have classes, and no labels came with them")
        of_class = self.labelled and labels is not None
        group = labels if of_class else torch.zeros(len(images), dtype=torch.int64, device=images.device)
        assert group is not None
        group = group.to(images.device)
        self.n = self.n.index_add(0, group, torch.ones_like(group))
        for part, where in zip(*(torch.split(one, self._at_once) for one in (images, group)), strict=True):
            self._add(part, where)

    @property
    def _name(self) -> str:
        """What results are called after: another net is another measure, other weights are no LPIPS."""
        net = [] if self.net == "alex" else [self.net]
        return "_".join(["lpips_diversity", *net, *([] if self.embedding.published else [self.embedding.sha256[:8]])])

    @property
    def _at_once(self) -> int:
        return max(1, AT_ONCE // sum(self._lengths))

    def _add(self, images: Tensor, group: Tensor) -> None:
        """Of images uint8 (b, C, H, W), each of its group, (b,)."""
        x = resized(Pixels(DataSpec(images.shape[1:])).encode(images), self.resize)
        start = 0
        for f in self.embedding(x.expand(-1, 3, -1, -1)):
            f = f.to(torch.float64)  # (b, D_l)
            self.total[:, start : start + f.shape[1]].index_add_(0, group, f)
            self.square = self.square.index_add(0, group, f.square().sum(1))
            start += f.shape[1]

    def compute(self) -> dict[str, float]:
        """``lpips_diversity``, and of images with classes ``lpips_diversity_within``."""
        if int(self.n.sum()) < 2:
            raise ValueError(f"lpips_diversity compares pairs, and got {int(self.n.sum())} image(s)")
        over_all = _mean_pair(self.n.sum(), self.total.sum(0), self.square.sum())
        found = {self._name: float(over_all)}
        several = self.n > 1
        if self.labelled and several.any():
            within = _mean_pair(self.n[several], self.total[several], self.square[several])
            found[f"{self._name}_within"] = float(within.mean())
        if self.labelled and not several.all():
            found[f"{self._name}_classes"] = float(several.sum())
        return found


def _mean_pair(n: Tensor, total: Tensor, square: Tensor) -> Tensor:
    """The mean of |f_i - f_j|^2 over the n (n - 1) / 2 pairs, (...): of sums of n vectors f, (..., D), and |f|^2."""
    return ((n * square - total.square().sum(-1)) / (n * (n - 1) / 2)).clamp(min=0)
