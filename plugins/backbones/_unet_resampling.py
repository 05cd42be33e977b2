"""How a U-Net halves and doubles the resolution. A side of 7 is halved to 4, then doubled to 8 and cropped.

Source: a convolution, Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), appendix B; means
and copies inside a residual block, Dhariwal & Nichol 2021, "Diffusion Models Beat GANs" (arXiv 2105.05233), section 3.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate


class Halve(nn.Module):
    """(B, C, H, W) to (B, C, H/2, W/2): means of 2 x 2 pixels, at the end of an odd side of those that there are."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return avg_pool2d(x, 2, ceil_mode=True)


class Double(nn.Module):
    """(B, C, H, W) to (B, C, 2H, 2W): nearest neighbours."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return _doubled(x)


class HalveByConvolution(nn.Module):
    """(B, C, H, W) to (B, C, H/2, W/2), learned. It takes the embedding, as blocks do, and ignores it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply it."""
        out: Tensor = self.conv(x)
        return out


class DoubleByConvolution(nn.Module):
    """(B, C, H, W) to (B, C, 2H, 2W): nearest neighbours, then a convolution; it ignores the embedding likewise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply it."""
        return convolve_doubled(x, self.conv)


def convolve_doubled(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The convolution of x doubled.

    Args:
        x: (B, C, H, W).
        conv: 3 x 3, from C channels to K.

    Returns:
        (B, K, 2H, 2W), equal to ``conv(Double()(x))``: to the bit but in float32 on a CPU, and there up to rounding.
    """
    # measured faster in float32 on a CPU, and nowhere else yet; of bf16 it would add nine rounded products, and under
    # autocast turn the sum into float32, and all that is joined to it
    if x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled(x.device.type):
        return _convolved_before_doubling(x, conv)
    out: Tensor = conv(_doubled(x))
    return out


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="nearest")


def _convolved_before_doubling(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The same from a quarter of the products: equal neighbours are multiplied once."""
    batch, _, rows, columns = x.shape
    taps = conv.weight.permute(2, 3, 0, 1).flatten(0, 2)  # (3, 3, K, C) as (9 K, C)
    products = (taps @ x.flatten(2)).reshape(batch, 3, 3, conv.out_channels, rows, columns)
    out = _add_taps(_add_taps(products))  # of the rows, then of the columns
    assert conv.bias is not None
    return out + conv.bias[:, None, None]


def _add_taps(products: Tensor) -> Tensor:
    """(B, 3, *, n, ...) products of three taps along n to (B, *, 2n, ...): the sums that a doubled side sees."""
    before, here, after = products.unbind(1)
    # the doubled row 2i sees rows i - 1, i, i of x; row 2i + 1 sees i, i, i + 1; beyond the border is nothing
    even, odd = here + after, before + here
    even[:, :, :, 1:] += before[:, :, :, :-1]
    odd[:, :, :, :-1] += after[:, :, :, 1:]
    return torch.stack([even, odd], 4).flatten(3, 4)
