"""Sets of images that are there: read as they are, scored without a model, refused before the work."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_kit import paint
from PIL import Image

from dmf.core import Dataset, Statistics
from dmf.registry import UserError
from dmf.runner.image_sets.arrays import read_statistics, write_statistics
from dmf.runner.image_sets.named import called, open_reference, open_set
from dmf.runner.world import World

Command = Callable[..., tuple[int, str, str]]
WORLD = World(0, 1, torch.device("cpu"))
FRECHET = "[{name: frechet, features: digits}]"
KERNEL = "[{name: kernel, features: digits, subsets: 3, subset_size: 40}]"


def pixels(count: int = 30, height: int = 8, width: int = 8, channels: int = 1, seed: int = 0) -> "np.ndarray":  # type: ignore[type-arg]
    return np.random.RandomState(seed).randint(0, 256, (count, height, width, channels), dtype=np.uint8)


def write(folder: Path, images: "np.ndarray") -> Path:  # type: ignore[type-arg]
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(folder / f"{i}.png")
    return folder


def opened(words: object, **how: str) -> Dataset:
    return open_set(str(words), "--generated", WORLD, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
def test_folder_zip_and_arrays_are_the_same_images(workdir: Path, channels: int) -> None:
    images = pixels(12, 6, 9, channels)
    write(workdir / "set", images)
    shutil.make_archive("packed", "zip", workdir / "set")
    np.savez("plain.npz", images)
    np.savez_compressed("small.npz", arr_0=images)
    wanted = torch.from_numpy(images).permute(0, 3, 1, 2)
    found = [opened(name) for name in ("set", "packed.zip", "plain.npz", "small.npz")]
    for one in found:
        assert one.spec.shape == (channels, 6, 9) and len(one) == 12
        assert torch.equal(one.rows([10, 2])[0], wanted[[10, 2]]) and torch.equal(one[11].image, wanted[11])
        held = one.tensors()
        assert held is not None and torch.equal(held[0], wanted)
    assert len({one.fingerprint() for one in found}) == 1
    other = images.copy()
    other[3, 0, 0, 0] ^= 1
    np.savez("other.npz", other)
    assert opened("other.npz").fingerprint() != found[0].fingerprint()


def test_pictures_beyond_memory_are_decoded_when_they_are_asked_for(workdir: Path) -> None:
    from dmf.runner.image_sets.folder import Pictures

    images = pixels(5, 4, 7, 3)
    few, all_of_it = (Pictures(write(workdir / name, images), memory_bytes=n) for name, n in (("a", 0), ("b", 2**20)))
    assert few.tensors() is None and torch.equal(few.rows([4, 0])[0], all_of_it.rows([4, 0])[0])
    assert few.fingerprint() == all_of_it.fingerprint()


def test_grey_pictures_take_a_third_of_the_memory(workdir: Path) -> None:
    from dmf.runner.image_sets.folder import Pictures

    write(workdir / "grey", pixels(5, 4, 7))
    held = Pictures(workdir / "grey", memory_bytes=5 * 4 * 7).tensors()
    assert held is not None and torch.equal(held[0], torch.from_numpy(pixels(5, 4, 7)).permute(0, 3, 1, 2))
    assert Pictures(workdir / "grey", memory_bytes=5 * 4 * 7 - 1).tensors() is None


@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_coloured_picture_among_grey_ones_in_memory(workdir: Path, place: int) -> None:
    from dmf.runner.image_sets.folder import Pictures

    folder = write(workdir / "set", pixels(6, 4, 7))
    Image.fromarray(pixels(1, 4, 7, 3)[0]).save(folder / f"{place}.png")
    found, read = Pictures(folder, memory_bytes=6 * 4 * 7 * 3), Pictures(folder, memory_bytes=6 * 4 * 7 * 3 - 1)
    held = found.tensors()
    assert held is not None and held[0].shape == (6, 3, 4, 7) and read.tensors() is None
    assert torch.equal(held[0], read.rows(range(6))[0]) and found.fingerprint() == read.fingerprint()


def test_labels_come_from_arr_1_and_from_folders(workdir: Path) -> None:
    np.savez("l.npz", arr_0=pixels(4), arr_1=np.array([2, 0, 1, 2], dtype=np.uint8))
    assert opened("l.npz").conditions()["class"].tolist() == [2, 0, 1, 2]  # type: ignore[index]
    assert opened("l.npz").spec.classes == ("0", "1", "2")
    for name in ("set/cat/1.png", "set/dog/2.png"):
        paint(workdir / name)
    assert opened("set").spec.classes == ("cat", "dog") and opened("set", labels="none").spec.classes == ()


def test_a_grey_file_among_coloured_ones_is_coloured(workdir: Path) -> None:
    folder = write(workdir / "set", pixels(2, channels=3))
    Image.fromarray(pixels(1)[0, ..., 0]).save(folder / "9.png")
    images = opened("set").rows([2])[0][0]
    assert images.shape[0] == 3 and torch.equal(images[0], images[2])


def test_what_cannot_be_used_is_named_or_left_out(workdir: Path) -> None:
    folder = write(workdir / "set", pixels(4))
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"1 of 4 pictures cannot be used:\n.*set/1\.png .*\n.*--on-error skip"):
        opened("set")
    kept = opened("set", on_error="skip")
    assert len(kept) == 3 and [one.name for one in kept.left_out] == ["1.png"]
    assert torch.equal(kept.rows([1])[0][0], torch.from_numpy(pixels(4)[2]).permute(2, 0, 1))


def test_pictures_of_two_sizes_are_refused_with_both_names(workdir: Path) -> None:
    folder = write(workdir / "set", pixels(2))
    Image.fromarray(pixels(1, 5, 9)[0, ..., 0]).save(folder / "7.png")
    with pytest.raises(UserError, match=r"set/0\.png is 8 x 8 and .*set/7\.png is 9 x 5 pixels"):
        opened("set")


def bad_arrays(folder: Path) -> None:
    images = pixels(4, channels=3)
    np.savez("chw.npz", arr_0=images.transpose(0, 3, 1, 2))
    np.savez("float.npz", arr_0=images / 255)
    np.savez("objects.npz", arr_0=np.array([None]))
    np.savez("none.npz", arr_0=images[:0])
    np.savez("flat.npz", arr_0=images.reshape(4, -1))
    np.savez("labels.npz", arr_0=images, arr_1=np.zeros(3, dtype=np.int64))
    np.savez("negative.npz", arr_0=images, arr_1=np.array([0, 1, -1, 2]))
    np.savez("other.npz", x=images)
    np.savez("moments.npz", mu=np.zeros(2), sigma=np.eye(2))
    whole = Path("labels.npz").read_bytes()
    Path("cut.npz").write_bytes(whole[: len(whole) // 2])
    Path("text.npz").write_text("abc")
    (folder / "empty").mkdir()
    paint(folder / "one/1.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("chw.npz", r"4 x 3 x 8 x 8, with channels second.*transpose\(0, 2, 3, 1\)"),
        ("float.npz", "uint8.*got float64"),
        ("objects.npz", "cannot be read"),
        ("none.npz", "empty"),
        ("flat.npz", r"\(N, H, W, C\) with 1 or 3 channels; got 4 x 192"),
        ("labels.npz", r"one for each of the 4 images; got int64 \(3,\)"),
        ("negative.npz", "whole numbers from 0"),
        ("other.npz", "has x; images are arr_0"),
        ("moments.npz", "statistics and no images"),
        ("cut.npz", "damaged"),
        ("text.npz", "no .npz file"),
        ("empty", "is empty"),
        ("one/1.png", "is one picture"),
        ("nothere", "is not there, and no data set has that name"),
        ("cifar01", "did you mean 'cifar10'"),
        ("", "the text is empty"),
        ("{name: nope}", "unknown dataset 'nope'"),
        ("{name: digits, split: [}", "YAML"),
        ("{split: test}", "a data set is {name: cifar10, split: test}"),
        ("{name: digits, sizes: 8}", "unknown option 'sizes'"),
    ],
)
def test_mistakes_in_a_set_are_told(workdir: Path, words: str, said: str) -> None:
    bad_arrays(workdir)
    with pytest.raises(UserError, match=rf"(?s)--generated: .*{said}"):
        opened(words)


def test_a_name_that_is_also_a_folder_is_refused(workdir: Path) -> None:
    write(workdir / "digits", pixels(2))
    with pytest.raises(UserError, match=r"write \./digits or"):
        opened("digits")
    assert len(opened("./digits")) == 2 and len(opened("{name: digits}")) > 1000
    assert called("./digits") == "digits" and called("{name: digits}") == "digits"
    assert called(" {name: digits, split: test}") == "{name: digits, split: test}"


def test_statistics_survive_the_file(workdir: Path) -> None:
    mu, sigma = torch.randn(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    write_statistics(Path("s.npz"), Statistics(mu, sigma, 7, {"features": "x"}), {"reference": "d"})
    found = read_statistics(Path("s.npz"))
    assert torch.equal(found.mu, mu) and torch.equal(found.sigma, sigma)
    assert (found.images, dict(found.about)) == (7, {"features": "x"})
    with np.load("s.npz") as held:  # as pytorch-fid reads it
        assert held["mu"].shape == (3,) and held["sigma"].dtype == np.float64
    np.savez("plain.npz", mu=mu.numpy(), sigma=sigma.numpy())
    assert read_statistics(Path("plain.npz")).images is None


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"mu": np.array([1.0, np.nan]), "sigma": np.eye(2)}, "mu has NaN"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.inf)}, "sigma has NaN or infinite"),
        ({"mu": np.zeros(2), "sigma": np.eye(3)}, r"sigma \(D, D\)"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, r"mu is \(D,\)"),
        ({"mu": np.zeros(2, dtype=int), "sigma": np.eye(2)}, "in float"),
        ({"mu": np.zeros(2), "sigma": -np.eye(2)}, "eigenvalue -1, and a covariance has none below 0"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2.0], [2.0, 1.0]])}, "eigenvalue -1, "),
        ({"mu": np.zeros(2), "sigma": np.tril(np.ones((2, 2)))}, "not symmetric.*differ by up to 1;"),
        ({"mu": np.zeros(2)}, "a reference is images, arr_0, or statistics, mu and sigma"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "dmf": np.array("{}")}, "its entry dmf"),
    ],
)
def test_statistics_that_cannot_be_are_refused(workdir: Path, arrays: dict[str, object], said: str) -> None:
    np.savez("s.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        open_reference("s.npz", "--reference", WORLD)


def test_rounding_in_float32_makes_no_statistics_wrong(workdir: Path) -> None:
    rows = np.random.RandomState(0).randn(20, 64)  # fewer rows than features: most eigenvalues are 0
    sigma = np.cov(rows, rowvar=False).astype(np.float32)
    np.savez("s.npz", mu=rows.mean(0), sigma=sigma)
    assert np.linalg.eigvalsh(sigma.astype(np.float64)).min() < 0
    assert len(read_statistics(Path("s.npz")).mu) == 64


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("names", [("arr_0", "arr_1"), ("mu", "sigma")])
def test_no_damage_to_a_file_is_a_traceback(workdir: Path, names: tuple[str, str], packed: bool) -> None:
    images = {"arr_0": pixels(3), "arr_1": np.arange(3)}
    arrays = images if "arr_0" in names else {"mu": np.arange(8.0), "sigma": np.eye(8)}
    (np.savez_compressed if packed else np.savez)("whole.npz", **arrays)  # type: ignore[arg-type]
    whole, refused = Path("whole.npz").read_bytes(), 0
    for place in range(0, len(whole) - 8, 3 if packed else 7):
        for length in (1, 8):
            torn = bytes(255 - one for one in whole[place : place + length])
            Path("torn.npz").write_bytes(whole[:place] + torn + whole[place + length :])
            try:
                open_reference("torn.npz", "--reference", WORLD)
            except UserError as error:
                assert "torn.npz" in str(error)
                refused += 1
    assert refused > 50


def values(name: str = "r.json") -> dict[str, float]:
    return {key: one["value"] for key, one in json.loads(Path(name).read_text()).items()}


def test_sets_are_scored_beside_each_other(workdir: Path, dmf_command: Command) -> None:
    write(workdir / "made", pixels(70))
    words = ["evaluate", "--generated", "made", "--metrics", f"{FRECHET[:-1]}, {KERNEL[1:]}"]
    code, out, err = dmf_command(*words, "--reference", "digits", "--json", "r.json", "--write-reference", "ref.npz")
    assert code == 0, err
    assert "held-out real" in out and "70" in out and Path("r-grid.png").exists()
    first, report = values(), json.loads(Path("r.json").read_text())
    protocol = report["frechet_digits"]["protocol"]
    assert protocol["generated"] == "made, 70 images" and protocol["reference"].startswith("digits, 1497")
    assert protocol["generated.shape"] == "1 x 8 x 8" and "reference.shape" not in protocol
    assert report["frechet_digits"]["held_out"]["images"] == 300
    words = ["evaluate", "--generated", "made", "--metrics", FRECHET, "--json", "r.json"]
    assert dmf_command(*words, "--reference", "ref.npz")[0] == 0
    assert values()["frechet_digits"] == pytest.approx(first["frechet_digits"], rel=1e-9)


def test_a_set_is_no_distance_from_itself(workdir: Path, dmf_command: Command) -> None:
    words = ["--generated", "{name: digits, split: test}", "--reference", "{name: digits, split: test}"]
    code, _, err = dmf_command("evaluate", *words, "--metrics", FRECHET, "--json", "r.json", "--pictures", "look")
    assert code == 0, err
    assert values()["frechet_digits"] == pytest.approx(0, abs=1e-6) and Path("look/grid.png").exists()


def test_some_of_a_set_are_scored(workdir: Path, dmf_command: Command) -> None:
    words = ["evaluate", "--generated", "digits", "--reference", "digits", "--metrics", KERNEL, "--json", "r.json"]
    assert dmf_command(*words, "--images", 60)[0] == 0
    assert json.loads(Path("r.json").read_text())["kernel_digits"]["protocol"]["images"] == "60"
    code, _, err = dmf_command(*words, "--images", 6000)
    assert code == 2 and "has 1497 images" in err


def test_the_first_of_a_chosen_part_are_its_first(workdir: Path, dmf_command: Command) -> None:
    words = ["evaluate", "--generated", "digits", "--reference", "digits", "--images", 20, "--json", "r.json"]
    code, _, err = dmf_command(*words, "--metrics", "[{name: nearest_neighbour}]")
    assert code == 0, err
    # all 16 samples that it looks at are digits themselves, and all are on the sheet
    assert values()["nearest_pixels_copies"] == 1
    picture = np.asarray(Image.open("r-nearest_pixels.png"))
    one = Image.open("r-grid.png")
    assert picture.shape[0] > 16 * 8 and one.height > 3 * 8, (picture.shape, one.size)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to score: give a RUN"),
        (["run", "--generated", "digits"], "give one of them"),
        (["a", "b"], "one run is scored at a time"),
        (["--generated", "digits", "--steps", "5", "--repeats", "2"], "--steps, --repeats: that is of a run"),
        (["--generated", "digits", "sampler.steps=5"], "sampler.steps=5: that is of a run"),
        (["--generated", "digits", "--write-reference", "x.npz"], "needs a reference"),
        (["--generated", "digits", "--metrics", FRECHET], "frechet needs a reference"),
        (["--generated", "digits", "--reference", "digits", "--metrics", "nope"], "unknown metric 'nope'"),
        (["--generated", "digits", "--reference", "digits", "--metrics", "[3]"], "neither a name nor"),
        (["--generated", "digits", "--reference", "digits", "--metrics", " "], "names no metric"),
        (["--generated", "digits", "--reference", "digits", "--metrics", "[a"], "is no list"),
        (["--generated", "digits", "--reference", "digits", "--metrics", "frechet"], "features"),
        (["--generated", "digits", "--reference", "digits", "--images", "x"], "--images x: expected a whole number"),
        (["--generated", "digits", "--reference", "digits", "--metrics", FRECHET, "--json", "no/r.json"], "cannot be"),
        (["--generated", "digits", "--reference", "colour", "--metrics", FRECHET], "grey, colour has 8 x 8 .*colour;"),
        (["--generated", "large", "--reference", "digits", "--metrics", FRECHET], "large has 9 x 9 .*digits has 8 x 8"),
        (["--generated", "one.npz", "--reference", "digits", "--metrics", KERNEL], "at least 2 images"),
        (["--generated", "digits", "--reference", "one.npz", "--metrics", KERNEL], "at least 2 images"),
        (["--generated", "digits", "--reference", "m.npz", "--metrics", FRECHET], "of 2 features, and these are 64"),
        (["--generated", "digits", "--reference", "m.npz", "--metrics", KERNEL], "mean and covariance alone"),
        (["--generated", "digits", "--reference", "o.npz", "--metrics", FRECHET], "made of other features"),
        (
            ["--generated", "digits", "--reference", "digits", "--metrics", KERNEL, "--write-reference", "x.npz"],
            "add frechet or fid",
        ),
    ],
)
def test_mistakes_get_one_message_before_the_work(
    workdir: Path, dmf_command: Command, words: list[str], said: str
) -> None:
    write(workdir / "colour", pixels(3, channels=3))
    write(workdir / "large", pixels(3, 9, 9))
    np.savez("one.npz", pixels(1))
    np.savez("m.npz", mu=np.zeros(2), sigma=np.eye(2))
    wide = Statistics(torch.zeros(64).double(), torch.eye(64).double(), 90, {"features_sha256": "0" * 64})
    write_statistics(Path("o.npz"), wide, {})
    code, _, err = dmf_command("evaluate", *words)
    assert code == 2 and "Traceback" not in err and "evaluate 1" not in err, err
    assert re.search(said, err, re.DOTALL), err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits"], "fid needs a reference"),
        (["digits", "--metrics", "fid,bits_per_dim", "--reference", "digits"], "bits_per_dim needs a model"),
        (["empty", "--reference", "digits"], "is empty"),
        (["large", "--reference", "digits"], "large has 9 x 9 .*digits has 8 x 8"),
        (["m.npz", "--reference", "digits"], "statistics and no images"),
        (["digits", "--reference", "digits", "--images", 6000], "has 1497 images"),
        (["digits", "--reference", "digits", "--metrics", "[fid, {name: kid, subset: 3}]"], "unknown option 'subset'"),
    ],
)
def test_mistakes_are_told_before_weights_are_looked_for(
    workdir: Path, dmf_command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    def built(*args: object, **options: object) -> None:
        raise AssertionError("a metric is built, and its weights are fetched")

    monkeypatch.setattr("dmf.runner.commands.evaluate_sets.build", built)
    (workdir / "empty").mkdir()
    write(workdir / "large", pixels(3, 9, 9))
    np.savez("m.npz", mu=np.zeros(2), sigma=np.eye(2))
    code, _, err = dmf_command("evaluate", "--generated", *words)
    assert code == 2 and re.search(said, err, re.DOTALL), err
