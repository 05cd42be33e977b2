"""`dmf data cache`: what is kept is listed with what it was made of, and deleted; not what a run adds to."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from latents_kit import contents, filled, pictures, store

from dmf.files.cache import keep
from dmf.runner.latents.store import Contents, Store

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of each kind, latents of 23 images, of which one file of five is missing."""
    root = tmp_path / "kept things"
    monkeypatch.setenv("DMF_CACHE", str(root))
    keep(root / "index/abc", {"what": "index", "of": "/data/pets"}, [b"x" * 10])
    keep(root / "pixels/abc", {"what": "pixels", "of": "/data/pets"}, [b"x" * 3_000_000])
    data = pictures()
    made_of: Contents = store(data, tmp_path / "elsewhere").contents
    about = {"dataset": "image_folder", "run": "first", "dmf": "1"}
    one = Store(made_of, root / "latents", 5 * made_of.image_bytes / 2**20, about)
    filled(data, [one])[0].path(2).unlink()
    return root


def test_it_is_listed(cache: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("data", "cache")
    assert code == 0 and out.count("/data/pets") == 2 and "2.9 MiB" in out
    assert "23 images of image_folder, float32, by pooled, first for run first, 4 of 5 files" in out
    assert f"in {cache}; dmf data cache --clear deletes it" in out


def test_mirrored_images_are_told_from_those_as_they_are(cache: Path, dmf_command: Command) -> None:
    Store(contents(pictures(), mirrored=True), cache / "latents", 1.0, {"dataset": "image_folder", "run": "first"})
    _, out, _ = dmf_command("data", "cache")
    assert "23 images of image_folder, float32" in out and "23 images of image_folder mirrored, float32" in out


def test_what_is_damaged_is_listed_too(cache: Path, dmf_command: Command) -> None:
    (cache / "index/abc").write_bytes(b"")
    (next((cache / "latents").iterdir()) / "cache.json").write_text('{"key": "x", "images_per_shard": 1}')
    code, out, _ = dmf_command("data", "cache")
    assert code == 0 and out.count("damaged, or") == 2


def test_it_is_deleted(cache: Path, dmf_command: Command) -> None:
    code, out, _ = dmf_command("data", "cache", "--clear", "pixels")
    assert code == 0 and "2.9 MiB deleted" in out
    assert not list((cache / "pixels").iterdir()) and list((cache / "latents").iterdir())
    assert dmf_command("data", "cache", "--clear")[0] == 0
    assert not any(path.is_file() for path in cache.rglob("*"))
    code, out, _ = dmf_command("data", "cache")
    assert code == 0 and out == f"0 bytes in {cache}\n"
    with pytest.raises(SystemExit):
        dmf_command("data", "cache", "--clear", "checkpoints")


def hold(root: Path, held: "multiprocessing.Queue[int]", done: "multiprocessing.Queue[int]") -> None:
    opened = store(pictures(), root)
    held.put(1)
    done.get(timeout=60)
    assert opened.missing()


def test_what_a_run_has_open_is_left(cache: Path, dmf_command: Command) -> None:
    (latents,) = (cache / "latents").iterdir()
    context = multiprocessing.get_context("fork")
    held, done = context.Queue(), context.Queue()
    other = context.Process(target=hold, args=(cache / "latents", held, done))
    other.start()
    held.get(timeout=60)
    code, out, _ = dmf_command("data", "cache", "--clear")
    done.put(1)
    other.join(60)
    assert code == 0 and f"left, a run uses it: {latents}" in out
    assert len(list(latents.glob("*.moments"))) == 4 and not list((cache / "pixels").iterdir())
    dmf_command("data", "cache", "--clear")
    assert not latents.exists()
