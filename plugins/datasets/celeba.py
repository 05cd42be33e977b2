"""CelebA, aligned and cropped: 202,599 photographs of faces, 178 x 218, with 40 attributes.

Source: Liu, Luo, Wang & Tang 2015, "Deep Learning Face Attributes in the Wild", arXiv 1411.7766; files by torchvision.
What part of a picture counts differs between papers, and scores of different parts do not compare:

    128  around (89, 121), 12 pixels below the middle: DDIM (Song, Meng & Ermon 2021, arXiv 2010.02502) and U-ViT (Bao
         et al. 2023, arXiv 2209.12152), by their code
    140  the middle: the score SDE (Song et al. 2021, arXiv 2011.13456), by its code
    148  the middle: code of many variational autoencoders
    178  the middle, as wide as the picture: DDPM-IP (Ning et al. 2023, arXiv 2301.11706), by its code
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from ...core import Dataset
from ...files.places import data_folder
from ...files.reading import Treatment
from ._celeba_files import Attribute, Split, open_celeba
from ._picture_set import MemoryGiB, PictureSet
from ._resized import Side

Crop: TypeAlias = Literal[128, 140, 148, 178]
BOXES: dict[Crop, tuple[int, int, int, int]] = {  # left, top, right, bottom
    128: (25, 57, 153, 185),
    140: (19, 39, 159, 179),
    148: (15, 35, 163, 183),
    178: (0, 20, 178, 198),
}


class CelebA(PictureSet):
    """Photographs of faces, 162770 to train on, cut square and scaled; downloaded when they are not there.

    Args:
        size: Side of the images in pixels; antialiased bicubic.
        crop: Side of the square of each 178x218 picture that counts: 128 around (89, 121), as DDIM and U-ViT have it;
            140, 148 or 178 in the middle.
        label: An attribute, by its name in CelebA's own list, that makes two classes: those without and those with it.
        split: The authors' parts: 162770, 19867 and 19962 pictures of different people. `train` holds out `test`.
        root: Folder that holds ``celeba``; when left out, the environment variable DMF_DATA, or ``data``.
        download: Whether to download what is missing (1.4 GB).
        memory_gib: Keep the decoded images in memory if they need at most so many GiB, else read file by file; all of
            `train` at 64 pixels are 1.9.
        cache: Keep the decoded images on disk for the next start.
    """

    def __init__(
        self,
        *,
        size: Side = 64,
        crop: Crop = 128,
        label: Attribute = "none",
        split: Split = "train",
        root: str | None = None,
        download: bool = True,
        memory_gib: MemoryGiB = 2.0,
        cache: bool = True,
    ) -> None:
        collection = open_celeba(data_folder(root), split, label, download)
        treatment = Treatment(size, box=BOXES[crop])
        super().__init__(collection, treatment, memory_gib=memory_gib, cache=cache, part=split)
        self.size, self.crop, self.label, self.split = size, crop, label, split
        self.root, self.download, self.memory_gib, self.cache = root, download, memory_gib, cache

    def held_out(self) -> Dataset | None:
        """The authors' test part, for `train`."""
        if self.split != "train":
            return None
        return CelebA(
            size=self.size,
            crop=self.crop,
            label=self.label,
            split="test",
            root=self.root,
            download=self.download,
            memory_gib=self.memory_gib,
            cache=self.cache,
        )
