"""Metrics: state that adds up over images, over batches and over ranks."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from .codec import Codec
from .denoiser import Denoiser
from .features import FeatureExtractor
from .spec import DataSpec
from .statistics import Statistics

Self = TypeVar("Self", bound="Metric")
Reduce = Literal["sum", "min", "max", "cat"]
Way = Literal["lower", "higher"]  # which of two values is better
Need = Literal["reference", "held_out", "pairs", "model"]


class ScoredModel(NamedTuple):
    """The model that is scored.

    Attributes:
        denoiser: Unguided; it has the schedule.
        codec: Between pixels and the network's x.
    """

    denoiser: Denoiser
    codec: Codec


class Metric(ABC):
    """Declares states, updates them with images, computes numbers from them.

    The runner, never the metric, moves states to the device, reduces them over ranks and merges ``cat`` states in the
    order of the image index. Ranks hold disjoint images, each counted once.

    A copy, shallow or deep, goes on by itself. It shares the rows of ``cat`` states that are there, which nobody writes
    into, and the extractor: a copy of 50,000 features costs nothing.

    Attributes:
        needs: ``reference`` also streams the real images, before the generated ones, with ``real=True``; ``held_out``
            streams images that the model was not trained on, with ``real=True``, and no generated ones; ``pairs`` adds
            ``paired=``, the real image that a generated one belongs to, uint8 (B, C, H, W); ``model`` adds ``model=``,
            a `ScoredModel`.
        least_reference: The fewest images that the reference may have.
        held_out_images: How many of the held-out images it wants at most, chosen by the evaluation's seed; None is
            all of them.
        libraries: Distributions, besides torch, whose code its values come of; their versions go into the protocol.
        better: Which way values are better, by their names or what names begin with; the longest that fits counts.
            What only says something about a value is better neither way: names on ``_sd``, ``_error``, ``_classes``.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    least_reference: int = 1
    held_out_images: int | None = None
    libraries: ClassVar[tuple[str, ...]] = ()
    better: ClassVar[Mapping[str, Way]] = {}

    def __init__(self) -> None:
        self._reduce: dict[str, Reduce] = {}
        self._first: dict[str, Tensor] = {}
        self._batches: dict[str, list[Tensor]] = {}  # of `cat` states that were not read since they last grew

    def add_state(self, name: str, value: Tensor, reduce: Reduce) -> None:
        """Declare the attribute ``name``, starting at ``value``.

        Args:
            name: Attribute to be; a ``cat`` state also gets ``<name>_index``.
            value: Start; for ``cat`` an empty tensor (0, ...), filled by `append`.
            reduce: How states of two ranks become one.
        """
        if reduce not in ("sum", "min", "max", "cat"):
            raise ValueError(f"state `{name}`: reduce is sum, min, max or cat; got {reduce!r}")
        self._reduce[name] = reduce
        self._first[name] = value.clone()
        self._start(name, value)
        if reduce == "cat":
            self._start(f"{name}_index", torch.zeros(0, dtype=torch.int64))

    def _start(self, name: str, value: Tensor) -> None:
        self._batches.pop(name, None)
        setattr(self, name, value.clone())

    def append(self, name: str, rows: Tensor, index: Tensor | None) -> None:
        """Add (B, ...) rows to a ``cat`` state, in time that does not depend on how many it holds.

        The batches become one tensor when the state is read, which for that moment takes its size once more.

        Args:
            name: The state.
            rows: Copied: what they lie in may be used again.
            index: (B,), which images they belong to; None numbers them by where they come.

        Raises:
            ValueError: The rows have another shape than the state was declared with.
        """
        declared, got = self._first[name].shape, rows.shape
        if len(declared) > 1 and got[1:] != declared[1:]:
            raise ValueError(
                f"{type(self).__name__}: rows of shape {tuple(got[1:])} for the state `{name}`, which is declared with"
                f" {tuple(declared[1:])}"
            )
        where = torch.arange(self.count(name), self.count(name) + len(rows)) if index is None else index
        self._grow(name, rows.detach().clone())
        self._grow(f"{name}_index", where.to("cpu", copy=True))

    def _grow(self, key: str, more: Tensor) -> None:
        if key in self.__dict__:  # read, or set, since the last batch
            held = self.__dict__.pop(key)
            self._batches[key] = [held] if len(held) else []
        self._batches[key].append(more)

    def count(self, name: str) -> int:
        """Rows of a ``cat`` state, without making them one tensor."""
        return len(self.__dict__[name]) if name in self.__dict__ else sum(map(len, self._batches[name]))

    if not TYPE_CHECKING:  # a checker would take every misspelt attribute for one

        def __getattr__(self, name: str) -> Tensor:
            """A ``cat`` state whose batches are still apart: they become one tensor, and stay it."""
            batches = self.__dict__.get("_batches", {}).pop(name, None)
            if batches is None:
                raise AttributeError(f"{type(self).__name__} has no {name!r}")
            self.__dict__[name] = torch.cat([batch.to(batches[-1].device) for batch in batches])
            return self.__dict__[name]

    def __copy__(self: Self) -> Self:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__, _reduce=dict(self._reduce), _first=dict(self._first))
        new._batches = {key: list(held) for key, held in self._batches.items()}
        for name, how in self._reduce.items():
            if how != "cat":  # a metric may add to these in place
                new.__dict__[name] = self.__dict__[name].clone()
        return new

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        new = type(self).__new__(type(self))
        memo.update({id(shared): shared for shared in self._shared()})
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def _shared(self) -> Iterator[object]:
        """What copies have in common."""
        yield from (held for batches in self._batches.values() for held in batches)
        rows = {key for name, how in self._reduce.items() if how == "cat" for key in (name, f"{name}_index")}
        for key, value in self.__dict__.items():
            if key in rows or isinstance(value, FeatureExtractor):
                yield value

    def states(self) -> Mapping[str, Reduce]:
        """The declared states and how each is reduced."""
        return dict(self._reduce)

    def reset(self) -> None:
        """Back to the start, on the CPU."""
        for name, reduce in self._reduce.items():
            self.add_state(name, self._first[name], reduce)

    def to(self, device: torch.device) -> Metric:
        """Move the states, and what else a metric holds, to ``device``."""
        for name in self._reduce:
            setattr(self, name, getattr(self, name).to(device))
        return self

    def check(self, spec: DataSpec, images: int) -> None:
        """Accept ``images`` images of ``spec``.

        Raises:
            ValueError: When the metric cannot be had of them; asked before the long work starts.
        """
        return None

    def check_model(self, codec: Codec) -> None:
        """Accept the model that is scored; asked of metrics that need it.

        Args:
            codec: The model's.

        Raises:
            ValueError: When the metric cannot be had of it; asked before the long work starts.
        """
        return None

    def told_apart_by(self) -> str | None:
        """What of it goes into the names of its values: two of one type that say the same give the same names.

        Such two are refused before the work. None says that it is not known; then equal protocols are.
        """
        return None

    def cautions(self, spec: DataSpec, images: int, reference: int | None) -> list[str]:
        """What a reader of the values should know that is no reason to refuse, in sentences; said beside the values.

        Args:
            spec: Of the images, in pixels.
            images: How many are generated.
            reference: How many the reference has; None where there is none, or it does not say.
        """
        return []

    def reference_key(self) -> dict[str, str]:
        """What the states of a pass over the reference depend on besides the reference: equal keys, equal states.

        The runner keeps those states; metrics that need the same ones may share them by giving the same key. An empty
        one says that they are not worth keeping.
        """
        return {"metric": f"{type(self).__module__}.{type(self).__qualname__}", **self.protocol()}

    def take_reference(self, statistics: Statistics) -> None:
        """Take a reference that is known by mean and covariance alone, in place of its images.

        Args:
            statistics: Of features.

        Raises:
            ValueError: They are of other features, or the metric needs the images themselves.
        """
        raise ValueError(
            f"{type(self).__name__} needs the reference's images, and {statistics.name} holds mean and covariance"
            " alone; give a folder, an archive or a data set as the reference"
        )

    def reference_statistics(self) -> Statistics | None:
        """Mean and covariance of the reference, from states reduced over all ranks; None where it has none."""
        return None

    def protocol(self) -> dict[str, str]:
        """What of the metric itself must be equal for two values to be compared."""
        return {}

    @abstractmethod
    def update(
        self,
        images: Tensor,
        *,
        real: bool = False,
        labels: Tensor | None = None,
        index: Tensor | None = None,
        **later: Any,
    ) -> None:
        """Take in images.

        Args:
            images: uint8 (B, C, H, W) on the device.
            real: Whether they are of the reference.
            labels: (B,) int64, where known.
            index: (B,) int64, their numbers in the whole set.
            later: ``cond``, what the network was told of them, (B, ...) by name, and what ``needs`` asks for; fields
                are added over time, never removed.
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The values, from states reduced over all ranks.

        Raises:
            ValueError: They cannot be had of what was seen.
        """

    def pictures(self, real: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Pictures that say more than the numbers, uint8 (C, H, W) by name.

        Args:
            real: Gives images of the reference, uint8 (n, C, H, W), by their numbers, (n,).
        """
        return {}
