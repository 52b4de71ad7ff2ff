"""Values as a driver decodes them: which of them a column takes, and as what."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import UUID_SUBTYPE
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef

from executors.export.columns import KINDS, Kind, Types
from executors.export.jsontext import canonical

UNREADABLE: Final = "EEXPORT030"
UNKNOWN: Final = "EEXPORT031"
UNFIT: Final = "EEXPORT032"
EXACT: Final = 1 << 53
"""Whole numbers up to this one are doubles without loss."""
UUID_BYTES: Final = 16
NO_UUID: Final = "no 16 bytes of subtype 4"

NAMES: Final[Mapping[type, str]] = {
    str: "string",
    bool: "bool",
    int: "int",
    Int64: "long",
    float: "double",
    datetime: "date",
    DatetimeMS: "date",
    ObjectId: "objectId",
    Decimal128: "decimal",
    bytes: "binData",
    Binary: "binData",
    dict: "object",
    DBRef: "object",
    list: "array",
    Regex: "regex",
    Timestamp: "timestamp",
    MinKey: "minKey",
    MaxKey: "maxKey",
}
"""As `$type` names them; of `Code` and `Said` each value has its own."""


class Said(str):
    """The text of a value that no driver decodes exactly."""

    __slots__ = ("type",)
    type: str

    @classmethod
    def of(cls, text: str, kind: str) -> "Said":
        said = cls(text)
        said.type = kind
        return said


class Unfit(Exception):
    """A document that does not fit the columns."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code

    @classmethod
    def unknown(cls, above: str, field: str) -> "Unfit":
        where = f" in {above}" if above else ""
        return cls(UNKNOWN, f"no column was planned for the field {field!r}{where}")

    @classmethod
    def value(cls, path: str, kind: str, what: str) -> "Unfit":
        return cls(UNFIT, f"the column {path}, {kind}, cannot hold {what}")


def require_types(path: str, kind: Kind, types: Types, found: Iterable[type]) -> None:
    """Raises `Unfit`."""
    allowed = _ALLOWED[types][kind]
    if not allowed.issuperset(found):
        wrong = min(set(found) - allowed, key=lambda each: each.__name__)
        raise Unfit.value(path, kind, _TOLD[wrong])


def require_values(path: str, kind: Kind, found: Iterable[type], values: Sequence[Any]) -> None:
    """What types do not tell. Raises `Unfit`."""
    if kind == "uuid" and any(map(_no_uuid, values)):
        raise Unfit.value(path, kind, NO_UUID)
    if kind == "double" and Int64 in found and any(map(_inexact, values)):
        raise Unfit.value(path, kind, "a whole number beyond 2^53")


def census(counts: Counter[type], values: Sequence[Any]) -> dict[str, int]:
    """`counts`: of Python's types."""
    named = Counter[str]()
    for each, count in counts.items():
        if each in NAMES:
            named[NAMES[each]] += count
    if Said in counts or Code in counts:
        named.update(_own_name(each) for each in values if isinstance(each, Said | Code))
    return dict(named)


def _own_name(value: Any) -> str:
    if type(value) is Said:
        return value.type
    return "javascript" if value.scope is None else "javascriptWithScope"


def _no_uuid(value: Any) -> bool:
    return value is not None and (value.subtype != UUID_SUBTYPE or len(value) != UUID_BYTES)


def _inexact(value: Any) -> bool:
    return type(value) is Int64 and abs(value) > EXACT


_TOLD: Final[Mapping[type, str]] = {
    **NAMES,
    DatetimeMS: "a date beyond the years 1 to 9999",
    Code: "code",
}
_SAME: Final[dict[Kind, frozenset[type]]] = {
    "string": frozenset({str}),
    "bool": frozenset({bool}),
    "int32": frozenset({int}),
    "timestamp": frozenset({datetime}),
    "object_id": frozenset({ObjectId}),
    "decimal": frozenset({Decimal128}),
    "uuid": frozenset({Binary}),
    "binary": frozenset({bytes}),
    "struct": frozenset({dict, DBRef}),
    "list": frozenset({list}),
    "json": frozenset({*NAMES, Code, Said}),
}
_ALLOWED: Final[dict[Types, dict[Kind, frozenset[type]]]] = {
    "exchange": {
        **_SAME,
        "int64": frozenset({int, Int64}),
        "double": frozenset({float, int, Int64}),
    },
    "native": {**_SAME, "int64": frozenset({Int64}), "double": frozenset({float})},
}
assert all(set(each) == set(KINDS) for each in _ALLOWED.values())


Convert = Callable[[Sequence[Any]], Iterable[Any]]
"""Values, among them nulls, to what Arrow takes."""


def _each(convert: Callable[[Any], Any]) -> Convert:
    return lambda values: [None if each is None else convert(each) for each in values]


def _texts(values: Sequence[Any]) -> Iterable[str | None]:
    texts = iter(
        canonical([each for each in values if each is not None and type(each) is not Said])
    )
    return [each if each is None or type(each) is Said else next(texts) for each in values]


def _dashed(value: bytes) -> str:
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


CONVERTED: Final[dict[Types, dict[Kind, Convert]]] = {
    "exchange": {
        "object_id": _each(str),
        "decimal": _each(str),
        "uuid": _each(_dashed),
        "json": _texts,
    },
    "native": {
        "object_id": lambda values: [each and each.binary for each in values],
        "decimal": lambda values: [each and each.bid for each in values],
        "json": _texts,
    },
}
"""Of the kinds that are not taken as they are."""
