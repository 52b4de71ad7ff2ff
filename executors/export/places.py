"""What documents hold, and where: the columns of an export while they are being found.

Each document widens the places that it does not fit, and nothing ever narrows one: whatever fitted
fits from then on, so the order of documents does not matter to any type.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from executors.export.columns import Column, Kind, Types
from executors.export.errors import BadName, TooManyColumns
from executors.export.naming import names_of
from executors.rawbson import elements, int64

MAX_COLUMNS: Final = 5_000
"""Of a file: readers keep some kilobytes for each, and writers a buffer."""
MAX_MEMBERS: Final = 500
"""Of a struct: one with more is a table whose keys are data."""
MAX_BENEATH: Final = 2_000
"""Columns of one struct, for the same reason."""
MAX_LEVELS: Final = 16
"""Of structs and lists: servers take schemas of 100 levels, of which each of ours needs up to six;
few readers take as many."""
MAX_NAME_BYTES: Final = 1_024
MIN_DATE: Final = -62_135_596_800_000
"""Milliseconds: the first of year 1, as far as readers go back."""
MAX_DATE: Final = 253_402_300_799_999
"""The last of year 9999."""
NO_FIELD: Final = Column("_id", "_id", "json")
UUID_HEAD: Final = b"\x10\0\0\0\4"

_KINDS: Final[dict[int, Kind]] = {
    0x01: "double",
    0x02: "string",
    0x03: "struct",
    0x04: "list",
    0x07: "object_id",
    0x08: "bool",
    0x10: "int32",
    0x12: "int64",
    0x13: "decimal",
}
_DATE, _BINARY, _NULL = 0x09, 0x05, 0x0A
BOUNDED: Final = ("timestamp", "uuid", "binary")
"""Kinds that a type of BSON does not tell: servers are asked for bounds too, by a path."""
_WIDER: Final[dict[frozenset[str], Kind]] = {
    frozenset(("int32", "int64")): "int64",
    frozenset(("int32", "double")): "double",
}
"""Of `exchange`: the same number, exactly."""


@dataclass(slots=True)
class Place:
    """Where values lie: a field, or the elements of an array."""

    level: int
    has_path: bool
    """No name above it is one that a path cannot say."""
    kind: Kind | Literal[""] = ""
    """Empty: nothing but null was there."""
    members: dict[str, "Place"] = field(default_factory=dict)
    element: "Place | None" = None

    def leaves(self) -> int:
        inner = self.members.values() if self.element is None else (self.element,)
        return sum(each.leaves() for each in inner) or 1


def is_odd(name: str) -> bool:
    """Whether the server's paths cannot say the name."""
    return not name or "." in name or name.startswith("$")


class Places:
    """Those of all documents that were admitted; `hidden`: fields that are left out."""

    def __init__(self, types: Types, hidden: Collection[str] = ()) -> None:
        self._types = types
        self._hidden = frozenset(each.encode() for each in hidden)
        self.top: dict[str, Place] = {}
        self.bounded: set[Kind] = set(BOUNDED)
        """Kinds whose bounds servers can be asked for."""
        self.version = 0
        """Grows with each widening."""

    def admit(self, document: bytes) -> bool:
        """The document fits from now on; whether it did not before. Raises `TooManyColumns`,
        `BadName`."""
        before = self.version
        for kind, name, begin, end in elements(document):
            if name in self._hidden or (text := _decoded(name)) is None:
                continue
            place = self.top.get(text)
            if place is None:
                place = self.top[text] = self._top(text)
            self._widen(place, kind, document, begin, end)
        return self.version > before

    def columns(self) -> tuple[Column, ...]:
        """`_id` first, the others as they were met; where there are none, one: some readers
        take no file without columns. Raises `TooManyColumns`."""
        fields = sorted(self.top, key=lambda name: name != "_id")
        columns = tuple(_columns({name: self.top[name] for name in fields})) or (NO_FIELD,)
        if (leaves := sum(each.leaves() for each in columns)) > MAX_COLUMNS:
            raise TooManyColumns(f"{leaves} columns", MAX_COLUMNS)
        return columns

    def refuse(self, kind: Kind) -> None:
        """The server cannot be asked for it: its values become text."""
        self.bounded.discard(kind)
        for place in self.top.values():
            self._without(place, kind)
        self.version += 1

    def _without(self, place: Place, kind: Kind) -> None:
        if place.kind == kind:
            self._give_up(place)
        for each in (*place.members.values(), *filter(None, (place.element,))):
            self._without(each, kind)

    def _top(self, name: str) -> Place:
        if len(self.top) >= MAX_COLUMNS:
            raise TooManyColumns(f"more than {MAX_COLUMNS} fields", MAX_COLUMNS)
        if len(name.encode()) > MAX_NAME_BYTES:
            raise BadName(name, MAX_NAME_BYTES)
        self.version += 1
        return Place(1, not is_odd(name))

    def _widen(self, place: Place, kind: int, raw: bytes, begin: int, end: int) -> None:
        if kind == _NULL or place.kind == "json":
            return
        met = self._kind_of(place, kind, raw, begin)
        wider = self._wider(place.kind, met)
        if wider == "json":
            self._give_up(place)
            return
        if wider != place.kind:
            place.kind = wider
            self.version += 1
        if wider == "struct":
            self._widen_struct(place, raw, begin, end)
        elif wider == "list":
            self._widen_list(place, raw, begin, end)

    def _kind_of(self, place: Place, kind: int, raw: bytes, begin: int) -> Kind:
        found = _KINDS.get(kind, "json")
        if found in ("struct", "list"):
            return found if place.level < MAX_LEVELS else "json"
        if kind == _DATE and MIN_DATE <= int64(raw, begin)[0] <= MAX_DATE:
            found = "timestamp"
        elif kind == _BINARY and raw[begin : begin + 5] == UUID_HEAD:
            found = "uuid"
        elif kind == _BINARY and raw[begin + 4] == 0:
            found = "binary"
        if found in BOUNDED and (found not in self.bounded or not place.has_path):
            return "json"
        return found

    def _wider(self, one: str, other: Kind) -> Kind:
        if one in ("", other):
            return other
        if self._types == "native":
            return "json"
        return _WIDER.get(frozenset((one, other)), "json")

    def _widen_struct(self, place: Place, raw: bytes, begin: int, end: int) -> None:
        for member, kind, at, after in _members(raw, begin, end):
            if member is None:
                self._give_up(place)
                return
            inner = place.members.get(member)
            if inner is None:
                has_path = place.has_path and not is_odd(member)
                inner = place.members[member] = Place(place.level + 1, has_path)
                self.version += 1
            self._widen(inner, kind, raw, at, after)
        if len(place.members) > MAX_MEMBERS or place.leaves() > MAX_BENEATH:
            self._give_up(place)

    def _widen_list(self, place: Place, raw: bytes, begin: int, end: int) -> None:
        if place.element is None:
            place.element = Place(place.level + 1, place.has_path)
        for kind, _, at, after in elements(raw, begin, end):
            self._widen(place.element, kind, raw, at, after)

    def _give_up(self, place: Place) -> None:
        place.kind, place.members, place.element = "json", {}, None
        self.version += 1


def _members(raw: bytes, begin: int, end: int) -> Iterator[tuple[str | None, int, int, int]]:
    """Name, type, begin and end of each; no name: one that no column can have, or has twice."""
    seen: set[bytes] = set()
    for kind, name, at, after in elements(raw, begin, end):
        bad = name in seen or len(name) > MAX_NAME_BYTES
        seen.add(name)
        yield None if bad else _decoded(name), kind, at, after


def _decoded(name: bytes) -> str | None:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


def _columns(places: dict[str, Place]) -> Iterator[Column]:
    names = names_of([*places])
    for (each, place), name in zip(places.items(), names, strict=True):
        yield _column(each, name, place)


def _column(of: str, name: str, place: Place) -> Column:
    """What never held a value may hold any: it is text."""
    if place.kind == "struct" and place.members:
        return Column(of, name, "struct", members=tuple(_columns(place.members)))
    if place.kind == "list" and place.element is not None and place.element.kind:
        return Column(of, name, "list", element=_column("", "element", place.element))
    if not place.kind or place.kind in ("struct", "list"):
        return Column(of, name, "json")
    return Column(of, name, place.kind)
