"""YAML 1.2 as people expect it: ``1e-4`` is a number, ``no`` and ``12:30`` are texts, a repeated key is an error.

PyYAML scans and parses; the values are made here, because its own constructors follow YAML 1.1.
"""

import re
from pathlib import Path as FilePath
from typing import Any

import yaml

from .errors import RecipeError
from .located import Located, Mark, Node, located

LARGEST_FILE_BYTES = 1 << 20
LARGEST_NODES = 100_000
DEEPEST = 64

_Loader: Any = getattr(yaml, "CLoader", yaml.Loader)
# the scalars of the core schema, YAML 1.2.2 section 10.3.2
_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # section 5.1
_SPECIAL = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


def load(text: str, source: str) -> Located:
    """The one document of a text, with the place of every key and list item.

    Raises:
        RecipeError: Broken YAML, a repeated key, a tag, a key that is no text; each with file, line and column.
    """
    return located(load_tree(text, source))


def load_tree(text: str, source: str) -> Node:
    """The same as nodes."""
    return _Reader(source).read(text)


def parse_value(text: str) -> Any:
    """The value that stands behind ``key=`` on the command line."""
    return load(text, "value").value


def read_text(path: FilePath) -> str:
    """A recipe's text, or a `RecipeError` that says why the file is none."""
    try:
        with path.open("rb") as file:
            found = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(found) > LARGEST_FILE_BYTES:
        raise RecipeError(f"{path}: is larger than 1 MiB, expected a recipe (a YAML text)")
    try:
        text = found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        raise RecipeError(
            f"{path}:{line}: byte {found[error.start]:#04x} is not UTF-8, expected a recipe (a YAML text in UTF-8)"
        ) from error
    return text


class _Reader:
    """Builds one document from PyYAML's events."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.anchors: dict[str, Node] = {}
        self.sizes: dict[int, int] = {}
        self.problems: list[tuple[Mark, str]] = []
        self.nodes = 0

    def read(self, text: str) -> Node:
        self._refuse_unprintable(text)
        self.text = text
        try:
            self.events = yaml.parse(text, Loader=_Loader)
            found = self._document()
        except yaml.MarkedYAMLError as error:
            raise RecipeError(self._broken(error)) from error
        if self.problems:
            raise RecipeError(f"{mark}: {text}" for mark, text in sorted(self.problems))
        return found

    def _document(self) -> Node:
        next(self.events)  # the stream's start
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            return Node(None, Mark(self.source, 1, 1))
        found = self._node(next(self.events), Mark(self.source, 1, 1), 0)
        next(self.events)  # the document's end
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._complain(self._mark(after), "a second document begins, expected one recipe a file")
        return found

    def _node(self, event: Any, mark: Mark, depth: int) -> Node:
        """The node that begins with ``event``; ``mark`` is its key's, or its own in a list."""
        self._refuse_depth(depth, event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, mark, depth)
        self._refuse_tag(event)
        before = self.nodes
        self._count(1, event)
        found = Node(self._content(event, depth), mark)
        if event.anchor:
            self.anchors[event.anchor] = found
            self.sizes[id(found)] = self.nodes - before
        return found

    def _content(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        return self._list(depth) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(depth)

    def _list(self, depth: int) -> list[Node]:
        found = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            found.append(self._node(event, self._mark(event), depth + 1))
        return found

    def _mapping(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        merged: list[Node] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            mark = self._mark(event)
            merges = isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]
            key = self._node(event, mark, depth + 1).value
            value = self._node(next(self.events), mark, depth + 1)
            if merges:
                merged += self._to_merge(value)
            elif not isinstance(key, str):
                self._complain(mark, f"the key is {_what(key)}, expected a text; put quotes round it if it is one")
            elif key in found:
                self._complain(mark, f"repeated key {key!r}, first at line {found[key].mark.line}")
            else:
                found[key] = value
        for node in merged:  # what is written here wins, then what is merged first
            found = {**node.value, **found}
        return found

    def _to_merge(self, node: Node) -> list[Node]:
        """The mappings behind ``<<``, the weakest last."""
        several = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(n.value, dict) for n in several):
            self._complain(node.mark, "<< merges a mapping or a list of mappings")
            return []
        return list(several)

    def _alias(self, event: Any, mark: Mark, depth: int) -> Node:
        if event.anchor not in self.anchors:
            raise RecipeError(f"{self._mark(event)}: *{event.anchor} stands for nothing that is complete above it")
        found = self.anchors[event.anchor]
        self._count(self.sizes[id(found)], event)
        self._refuse_depth(depth + found.height() - 1, event)
        return Node(found.value, mark)

    def _scalar(self, event: Any) -> Any:
        if not event.implicit[0]:  # quoted, or a block text
            return event.value
        try:
            return resolved(event.value)
        except ValueError:
            self._complain(self._mark(event), f"a number of {len(event.value)} digits is too long")
            return None

    def _count(self, more: int, event: Any) -> None:
        self.nodes += more
        if self.nodes > LARGEST_NODES:
            raise RecipeError(f"{self._mark(event)}: more than {LARGEST_NODES} values, expected a recipe")

    def _refuse_depth(self, depth: int, event: Any) -> None:
        if depth > DEEPEST:
            raise RecipeError(f"{self._mark(event)}: nested more than {DEEPEST} levels deep")

    def _refuse_unprintable(self, text: str) -> None:
        """PyYAML refuses these too, but does not say where they are."""
        found = _UNPRINTABLE.search(text)
        if found:
            line, column = text.count("\n", 0, found.start()) + 1, found.start() - text.rfind("\n", 0, found.start())
            raise RecipeError(
                f"{Mark(self.source, line, column)}: broken YAML: the character "
                f"{found.group().encode('unicode_escape').decode()} does not belong in a text"
            )

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            self._complain(self._mark(event), f"the tag {event.tag!r} is not for recipes; write the value without it")

    def _complain(self, mark: Mark, text: str) -> None:
        self.problems.append((mark, text))

    def _mark(self, event: Any) -> Mark:
        return Mark(self.source, event.start_mark.line + 1, event.start_mark.column + 1)

    def _broken(self, error: yaml.MarkedYAMLError) -> str:
        """PyYAML's several lines as one, with what they leave out: the letter, and the line of what is not closed."""
        begun, at = error.context_mark, error.problem_mark or error.context_mark
        if at is None:
            return f"{self.source}: broken YAML: {error.problem or error.context}"
        lines = self.text.splitlines()
        letter = lines[at.line][at.column : at.column + 1] if at.line < len(lines) else ""
        hint = f" ({letter!r})" if "cannot start" in str(error.problem) else ""
        hint = " (indent with spaces, not tabs)" if letter == "\t" else hint
        context = f", {error.context}" if error.context else ""
        context += f" that begins at line {begun.line + 1}" if context and begun and begun.line != at.line else ""
        return f"{Mark(self.source, at.line + 1, at.column + 1)}: broken YAML: {error.problem}{hint}{context}"


def resolved(text: str) -> Any:
    """The value of a plain scalar in YAML 1.2's core schema.

    >>> [resolved(t) for t in ("1e-4", "no", "010", "0o10", "12:30", "~")]
    [0.0001, 'no', 10, 8, '12:30', None]
    """
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text[0] in "tT"
    if _INT.match(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.match(text):
        return float(text)
    return float(text.replace(".", "", 1)) if _SPECIAL.match(text) else text


def _what(key: Any) -> str:
    names = {type(None): "empty", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(key), "a mapping")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""


_Dumper.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeDumper.yaml_implicit_resolvers.items()}
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]


def written(value: Any) -> str:
    """A plain value as a recipe has it, on one line.

    >>> written([1, 2, {"name": "no"}])
    "[1, 2, {name: 'no'}]"
    """
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def dump(value: Any) -> str:
    """Plain values as YAML, in the order they have."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
