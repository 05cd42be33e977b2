"""Weights files of published networks: where they are looked for, fetched from, and what is refused."""

import hashlib
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from host_kit import TOO_MANY, Host
from host_kit import host_fixture as host_fixture
from safetensors.torch import save_file

from dmf.files.cache import cache_folder
from dmf.plugins.features._weights import Published, Weights, places, sha256_of, tensors_in, weights_file
from dmf.plugins.features.classifier import Classifier
from dmf.plugins.features.fidelity import Fidelity
from dmf.plugins.features.inception import Inception
from dmf.plugins.metrics._lpips import Embedding

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = f"net-{SHA256[:8]}.pth"
Make = Callable[..., Published]


@pytest.fixture
def published(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """A network whose weights the host gives; torch's folder is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def make(content: bytes | str = CONTENT, status: int = 200, sha256: str = SHA256) -> Published:
        return Published("A Net", NAME, (host.give(f"/{NAME}", content, status=status),), sha256, 1)

    return make


def refused(published: Published, path: Path | str | None = None, sha256: str | None = None) -> str:
    with pytest.raises(ValueError) as error:
        weights_file(published, None if path is None else str(path), sha256)
    return str(error.value)


@pytest.mark.parametrize("digits", [64, 8])
def test_fetched_once_into_the_cache_whole_or_first_digits(published: Make, host: Host, digits: int) -> None:
    net = published(sha256=SHA256[:digits])
    file = cache_folder("weights") / NAME
    assert weights_file(net) == Weights(file, SHA256) and file.read_bytes() == CONTENT
    assert weights_file(net) == Weights(file, SHA256)
    assert host.asked == [f"/{NAME}"]


def test_found_in_torchs_own_folder(published: Make, host: Host, tmp_path: Path) -> None:
    file = tmp_path / "torch/hub/checkpoints" / NAME
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert places(NAME)[1] == file
    assert weights_file(published()) == Weights(file, SHA256) and host.asked == []


def test_a_wrong_file_where_it_is_looked_for_is_told_and_replaced(
    published: Make, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    file = cache_folder("weights") / NAME
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(CONTENT[:-1])
    assert weights_file(published()) == Weights(file, SHA256) and host.asked == [f"/{NAME}"]
    assert f"{file}, for the weights of A Net, has sha256 {sha256_of_bytes(CONTENT[:-1])}, not {SHA256}" in caplog.text
    assert "looking further" in caplog.text


def sha256_of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_path_is_the_file_and_no_other_is_looked_for(published: Make, host: Host, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    text = refused(published(), file)
    assert f"weights: {file}, for the weights of A Net, cannot be read (No such file or directory)" in text
    assert f"take {NAME} of {host.address}/{NAME}, sha256 {SHA256}" in text
    file.write_bytes(CONTENT)
    assert weights_file(published(), str(file)) == Weights(file, SHA256) and host.asked == []
    assert "cannot be read (Is a directory)" in refused(published(), tmp_path)


def test_another_file_at_a_path(published: Make, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.write_bytes(b"other")
    text, other = refused(published(), file), sha256_of_bytes(b"other")
    assert f"has sha256 {other}, not {SHA256}" in text and "give their hash as sha256" in text
    assert weights_file(published(), str(file), other.upper()) == Weights(file, other)
    assert f"has sha256 {other}, not {'0' * 64}" in refused(published(), file, "0" * 64)
    file.write_text(TOO_MANY)
    assert "is a web page" in refused(published(), file)


def test_a_hash_without_a_path_or_no_hash_at_all(published: Make, tmp_path: Path) -> None:
    assert "sha256 is the hash of the file that weights names" in refused(published(), None, SHA256)
    assert "64 hexadecimal digits" in refused(published(), tmp_path / "a", SHA256[:8])
    assert "64 hexadecimal digits" in refused(published(), tmp_path / "a", "g" * 64)


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (TOO_MANY, 200, 'a web page came in its place: "Google Drive - Quota exceeded'),
        (TOO_MANY, 404, "HTTP Error 404"),
        (b"something else", 200, f"has sha256 {sha256_of_bytes(b'something else')}, not {SHA256}"),
    ],
)
def test_what_comes_is_not_it(
    published: Make, host: Host, tmp_path: Path, content: bytes | str, status: int, said: str
) -> None:
    text = refused(published(content, status))
    assert said in text and not (cache_folder("weights") / NAME).exists()
    assert f"the weights of A Net are not to be had: {NAME}, sha256 {SHA256}" in text
    for place in (cache_folder("weights") / NAME, tmp_path / "torch/hub/checkpoints" / NAME):
        assert f"\n  {place}  missing" in text
    assert f"download {host.address}/{NAME} and put it at {cache_folder('weights') / NAME}" in text
    assert "or name the file in the option weights" in text


def test_without_a_network(published: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{taken.getsockname()[1]}/{NAME}"
    text = refused(Published("A Net", NAME, (away,), SHA256, 1))
    assert f"{away}: URLError" in text and "Connection refused" in text and "put it at" in text


def test_a_cache_that_cannot_be_written(published: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DMF_CACHE", str(tmp_path / "file"))
    assert "put it at" in refused(published())


# reading


def read(file: Path) -> dict[str, torch.Tensor]:
    return tensors_in(Weights(file, sha256_of(file)))


def unread(file: Path) -> str:
    with pytest.raises(ValueError) as error:
        read(file)
    assert str(file) in str(error.value) and "torch.save(model.state_dict(), file)" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_state_dict(tmp_path: Path, name: str) -> None:
    held = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.int64)}
    if name.endswith("pth"):
        torch.save(held, tmp_path / name)
    else:
        save_file(held, tmp_path / name)
    found = read(tmp_path / name)
    assert found.keys() == held.keys() and all(torch.equal(found[key], held[key]) for key in held)


def test_the_old_format_of_torch(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read(tmp_path / "a.pth")["a"], torch.arange(3.0))


class Evil:
    """A pickle that writes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.file,)


def test_no_pickle_is_executed(tmp_path: Path) -> None:
    done = tmp_path / "done"
    torch.save({"a": Evil(done)}, tmp_path / "a.pth")
    assert "UnpicklingError" in unread(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"a": Evil(done)}, protocol=2))
    unread(tmp_path / "b.pth")
    assert not done.exists()


OPENS: dict[str, Callable[[str, str], object]] = {
    "inception": lambda file, sha256: Inception(weights=file, sha256=sha256),
    "vgg16": lambda file, sha256: Fidelity(model="vgg16", weights=file, sha256=sha256),
    "clip": lambda file, sha256: Fidelity(model="clip-vit-b-32", weights=file, sha256=sha256),
    "dinov2": lambda file, sha256: Fidelity(model="dinov2-vit-s-14", weights=file, sha256=sha256),
    "lpips": lambda file, sha256: Embedding("alex", file, sha256),
    "classifier": lambda file, sha256: Classifier(path=file, architecture="resnet20"),
    "torchscript": lambda file, sha256: Classifier(path=file),
}


@pytest.mark.parametrize("name", OPENS)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_no_part_that_reads_weights_executes_a_pickle(name: str, old: bool, tmp_path: Path) -> None:
    done, file = tmp_path / "done", tmp_path / "a.pth"
    torch.save({"a": Evil(done)}, file, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError):
        OPENS[name](str(file), hashlib.sha256(file.read_bytes()).hexdigest())
    assert not done.exists()


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    for name in ("a.pth", "a.safetensors"):
        for content in (b"", b"nothing of the kind", bytes(1000)):
            (tmp_path / name).write_bytes(content)
            unread(tmp_path / name)
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "b.pth")
    (tmp_path / "b.pth").write_bytes((tmp_path / "b.pth").read_bytes()[:-500])
    unread(tmp_path / "b.pth")


@pytest.mark.parametrize("held", [[torch.ones(1)], {"a": {"b": torch.ones(1)}}, {1: torch.ones(1)}, torch.ones(1)])
def test_other_things_than_a_state_dict(tmp_path: Path, held: object) -> None:
    torch.save(held, tmp_path / "a.pth")
    assert "not a state dict" in unread(tmp_path / "a.pth")
