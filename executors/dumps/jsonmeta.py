"""A collection's `.metadata.json`: its options and its indexes, as mongodump writes them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson.decimal128 import Decimal128

from executors.batches import TOLERANT
from executors.boundaries import UNREADABLE, from_text, to_text
from executors.dumps.errors import DamagedDump
from executors.dumps.extjson import TooDeep, as_bson, as_json, parsed
from executors.dumps.model import Type
from statemachine.events import IndexSpec

MAX_BYTES: Final = 16 << 20
"""Of a metadata file; a document of options has no more, and 64 indexes are few."""
EMPTY: Final = b"\x05\0\0\0\0"
"""Options that say nothing."""
_KINDS: Final = (
    "2d",
    "2dsphere",
    "2dsphere_bucket",
    "columnstore",
    "geoHaystack",
    "hashed",
    "queryable_encrypted_range",
    "text",
)
"""What servers of any version can build beside ordered indexes."""
_UUID: Final = re.compile("[0-9a-f]{32}")
_ID_KEY: Final = {"_id": 1}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What one file says."""

    options: bytes = EMPTY
    """Raw BSON."""
    indexes: tuple[IndexSpec, ...] = ()
    """All but the one over `_id`."""
    uuid: str = ""
    collection: str = ""
    type: str = ""
    """`collection`, `view`, `timeseries`; empty in older dumps."""


def parse(data: bytes, file: str) -> Metadata:
    """What the content of a metadata file says. Raises `DamagedDump`."""
    if len(data) > MAX_BYTES:
        raise _damaged(file, f"longer than {MAX_BYTES} bytes", "EDUMP033")
    if not data:
        raise _damaged(file, "the file is empty; mongodump writes none such", "EDUMP030")
    try:
        fields = dict(parsed(data))
    except TooDeep as error:
        raise _damaged(file, str(error), "EDUMP033") from None
    except TypeError as error:
        raise _damaged(file, str(error), "EDUMP031") from None
    except ValueError as error:
        raise _damaged(file, f"not JSON: {error}", "EDUMP030") from None
    return Metadata(
        options=_options(fields, file),
        indexes=_indexes(fields, file),
        uuid=_uuid(_text(fields, "uuid", file)),
        collection=_text(fields, "collectionName", file),
        type=_text(fields, "type", file),
    )


def metadata_json(
    *, options: bytes, indexes: Sequence[IndexSpec], uuid: str, collection: str, type_: Type
) -> bytes:
    """The metadata file that mongodump would write, the index over `_id` added.

    Raises `ValueError` where its JSON cannot say to the byte what is meant; mongodump would
    fail there too.
    """
    id_index = _id_index(options) if type_ == "collection" else []
    raw = [*id_index, *(from_text(index.spec) for index in indexes)]
    said = {
        "options": as_json(options) if options != EMPTY else "",
        "indexes": f"[{','.join(map(as_json, raw))}]",
        "uuid": f'"{uuid}"' if uuid else "",
        "collectionName": as_json(bson.encode({"": collection}))[len('{"":') : -1],
        "type": f'"{type_}"',
    }
    text = "{" + ",".join(f'"{name}":{value}' for name, value in said.items() if value) + "}"
    data = text.encode()
    if not _says(data, options, indexes):
        raise ValueError(f"the metadata of {collection} cannot be said in mongodump's JSON")
    return data


def index_spec(raw: bytes, file: str) -> IndexSpec | None:
    """An index from its raw description; None for what comes with the collection: the index
    over `_id`. Raises `DamagedDump` for one that no server could build."""
    try:
        fields = bson.decode(raw, TOLERANT)
    except UNREADABLE as error:
        raise _damaged(file, f"an index is no document: {error}", "EDUMP032") from None
    name, key = fields.get("name"), fields.get("key")
    if not isinstance(name, str) or not name:
        raise _damaged(file, "an index has no name", "EDUMP032")
    if name == "_id_" or fields.get("clustered"):
        return None
    if why := _flaw_of_key(key, fields.get("v", 1)):
        raise _damaged(file, f"index {name!r}: {why}", "EDUMP032")
    return IndexSpec(name=name, unique=bool(fields.get("unique", False)), spec=to_text(raw))


def _says(data: bytes, options: bytes, indexes: Sequence[IndexSpec]) -> bool:
    """Whether the file, read again, means these options and indexes to the byte."""
    try:
        back = parse(data, "")
    except DamagedDump:
        return False
    return back.options == options and back.indexes == tuple(indexes)


def _options(fields: dict[str, Any], file: str) -> bytes:
    options = fields.get("options")
    if options is None:
        return EMPTY
    if not isinstance(options, tuple):
        raise _damaged(file, "options is no object", "EDUMP031")
    return _encoded(options, "options", file)


def _indexes(fields: dict[str, Any], file: str) -> tuple[IndexSpec, ...]:
    listed = fields.get("indexes")
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(each, tuple) for each in listed):
        raise _damaged(file, "indexes is no array of objects", "EDUMP031")
    found: dict[str, IndexSpec] = {}
    for each in listed:
        index = index_spec(_encoded(each, "an index", file), file)
        if index is None:
            continue
        if index.name in found:
            raise _damaged(file, f"two indexes are called {index.name!r}", "EDUMP032")
        found[index.name] = index
    return tuple(found.values())


def _encoded(value: tuple[tuple[str, Any], ...], what: str, file: str) -> bytes:
    try:
        return as_bson(value)
    except TooDeep as error:
        raise _damaged(file, f"{what}: {error}", "EDUMP033") from None
    except ValueError as error:
        raise _damaged(file, f"{what}: {error}", "EDUMP031") from None


def _text(fields: dict[str, Any], name: str, file: str) -> str:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise _damaged(file, f"{name} is no string", "EDUMP031")
    return value or ""


def _uuid(text: str) -> str:
    plain = text.replace("-", "").lower()
    return plain if _UUID.fullmatch(plain) else ""


def _flaw_of_key(key: object, version: object) -> str:
    if not isinstance(key, dict) or not key:
        return "its key is no object with fields"
    for field, value in key.items():
        if not field or (field.startswith("$") and field != "$**"):
            return f"{field!r} in its key is no name of a field"
        if isinstance(value, str) and value and value not in _KINDS:
            return f"no server knows the kind {value!r}"
        if isinstance(version, int | float) and version >= 2 and not _is_direction(value):
            return f"the field {field!r} of its key has no direction and no kind"
    return ""


def _is_direction(value: object) -> bool:
    """Whether an index may have it as the value of a field; version 1 took anything."""
    if isinstance(value, str):
        return value != ""
    if isinstance(value, Decimal128):
        value = float(value.to_decimal())
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and value != 0 and not math.isnan(value)  # type: ignore[arg-type]


def _id_index(options: bytes) -> list[bytes]:
    """What `listIndexes` tells about the index over `_id` of a collection with these options."""
    fields = bson.decode(options, TOLERANT)
    index: dict[str, Any] = {"v": 2, "key": _ID_KEY, "name": "_id_"}
    clustered = fields.get("clusteredIndex")
    if isinstance(clustered, dict):
        index |= {"name": clustered.get("name", "_id_"), "unique": True, "clustered": True}
    if "collation" in fields:
        index["collation"] = fields["collation"]
    return [bson.encode(index)]


def _damaged(file: str, why: str, detail: str) -> DamagedDump:
    return DamagedDump(
        file,
        f"metadata: {why}",
        detail=detail,
        remedy="repair the file; or take it away, and the collection comes without options and "
        "indexes. Nothing was written",
    )
