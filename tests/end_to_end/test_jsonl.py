"""JSONL and back: an export and what others wrote, restored (G3, I24)."""

import gzip
import json
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from executors.rawbson import wrap
from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal

SYMBOL = wrap(b"\x10_id\0\x07\0\0\0\x0ev\0\x03\0\0\0ab\0")
TWICE = wrap(b"\x10_id\0\x08\0\0\0\x10v\0\1\0\0\0\x10v\0\2\0\0\0")
ENDLESS = wrap(b"\x10_id\0\x09\0\0\0\x09v\0" + b"\xff" * 7 + b"\x7f")
LOOKS_ALIKE = bson.encode({"_id": 10, "v": {"$oid": "0" * 24}})


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Terminal:
    return Terminal(tmp_path, pair)


def raw(client: Any, name: str) -> list[bytes]:
    batches = client.shop[name].find_raw_batches(sort=[("_id", 1)])
    return [each.raw for batch in batches for each in bson.decode_all(batch, RAW)]


RAW: Any = bson.codec_options.CodecOptions(document_class=RawBSONDocument)


def test_an_export_comes_back_byte_for_byte(terminal: Terminal, pair: Pair, tmp_path: Path) -> None:
    """What its text cannot say is rejected, kept, and told with exit 3."""
    shop = pair.source_client.shop
    shop.a.insert_many([{"_id": n, "n": n / 3, "s": "ä\u2028" * (n % 5)} for n in range(20, 400)])
    shop.b.insert_many([RawBSONDocument(each) for each in (SYMBOL, TWICE, ENDLESS)])
    shop.a.insert_one(RawBSONDocument(LOOKS_ALIKE))
    out = str(tmp_path / "out")
    done = terminal("export", "-d", "shop", "--format", "jsonl", "--out", out, "--chunk-docs", "90")
    assert done.returncode == 3, done.stderr
    done = terminal("restore", "--from", out)
    assert done.returncode == 0, done.stderr
    assert "not in the export: shop.a: 1 documents are rejected" in done.stderr
    assert raw(pair.target_client, "b") == [SYMBOL, TWICE, ENDLESS]
    assert raw(pair.target_client, "a") == raw(pair.source_client, "a")[1:]


def test_a_file_of_others_is_taken_whole_or_not_at_all(
    terminal: Terminal, pair: Pair, tmp_path: Path
) -> None:
    """Relaxed, packed, some without `_id`; a bad line is named, and nothing is written."""
    file = tmp_path / "people.json.gz"
    lines = [json.dumps({"_id": n, "n": n}) for n in range(50)] + [
        '{"when":{"$date":"2024-05-06"}}'
    ] * 2
    file.write_bytes(gzip.compress("\n".join([*lines, "{oh"]).encode()))
    into = ("restore", "--from", str(file), "-d", "shop", "-c", "people")
    done = terminal(*into)
    assert done.returncode == 4, done.stderr
    assert "people.json.gz" in done.stderr
    assert "line 53" in done.stderr
    assert pair.target_client.shop.list_collection_names() == []
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert terminal(*into).returncode == 0
    assert pair.target_client.shop.people.count_documents({}) == 52
    done = terminal(*into, "--new", "--on-conflict", "skip", "--no-verify")
    assert pair.target_client.shop.people.count_documents({}) == 52
