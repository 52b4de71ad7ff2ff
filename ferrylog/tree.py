"""YAML and JSON texts as plain values, with the line on which each of them stands.

Of YAML the values that JSON has too, as YAML 1.2 reads them: `on`, `yes` and `2026-01-01` are
texts. Dates and other values of BSON are written as Extended JSON in both.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from statemachine.errors import OperatorError

Place = tuple[str | int, ...]
"""Names and numbers that lead to a value."""
MAX_BYTES: Final = 4 << 20
"""Of a file: all of it goes through one commit of the journal."""
MAX_DEPTH: Final = 100
"""Servers take documents that deep in one another."""


class BadTree(OperatorError):
    """A file that cannot be read as one value; and what its values may not be."""

    code, exit_code = "EOPS002", 2


@dataclass(frozen=True, slots=True)
class Tree:
    value: Any
    lines: dict[Place, int] = field(default_factory=dict)
    """From 1; none of a JSON file."""


def read_tree(path: Path) -> Tree:
    """Raises `BadTree`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadTree(f"{path} has more than {MAX_BYTES >> 20} MiB", remedy="cut it in parts")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8"
        raise BadTree(f"cannot read {path}: {why}", remedy="name a YAML or JSON file") from None
    try:
        return _json(text) if path.suffix == ".json" else _yaml(text)
    except _Wrong as error:
        raise BadTree(f"{path}{error}", remedy="see docs/operations.md") from None
    except RecursionError:
        raise BadTree(f"{path}: too many values in one another", remedy="flatten it") from None


class _Wrong(Exception):
    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(f":{line}: {why}" if line else f": {why}")


def _json(text: str) -> Tree:
    try:
        return Tree(json.loads(text, object_pairs_hook=_once))
    except json.JSONDecodeError as error:
        raise _Wrong(error.msg, error.lineno) from None
    except ValueError as error:  # an integer of thousands of digits
        raise _Wrong(str(error)) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Wrong(f"{twice!r} stands twice in one object")
    return found


class _Loader(yaml.SafeLoader):
    """Knows the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 — as the class above has it


_NULL, _BOOL, _INT, _FLOAT, _TEXT, _MAP, _SEQ = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "map", "seq")
)
for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", list("-+0123456789")),
    (
        _FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})\\Z"), _first)


def _yaml(text: str) -> Tree:
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        said = [each for each in (error.context, error.problem) if each]
        raise _Wrong(", ".join(said) or "it is no YAML", line) from None
    except yaml.YAMLError as error:
        raise _Wrong(str(error).replace("\n", " ")) from None
    if node is None:
        raise _Wrong("it is empty")
    lines: dict[Place, int] = {}
    return Tree(_Nodes(lines).value(node, ()), lines)


class _Nodes:
    """Turns nodes into values, each node once: what refers to others may grow without end."""

    def __init__(self, lines: dict[Place, int]) -> None:
        self._lines = lines
        self._seen: set[int] = set()

    def value(self, node: yaml.Node, place: Place) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(place, line)
        if id(node) in self._seen or len(place) > MAX_DEPTH:
            raise _Wrong("write it out: references (*name) are not taken, nor deep nesting", line)
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return dict(self._pairs(node, place))
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self.value(each, (*place, n)) for n, each in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return _scalar(node, line)
        raise _Wrong(f"what is tagged {node.tag} is not taken: write Extended JSON", line)

    def _pairs(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        names: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _Wrong("a name is a text", line)
            if key.value in names:
                raise _Wrong(f"{key.value!r} stands twice in one mapping", line)
            names.add(key.value)
            self._lines[*place, key.value] = line
            yield key.value, self.value(value, (*place, key.value))


_SCALARS: Final = (_NULL, _BOOL, _INT, _FLOAT, _TEXT)


def _scalar(node: yaml.ScalarNode, line: int) -> Any:
    text: str = node.value
    try:
        match node.tag.rpartition(":")[2]:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, 0 if text[:2] in ("0x", "0o") else 10)
            case "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise _Wrong(f"{text[:40]!r} is no number", line) from None
    return text
