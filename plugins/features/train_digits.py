"""Trains the extractor of `digits`: ``python -m dmf.plugins.features.train_digits OUT``; seconds on a CPU.

The same torch on the same kind of machine gives the same file; other ones may differ in the last digits, which is why
the file is shipped and its sha256 goes into every protocol.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from ..datasets.digits import Digits
from .digits import DigitNet

EPOCHS = 40
BATCH_SIZE = 64
PEAK_LR = 3e-3


def shifted(images: Tensor) -> Tensor:
    """Each image of (B, 1, 8, 8) moved by -1, 0 or 1 pixel along each axis, at random, zeros coming in."""
    batch = len(images)
    wide = pad(images, (1, 1, 1, 1))  # (B, 1, 10, 10)
    rows = torch.arange(8) + torch.randint(3, (batch, 1))
    columns = torch.arange(8) + torch.randint(3, (batch, 1))
    return wide[torch.arange(batch)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def train() -> DigitNet:
    """The network, trained on the 1497 images of the train split and no others."""
    digits = Digits(split="train")
    images, labels = digits.images, digits.cond["class"]
    torch.manual_seed(0)
    network = DigitNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_LR, weight_decay=0.01)
    steps = EPOCHS * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps)
    for _ in range(EPOCHS):
        whole = torch.randperm(len(images))[: len(images) // BATCH_SIZE * BATCH_SIZE]
        for rows in whole.reshape(-1, BATCH_SIZE):
            loss = cross_entropy(network(shifted(images[rows])), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: DigitNet) -> float:
    """Share of the held-out 300 that it reads rightly."""
    test = Digits(split="test")
    with torch.inference_mode():
        return float((network(test.images).argmax(1) == test.cond["class"]).double().mean())


def main(arguments: list[str]) -> int:
    """Train and write OUT."""
    if len(arguments) != 1:
        print("usage: python -m dmf.plugins.features.train_digits OUT.safetensors", file=sys.stderr)
        return 2
    torch.set_num_threads(1)  # sums in one order
    network = train()
    Path(arguments[0]).write_bytes(save(network.state_dict()))  # save_file would make it readable to its owner only
    print(f"{arguments[0]}: held-out accuracy {accuracy(network):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
