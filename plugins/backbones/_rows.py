"""The tokens of an image as the row that a scan makes of them, and back, for every state-space backbone.

Source: Teng et al. 2024, "DiM" (arXiv 2405.14224), section 3.2: learned tokens where a row or column of patches ends
tell the layer that the next patch is no neighbour. A scan that never jumps has none.
"""

import torch
from torch import Tensor, nn

from ...core.scans import inverse, line_ends


class Row(nn.Module):
    """A row as a scan reads it: a head token, then the patches in its order, learned tokens between its lines.

    Args:
        order: The scan, (N,) int64 on the CPU.
        columns: Of patches.
        width: D, of a token.
        between: Learned tokens between one line and the next.

    Raises:
        ValueError: ``order`` is no permutation.
    """

    layout: Tensor
    places: Tensor

    def __init__(self, order: Tensor, columns: int, width: int, between: int) -> None:
        super().__init__()
        layout, places = _layout(order, line_ends(order, columns), between)
        here = torch.get_default_device()  # where the weights are being made
        self.register_buffer("layout", layout.to(here), persistent=False)
        self.register_buffer("places", places.to(here), persistent=False)
        has_lines = len(layout) > len(places)
        self.between = nn.Parameter(0.02 * torch.randn(between, width)) if has_lines else None

    def forward(self, tokens: Tensor) -> Tensor:
        """Head and patches, row by row, (B, 1 + N, D), to the scan's row (B, L, D)."""
        if self.between is not None:
            learned = self.between.to(tokens.dtype).expand(len(tokens), -1, -1)
            tokens = torch.cat([tokens, learned], dim=1)
        return tokens.index_select(1, self.layout)

    def back(self, row: Tensor) -> Tensor:
        """The scan's row (B, L, D) to head and patches (B, 1 + N, D); what became of the learned tokens is dropped."""
        return row.index_select(1, self.places)


def _layout(order: Tensor, ends: Tensor, between: int) -> tuple[Tensor, Tensor]:
    """Where each token of the row comes from, (L,), and where each of head and patches is in it, (1 + N,).

    Sources are numbered: 0 the head, 1 + i patch i, 1 + N + j learned token j.
    """
    n = len(order)
    lines_before = ends.cumsum(0) - ends.long()
    place = 1 + torch.arange(n, device=order.device) + between * lines_before  # of token k of the scan
    layout = torch.full((1 + n + between * int(ends.sum()),), -1, device=order.device)
    layout[0] = 0
    layout[place] = 1 + order
    learned = layout < 0
    layout[learned] = 1 + n + torch.arange(int(learned.sum()), device=order.device) % max(between, 1)
    return layout, torch.cat([layout[:1], place[inverse(order)]])
