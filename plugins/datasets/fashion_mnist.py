"""FashionMNIST, through torchvision: 70,000 pictures of clothes, 28 x 28, grey, in the files and splits of MNIST.

Source: Xiao, Rasul & Vollgraf 2017, "Fashion-MNIST", arXiv 1708.07747; class names as in its table 2.
"""

from .mnist import MNIST


class FashionMNIST(MNIST):
    """Clothes, 28x28 grey, 60000 to train on and 10000 held out; downloaded when they are not there.

    Args:
        split: Which images.
        size: Side of the images in pixels, if not the 28 that they have; antialiased bicubic.
        root: Folder that holds ``FashionMNIST/raw``; when left out, the environment variable DMF_DATA, or ``data``.
        download: Whether to download what is missing (31 MB).
    """

    NAME = "FashionMNIST"
    CLASSES = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
