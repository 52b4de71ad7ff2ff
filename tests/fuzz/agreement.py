"""Our verdict on a document against that of the driver's C decoder, which reads every value."""

from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from executors.boundaries import UNREADABLE
from executors.flaws import Code
from executors.structure import flaw

_LENIENT: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)

OURS_ALONE = {
    Code.ARRAY_ID: "drivers read any _id",
    Code.BAD_ID: "drivers read any _id",
    Code.TWO_IDS: "drivers keep the last field of a name",
    Code.DEPTH: "the decoder's own limit lies elsewhere: it is recursive",
}
"""What we call a flaw, as servers do, and the decoder may read."""


def disagreement(data: bytes) -> str | None:
    """None when both accept or both refuse, or differ as they may."""
    ours = flaw(data)
    try:
        bson.decode(data, _LENIENT)
        theirs = ""
    except UNREADABLE as error:
        theirs = f"{type(error).__name__}: {error}"
    if (ours is None) == (not theirs) or (ours and not theirs and ours.code in OURS_ALONE):
        return None
    return f"ours: {ours}, theirs: {theirs or 'accepted'}, {data[:400].hex()}"
