"""CIFAR-100 on files of its format: both kinds of labels, splits, and what is said when the files are not there."""

import pickle
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from data_kit import no_network_fixture as no_network_fixture
from data_kit import same_item_by_item
from stand_ins_kit import stand_ins_fixture as stand_ins_fixture

from dmf.plugins.datasets.cifar100 import CIFAR100
from dmf.testing import check_dataset


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("labels", "classes"), [("fine", 100), ("coarse", 20)])
def test_it_reads_the_batches(stand_ins: Path, labels: Literal["fine", "coarse"], classes: int) -> None:
    train = CIFAR100(labels=labels)
    content = pickle.loads((stand_ins / "cifar-100-python/train").read_bytes())
    assert train.images.shape == (20, 3, 32, 32) and len(train.spec.classes) == classes
    assert torch.equal(train.images.flatten(1), torch.from_numpy(content["data"]))
    assert train.cond["class"].tolist() == content[f"{labels}_labels"]
    assert train.spec.classes[:2] == {"fine": ("kind 0", "kind 1"), "coarse": ("group 0", "group 1")}[labels]
    same_item_by_item(train, range(20))
    check_dataset(train)


@pytest.mark.usefixtures("no_network")
def test_what_is_held_out_is_of_the_same_kind(stand_ins: Path) -> None:
    train = CIFAR100(labels="coarse", size=24, download=False)
    test = train.held_out()
    assert isinstance(test, CIFAR100) and len(test) == 5 and test.held_out() is None
    assert test.spec == train.spec and (test.labels, test.size, test.download) == ("coarse", 24, False)
    content = pickle.loads((stand_ins / "cifar-100-python/test").read_bytes())
    assert test.cond["class"].tolist() == content["coarse_labels"]


def test_the_two_kinds_of_labels_are_different_data(stand_ins: Path) -> None:
    assert CIFAR100().fingerprint() != CIFAR100(labels="coarse").fingerprint()


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("options", [{}, {"download": False}])
def test_it_says_what_it_looked_for(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as error:
        CIFAR100(root=str(tmp_path), **options)
    text = str(error.value)
    assert f"CIFAR-100 is not (whole) in {tmp_path}/cifar-100-python" in text
    # the md5s of the authors' page and of torchvision
    for md5 in ("eb9058c3a382ffc7106e4002c42a8d85", "16019d7e3df5f24257cddd939b257f8d"):
        assert any(md5 in line and line.endswith("missing") for line in text.splitlines())
    assert f"put it into {tmp_path}" in text and "the folder that holds cifar-100-python" in text
