"""Puts recipes together: ``extends``, defaults, and the forms in which a part may be written."""

from collections.abc import Mapping
from typing import Any

from .located import Mark, Node, tree
from .options import is_number, name_and_options
from .recipe_values import SHORT
from .signature import NUMBER_MEANS
from .tidy import Schema


def merged(base: Node, child: Node, schema: Schema, inside_part: bool = False) -> Node:
    """``child`` over ``base``: mappings deep, all else replaced; a part's new name drops the old part's options.

    Args:
        base: What is extended.
        child: What wins.
        schema: The schema of this place; ``{}`` among a part's options.
        inside_part: Whether this place is among a part's options, where any mapping with a name may be a part.
    """
    is_part = "x-part" in schema
    base = as_mapping(base, schema)
    if is_part and isinstance(child.value, str) and isinstance(base.value, dict):
        return with_name(base, child, schema)
    if not (isinstance(base.value, dict) and isinstance(child.value, dict)):
        return child
    if (is_part or inside_part) and "name" in child.value and _name(child) != _name(base):
        base = Node(_reserved(base, schema), base.mark)
    below, values = schema.get("properties", {}), dict(base.value)
    for key, node in child.value.items():
        old = values.get(key)
        values[key] = node if old is None else merged(old, node, below.get(key, {}), is_part or inside_part)
    return Node(values, child.mark)


def with_name(part: Node, name: Node, schema: Schema) -> Node:
    """The part under a new name: its options are dropped, what stands beside them stays."""
    return Node({**_reserved(part, schema), "name": name}, name.mark)


def as_mapping(node: Node, schema: Schema) -> Node:
    """A place in its long form: of a part ``{name, **options}``, the default part without a name; else by `SHORT`."""
    if SHORT in schema and isinstance(node.value, str):
        return Node({schema[SHORT]: node}, node.mark)
    if "x-part" not in schema:
        return node
    kind, value = schema["x-part"], node.value
    if isinstance(value, str) or (is_number(value) and kind in NUMBER_MEANS):
        name, options = name_and_options(kind, value)
        return tree({"name": name, **options}, node.mark)
    if isinstance(value, dict) and "name" not in value and schema.get("default") is not None:
        name, _ = name_and_options(kind, schema["default"])
        return Node({"name": tree(name, node.mark), **value}, node.mark)
    return node


def as_list(node: Node, schema: Schema) -> Node:
    """One part where several may stand, as the list of it alone."""
    items = schema.get("items") or {}
    is_one = isinstance(node.value, (str, dict)) or (is_number(node.value) and items.get("x-part") in NUMBER_MEANS)
    return Node([node], node.mark) if is_one and "x-part" in items else node


def whole(node: Node, schema: Schema) -> Node:
    """The recipe with every default that its schema knows, and every part in its long form."""
    node = as_list(as_mapping(node, schema), schema)
    if isinstance(node.value, list):
        return Node([whole(item, schema.get("items") or {}) for item in node.value], node.mark)
    below: Mapping[str, Any] = schema.get("properties", {})
    if not isinstance(node.value, dict) or not below:
        return node
    values = {key: whole(item, below.get(key, {})) for key, item in node.value.items()}
    return Node({**_defaults(below, node.mark), **values}, node.mark)


def default(schema: Schema, mark: Mark) -> Node | None:
    """The default of a place as nodes; None when there is none, or it is null."""
    return tree(schema["default"], mark) if schema.get("default") is not None else None


def _defaults(below: Mapping[str, Any], mark: Mark) -> dict[str, Node]:
    return {key: whole(tree(s["default"], mark), s) for key, s in below.items() if "default" in s}


def _reserved(part: Node, schema: Schema) -> dict[str, Node]:
    """What stands beside a part's own options: a sampler's steps, guidance, reference, grid."""
    return {key: node for key, node in part.value.items() if key in schema.get("properties", {}) and key != "name"}


def _name(part: Node) -> Any:
    return part.value["name"].value if "name" in part.value else None
