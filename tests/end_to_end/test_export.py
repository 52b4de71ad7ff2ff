"""Exports as an operator sees them: each option, what is left, what is told."""

import gzip
import json
import os
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import zstandard

from tests import program
from tests.conftest import Pair
from tests.end_to_end.test_bad_input import guarded
from tests.end_to_end.test_main_job import Terminal, until
from tests.objectstores import S3


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
    """G6: source, rights and store; what is wrong has its remedy, and nothing stays behind. A
    target that only the environment names is of other commands."""
    terminal.environment["FERRYLOG_TARGET"] = "mongodb://127.0.0.1:1/"
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


def export(terminal: Terminal, out: Path | str, *words: str, code: int = 0) -> str:
    """As JSON lines, of database shop; what it said."""
    words = words if "--format" in words else ("--format", "jsonl", *words)
    done = terminal("export", "-d", "shop", "--out", str(out), *words)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_which_documents_and_what_of_them(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """G3: query, projection, globs, form, compression, and nothing for what is empty."""
    words = ("--query", '*.orders={"n": 3}', "--projection", '{"n": 1, "_id": 0}')
    form = ("--json-form", "relaxed", "--compression", "gzip", "--empty", "none")
    export(terminal, tmp_path / "out", *words, *form, "--ns-exclude", "shop.c*")
    assert documents(tmp_path / "out") == [{"n": 3}] * 43
    told = manifest(tmp_path / "out")
    assert {each["namespace"]: len(each["files"]) for each in told["collections"]} == {
        "shop.big": 0,
        "shop.empty": 0,
        "shop.orders": 1,
    }
    assert all(path.suffix == ".gz" for path in (tmp_path / "out").rglob("part-*"))
    assert "shop.big is a view and is not exported" in terminal("status").stdout
    assert terminal("verify").returncode == 2, "an export is nothing to compare with"


@pytest.mark.deep
def test_what_cannot_be_exported_is_refused(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """Before anything is written or journaled, with what helps."""
    for words, code in (
        (("-c", "orders", "--query", '{"$no": 1}'), "ESOURCE004"),
        (("-c", "orders", "--projection", '{"a": 1, "b": 0}'), "EEXPORT013"),
        (("-c", "orders", "--projection", '{"_id.x": 1}'), "EEXPORT013"),
        (("-c", "big"), "EEXPORT042"),
        (("-c", "nothing"), "ESOURCE001"),
        (("-c", "orders", "--transform", "no.such:thing"), "ETRANSFORM001"),
    ):
        assert code in export(terminal, tmp_path / "x", *words, code=2)
    assert not (tmp_path / "x").exists()
    assert "no job" in terminal("status").stderr


@pytest.mark.deep
def test_what_lies_there_is_not_overwritten_unasked(
    terminal: Terminal, shop: Any, tmp_path: Path
) -> None:
    """An export that stands is replaced when that was asked for, once the new one is whole."""
    out = tmp_path / "out"
    export(terminal, out, "-c", "customers")
    before = manifest(out)
    assert "EEXPORT012" in export(terminal, out, "-c", "customers", code=1)
    assert manifest(out) == before
    shop.customers.delete_many({"_id": {"$ne": "c0"}})
    export(terminal, out, "-c", "customers", "--overwrite")
    assert [each["_id"] for each in documents(out)] == ["c0"]
    assert len(list(out.rglob("part-*"))) == 1
    (out / "foreign.txt").write_text("mine")
    assert "EEXPORT011" in export(terminal, out, "-c", "customers", "--overwrite", code=1)
    assert (out / "foreign.txt").exists()


@pytest.mark.deep
def test_exports_of_what_is_new(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """G4: each repeated export goes on where the one before it ended; together they are all."""
    out = tmp_path / "out"
    words = ("-c", "orders", "--since", "_id", "--dated")
    export(terminal, out, *words)
    assert len(documents(out)) == 300
    assert "nothing new" in export(terminal, out, *words)
    shop.orders.insert_many([{"_id": n, "n": n % 7} for n in range(300, 310)])
    time.sleep(1.1)  # the folder is called by the second
    export(terminal, out, *words)
    assert sorted(each["_id"]["$numberInt"] for each in documents(out)) == sorted(
        str(n) for n in range(310)
    )
    folders = sorted(path.parent for path in out.rglob("_SUCCESS"))
    assert len(folders) == 2
    told = manifest(folders[1])
    assert (told["above"], told["documents"]) == (manifest(folders[0])["upto"], 10)
    shop.orders.insert_one({"_id": "text"})
    assert "EEXPORT041" in export(terminal, out, *words, code=2)
    assert "EEXPORT040" in export(terminal, out, "--since", "_id", code=2)
    said = export(terminal, out, "-c", "customers", "--since", "name", code=2)
    assert "EEXPORT041" in said


@pytest.mark.deep
def test_an_unfinished_export_is_continued(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """G4: by the same words, whatever their day; in another form it is another job."""
    out = tmp_path / "out"
    words = ("export", "-d", "shop", "--format", "jsonl", "--out", str(out), "--chunk-docs", "10")
    run = terminal.begin(*words, "--dated", "--read-docs-per-s", "100", "--workers", "1")
    until(lambda: terminal.kinds().count("dump_completed") > 2)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    job = terminal.json("status")["job"]
    done = terminal(*words, "--dated", "--read-docs-per-s", "0", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert f"continuing the unfinished job {job}" in done.stderr
    found = [json.dumps(each["_id"]) for each in documents(out)]
    assert len(set(found)) == len(found) == 305
    report = terminal.json("status")
    assert report["export"]["files"] == len(list(out.rglob("part-*"))) - 1, "one is of nothing"
    timeline = terminal("inspect", "timeline").stdout
    assert "shop.orders: completed" in timeline
    story = terminal("inspect", "explain", "shop.orders").stdout
    assert "to export collections of" in story


def test_named_by_the_environment(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """G5: a pipeline that is described by its document's names runs with no flag."""
    source = terminal.environment.pop("FERRYLOG_SOURCE")
    terminal.environment |= {
        "MONGO_URI": source,
        "MONGO_DB": "shop",
        "MONGO_COLLECTION": "customers",
        "OUTPUT_FORMAT": "jsonl",
        "CHUNK_SIZE": "2",
        "MAX_WORKERS": "2",
        "MAX_MEMORY_USAGE_GB": "0.5",
        "FERRYLOG_OUT": str(tmp_path / "out"),
    }
    looked = terminal.json("check")
    assert (looked["ok"], looked["out"]) == (True, f"file:{tmp_path}/out")
    done = terminal("export")
    assert done.returncode == 0, done.stderr
    report = terminal.json("status")
    assert [unit["namespace"] for unit in report["units"]] == ["shop.customers"]
    assert report["units"][0]["chunks"]["total"] >= 2
    assert report["settings"]["worker_memory"] == 1 << 29
    assert terminal("check").returncode == 1, "an export lies there"
    assert terminal("resume").returncode == 0, "of a job that has ended it says so again"


def test_no_key_is_shown_or_kept(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """G5: nor is a URL taken that holds one."""
    for out in ("s3://key:hidden-word@bucket/x", "az://box/x?sig=hidden-word"):
        said = export(terminal, out, code=2)
        assert "ESTORE001" in said
        assert "hidden-word" not in said
    assert not terminal.journal.exists()
    terminal.environment["MONGO_USERNAME"] = "ann"
    terminal.environment["MONGO_PASSWORD"] = "hidden-word"
    for words in (("check",), ("export", "--out", str(tmp_path / "out"))):
        done = terminal(*words, "-d", "shop")
        assert done.returncode != 0
        assert "ECONN003" in done.stdout + done.stderr
        assert "hidden-word" not in done.stdout + done.stderr
    assert not terminal.journal.exists()


@pytest.mark.deep
def test_code_of_ones_own(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """A15: what it does not let through is named and kept, and the export is told not to be
    complete."""
    code = tmp_path / "code.py"
    code.write_text("def f(d):\n    assert d['_id'] != 'c3'\n    return {**d, 'new': 1}\n")
    out = tmp_path / "out"
    said = export(terminal, out, "-c", "customers", "--transform", f"{code}:f",
                  "--max-malformed", "50", code=3)  # fmt: skip
    assert "with rejects" in said
    assert {each["_id"] for each in documents(out)} == {"c0", "c1", "c2", "c4"}
    assert all("new" in each for each in documents(out))
    told = manifest(out)
    assert (told["complete"], told["rejected"], (out / "_SUCCESS").exists()) == (False, 1, False)
    letters = terminal.json("dead-letters", "list")["letters"]
    assert [each["code"] for each in letters] == ["ETRANSFORM011"]
    assert "c3" in terminal("dead-letters", "show", str(letters[0]["id"])).stdout


@pytest.mark.deep
def test_to_a_store(terminal: Terminal, shop: Any, s3: S3) -> None:
    """G3, G6: the same words with a URL; it is looked at before."""
    terminal.environment |= {name: value for name, value in os.environ.items() if "AWS" in name}
    words = ("-d", "shop", "--format", "jsonl", "--out", f"{s3.url}/x")
    looked = terminal("check", *words)
    assert looked.returncode == 0, looked.stdout
    assert terminal("check", *words[:-1], "s3://no-such-bucket/x").returncode == 1
    done = terminal("export", *words)
    assert done.returncode == 0, done.stderr
    assert f"in {s3.url}/x" in done.stderr
    assert terminal("status").stderr.count("SECRET") == 0


@pytest.mark.deep
def test_what_a_failed_export_left_is_cleaned_up(
    terminal: Terminal, shop: Any, pair: Pair, s3: S3, tmp_path: Path
) -> None:
    """M4, I44: what no manifest will ever name goes, nothing else does; a store that cannot be
    looked into is told."""
    terminal.environment |= {name: value for name, value in os.environ.items() if "AWS" in name}
    words = ("--chunk-docs", "50", "--workers", "1", "--on-exhausted", "fail-job")
    for out in (str(tmp_path / "out"), f"{s3.url}/x"):
        begun = terminal.begin("export", "-d", "shop", "--format", "jsonl", "--out", out,
                               "--read-docs-per-s", "50", *words)  # fmt: skip
        before = terminal.kinds().count("dump_completed")
        until(lambda before=before: terminal.kinds().count("dump_completed") > before + 1)
        shop.orders.rename("gone")
        assert begun.wait(60) == 1
        begun.communicate()
        shop.gone.rename("orders")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert list((tmp_path / "out").rglob("part-*"))
    found = terminal.json("cleanup", "--only", "files", "--older-than", "files=0s", "--dry-run")
    there = {each["what"] for each in found["removed"]}
    assert there >= {f"file://{tmp_path}/out", f"{s3.url}/x"}
    terminal.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    swept = terminal.json("cleanup", "--only", "files", "--older-than", "files=0s")
    assert [each["what"] for each in swept["left"]] == [f"{s3.url}/x"]
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["mine.txt"]


def test_a_dry_run(terminal: Terminal, shop: Any, tmp_path: Path) -> None:
    """What would be exported, into which columns; nothing is written, not even a journal."""
    shop.orders.update_one({"_id": 0}, {"$set": {"a.b": [1], "n": "seven"}})
    words = ("export", "-d", "shop", "--out", str(tmp_path / "out"), "--dry-run")
    done = terminal(*words)
    assert done.returncode == 0, done.stderr
    for said in (
        "shop.orders: about 300 documents in 1 chunks",
        "as text: n (json)",
        "note: shop.big is a view and is not exported",
        "nothing was written",
    ):
        assert said in done.stdout
    told = terminal.json(*words, "--chunk-docs", "100")
    assert (told["schema"], told["format"]) == ("ferrylog.export-plan/1", "parquet")
    assert {each["namespace"]: each["chunks"] for each in told["units"]}["shop.orders"] > 1
    assert not (tmp_path / "out").exists()
    assert not terminal.journal.exists()


@pytest.mark.deep
def test_with_read_access_and_both_ways_to_log_in(tmp_path: Path) -> None:
    """G5, G10: the role `read` is enough; a password is in no file, whichever way it came."""
    word = "p@ss/hidden word%"
    with guarded(tmp_path / "server", "guarded") as side:
        side.client.shop.orders.insert_many([{"_id": n} for n in range(20)])
        side.client.other.orders.insert_one({})
        side.client.shop.command(
            {"createUser": "ann", "pwd": word, "roles": [{"role": "read", "db": "shop"}]}
        )
        host = f"mongodb://{side.host}/"
        whole = f"mongodb://ann:{quote_plus(word)}@{side.host}/?authSource=shop"
        fields = {"MONGO_URI": host, "MONGO_USERNAME": "ann", "MONGO_PASSWORD": word}
        ways = ({"MONGO_URI": whole}, fields | {"MONGO_AUTH_SOURCE": "shop"})
        for number, names in enumerate(ways):
            env = {**os.environ, **names, "FERRYLOG_JOURNAL": str(tmp_path / f"{number}.db")}
            words = ("--format", "jsonl", "--out", str(tmp_path / f"out{number}"))
            for command in ("check", "export"):
                done = program.ferrylog(command, "-d", "shop", *words, env=env)
                assert done.returncode == 0, done.stderr + done.stdout
            assert len(documents(tmp_path / f"out{number}")) == 20
            denied = program.ferrylog("check", "-d", "other", *words[:2], env=env)
            assert "ECONN004" in denied.stdout
        env |= fields | {"MONGO_PASSWORD": "hidden word"}
        wrong = program.ferrylog("check", env=env)
        assert "ECONN003" in wrong.stdout
        assert "hidden" not in wrong.stdout + wrong.stderr
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
                    and "server" not in path.parts)  # fmt: skip
    assert b"hidden" not in kept
