"""Values that know where they were written."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .tidy import Path


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a file, or an override on the command line, which has no line.

    Attributes:
        source: The file as the user named it, or the override.
        line: Counted from 1; 0 for an override.
        column: Counted from 1; 0 for an override.
    """

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Located:
    """A plain value and where each key and list item in it was written; ``()`` is the whole."""

    value: Any
    marks: dict[Path, Mark]


@dataclass(frozen=True)
class Node:
    """A value in the making: a scalar, a list of nodes, or a mapping of nodes.

    Attributes:
        value: The scalar, list or mapping.
        mark: Where its key, or the item of its list, begins.
    """

    value: Any
    mark: Mark

    def plain(self) -> Any:
        """The value without its marks."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def places(self, path: Path = ()) -> Iterator[tuple[Path, Mark]]:
        """(path, mark) of this node and of all below."""
        yield path, self.mark
        for key, node in self.children():
            yield from node.places((*path, key))

    def height(self) -> int:
        """Levels from here to the deepest scalar; 1 for a scalar."""
        return 1 + max((node.height() for _, node in self.children()), default=0)

    def children(self) -> list[tuple[str | int, "Node"]]:
        """The nodes one level down, with key or index."""
        if isinstance(self.value, dict):
            return list(self.value.items())
        return list(enumerate(self.value)) if isinstance(self.value, list) else []


def located(node: Node) -> Located:
    """A tree of nodes as a plain value and its marks."""
    return Located(node.plain(), dict(node.places()))


def tree(value: Any, mark: Mark) -> Node:
    """A plain value as nodes that all have one mark."""
    if isinstance(value, dict):
        return Node({key: tree(v, mark) for key, v in value.items()}, mark)
    return Node([tree(v, mark) for v in value] if isinstance(value, list) else value, mark)
