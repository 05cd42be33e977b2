"""What any dataset must hold to."""

from __future__ import annotations

import pickle

import torch

from ..core import Dataset, DataSpec, Example
from .claims import Broken, called, cannot, hold, require

LOOKED_AT = 64
MOST_HASHED = 60_000  # images; of more, a fingerprint takes longer than a test may


def check_dataset(dataset: Dataset) -> None:
    """Hold a dataset to the interface: every check below.

    Raises:
        AssertionError: With a sentence, at the first that fails.
    """
    hold(DATASET_CHECKS, dataset)


def check_items(dataset: Dataset) -> None:
    """Each image is uint8 of the spec's shape, and comes with the conditions that the spec names."""
    require(len(dataset) > 0, f"{called(dataset)} is empty")
    require(isinstance(dataset.spec, DataSpec), f"{called(dataset)}.spec is to be a DataSpec; got {dataset.spec!r}")
    for i in _some(dataset):
        _fits(dataset.spec, dataset[i], f"{called(dataset)}[{i}]")


def check_repeats(dataset: Dataset) -> None:
    """Item i is the same every time, in any order: exact resume rests on it."""
    first = {i: dataset[i] for i in _some(dataset)}
    for i in reversed(_some(dataset)):
        require(_same(dataset[i], first[i]), f"{called(dataset)}[{i}] is another one when asked again")


def check_tensors(dataset: Dataset) -> None:
    """All at once, where that is offered, is the same as one by one."""
    held = dataset.tensors()
    if held is None:
        return
    images, cond = held
    want = (len(dataset), *dataset.spec.shape)
    require(
        images.dtype == torch.uint8 and images.shape == want,
        f"{called(dataset)}: tensors() gives {images.dtype} {tuple(images.shape)}, not uint8 {want}",
    )
    lengths = {name: len(value) for name, value in cond.items()}
    require(
        set(cond) == set(dataset.spec.cond) and set(lengths.values()) <= {len(dataset)},
        f"{called(dataset)}: tensors() gives conditions {lengths}; the spec names {sorted(dataset.spec.cond)}, each"
        f" with {len(dataset)} values",
    )
    for i in _some(dataset):
        together = Example(images[i], {name: value[i] for name, value in cond.items()})
        require(_same(dataset[i], together), f"{called(dataset)}[{i}] is not image {i} of tensors()")


def check_rows(dataset: Dataset) -> None:
    """Many items at once are the same as one by one, in the order that they are asked for, twice too."""
    numbers = [*reversed(_some(dataset)), 0, 0]
    images, cond = dataset.rows(numbers)
    lengths = {len(images), *(len(value) for value in cond.values())}
    require(
        set(cond) == set(dataset.spec.cond) and lengths == {len(numbers)},
        f"{called(dataset)}: rows of {len(numbers)} numbers are {len(images)} images with conditions"
        f" { {name: len(value) for name, value in cond.items()} }; the spec names {sorted(dataset.spec.cond)}",
    )
    for row, i in enumerate(numbers):
        together = Example(images[row], {name: value[row] for name, value in cond.items()})
        require(_same(dataset[i], together), f"{called(dataset)}[{i}] is not what rows({numbers}) gives at place {row}")


def check_conditions(dataset: Dataset) -> None:
    """All conditions at once, where that is offered, are those of the items."""
    known = dataset.conditions()
    if known is None:
        return
    lengths = {name: len(value) for name, value in known.items()}
    require(
        set(known) == set(dataset.spec.cond) and set(lengths.values()) <= {len(dataset)},
        f"{called(dataset)}: conditions() gives {lengths}; the spec names {sorted(dataset.spec.cond)}, each with "
        f"{len(dataset)} values",
    )
    for i in _some(dataset):
        for name, value in dataset[i].cond.items():
            require(torch.equal(known[name][i], value), f"{called(dataset)}[{i}] has another {name} than conditions()")


def check_names(dataset: Dataset) -> None:
    """Each image has a name to call it by in one line, and what is left out has one too, with a reason."""
    names = [dataset.name_of(i) for i in _some(dataset)]
    texts = [*names, *(text for one in dataset.left_out for text in (one.name, one.reason))]
    for text in texts:
        one_line = isinstance(text, str) and text.strip() and text.isprintable()
        require(one_line, f"{called(dataset)}: name_of and left_out are to give a line of text; got {text!r}")
    require(
        len(set(names)) == len(names), f"{called(dataset)}: {len(names)} images have {len(set(names))} names in all"
    )


def check_pickled(dataset: Dataset) -> None:
    """Where it is read by worker processes, it can be sent to them, and is the same there."""
    if dataset.tensors() is not None:
        cannot(f"{called(dataset)} is in memory: no other process reads it")
    try:
        sent = pickle.loads(pickle.dumps(dataset))
    except Exception as error:  # whatever its own parts raise
        raise Broken(f"{called(dataset)} cannot be pickled, and other processes are to read it: {error}") from error
    for i in _some(dataset):
        require(_same(sent[i], dataset[i]), f"{called(dataset)}[{i}] is another one in another process")


def check_held_out(dataset: Dataset) -> None:
    """Held-out images, where there are any, are of the same kind, and none of them is trained on."""
    held_out = dataset.held_out()
    if held_out is None:
        return
    same = (held_out.spec.shape, held_out.spec.classes) == (dataset.spec.shape, dataset.spec.classes)
    require(same, f"{called(dataset)}: held-out images are of another spec, {held_out.spec}, not {dataset.spec}")
    require(len(held_out) > 0, f"{called(dataset)}: held_out() is empty; give None where nothing is held out")
    if max(len(held_out), len(dataset)) > MOST_HASHED:
        cannot(f"{len(dataset)} images are too many to look for held-out ones among them")
    shared = _hashes(held_out) & _hashes(dataset)
    require(
        len(shared) <= 0.01 * len(held_out),
        f"{called(dataset)}: {len(shared)} of {len(held_out)} held-out images are trained on",
    )


def check_fingerprint(dataset: Dataset) -> None:
    """The fingerprint is the same when worked out again, and another one for the held-out images."""
    if len(dataset) > MOST_HASHED:
        cannot(f"a fingerprint of {len(dataset)} images takes too long")
    first = dataset.fingerprint()
    dataset.__dict__.pop("_fingerprint", None)  # where the base class remembers it
    require(first == dataset.fingerprint(), f"{called(dataset)}: the fingerprint of the same data changes")
    held_out = dataset.held_out()
    require(
        held_out is None or held_out.fingerprint() != first,
        f"{called(dataset)}: other images, held out, have the same fingerprint",
    )


DATASET_CHECKS = (
    check_items,
    check_repeats,
    check_tensors,
    check_rows,
    check_conditions,
    check_names,
    check_pickled,
    check_held_out,
    check_fingerprint,
)


def _some(dataset: Dataset) -> list[int]:
    """Numbers of images from all over."""
    count = min(LOOKED_AT, len(dataset))
    return [i * len(dataset) // count for i in range(count)]


def _fits(spec: DataSpec, example: Example, where: str) -> None:
    image = example.image
    require(
        image.dtype == torch.uint8 and tuple(image.shape) == spec.shape,
        f"{where} is {image.dtype} {tuple(image.shape)}; the spec says uint8 {spec.shape}",
    )
    names = sorted(example.cond), sorted(spec.cond)
    require(names[0] == names[1], f"{where} comes with {names[0]}; the spec says {names[1]}")
    for name, one in spec.cond.items():
        value = example.cond[name]
        if one.kind == "class":
            fits = value.ndim == 0 and value.dtype == torch.int64 and 0 <= int(value) < len(spec.classes)
            wanted = f"a 0-d int64 in 0 ... {len(spec.classes) - 1}"
        else:
            free = one.kind == "tokens" and value.ndim == 2 and value.shape[-1:] == one.shape[-1:]
            fits = value.is_floating_point() and (free or tuple(value.shape) == one.shape)
            wanted = f"floating numbers of shape {one.shape}"
        require(fits, f"{where}: {name} is {value.dtype} {tuple(value.shape)}, expected {wanted}")


def _same(one: Example, other: Example) -> bool:
    return torch.equal(one.image, other.image) and all(torch.equal(one.cond[k], other.cond[k]) for k in one.cond)


def _hashes(dataset: Dataset) -> set[bytes]:
    return {dataset[i].image.contiguous().numpy().tobytes() for i in range(len(dataset))}
