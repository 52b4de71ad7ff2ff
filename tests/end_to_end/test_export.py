"""Exports as an operator sees them: each option, what is left, what is told."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Terminal:
    terminal = Terminal(tmp_path, pair)
    del terminal.environment["FERRYLOG_TARGET"]
    return terminal


@pytest.fixture
def shop(pair: Pair) -> Any:
    """Orders, customers, a view, an empty collection."""
    shop = pair.source_client.get_database("shop")
    shop.orders.insert_many([{"_id": n, "n": n % 7, "text": f"order {n}"} for n in range(300)])
    shop.customers.insert_many([{"_id": f"c{n}"} for n in range(5)])
    shop.create_collection("empty")
    shop.create_collection("big", viewOn="orders", pipeline=[{"$match": {"n": 6}}])
    return shop


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "_manifest.json").read_bytes())  # type: ignore[no-any-return]


def documents(folder: Path) -> list[dict[str, Any]]:
    """Of all JSONL files beneath."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("part-*.jsonl*")):
        raw = path.read_bytes()
        if path.suffix == ".zst":
            raw = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read()
        elif path.suffix == ".gz":
            raw = gzip.decompress(raw)
        found += map(json.loads, raw.splitlines())
    return found


def test_a_database_as_json_lines(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """G3, G4, G7: all of it, whole, named by a manifest, told in the end."""
    out = tmp_path / "out"
    done = terminal("export", "-d", "shop", "--format", "jsonl", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert (out / "_SUCCESS").exists()
    told = manifest(out)
    counts = {each["namespace"]: each["documents"] for each in told["collections"]}
    assert counts["shop.orders"] == 300
    assert len(documents(out)) == told["documents"] == 305
    assert "305 documents" in done.stderr
    assert str(out) in done.stderr
    report = terminal.json("status")
    assert (report["kind"], report["layout"], report["status"]) == ("export", "jsonl", "completed")
    assert report["export"]["place"] == f"file:{out}"


def test_a_look_before_an_export(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """G6: source, rights and store; what is wrong has its remedy, and nothing stays behind."""
    words = ("check", "-d", "shop", "--format", "jsonl", "--out")
    done = terminal(*words, str(tmp_path / "a" / "b"))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ready"), done.stdout
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("x")
    assert terminal(*words, str(tmp_path / "file")).returncode != 0
    found = terminal.json(*words, str(tmp_path))
    assert [each["code"] for each in found["findings"]] == ["EEXPORT011"]
    assert (found["ok"], found["out"]) == (False, f"file:{tmp_path}")
    assert terminal("check", "-d", "nobody", "--out", str(tmp_path / "c")).returncode == 2
