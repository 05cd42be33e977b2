"""Images as rows of tokens and back: one token a square patch, each by a linear map.

Source: Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words" (arXiv 2010.11929), equation 1; back as Peebles & Xie
2022 (arXiv 2212.09748), section 3.2, "Transformer decoder".
"""

from torch import Tensor, nn

from ...core import DataSpec
from ._embeddings import image_size


class Patches(nn.Module):
    """(B, C, H, W) to tokens (B, N, D), row by row.

    Args:
        spec: Images or latents.
        width: D, of a token.
        patch: Side of a patch; divides H and W.
        backbone: Its name, for the messages.

    Attributes:
        rows: Of patches.
        columns: Likewise; N = rows * columns.

    Raises:
        ValueError: The data is no images, or the patch does not divide them.
    """

    def __init__(self, spec: DataSpec, width: int, patch: int, backbone: str) -> None:
        super().__init__()
        channels, height, columns = image_size(spec, backbone)
        _check_patch(height, columns, patch)
        self.shape, self.patch, self.backbone = spec.shape, patch, backbone
        self.rows, self.columns = height // patch, columns // patch
        self.map = nn.Linear(channels * patch * patch, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, N, D)."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"this {self.backbone} was built for images {self.shape}; got {tuple(x.shape[1:])}")
        p, c = self.patch, self.shape[0]
        # (B, C, rows, p, columns, p) -> (B, rows, columns, C, p, p)
        cut = x.reshape(len(x), c, self.rows, p, self.columns, p).permute(0, 2, 4, 1, 3, 5)
        tokens: Tensor = self.map(cut.reshape(len(x), self.rows * self.columns, c * p * p))
        return tokens.to(x.dtype)  # under autocast too: what all blocks add to is kept in the image's precision


class Unpatch(nn.Module):
    """Tokens (B, N, D) to (B, C, H, W): a linear map of each token to the pixels of its patch.

    Args:
        patches: What made the tokens.
        width: D, of a token.
        channels: C, of the result.
    """

    def __init__(self, patches: Patches, width: int, channels: int) -> None:
        super().__init__()
        self.rows, self.columns, self.patch = patches.rows, patches.columns, patches.patch
        self.map = nn.Linear(width, self.patch * self.patch * channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, C, H, W)."""
        return self.assemble(self.map(tokens))

    def assemble(self, pixels: Tensor) -> Tensor:
        """(B, N, p * p * C), of each patch, to (B, C, H, W)."""
        p = self.patch
        x = pixels.reshape(len(pixels), self.rows, self.columns, p, p, -1)
        # (B, rows, columns, p, p, C) -> (B, C, rows, p, columns, p)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(len(pixels), -1, self.rows * p, self.columns * p)


def _check_patch(height: int, width: int, patch: int) -> None:
    if height % patch or width % patch:
        fits = [p for p in range(1, min(height, width) + 1) if height % p == width % p == 0]
        raise ValueError(
            f"patch {patch} does not divide the image of {height} x {width};"
            f" write backbone.patch: {min(fits, key=lambda p: abs(p - patch))} (of {', '.join(map(str, fits))})"
        )
