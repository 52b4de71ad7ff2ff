"""Our verdict on documents and files of the corpus."""

from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from executors.structure import envelope_flaw, flaw, walk
from tests.conformance.corpus import Case, bson_files, invalid_bson, needs_corpus, valid_bson
from tests.counts import count

pytestmark = needs_corpus
STRICT: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)
LENIENT = STRICT.with_options(unicode_decode_error_handler="replace")


@pytest.mark.parametrize("case", valid_bson(), ids=lambda case: case.name)
def test_what_every_decoder_must_take_has_no_flaw(case: Case) -> None:
    assert flaw(case.bson) is None
    count("documents of the BSON corpus")


@pytest.mark.parametrize("case", invalid_bson(), ids=lambda case: case.name)
def test_what_every_decoder_must_refuse_has_a_flaw(case: Case) -> None:
    """But for what only breaks the rule that strings are UTF-8: servers store it, so a dump may
    hold it, and a restore must not lose it."""
    count("documents of the BSON corpus")
    if _only_text_is_wrong(case.bson):
        assert flaw(case.bson) is None
    else:
        assert flaw(case.bson) is not None


def _only_text_is_wrong(raw: bytes) -> bool:
    with pytest.raises(BSONError):
        bson.decode(raw, STRICT)
    try:
        bson.decode(raw, LENIENT)
    except BSONError:
        return False
    return True


@pytest.mark.parametrize(("name", "data"), bson_files(), ids=lambda value: str(value)[:40])
def test_a_file_is_sound_or_damaged_as_the_driver_finds_it(name: str, data: bytes) -> None:
    """All documents, to the last byte; a damaged one has the whole documents before its damage."""
    documents, at, wrong = walk(data)
    wrong = wrong or (envelope_flaw(data, at) if at < len(data) else None)
    begin = 0
    for _ in range(documents):
        end = begin + int.from_bytes(data[begin : begin + 4], "little")
        wrong = flaw(data, begin, end) or wrong
        begin = end
    assert (wrong is not None) == (not _decodes(data))
    count("files of BSON of the corpus")


def _decodes(data: bytes) -> bool:
    try:
        bson.decode_all(data, LENIENT)
    except BSONError:
        return False
    return True
