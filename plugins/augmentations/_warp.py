"""Affine transforms of a batch of images, each image its own, on the device and without waiting for it.

Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (arXiv 2006.06676), appendix
B: twice as many samples by an orthogonal lowpass filter, bilinear between them, the same filter on the way back; the
image mirrored at its edges. Cost: 2 x 2 bilinear samples a pixel, two filters of 16 taps along each axis.

Their filter is a Symlet of 12 taps, which has no centre: it moves waves by up to a fifth of a pixel, and a half turn
shows that twice. Here it is the symmetric filter with the response |H| of such a wavelet, cut to 16 taps. It is
orthogonal to 1e-4, so that shifts by whole pixels and quarter turns are exact to 0.05 of a grey level.

The code that the papers' figures were made with, NVlabs' `augment.py`, also differs in its edges: it mirrors without
repeating the outermost pixel, by W - 1 pixels at most, and has mid-grey beyond.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

TAPS = 16
VANISHING = 5  # zeros of the response at the highest frequency; odd, for a symmetric filter with an even number of taps
# numbers in an enlarged piece of a batch: it stays in the CPU's cache, keeps a GPU busy, and bounds the memory
AT_A_TIME, AT_A_TIME_ON_CPU = 2**24, 2**19


def lowpass() -> list[float]:
    """The filter h, which sums to 1: the sum of h_n h_(n+2k) is 1/2 for k = 0, and next to 0 for any other k.

    |H(w)|^2 is the maximally flat half-band response of Daubechies 1988, "Orthonormal bases of compactly supported
    wavelets", section 4: cos(w/2)^(2N) times the sum over k < N of (N-1+k choose k) sin(w/2)^(2k). Her filters are
    finite roots of it, and so not symmetric, the Symlets as nearly as can be; H itself is its real root.
    """
    n, step = VANISHING, 4 * math.pi / 512  # in a period of H, whose taps lie half way

    def response(w: float) -> float:
        flat = sum(math.comb(n - 1 + k, k) * math.sin(w / 2) ** (2 * k) for k in range(n))
        return math.cos(w / 2) ** n * math.sqrt(flat)

    # plain numbers: a module that is imported under torch.device("meta") must not make tensors
    responses = [(step * i, response(step * i)) for i in range(512)]
    h = [sum(at * math.cos((tap - (TAPS - 1) / 2) * w) for w, at in responses) for tap in range(TAPS)]
    return [one / sum(h) for one in h]


H = lowpass()


def warp(images: Tensor, back: Tensor) -> Tensor:
    """Images under affine transforms, each its own.

    Args:
        images: (B, C, H, W), float32 of any range.
        back: From a place in the result to where in the image it is read, (B, 2, 3) on (x, y, 1): in pixels from the
            middle of the image, x to the right, y down.

    Returns:
        (B, C, H, W), a little out of range where an edge overshoots.
    """
    most = AT_A_TIME_ON_CPU if images.device.type == "cpu" else AT_A_TIME
    size = max(1, most // (4 * math.prod(images.shape[1:])))
    pieces = (slice(start, start + size) for start in range(0, len(images), size))
    return torch.cat([_warped(images[piece], back[piece]) for piece in pieces])


def _warped(images: Tensor, back: Tensor) -> Tensor:
    # (b, C, 2H, 2W), the first sample a quarter of a pixel before the first pixel
    fine = _doubled(_doubled(images, 2), 3)
    moved = grid_sample(fine, _grid(back, *images.shape[2:]), "bilinear", "reflection", align_corners=False)
    return _halved(_halved(moved, 2), 3)


def _grid(back: Tensor, height: int, width: int) -> Tensor:
    """Where to read the fine samples that `_halved` asks for: (b, 2H + 14, 2W + 14, 2), -1 to 1 from edge to edge."""
    counts = (2 * side + TAPS - 2 for side in (height, width))
    # in pixels from the middle
    y, x = ((torch.arange(count, device=back.device) - (count - 1) / 2) / 2 for count in counts)
    a = back[..., None, None].unbind(2)  # three of (b, 2, 1, 1)
    # no matrix product: a GPU may round its factors to 11 bits
    moved = a[0] * x + a[1] * y[:, None] + a[2]  # (b, 2, 2H + 14, 2W + 14)
    return torch.stack([moved[:, 0] * (2 / width), moved[:, 1] * (2 / height)], -1)


def _doubled(images: Tensor, axis: int) -> Tensor:
    """Twice as many samples along an axis; the image goes on mirrored beyond its edges."""
    side, reach = images.shape[axis], TAPS // 4
    place = torch.arange(-reach, side + reach, device=images.device) % (2 * side)
    around = images.index_select(axis, torch.minimum(place, 2 * side - 1 - place))
    # each pixel becomes the sample a quarter before it, and the one a quarter after
    before = _summed(H[1::2][::-1], [around.narrow(axis, i, side) for i in range(TAPS // 2)])
    after = _summed(H[0::2][::-1], [around.narrow(axis, i + 1, side) for i in range(TAPS // 2)])
    return torch.stack([before, after], axis + 1).flatten(axis, axis + 1).mul_(2)


def _halved(fine: Tensor, axis: int) -> Tensor:
    """Half as many samples along an axis: each the filter's mean of 16; the ends are used up."""
    side = (fine.shape[axis] - TAPS + 2) // 2
    before = [slice(None)] * axis
    return _summed(H, [fine[(*before, slice(i, i + 2 * side - 1, 2))] for i in range(TAPS)])


def _summed(weights: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    total = weights[0] * parts[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total.add_(part, alpha=weight)
    return total
