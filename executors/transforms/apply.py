"""One document through the user's own code: bytes in, bytes or a rejection out.

The code gets what pymongo would give it: a dict, in the order of the document, with `ObjectId`,
`Int64`, `Decimal128` and so on for what Python has no type for; a UUID of subtype 4 is a
`uuid.UUID`, a date is a `datetime` that is aware, in UTC (a `DatetimeMS` outside of the years 1 to
9999). What the code leaves as it is keeps its bytes.
"""

import re
import traceback
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from pydantic import BaseModel, ValidationError

from executors.rawbson import readable_id
from executors.transforms.code import Code, last_line
from executors.transforms.splice import untouched

LARGEST: Final = 16 << 20
"""Bytes of a document that a server takes."""
MAX_WHY: Final = 200
"""Characters of a reason."""
MAX_ERRORS: Final = 3
"""Of one model, that are told."""
SHORT: Final = 3
"""What a document holds that has fewer characters tells nothing."""
OPTIONS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_QUOTED: Final = re.compile(r"""(["'`])(?:(?!\1).)*\1""", re.DOTALL)


class Rejected(NamedTuple):
    code: str
    why: str


def through(raw: bytes, code: Code) -> bytes | Rejected:
    """The document as it is to be restored."""
    try:
        document = bson.decode(raw, OPTIONS)
        told = bson.encode(document, codec_options=OPTIONS)
    except Exception as error:  # noqa: BLE001 — whatever makes it unreadable
        return Rejected("ETRANSFORM010", f"it cannot be decoded: {_type(error)}")
    if code.function is not None:
        try:
            document = code.function(document)
        except MemoryError:
            raise  # not the document's fault, maybe: it is tried alone
        except BaseException as error:  # noqa: BLE001 — the user's own code
            return Rejected("ETRANSFORM011", _said(error, raw))
    if not isinstance(document, dict):
        given = type(document).__name__
        return Rejected("ETRANSFORM012", f"the function gave {given} instead of a dict")
    if code.model is not None and (why := _unfit(document, code.model)):
        return Rejected("ETRANSFORM016", why)
    return _encoded(raw, told, document)


def _encoded(raw: bytes, told: bytes, document: dict[str, Any]) -> bytes | Rejected:
    try:
        result = untouched(raw, told, bson.encode(document, codec_options=OPTIONS))
    except Exception as error:  # noqa: BLE001 — of whatever the code put into it
        return Rejected("ETRANSFORM014", f"BSON cannot hold what the function gave: {_type(error)}")
    if readable_id(result) != readable_id(raw):
        return Rejected("ETRANSFORM013", "the function changed _id, or left it out")
    if len(result) > LARGEST:
        return Rejected("ETRANSFORM015", f"it has {len(result)} bytes then: servers take 16 MiB")
    return result


def _type(error: BaseException) -> str:
    return type(error).__name__


def _unfit(document: dict[str, Any], model: type[BaseModel]) -> str:
    """Which fields do not fit, and how; never what they hold."""
    try:
        model.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        told = [f"{'.'.join(map(str, each['loc']))}: {each['type']}" for each in found[:MAX_ERRORS]]
        more = f" and {len(found) - MAX_ERRORS} more" if len(found) > MAX_ERRORS else ""
        return f"{model.__name__}: {', '.join(told)}{more}"[:MAX_WHY]
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 — a validator of the user's own
        return f"{model.__name__}: {_type(error)}"
    return ""


def _said(error: BaseException, raw: bytes) -> str:
    """Type, place and message; without what is quoted in it and what the document holds."""
    told = _QUOTED.sub("'…'", last_line(error))
    for value in sorted(set(_values(bson.decode(raw, OPTIONS))), key=len, reverse=True):
        told = told.replace(value, "…")
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].name}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return told[:MAX_WHY] + place


def _values(value: Any) -> Iterator[str]:
    """All that the document holds, as text."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _values(each)
    elif isinstance(value, list):
        for each in value:
            yield from _values(each)
    elif len(text := str(value)) >= SHORT and not isinstance(value, bool):
        yield text
