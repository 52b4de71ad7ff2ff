"""Exports that meet the worst: killed where it hurts most, stores that go away, full disks.

I12, I22, I24: resumed, they end as if nothing had happened: each document once, a manifest that
names what lies there, and the mark of success last of all.
"""

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import duckdb
import pytest
import zstandard
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from pymongo import MongoClient

from ferrylog.embedded import Mongod
from tests import program
from tests.conftest import Pair
from tests.end_to_end.forwarder import Forwarder
from tests.end_to_end.test_bad_input import small_disk
from tests.end_to_end.test_dumps_go_on import killed_in
from tests.end_to_end.test_main_job import Terminal, until
from tests.objectstores import S3

pytestmark = pytest.mark.server
COUNT = 800
SMALL = ("--chunk-docs", "20", "--workers", "2")
FAILING = ("--setParameter", "enableTestCommands=1")
SUMS = (COUNT, COUNT * (COUNT - 1) // 2)


@pytest.fixture
def loaded(pair: Pair) -> Pair:
    pair.source_client.shop.c.insert_many(
        [{"_id": n, "v": n, "pad": "x" * 100} for n in range(COUNT)]
    )
    return pair


@pytest.fixture
def terminal(loaded: Pair, tmp_path: Path) -> Terminal:
    assert loaded
    return Terminal(tmp_path, loaded)


@pytest.fixture
def bucket(s3: S3, terminal: Terminal) -> Any:
    terminal.environment |= {k: v for k, v in os.environ.items() if k.startswith("AWS")}
    return boto3.resource("s3", endpoint_url=s3.endpoint).Bucket(s3.bucket)


def sums(folder: Path) -> tuple[int, int]:
    """Documents, and the sum of their values: by a reader that takes all files that lie there."""
    if list(folder.rglob("*.parquet")):
        found = f"SELECT count(*), sum(v)::BIGINT FROM '{folder}/**/*.parquet'"
        (row,) = duckdb.sql(found).fetchall()
        return (int(row[0]), int(row[1]))
    rows = [json.loads(line) for path in folder.rglob("*.jsonl.zst") for line in _lines(path)]
    return len(rows), sum(int(row["v"]["$numberInt"]) for row in rows)


def _lines(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return reader.read().splitlines()


def must_be_whole(folder: Path) -> dict[str, Any]:
    """Exactly what the manifest names lies there, and all of it."""
    told: dict[str, Any] = json.loads((folder / "_manifest.json").read_bytes())
    files = {file["name"]: file["bytes"] for each in told["collections"] for file in each["files"]}
    there = {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    assert there == {**files, "_SUCCESS": 0, "_manifest.json": there["_manifest.json"]}
    assert (told["complete"], told["documents"], sums(folder)) == (True, COUNT, SUMS)
    return told


def fetched(bucket: Any, folder: Path) -> Path:
    for each in bucket.objects.filter(Prefix="out/"):
        path = folder / each.key.removeprefix("out/")
        path.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(each.key, str(path))
    return folder


def to(place: str | Path, form: str = "jsonl", *more: str) -> tuple[str, ...]:
    return ("export", "--out", str(place), "--format", form, *SMALL, *more)


def test_a_killed_export_goes_on(terminal: Terminal, tmp_path: Path) -> None:
    """G4: what is done is not done again; what dead attempts left is gone in the end."""
    out = tmp_path / "out"
    killed_in(terminal, "dump_completed", 3, *to(out))
    assert not (out / "_SUCCESS").exists()
    assert not (out / "_manifest.json").exists()
    first, *_ = sorted(out.rglob("part-*"))
    for name in (first.name.replace("-1-1.", "-1-9."), f".ferrylog-draft-{first.name}.tmp"):
        first.with_name(name).write_bytes(first.read_bytes())
    done = terminal("resume")
    assert done.returncode == 0, done.stderr
    must_be_whole(out)
    completed = [each["entity"] for each in terminal.events("--kind", "dump_completed")]
    assert len(completed) == len(set(completed))


@pytest.mark.deep
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_killed_at_random(form: str, terminal: Terminal, tmp_path: Path) -> None:
    """G2, I12: five times, on a disk."""
    draw, out = random.Random(f"kills of {form}"), tmp_path / "out"
    words = to(out, form)
    for _ in range(5):
        killed_in(terminal, "dump_started", draw.randint(1, 5), *words)
        words = ("resume",)
    assert terminal("resume").returncode == 0
    must_be_whole(out)


@pytest.fixture
def cut(
    s3: S3, bucket: Any, terminal: Terminal
) -> Iterator[Callable[[bytes, Callable[[], None]], Forwarder]]:
    """A wire to the store that is cut where such a request passes, before the store sees it."""
    opened: list[Forwarder] = []

    def through(marker: bytes, seen: Callable[[], None]) -> Forwarder:
        opened.append(Forwarder(s3.port, marker, seen).__enter__())
        terminal.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{opened[-1].port}"
        return opened[-1]

    yield through
    for each in opened:
        each.__exit__(None, None, None)


@pytest.mark.deep
@pytest.mark.parametrize("request_", ["part-000000", "part-000006", "_manifest.json", "_SUCCESS"])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_killed_before_a_request(
    form: str, request_: str, terminal: Terminal, s3: S3, bucket: Any, cut: Any, tmp_path: Path
) -> None:
    """I15, I24: at each step of the end too, an export that is not whole never seems so."""
    process: list[subprocess.Popen[Any]] = []
    file = request_.startswith("part")
    marker = request_ if file else f"PUT /{s3.bucket}/out/{request_}"

    def kill() -> None:
        until(lambda: process)
        process[0].send_signal(signal.SIGKILL)

    wire = cut(marker.encode(), kill)
    process.append(program.begin(*to(f"{s3.url}/out", form), env=terminal.environment))
    assert process[0].wait(60) == -signal.SIGKILL
    assert "_SUCCESS" not in {each.key for each in bucket.objects.all()}
    wire.armed = False
    done = terminal("resume")
    assert done.returncode == 0, done.stderr
    must_be_whole(fetched(bucket, tmp_path / "fetched"))


@pytest.mark.deep
def test_a_store_that_goes_away_for_a_while(
    terminal: Terminal, s3: S3, bucket: Any, cut: Any, tmp_path: Path
) -> None:
    """G8: attempts fail and are repeated; nobody has to do anything."""
    seen: list[int] = []

    def count() -> None:
        seen.append(1)
        wire.armed = len(seen) < 30

    wire = cut(b"part-00000", count)
    done = terminal(*to(f"{s3.url}/out"))
    assert done.returncode == 0, done.stderr
    assert len(seen) == 30
    assert "dump_retry_scheduled" in terminal.kinds()
    must_be_whole(fetched(bucket, tmp_path / "fetched"))


@pytest.mark.deep
def test_a_bucket_that_is_removed(
    terminal: Terminal, s3: S3, bucket: Any, cut: Any, tmp_path: Path
) -> None:
    """G8, I24: the export pauses; when the bucket is back, what was in it is exported again."""

    def remove() -> None:
        wire.armed = False
        while True:
            with suppress(ClientError):  # another file may have come
                bucket.objects.all().delete()
                return bucket.delete()

    wire = cut(b"part-000005", remove)
    paused = terminal(*to(f"{s3.url}/out"))
    assert paused.returncode == 5, paused.stderr
    assert "ESTORE005" in paused.stderr
    bucket.create()
    done = terminal("resume")
    assert done.returncode == 0, done.stderr
    must_be_whole(fetched(bucket, tmp_path / "fetched"))


@pytest.mark.deep
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_full_disk(form: str, loaded: Pair, terminal: Terminal, tmp_path: Path) -> None:
    """G8: the export pauses, what is done stays done, with room it goes on."""
    rows = [{"_id": n, "v": n, "pad": os.urandom(900).hex()} for n in range(COUNT)]
    loaded.source_client.shop.c.drop()
    loaded.source_client.shop.c.insert_many(rows)
    with small_disk(tmp_path, "400k") as disk:
        out = Path(disk) / "out"
        paused = terminal(*to(out, form, "--disk-reserve", "1"))
        assert paused.returncode == 5, paused.stderr
        assert "EDISK001" in paused.stderr
        assert not (out / "_SUCCESS").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        done = terminal("resume")
        assert done.returncode == 0, done.stderr
        must_be_whole(out)


def test_what_cannot_be_said_is_kept_and_exported_later(
    loaded: Pair, terminal: Terminal, tmp_path: Path
) -> None:
    """G4: exit 3, and no mark of success while a document is missing."""
    from bson.raw_bson import RawBSONDocument

    broken = b"\x1c\0\0\0\x10_id\0\xff\xff\0\0\x02t\0\x03\0\0\0\xff\xfe\0\0"
    raw = RawBSONDocument(len(broken).to_bytes(4, "little") + broken[4:])
    loaded.source_client.shop.c.insert_one(raw)
    out = tmp_path / "out"
    done = terminal(*to(out))
    assert done.returncode == 3, done.stderr
    assert not (out / "_SUCCESS").exists()
    told = json.loads((out / "_manifest.json").read_bytes())
    assert (told["complete"], told["rejected"], told["documents"]) == (False, 1, COUNT)
    loaded.source_client.shop.c.delete_one({"_id": 0xFFFF})
    assert terminal("dead-letters", "requeue", "--all").returncode == 0
    again = terminal("resume")
    assert again.returncode == 0, again.stderr
    must_be_whole(out)


@pytest.mark.deep
def test_what_is_given_up_is_told(loaded: Pair, terminal: Terminal, tmp_path: Path) -> None:
    """A8: one collection that cannot be read does not hold up the others, and is missed."""
    how = {"failCommands": ["find"], "errorCode": 2, "namespace": "shop.bad"}
    fail = {"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": how}
    out = tmp_path / "out"
    with Mongod(tmp_path / "failing", name="failing", options=FAILING) as server:
        with MongoClient[Any](server.uri) as client:
            client.shop.c.insert_many(loaded.source_client.shop.c.find())
            client.shop.bad.insert_one({"_id": 1})
            client.admin.command(fail)
        terminal.environment["FERRYLOG_SOURCE"] = server.uri
        done = terminal(*to(out, "jsonl", "--on-exhausted", "skip-unit"))
    assert done.returncode == 3, done.stderr
    told = json.loads((out / "_manifest.json").read_bytes())
    assert (told["complete"], told["documents"]) == (False, COUNT)
    assert told["missing"] == ["shop.bad: it was given up"]
    assert not (out / "_SUCCESS").exists()


@pytest.mark.deep
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_one_export_replaces_another_and_is_killed(
    form: str, loaded: Pair, terminal: Terminal, tmp_path: Path
) -> None:
    """Until the new one is whole, all that the old one named is there."""
    out = tmp_path / "out"
    assert terminal(*to(out, form)).returncode == 0
    old = set(out.rglob("part-*"))
    words = to(out, form, "--overwrite", "--new")
    killed_in(terminal, "dump_completed", 5, *words)
    assert old <= set(out.rglob("part-*"))
    assert not (out / "_SUCCESS").exists()
    assert terminal("resume").returncode == 0
    must_be_whole(out)
    assert not old & set(out.rglob("part-*"))
