"""Small sets in the format of the real ones, file by file, with their checksums in torchvision's tables."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_kit import md5_of, paint
from scipy.io import savemat

MNIST_COUNTS = {"train": 12, "t10k": 5}
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE_NAMES = [f"kind_{i}" for i in range(100)]
COARSE_NAMES = [f"group_{i}" for i in range(20)]
FLOWER_LABELS = [3, 1, 102, 1, 7, 50, 3]  # of pictures 1 ... 7; from 1, as in the file
FLOWER_SPLITS = {"trnid": [6, 2], "valid": [4, 1], "tstid": [3, 7, 5]}  # pictures, from 1
FACES = 12
FACE_PARTS = [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2]  # train, valid, test
HEADER = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)


@pytest.fixture(name="stand_ins")
def stand_ins_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All of them in the folder that DMF_DATA names."""
    for make in (mnist, cifar10, cifar100, flowers102, celeba):
        make(tmp_path, monkeypatch)
    monkeypatch.setenv("DMF_DATA", str(tmp_path))
    return tmp_path


def idx(pixels: np.ndarray[Any, Any]) -> bytes:
    """The bytes of an IDX file, as the format's page has them."""
    return struct.pack(f">BBBB{pixels.ndim}I", 0, 0, 8, pixels.ndim, *pixels.shape) + pixels.tobytes()


def mnist(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Packed files of a few images, of MNIST and FashionMNIST; what is in them also as .npy."""
    import torchvision.datasets as theirs

    draw = np.random.RandomState(0)
    for name in ("MNIST", "FashionMNIST"):
        raw = root / name / "raw"
        raw.mkdir(parents=True)
        for part, count in MNIST_COUNTS.items():
            images = draw.randint(256, size=(count, 28, 28)).astype(np.uint8)
            labels = draw.randint(10, size=count).astype(np.uint8)
            for what, content in (("images-idx3", images), ("labels-idx1", labels)):
                (raw / f"{part}-{what}-ubyte.gz").write_bytes(gzip.compress(idx(content)))
                np.save(raw / f"{part}-{what}.npy", content)
        resources = [(name, md5_of(raw / name)) for name, _ in theirs.MNIST.resources]
        patch.setattr(getattr(theirs, name), "resources", resources)


def cifar10(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Five batches of four images and a test batch, and the archive of them."""
    batches = [(f"data_batch_{i}", 4) for i in range(1, 6)]
    _cifar("CIFAR10", root, patch, batches, [("test_batch", 4)], {"labels": 10}, {"label_names": CIFAR10_NAMES})


def cifar100(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Twenty images to train on and five to test, with both kinds of labels, and the archive of them."""
    names = {"fine_label_names": FINE_NAMES, "coarse_label_names": COARSE_NAMES}
    _cifar("CIFAR100", root, patch, [("train", 20)], [("test", 5)], {"fine_labels": 100, "coarse_labels": 20}, names)


def _cifar(
    name: str,
    root: Path,
    patch: pytest.MonkeyPatch,
    train: list[tuple[str, int]],
    test: list[tuple[str, int]],
    labels: dict[str, int],
    names: dict[str, list[str]],
) -> None:
    import torchvision.datasets

    theirs: Any = getattr(torchvision.datasets, name)
    folder = root / theirs.base_folder
    folder.mkdir(parents=True)
    draw = np.random.RandomState(len(name))

    def batch(file: str, count: int) -> list[str]:
        pixels = draw.randint(256, size=(count, 3072)).astype(np.uint8)
        content = {"data": pixels, **{key: draw.randint(top, size=count).tolist() for key, top in labels.items()}}
        (folder / file).write_bytes(pickle.dumps(content))
        return [file, md5_of(folder / file)]

    patch.setattr(theirs, "train_list", [batch(*one) for one in train])
    patch.setattr(theirs, "test_list", [batch(*one) for one in test])
    meta = folder / theirs.meta["filename"]
    meta.write_bytes(pickle.dumps(names))
    patch.setattr(theirs, "meta", {**theirs.meta, "md5": md5_of(meta)})
    archive = root / theirs.filename
    pack(archive, folder)
    patch.setattr(theirs, "tgz_md5", md5_of(archive))


def pack(archive: Path, folder: Path) -> None:
    """Tar and gzip a folder, by its name."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)


def flowers102(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Seven pictures of different sizes, unpacked and packed, their labels and splits."""
    from torchvision.datasets import Flowers102 as Theirs

    folder = root / "flowers-102"
    for number in range(1, 8):
        paint(folder / f"jpg/image_{number:05d}.jpg", width=20 + number, height=30 - number, seed=number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([FLOWER_LABELS], np.uint8)})
    savemat(folder / "setid.mat", {name: np.array([rows], np.uint16) for name, rows in FLOWER_SPLITS.items()})
    pack(folder / "102flowers.tgz", folder / "jpg")
    known = {key: (name, md5_of(folder / name)) for key, (name, _) in Theirs._file_dict.items()}
    patch.setattr(Theirs, "_file_dict", known)
    patch.setattr("dmf.plugins.datasets.flowers102.PICTURES", 7)


def celeba(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Twelve pictures of CelebA's size in its zip, and all its text files."""
    from torchvision.datasets import CelebA as Theirs

    folder = root / "celeba"
    folder.mkdir()
    names = [f"{number:06d}.jpg" for number in range(1, FACES + 1)]
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as packed:
        packed.writestr("img_align_celeba/", b"")
        for name, content in zip(names, faces(), strict=True):
            packed.writestr(f"img_align_celeba/{name}", content)
    draw = np.random.RandomState(1)
    signs = draw.choice([-1, 1], size=(FACES, 40))
    rows = [f"{name} " + " ".join(f"{sign:2d}" for sign in row) for name, row in zip(names, signs, strict=True)]
    _write(folder / "list_attr_celeba.txt", [str(FACES), f"{HEADER} ", *(f"{row} " for row in rows)])
    _write(folder / "list_eval_partition.txt", [f"{n} {p}" for n, p in zip(names, FACE_PARTS, strict=True)])
    _write(folder / "identity_CelebA.txt", [f"{name} {i % 5 + 1}" for i, name in enumerate(names)])
    _write(
        folder / "list_bbox_celeba.txt",
        [str(FACES), "image_id x_1 y_1 width height", *(f"{n}    95  71 226 313" for n in names)],
    )
    marks = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    _write(
        folder / "list_landmarks_align_celeba.txt",
        [str(FACES), marks, *(f"{n} 69 109 106 113 77 142 73 152 108 154" for n in names)],
    )
    known = [(file_id, md5_of(folder / name), name) for file_id, _, name in Theirs.file_list]
    patch.setattr(Theirs, "file_list", known)
    patch.setattr("dmf.plugins.datasets._celeba_files.PICTURES", FACES)


def faces() -> list[bytes]:
    """JPEGs of 178 x 218, each of one colour inside the square of 128 around (89, 121) and of noise around it."""
    from PIL import Image

    found = []
    for i in range(FACES):
        pixels = np.random.RandomState(i).randint(256, size=(218, 178, 3)).astype(np.uint8)
        pixels[57:185, 25:153] = (20 * i, 255 - 20 * i, 128)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG", quality=100, subsampling=0)
        found.append(content.getvalue())
    return found


def _write(file: Path, lines: list[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines))
