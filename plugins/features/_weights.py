"""The weights files of published networks: found where they lie, or fetched, and never used unless the hash is right.

Shared by extractors and metrics that look through a network of somebody else's. No pickle is executed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...files.cache import cache_folder
from ...files.download import PIECE, Checksum, FetchError, alone, fetch, looks_like_a_page
from ...files.places import home
from ...files.state_dicts import content_of

SHA256_DIGITS = 64
ALL_DIGITS = Checksum("sha256", "")
log = logging.getLogger("dmf")


@dataclass(frozen=True)
class Published:
    """A file of weights that its authors publish.

    Attributes:
        title: What people call the network.
        name: The file's own name, which torch and others look for.
        addresses: Where it comes from, tried in order.
        sha256: Of its content; the first digits where its authors give no more.
        mib: Its size, in MiB, for people.
    """

    title: str
    name: str
    addresses: tuple[str, ...]
    sha256: str
    mib: int


class Weights(NamedTuple):
    """A file of weights that is there, and is the right one.

    Attributes:
        file: It.
        sha256: All digits.
    """

    file: Path
    sha256: str


def weights_file(published: Published, path: str | None = None, sha256: str | None = None) -> Weights:
    """The file of published weights: the one named, or one that lies where such files do, or fetched.

    Looked for in ``weights`` of dmf's cache (DMF_CACHE) and in torch's own folder (TORCH_HOME/hub/checkpoints); fetched
    into the first. Several processes may ask at once: one fetches, the others wait for it.

    Args:
        published: Which.
        path: The file, if its place is known; no other is looked for.
        sha256: What the file at ``path`` has, where it is another than the published one.

    Raises:
        ValueError: It is not to be had, or another: which file, from where, which hash, and where to put it.
    """
    if path is None:
        if sha256 is not None:
            raise ValueError("sha256 is the hash of the file that weights names; give weights too, or leave sha256 out")
        return _found(published) or _fetched(published)
    file, checksum = home(path).absolute(), Checksum("sha256", published.sha256)
    if sha256 is not None:
        checksum = Checksum("sha256", _whole(sha256))
    return _named(published, file, checksum)


def sha256_of(file: Path) -> str:
    """The hash of a file, all digits.

    Raises:
        OSError: It cannot be read.
    """
    return ALL_DIGITS.of(file)


def tensors_in(weights: Weights, option: str = "weights") -> dict[str, Tensor]:
    """The state dict in a file, on the CPU: safetensors, or torch's own format with nothing in it but tensors.

    A file that holds it under ``state_dict``, beside the number of an epoch and the like, will do.

    Args:
        weights: The file.
        option: What the recipe calls it, for messages.

    Raises:
        ValueError: It is broken, or holds more than tensors by name.
    """
    held = content_of(weights.file, option)
    if isinstance(held, dict) and isinstance(held.get("state_dict"), dict):
        held = held["state_dict"]
    if not (isinstance(held, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in held.items())):
        raise ValueError(
            f"{option}: {weights.file} holds {type(held).__name__}, not a state dict, tensors by name; save it anew: "
            "torch.save(model.state_dict(), file)"
        )
    return dict(held)


def places(name: str) -> tuple[Path, Path]:
    """Where a weights file of this name is looked for; it is fetched into the first."""
    return cache_folder("weights") / name, Path(torch.hub.get_dir()).absolute() / "checkpoints" / name


def _found(published: Published) -> Weights | None:
    """A right one of the usual places; a wrong one there is told and passed over."""
    for file in places(published.name):
        if file.is_file():
            try:
                return _named(published, file, Checksum("sha256", published.sha256))
            except ValueError as error:
                log.warning("%s; looking further", error)
    return None


def _fetched(published: Published) -> Weights:
    """It, fetched by whoever comes first."""
    file, checksum = places(published.name)[0], Checksum("sha256", published.sha256)
    try:
        with alone(file.parent):
            if not (file.is_file() and checksum.fits(sha256_of(file))):  # another process may have been faster
                log.info("fetch %s, the weights of %s, %s MiB", file.name, published.title, published.mib)
                fetch(published.addresses, file, checksum)
    except (FetchError, OSError) as error:
        raise ValueError(_missing(published, str(error))) from error
    return Weights(file, sha256_of(file))


def _named(published: Published, file: Path, checksum: Checksum) -> Weights:
    """The file, if it is the right one."""
    where = f"weights: {file}, for the weights of {published.title},"
    take = f"take {published.name} of {published.addresses[0]}, sha256 {published.sha256}"
    try:
        with open(file, "rb") as stream:
            page = looks_like_a_page(stream.read(PIECE))
        found = sha256_of(file)
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}); {take}") from error
    if not checksum.fits(found):
        what = "is a web page; " if page else ""
        own = "; to use other weights, give their hash as sha256" if not page else ""
        raise ValueError(f"{where} {what}has sha256 {found}, not {checksum.digits}; {take}{own}")
    return Weights(file, found)


def _missing(published: Published, tried: str) -> str:
    """What is the matter, what was looked for, what was tried, what to do."""
    looked = "".join(
        f"\n  {file}  {'another file' if file.is_file() else 'missing'}" for file in places(published.name)
    )
    return (
        f"the weights of {published.title} are not to be had: {published.name}, sha256 {published.sha256}, about "
        f"{published.mib} MiB\nlooked for{looked}\n{tried}\n"
        f"to place it by hand: download {published.addresses[0]} and put it at {places(published.name)[0]}, or name "
        "the file in the option weights"
    )


def _whole(sha256: str) -> str:
    digits = sha256.lower()
    if len(digits) != SHA256_DIGITS or set(digits) - set("0123456789abcdef"):
        raise ValueError(f"sha256 has {SHA256_DIGITS} hexadecimal digits, as sha256sum prints them; got {sha256!r}")
    return digits
