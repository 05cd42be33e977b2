"""Are generated digits digits? ``python -m dmf.testing.digits FILE.npz`` judges what ``dmf sample --npz`` wrote.

Two figures: the share that a support-vector machine, trained on real digits, takes for the class that was asked for;
and how much the images of a class vary, as the pixels' standard deviation beside that of the real images.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Judgement(NamedTuple):
    """The two figures.

    Attributes:
        recognised: Share of images taken for their class, 0 to 1.
        spread: Mean over classes of the pixels' standard deviation, in units of the real one.
    """

    recognised: float
    spread: float


def judge(images: Array, labels: Array) -> Judgement:
    """Judge generated digits.

    Args:
        images: uint8 (N, 8, 8) or (N, 8, 8, 1).
        labels: (N,), the class asked for.
    """
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    real = load_digits()
    made = images.reshape(len(images), 64) / 255 * 16  # the scale of the real ones
    taken_for = SVC(gamma=0.001).fit(real.data, real.target).predict(made)
    spread = [_spread(made[labels == k]) / _spread(real.data[real.target == k]) for k in np.unique(labels)]
    return Judgement(float(np.mean(taken_for == labels)), float(np.mean(spread)))


def _spread(images: Array) -> float:
    """Standard deviation of a pixel within a class, mean over the pixels."""
    return float(images.std(0).mean())


def main() -> None:
    """Print the figures of a file."""
    parser = argparse.ArgumentParser(description="Judge the digits that `dmf sample --npz` wrote.")
    parser.add_argument("npz", help="arr_0: images, arr_1: labels")
    with np.load(parser.parse_args().npz) as arrays:
        judged = judge(arrays["arr_0"], arrays["arr_1"])
    print(f"recognised as their class: {judged.recognised:.1%}")
    print(f"spread within a class: {judged.spread:.2f} of the real one's")


if __name__ == "__main__":
    main()
