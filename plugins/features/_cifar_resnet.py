"""The residual networks for CIFAR: three stages of 16, 32 and 64 channels, n blocks each, 6 n + 2 layers.

Source: He, Zhang, Ren & Sun 2016, "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 4.2; the
shortcut is option A of section 3.3: where the shape changes, every second pixel, and zeros for the further channels.
Cost of ResNet-20 at 32 x 32: 41 million multiplications an image. The names of the weights are those of the files that
are passed around (`conv1`, `layer1.0.conv1`, ..., `linear`).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad, relu

DEPTHS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without weights.

    Args:
        before: Channels that come in.
        width: Channels that go out; where they are more, the sides are halved.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.stride, self.further = (2, width - before) if width > before else (1, 0)
        self.conv1 = nn.Conv2d(before, width, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, width, H / stride, W / stride)."""
        f = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        # equation 1, with option A: half of the zeros before the channels, half after
        return relu(f + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if not self.further:
            return x
        before = self.further // 2
        return pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.further - before))


class CifarResNet(nn.Module):
    """Images (B, channels, H, W), normalised, to logits (B, classes).

    Args:
        depth: 6 n + 2.
        classes: Of the last layer.
        channels: Of the images.
    """

    def __init__(self, depth: int, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks)
        self.linear = nn.Linear(WIDTHS[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(before: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(Block(before, width), *(Block(width, width) for _ in range(blocks - 1)))
