"""What a collection, a view and their indexes are to be on the target, and where what stands there
is something else.

Servers do not give back every description as they were given it. What they change by themselves is
named here, each with its constant, and is no difference.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import isnan
from typing import Any, Final

import bson
from bson import Decimal128, json_util
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from executors.batches import RAW
from executors.boundaries import from_text
from executors.expiry import AFTER, FAR
from executors.select import USERS, split
from executors.survey import described, index_spec, namespaces
from statemachine.events import IndexSpec, MetadataDifference
from statemachine.state import Unit

GONE_OPTIONS: Final = ("autoIndexId", "flags")
"""Options that old servers kept and new ones refuse."""
GOES_WITHOUT_SAYING: Final = {"validationLevel": "strict", "validationAction": "error"}
"""Options that are so anyway, and that servers write down when others are changed."""
GONE_INDEX_FIELDS: Final = ("ns", "dropDups", "safe")
"""Fields of an index that old servers kept and new ones forget."""
FORGOTTEN_IF_FALSE: Final = ("unique", "hidden")
"""Fields of an index that servers keep only when they are true."""
TRUTH: Final = ("unique", "hidden", "sparse", "background")
"""Fields of an index that may be numbers, of which servers make true or false."""
FILLED_IN: Final = (
    "v", "weights", "default_language", "language_override", "textIndexVersion",
    "2dsphereIndexVersion",
)  # fmt: skip
"""Fields of an index that servers add when they are not said."""
COMPLETED: Final = ("collation", "timeseries", "clusteredIndex")
"""Documents in a description to which servers add what is not said."""
KNOWN_INDEX_FIELDS: Final = frozenset(
    {
        *("v", "key", "name", "collation", "partialFilterExpression", "wildcardProjection"),
        *("unique", "sparse", "hidden", "prepareUnique", "background", AFTER, "storageEngine"),
        *("weights", "default_language", "language_override", "textIndexVersion"),
        *("2dsphereIndexVersion", "bits", "min", "max", "bucketSize", "ns"),
        *("coarsestIndexedLevel", "finestIndexedLevel"),
    }
)
"""By servers of today: others are left out where old indexes are made valid."""
NEARLY_ZERO: Final = 1e-9
"""mongorestore's own measure of what is no direction."""
MAX_SHOWN: Final = 200
"""Characters of either side in a report."""


def fields(raw: bytes) -> dict[str, Any]:
    """The top-level fields in order; documents inside stay raw."""
    return dict(bson.decode(raw, codec_options=RAW).items())


def wanted_options(unit: Unit) -> dict[str, Any]:
    """The options of the source that any server still takes."""
    return {
        name: value
        for name, value in fields(from_text(unit.options)).items()
        if name not in GONE_OPTIONS
    }


def wanted_index(index: IndexSpec, *, legacy: bool) -> dict[str, Any]:
    """The index as the target is asked for it. `legacy`: as `mongorestore --convertLegacyIndexes`
    makes it valid."""
    spec = fields(from_text(index.spec))
    wanted = {name: value for name, value in spec.items() if name not in GONE_INDEX_FIELDS}
    if not legacy:
        return wanted
    known = {name: value for name, value in wanted.items() if name in KNOWN_INDEX_FIELDS}
    return {**known, "key": _valid_key(known["key"])}


def _valid_key(key: RawBSONDocument) -> RawBSONDocument:
    return RawBSONDocument(
        bson.encode({field: _valid(value) for field, value in key.items()}, codec_options=RAW)
    )


def _valid(value: Any) -> Any:
    """A direction, where servers before 3.4 took anything for one (mongo-tools
    `common/bsonutil/indexes.go`)."""
    if isinstance(value, str):
        return value or 1
    if isinstance(value, Decimal128):
        number = value.to_decimal()
        return value if number or not number.is_finite() else 1
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 1
    if isinstance(value, float):
        return value if abs(value) >= NEARLY_ZERO or isnan(value) else (1 if value >= 0 else -1)
    return value or 1


# --- the comparison ---


def compared(
    client: MongoClient[Any], unit: Unit, *, legacy: bool = False
) -> tuple[MetadataDifference, ...]:
    """How what stands on the target differs from what the source was surveyed to be."""
    for found in namespaces(client, split(unit.target)[0], name=split(unit.target)[1]):
        indexes, options = described(client, found)
        return differences(
            unit, options, tuple(map(index_spec, indexes)), found.type, legacy=legacy
        )
    return differences(unit, bson.encode({}), (), "", legacy=legacy)


def differences(
    unit: Unit,
    found_options: bytes,
    found_indexes: Iterable[IndexSpec],
    found_type: str,
    *,
    legacy: bool = False,
) -> tuple[MetadataDifference, ...]:
    """Type, options, indexes: everything that is not alike, field by field.

    `found_type` is empty where nothing is. Users and roles are described by the server itself, and
    are none.
    """
    if unit.id in USERS:
        return ()
    if unit.type != found_type:
        return (MetadataDifference(what="type", source=unit.type, target=found_type),)
    wanted, found = wanted_options(unit), fields(found_options)
    options = _unlike(
        "option ", {**GOES_WITHOUT_SAYING, **wanted}, {**GOES_WITHOUT_SAYING, **found}
    )
    ours = {each.name: wanted_index(each, legacy=legacy) for each in unit.indexes}
    theirs = {each.name: fields(from_text(each.spec)) for each in found_indexes}
    return (*options, *_indexes(ours, theirs))


def _indexes(
    ours: Mapping[str, dict[str, Any]], theirs: Mapping[str, dict[str, Any]]
) -> Iterator[MetadataDifference]:
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            what = f"index {name}"
            yield MetadataDifference(what=what, source=shown(one), target=shown(other))
        else:
            what = f"index {name}: "
            yield from _unlike(what, normal(one), normal(other), FILLED_IN)


def _unlike(
    what: str, ours: dict[str, Any], theirs: dict[str, Any], filled_in: Iterable[str] = ()
) -> Iterator[MetadataDifference]:
    for name in sorted(ours.keys() | theirs.keys()):
        if fits(name, ours.get(name), theirs.get(name)) or (name not in ours and name in filled_in):
            continue
        source, target = shown(ours.get(name)), shown(theirs.get(name))
        yield MetadataDifference(what=f"{what}{name}", source=source, target=target)


def fits(name: str, asked: Any, there: Any) -> bool:
    """Whether what stands there under this name of a description is what was asked for."""
    if name not in COMPLETED or not isinstance(asked, Mapping) or not isinstance(there, Mapping):
        return bool(asked == there)
    return all(each in there and there[each] == value for each, value in asked.items())


def accepted(asked: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Whether these options of a collection are the ones asked for, its expiry on or still off."""
    return asked.keys() - there.keys() <= {AFTER} and all(
        name in asked and fits(name, asked[name], value) for name, value in there.items()
    )


def is_index(asked: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether this is the index that was asked for."""
    return not any(_unlike("", normal(asked), normal(there), FILLED_IN))


def normal(index: dict[str, Any]) -> dict[str, Any]:
    """The index as servers give it back: they make whole numbers of seconds and versions, truth of
    numbers, and nothing of what is the case anyway."""
    kept = {name: value for name, value in index.items() if name not in GONE_INDEX_FIELDS}
    for name in TRUTH:
        if name in kept:
            kept[name] = bool(kept[name])
        if name in FORGOTTEN_IF_FALSE and not kept.get(name):
            kept.pop(name, None)
    if AFTER in kept:
        kept[AFTER] = _seconds(kept[AFTER])
    collation = kept.get("collation")
    if collation is not None and collation.get("locale") == "simple":
        del kept["collation"]
    return kept


def _seconds(value: Any) -> Any:
    if isinstance(value, Decimal128):
        value = float(value.to_decimal())
    if isinstance(value, float) and isnan(value):
        return FAR
    return int(value) if isinstance(value, float) and abs(value) <= FAR else value


def shown(value: Any) -> str:
    """A value of a description for people, in one line; empty for one that is missing."""
    if value is None:
        return ""
    try:
        text = json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS)
    except (bson.errors.BSONError, ValueError, TypeError, ArithmeticError):
        text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
