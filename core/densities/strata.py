"""Low-discrepancy draws: one u in each of ``count`` equal strata, so that every batch meets every part of the range.

Source: Kingma et al. 2021, "Variational Diffusion Models" (arXiv 2107.00630), appendix I.1. The paper moves one even
grid by one random number; here each stratum has a number of its own, which leaves no fixed distance between two draws.
"""

import torch
from torch import Tensor


def stratified(count: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers, (count,) float64 in [0, 1): one in each stratum [k / count, (k + 1) / count), in random order.

    Args:
        count: Size of the global batch; every rank draws all of it and takes its slice.
        generator: On the CPU.
    """
    k = torch.randperm(count, generator=generator)
    u = (k + torch.rand(count, dtype=torch.float64, generator=generator)) / count
    return u.clamp(max=1 - 2.0**-53)  # the sum may round up to count
