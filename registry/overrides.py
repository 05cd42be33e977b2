"""``train.steps=500 sampler.name=heun`` on the command line: the values are YAML and go through the recipe's checks."""

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import RecipeError
from .located import Mark, Node, tree
from .merge import as_mapping, default, merged, with_name
from .tidy import Schema
from .words import cut, got
from .yaml12 import DEEPEST, load


@dataclass(frozen=True)
class Override:
    """One override.

    Attributes:
        path: The keys and list indices, as they were written.
        node: The value; its mark is the override itself.
    """

    path: tuple[str, ...]
    node: Node

    @property
    def rank(self) -> tuple[int, bool]:
        """Outer keys come before what is inside them, a part's name before its options."""
        return len(self.path), self.path[-1] != "name"


def applied(root: Node, texts: Iterable[str], schema: Schema) -> tuple[Node, list[str]]:
    """The recipe with the overrides in it, and what is wrong with those that cannot be applied."""
    wrong: list[str] = []
    found: list[Override] = []
    for text in texts:
        try:
            found.append(parsed(text))
        except RecipeError as error:
            wrong += error.problems
    for override in sorted(found, key=lambda o: o.rank):
        try:
            root = _set(root, schema, override, 0)
        except RecipeError as error:
            wrong += error.problems
    return root, wrong


def parsed(text: str) -> Override:
    """An override from its text.

    Raises:
        RecipeError: No ``=``, an empty key, a value that is not YAML, or a key that only files have.
    """
    mark = Mark(f"override {cut(text)}")
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise RecipeError(f"{mark}: expected key=value, the key like train.steps")
    if len(path) > DEEPEST:
        raise RecipeError(f"{mark}: the key is more than {DEEPEST} levels deep")
    if path[0] == "extends":
        raise RecipeError(f"{mark}: extends can only stand in a file")
    try:
        return Override(path, tree(load(value, "value").value, mark))
    except RecipeError as error:
        # a place within the value helps nobody: it is in front of the user's eyes
        raise RecipeError(f"{mark}: {problem.partition(': ')[2]}" for problem in error.problems) from error


def _set(node: Node, schema: Schema, override: Override, depth: int) -> Node:
    """The node with the override's value put in, ``depth`` keys down its path."""
    mark, key = override.node.mark, override.path[depth]
    inside = not schema  # among a part's options, whose schema is not known yet: a text may be the name of a part
    node = as_mapping(node, schema)
    if inside and isinstance(node.value, str):
        node = Node({"name": node}, mark)
    if isinstance(node.value, list):
        return _set_item(node, schema, override, depth)
    if not isinstance(node.value, dict):
        raise RecipeError(f"{mark}: {'.'.join(override.path[:depth])} is {got(node.value)}, which has no key {key!r}")
    last = depth + 1 == len(override.path)
    if last and key == "name" and ("x-part" in schema or inside):
        return _renamed(node, override.node, schema)
    below = schema.get("properties", {}).get(key, {})
    return Node({**node.value, key: _below(node.value.get(key), below, override, depth)}, node.mark)


def _set_item(node: Node, schema: Schema, override: Override, depth: int) -> Node:
    key, count = override.path[depth], len(node.value)
    if not (key.isascii() and key.isdigit() and int(key) < count):
        indices = f"0 to {count - 1}" if count else "nothing: it is empty"
        raise RecipeError(
            f"{override.node.mark}: {'.'.join(override.path[:depth])} is a list of {count}, got {key!r}, "
            f"expected {indices}; or give the whole list"
        )
    items = list(node.value)
    items[int(key)] = _below(items[int(key)], schema.get("items") or {}, override, depth)
    return Node(items, node.mark)


def _below(old: Node | None, schema: Schema, override: Override, depth: int) -> Node:
    """The new node one level down: the value itself at the end of the path."""
    mark = override.node.mark
    if depth + 1 < len(override.path):
        known = old if old is not None and old.value is not None else default(schema, mark)
        return _set(known or Node({}, mark), schema, override, depth + 1)
    is_bare_name = "x-part" in schema and isinstance(override.node.value, str)
    return merged(old, override.node, schema) if is_bare_name and old is not None else override.node


def _renamed(part: Node, name: Node, schema: Schema) -> Node:
    same = "name" in part.value and part.value["name"].value == name.value
    return Node({**part.value, "name": name}, part.mark) if same else with_name(part, name, schema)
