"""The trace of the root of a product of two covariances, tr (S1 S2)^(1/2).

With S1 = A A^T and S2 = B B^T the eigenvalues of S1 S2 are those of M M^T for M = A^T B, the squares of M's singular
values. The eigenvalues of the symmetric M M^T come several times as fast as singular values, but a root is taken of
their rounding: where that could be seen in the sum, the singular values are taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

SEEN = 1e-7  # of the trace, by an estimate that is some thousand times what is met: see tests/test_root_trace.py


def root_trace(cov1: Tensor, cov2: Tensor) -> Tensor:
    """tr (S1 S2)^(1/2), 0-d.

    Args:
        cov1: (D, D) float64, symmetric and positive semi-definite up to rounding.
        cov2: As ``cov1``.
    """
    m = _factor(cov1).T @ _factor(cov2)  # (r1, r2)
    values = torch.linalg.eigvalsh(m @ m.T if len(m) <= m.shape[1] else m.T @ m).clamp(min=0)
    trace: Tensor = values.sqrt().sum()
    if _rounding(values) > SEEN * trace:
        trace = torch.linalg.svdvals(m).sum()
    return trace


def _rounding(values: Tensor) -> Tensor:
    """What the rounding of eigenvalues may make of the sum of their roots, 0-d."""
    if not len(values):
        return values.sum()
    # |d sqrt(v)| is |dv| / (2 sqrt(v)), and no more than sqrt(|dv|); |dv| is about eps of the largest
    off = torch.finfo(values.dtype).eps * values.max()
    return torch.minimum(off / (2 * values.sqrt()), off.sqrt()).sum()


def _factor(cov: Tensor) -> Tensor:
    """A, (D, r), with A A^T = ``cov``: Cholesky's, or, where the covariance is singular, by its eigenvectors."""
    low: Tensor
    low, singular = torch.linalg.cholesky_ex(cov)
    if not singular:
        return low
    values, vectors = torch.linalg.eigh(cov)
    kept = values > values.abs().max() * len(cov) * torch.finfo(cov.dtype).eps  # the others are zeros, rounded
    root: Tensor = vectors[:, kept] * values[kept].sqrt()
    return root
