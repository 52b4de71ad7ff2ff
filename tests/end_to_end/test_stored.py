"""Dumps that lie in an object store: the same dumps, resumable on both sides, damage named."""

import json
import random
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.conftest import Pair
from tests.end_to_end import every_kind, oracle
from tests.end_to_end.forwarder import Forwarder
from tests.end_to_end.test_dump_kills import COUNTS, TO_DUMP, fight, loaded  # noqa: F401 — a fixture
from tests.end_to_end.test_main_job import Terminal, left_by, until
from tests.objectstores import NOT_SECRET, S3, make_bucket

pytestmark = pytest.mark.server
SMALL = ("--chunk-docs", "100")
TO_RESTORE = ("plan_completed", "restore_started", "restore_completed", "chunk_released")
"""Events behind which a kill comes."""


@pytest.fixture
def bucket(s3: S3) -> Any:
    """As any other tool sees it."""
    return boto3.resource("s3", endpoint_url=s3.endpoint).Bucket(s3.bucket)


def names(bucket: Any) -> list[str]:
    return [each.key for each in bucket.objects.all()]


def down(bucket: Any, prefix: str, folder: Path) -> None:
    for each in bucket.objects.filter(Prefix=f"{prefix}/"):
        path = folder / each.key.removeprefix(f"{prefix}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each.get()["Body"].read())


def up(folder: Path, bucket: Any, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder)}"
            bucket.put_object(Key=key, Body=path.read_bytes())


def beside(folder: Path, name: str, pair: Pair) -> Terminal:
    """Another journal."""
    (folder / name).mkdir()
    return Terminal(folder / name, pair)


def must_be_the_same(pair: Pair) -> None:
    found = oracle.snapshot(pair.source.uri), oracle.snapshot(pair.target.uri)
    assert oracle.differences(*found) == []
    assert found[1].documents


def test_a_dump_goes_there_and_comes_back(pair: Pair, s3: S3, tmp_path: Path) -> None:
    """I22: all that the next one looks at, in small."""
    pair.source_client.shop.orders.insert_many([{"_id": n} for n in range(50)])
    ferrylog = Terminal(tmp_path, pair)
    for words in (("dump", "--out", s3.url), ("restore", "--from", s3.url)):
        done = ferrylog(*words)
        assert done.returncode == 0, done.stderr
    must_be_the_same(pair)


@pytest.mark.deep
def test_every_kind_survives_a_store(pair: Pair, s3: S3, bucket: Any, tmp_path: Path) -> None:
    """I17, I22: every document to the byte; nothing but the dump stays, no key is written down."""
    every_kind.load(pair.source_client)
    ferrylog, url = Terminal(tmp_path, pair), f"{s3.url}/a/b"
    dumped = ferrylog("dump", "--out", f"{url}/", *SMALL)
    assert dumped.returncode == 0, dumped.stderr
    assert {name.rpartition(".")[2] for name in names(bucket)} == {"flb", "json"}
    assert not left_by(ferrylog.journal)
    sound = ferrylog("verify", "--from", url, "--json")
    assert json.loads(sound.stdout)["equal"], sound.stdout
    restored = ferrylog("restore", "--from", url)
    assert restored.returncode == 0, restored.stderr
    found = every_kind.read(pair.source_client), every_kind.read(pair.target_client)
    assert every_kind.differences(*found) == []
    assert not left_by(ferrylog.journal)
    assert NOT_SECRET.encode() not in ferrylog.journal.read_bytes()


@pytest.mark.deep
def test_it_is_the_same_dump_wherever_it_is_copied(
    pair: Pair, s3: S3, bucket: Any, tmp_path: Path
) -> None:
    """I22: from the bucket to a disk, from there to another prefix, by another tool."""
    every_kind.load(pair.source_client)
    ferrylog, folder = Terminal(tmp_path, pair), tmp_path / "copied"
    assert ferrylog("dump", "--out", f"{s3.url}/one", *SMALL).returncode == 0
    down(bucket, "one", folder)
    up(folder, bucket, "two")
    for place in (str(folder), f"{s3.url}/two"):
        assert ferrylog("verify", "--from", place).returncode == 0
        restored = ferrylog("restore", "--from", place, "--drop", "--new")
        assert restored.returncode == 0, restored.stderr
        assert ferrylog("commit").returncode == 0
        found = every_kind.read(pair.source_client), every_kind.read(pair.target_client)
        assert every_kind.differences(*found) == []
        verified = ferrylog("verify", "--metadata")
        assert verified.returncode == 0, verified.stdout


@pytest.mark.deep
def test_both_sides_are_killed_and_go_on(
    loaded: Pair,  # noqa: F811
    s3: S3,
    bucket: Any,
    tmp_path: Path,
) -> None:
    """I12, I15, I17, I22: no document lost, none twice, no object that the manifest does not name,
    no file in the work folder; what passes for a dump is one."""
    ferrylog, url = Terminal(tmp_path, loaded), f"{s3.url}/dump"
    words = ("dump", "--out", url, *SMALL)
    assert fight(ferrylog, words, TO_DUMP, 5, tmp_path / "out")
    manifest = json.loads(bucket.Object("dump/manifest.json").get()["Body"].read())
    named = {chunk["file"] for each in manifest["namespaces"] for chunk in each["chunks"]}
    assert set(names(bucket)) == {"dump/manifest.json", *(f"dump/{name}" for name in named)}
    again = beside(tmp_path, "again", loaded)
    assert fight(again, ("restore", "--from", url), TO_RESTORE, 5, tmp_path / "out")
    must_be_the_same(loaded)
    assert not left_by(ferrylog.journal) and not left_by(again.journal)
    assert again("verify").returncode == 0


@pytest.mark.deep
def test_two_dumps_do_not_share_a_prefix(pair: Pair, s3: S3, bucket: Any, tmp_path: Path) -> None:
    """What lies there is never written over, and of two that begin at once one does."""
    pair.source_client.shop.a.insert_one({"_id": 1})
    ferrylog, url = Terminal(tmp_path, pair), f"{s3.url}/dump"
    bucket.put_object(Key="dump/else", Body=b"x")
    refused = ferrylog("dump", "--out", url)
    assert (refused.returncode, "EDUMP003" in refused.stderr) == (2, True)
    bucket.Object("dump/else").delete()
    assert ferrylog("dump", "--out", url).returncode == 0
    refused = ferrylog("dump", "--out", url, "--new")
    assert (refused.returncode, "is not empty" in refused.stderr) == (2, True)
    assert ferrylog("dump", "--out", f"{url}2").returncode == 0, "no folder, but a name"


@pytest.fixture
def dumped(pair: Pair, s3: S3, tmp_path: Path) -> tuple[Pair, str]:
    """Ten chunks in a store."""
    pair.source_client.shop.c.insert_many([{"_id": n, "x": "y" * 100} for n in range(1000)])
    done = Terminal(tmp_path, pair)("dump", "--out", f"{s3.url}/dump", *SMALL)
    assert done.returncode == 0, done.stderr
    return pair, f"{s3.url}/dump"


@pytest.mark.deep
def test_what_is_missing_or_cut_is_found_before_the_first_write(
    dumped: tuple[Pair, str], bucket: Any, tmp_path: Path
) -> None:
    """I24: by one listing, by name; what is beside the dump is told and hurts nobody."""
    pair, url = dumped
    ferrylog = beside(tmp_path, "again", pair)
    key = next(name for name in names(bucket) if name.endswith(".flb"))
    raw = bucket.Object(key).get()["Body"].read()
    name = key.removeprefix("dump/")
    cut = partial(bucket.put_object, Key=key, Body=raw[:-1])
    for change, code in ((bucket.Object(key).delete, "EDUMP063"), (cut, "EDUMP064")):
        change()
        refused = ferrylog("restore", "--from", url)
        assert refused.returncode == 4
        assert f"{code}: {name}" in refused.stderr
        assert ferrylog("verify", "--from", url).returncode == 4
    assert "shop" not in pair.target_client.list_database_names()
    bucket.put_object(Key=key, Body=raw)
    bucket.put_object(Key="dump/shop.c/notes.txt", Body=b"x")
    restored = ferrylog("restore", "--from", url)
    assert restored.returncode == 0, restored.stderr
    assert "notes.txt" in restored.stderr
    must_be_the_same(pair)


@pytest.mark.deep
def test_what_was_changed_is_never_restored(
    dumped: tuple[Pair, str], bucket: Any, tmp_path: Path
) -> None:
    """I24: found when it is fetched, before its first document is written; named; the rest goes on;
    put back, it is carried."""
    pair, url = dumped
    ferrylog = beside(tmp_path, "again", pair)
    key = random.Random(7).choice([each for each in names(bucket) if each.endswith(".flb")])
    raw = bucket.Object(key).get()["Body"].read()
    bucket.put_object(Key=key, Body=bytes([raw[0] ^ 1]) + raw[1:])
    broken = ferrylog("restore", "--from", url, "--on-exhausted", "pause")
    assert (broken.returncode, key in broken.stderr) == (5, True), broken.stderr
    assert ferrylog("verify", "--from", url).returncode == 4
    bucket.put_object(Key=key, Body=raw)
    assert ferrylog("resume").returncode == 0
    must_be_the_same(pair)


@pytest.mark.deep
def test_a_restore_is_taken_back_by_what_the_store_holds(
    dumped: tuple[Pair, str], tmp_path: Path
) -> None:
    """What was not compared is held against its file, which is fetched once more."""
    pair, url = dumped
    ferrylog = beside(tmp_path, "again", pair)
    assert ferrylog("restore", "--from", url, "--no-verify").returncode == 0
    assert not left_by(ferrylog.journal)
    back = ferrylog("rollback")
    assert back.returncode == 0, back.stderr
    assert "shop" not in pair.target_client.list_database_names()
    assert not left_by(ferrylog.journal)


@pytest.mark.deep
def test_several_targets_read_one_dump(dumped: tuple[Pair, str], tmp_path: Path) -> None:
    """I22: together they hold it, each document once; the dry run of one writes nothing."""
    pair, url = dumped
    ferrylog = beside(tmp_path, "again", pair)
    assert ferrylog("restore", "--from", url, "--dry-run").returncode == 0
    assert "shop" not in pair.target_client.list_database_names()
    pair.source_client.drop_database("shop")
    both = ("--target", pair.source.uri, "--target", pair.target.uri)
    assert ferrylog("restore", "--from", url, *both).returncode == 0
    ids = [each["_id"] for each in pair.source_client.shop.c.find()]
    others = [each["_id"] for each in pair.target_client.shop.c.find()]
    assert ids and others
    assert sorted(ids + others) == list(range(1000))
    assert not left_by(ferrylog.journal)


@pytest.mark.deep
def test_the_source_is_compared_with_the_store(dumped: tuple[Pair, str], tmp_path: Path) -> None:
    """A25: `verify` of the job that made it: the source against what lies in the store."""
    pair, url = dumped
    ferrylog = Terminal(tmp_path, pair)
    same = ferrylog("verify")
    assert same.returncode == 0, same.stdout
    pair.source_client.shop.c.delete_one({"_id": 3})
    other = ferrylog("verify", "--json")
    assert other.returncode == 4
    [one] = json.loads(other.stdout)["units"][0]["differing"]
    assert (one["what"], "3" in one["key"]) == ("extra", True)
    assert not left_by(ferrylog.journal)
    assert url in ferrylog("status").stdout


@pytest.mark.deep
def test_google_by_what_it_shares_with_s3(pair: Pair, gs: str, tmp_path: Path) -> None:
    """The same code behind `gs://`; what is not proven of it stands in docs/stores.md."""
    pair.source_client.shop.c.insert_many([{"_id": n, "x": "y" * 100} for n in range(500)])
    ferrylog, url = Terminal(tmp_path, pair), f"{gs}/dump"
    assert ferrylog("dump", "--out", url, *SMALL).returncode == 0
    assert ferrylog("verify", "--from", url).returncode == 0
    assert ferrylog("restore", "--from", url).returncode == 0
    must_be_the_same(pair)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("dump", "--incremental"), "without increments"),
        (("dump", "--layout", "mongodump"), "without increments"),
        (("dump", "--archive"), "an archive is a file or a standard stream"),
        (("restore", "--archive"), "an archive is a file or a standard stream"),
        (("restore", "--salvage"), "read once"),
        (("restore", "--objcheck"), "read once"),
        (("restore", "--at", "2026-01-01T00:00:00Z"), "increments are not restored"),
        (("restore", "--to-increment", "1"), "increments are not restored"),
        (("restore",), "no manifest.json beneath it"),
        (("verify",), "no manifest.json beneath it"),
    ],
)
def test_what_a_store_does_not_take_is_refused(
    words: tuple[str, ...], why: str, pair: Pair, s3: S3, bucket: Any, tmp_path: Path
) -> None:
    """At once, with what helps, and nothing was written."""
    ferrylog, end = Terminal(tmp_path, pair), "--out" if words[0] == "dump" else "--from"
    named = words if words[-1] == "--archive" else (*words, end)
    refused = ferrylog(*named, f"{s3.url}/there")
    assert refused.returncode == 2
    assert why in refused.stderr and "→" in refused.stderr
    assert names(bucket) == []


@pytest.mark.deep
def test_an_outage_of_the_store_is_waited_out_or_paused(
    pair: Pair, s3: S3, bucket: Any, tmp_path: Path
) -> None:
    """A20: nobody is to blame, no chunk is given up; `resume` goes on where the store is back."""
    pair.source_client.shop.c.insert_many([{"_id": n, "x": "y" * 100} for n in range(3000)])
    ferrylog, url = Terminal(tmp_path, pair), f"{s3.url}/dump"
    slow = ("--patience", "1", "--read-docs-per-s", "1000")
    with Forwarder(s3.port, b"no such bytes", lambda: None) as wire:
        endpoint = f"http://127.0.0.1:{wire.port}"
        ferrylog.environment["AWS_ENDPOINT_URL"] = endpoint
        going = ferrylog.begin("dump", "--out", url, *SMALL, *slow)
        _until_kind(ferrylog, "dump_completed")
    _, said = going.communicate(timeout=100)
    assert (going.returncode, "ESTORE010" in said) == (5, True), said
    assert "dead_lettered" not in ferrylog.kinds()
    ferrylog.environment["AWS_ENDPOINT_URL"] = s3.endpoint
    assert ferrylog("resume", "--read-docs-per-s", "0").returncode == 0
    assert ferrylog("verify", "--from", url).returncode == 0
    assert ferrylog("verify").returncode == 0


@pytest.mark.deep
def test_a_bucket_that_goes_pauses_and_comes_back(
    pair: Pair, s3: S3, bucket: Any, tmp_path: Path
) -> None:
    """Exit 5 on both sides, nothing lost; what went with the bucket is dumped again."""
    pair.source_client.shop.c.insert_many([{"_id": n, "x": "y" * 100} for n in range(3000)])
    ferrylog, url = Terminal(tmp_path, pair), f"{s3.url}/dump"
    going = ferrylog.begin("dump", "--out", url, *SMALL, "--read-docs-per-s", "1000")
    _until_kind(ferrylog, "dump_completed")
    _remove(bucket)
    _, said = going.communicate(timeout=60)
    assert (going.returncode, "ESTORE005" in said) == (5, True), said
    make_bucket(s3.endpoint, s3.bucket)
    resumed = ferrylog("resume", "--read-docs-per-s", "0")
    assert resumed.returncode == 0, resumed.stderr
    assert ferrylog("verify", "--from", url).returncode == 0
    copy = tmp_path / "copy"
    down(bucket, "dump", copy)
    again = beside(tmp_path, "again", pair)
    going = again.begin("restore", "--from", url, "--write-docs-per-s", "1000")
    _until_kind(again, "restore_completed")
    _remove(bucket)
    _, said = going.communicate(timeout=60)
    gone = "ESTORE005" in said or "is missing" in said  # the objects go before the bucket does
    assert (going.returncode, gone) == (5, True), said
    make_bucket(s3.endpoint, s3.bucket)
    up(copy, bucket, "dump")
    resumed = again("resume", "--write-docs-per-s", "0")
    assert resumed.returncode == 0, resumed.stderr
    must_be_the_same(pair)


def _until_kind(ferrylog: Terminal, kind: str) -> None:
    until(lambda: kind in ferrylog.kinds())


def _remove(bucket: Any) -> None:
    """Somebody may put to it meanwhile."""

    def is_gone() -> bool:
        bucket.objects.all().delete()
        with suppress(ClientError):
            bucket.delete()
            return True
        return False

    until(is_gone)
