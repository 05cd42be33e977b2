"""What several backbones refuse alike, where the ranges of a recipe's options are not checked: from Python."""


def at_least_one(**sizes: int | None) -> None:
    """Refuse a size below 1; None is one that was not given.

    Args:
        sizes: By the names that the message gives them.

    Raises:
        ValueError: One is below 1.
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"{name} is a whole number from 1 on; got {size}")
