"""BSON to text and back, exact to the byte: keys and metadata for events.

The text is canonical Extended JSON where that gives the same bytes back, which people can
read; otherwise base64 of the BSON, which keeps what Extended JSON cannot say (duplicate
names, invalid UTF-8, fields that look like Extended JSON).
"""

import base64
import json
from typing import Any, Final

import bson
from bson import json_util
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.json_util import JSONMode, JSONOptions
from bson.raw_bson import RawBSONDocument

from statemachine.words import BsonText, Key

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict,
    tz_aware=False,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)
CANONICAL: Final = JSONOptions(
    json_mode=JSONMode.CANONICAL,
    document_class=dict,
    tz_aware=False,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)
_BASE64 = "bson:"
UNREADABLE: Final = (
    bson.errors.BSONError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What the decoders raise for documents that only look like Extended JSON, and for garbage."""


def to_text(raw: bytes) -> BsonText:
    """A whole document as text."""
    readable = _readable(raw)
    return BsonText(readable if readable is not None else _BASE64 + _b64(raw))


def from_text(text: str) -> bytes:
    """The document that `to_text` was given. Raises `ValueError` for any other text."""
    if text.startswith(_BASE64):
        raw = base64.b64decode(text[len(_BASE64) :], validate=True)
        if len(raw) < 5 or len(raw) != int.from_bytes(raw[:4], "little") or raw[-1]:
            raise ValueError(f"no document: {text[:80]!r}")
        return raw
    try:
        return _encode(text)
    except UNREADABLE as error:
        raise ValueError(f"no document: {text[:80]!r}") from error


def from_json(text: str) -> BsonText:
    """A document that somebody typed, in relaxed or canonical Extended JSON, as exact text.

    Raises `ValueError` with the reason.
    """
    try:
        found = json_util.loads(text, json_options=CANONICAL)
        if not isinstance(found, dict):
            raise ValueError("it is no object")  # noqa: TRY004 — of what was typed
        return to_text(bson.encode(found, codec_options=_CODEC))
    except UNREADABLE as error:
        raise ValueError(str(error)[:200]) from error


def to_key(id_document: bytes) -> Key:
    """`{_id: <value>}` (see `rawbson.id_of`) as the text of its value."""
    readable = _readable(id_document)
    if readable is None:
        return Key(_BASE64 + _b64(id_document))
    return Key(readable[len('{"_id":') : -1])


def from_key(key: Key) -> RawBSONDocument:
    """`{_id: <value>}`, ready to be sent, with the very bytes `to_key` was given."""
    text = key if key.startswith(_BASE64) else f'{{"_id":{key}}}'
    return RawBSONDocument(from_text(text))


def _readable(raw: bytes) -> str | None:
    """Canonical Extended JSON, if it leads back to the same bytes."""
    try:
        decoded = bson.decode(raw, _CODEC)
        text = json.dumps(
            json.loads(json_util.dumps(decoded, json_options=CANONICAL)),
            separators=(",", ":"),
            ensure_ascii=False,
        )
        text.encode()
        return text if _encode(text) == raw else None
    except UNREADABLE:
        return None


def _encode(text: str) -> bytes:
    return bson.encode(json_util.loads(text, json_options=CANONICAL), codec_options=_CODEC)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
