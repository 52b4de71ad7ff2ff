"""Dumps and restores that are interrupted: what they go on with is what they began with."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests import program
from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal, until

ROWS = [{"_id": n, "pad": "x" * 200} for n in range(3000)]


@pytest.fixture
def loaded(pair: Pair) -> Pair:
    pair.source_client.shop.c.insert_many(ROWS)
    return pair


def killed_in(ferrylog: Terminal, kind: str, count: int, *words: str, stdin: Any = None) -> None:
    """Run, and SIGKILL once so many more events of a kind are there."""
    count += ferrylog.kinds().count(kind)
    more = {} if stdin is None else {"stdin": stdin}
    running = program.begin(*words, env=ferrylog.environment, **more)
    try:
        until(lambda: ferrylog.kinds().count(kind) >= count or running.poll() is not None)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()


@pytest.mark.parametrize("layout", [pytest.param("chunks", marks=pytest.mark.deep), "mongodump"])
def test_files_of_a_dump_that_are_lost_meanwhile_are_dumped_again(
    layout: str, loaded: Pair, tmp_path: Path
) -> None:
    """I24: nothing is named in a manifest because the journal remembers it."""
    ferrylog, place = Terminal(tmp_path, loaded), tmp_path / "dump"
    words = ("dump", "--out", str(place), "--layout", layout, "--chunk-docs", "200")
    killed_in(ferrylog, "dump_completed", 8, *words, "--dump-workers", "1")
    first, second, *_ = sorted(tmp_path.rglob("*.flb"))
    first.unlink()
    second.write_bytes(b"\0" + second.read_bytes()[1:])
    resumed = ferrylog("resume")
    assert resumed.returncode == 0, resumed.stderr
    assert ferrylog("verify", "--from", str(place)).returncode == 0
    assert ferrylog("restore", "--from", str(place)).returncode == 0
    assert loaded.target_client.shop.c.count_documents({}) == len(ROWS)
    assert "chunk_replaced" in ferrylog.kinds()


def test_two_dumps_do_not_share_a_folder(loaded: Pair, tmp_path: Path) -> None:
    one, two = Terminal(tmp_path / "a", loaded), Terminal(tmp_path / "b", loaded)
    for each in (one, two):
        each.journal.parent.mkdir()
    place = str(tmp_path / "dump")
    killed_in(one, "dump_completed", 2, "dump", "--out", place, "--chunk-docs", "200")
    refused = two("dump", "--out", place)
    assert refused.returncode == 2, refused.stderr
    assert one("resume").returncode == 0
    assert one("verify", "--from", place).returncode == 0
    assert not (tmp_path / "dump" / ".ferrylog-dump").exists()


@pytest.mark.parametrize(
    "change", ["other", pytest.param("gone", marks=pytest.mark.deep), "back again"]
)
def test_a_restore_goes_on_with_its_own_dump(change: str, loaded: Pair, tmp_path: Path) -> None:
    """Another dump under that name, or none, is refused before anything is journaled."""
    ferrylog, place = Terminal(tmp_path, loaded), tmp_path / "dump"
    assert ferrylog("dump", "--out", str(place), "--layout", "mongodump").returncode == 0
    words = ("restore", "--from", str(place), "--chunk-docs", "100", "--restore-workers", "1")
    killed_in(ferrylog, "restore_completed", 3, *words)
    place.rename(tmp_path / "kept")
    if change == "other":
        loaded.source_client.shop.d.insert_one({"_id": 1})
        assert ferrylog("dump", "--out", str(place), "--layout", "mongodump").returncode == 0
    before = ferrylog.kinds()
    job = next(j["job"] for j in ferrylog.json("jobs")["jobs"] if j["kind"] == "restore")
    refused = ferrylog("resume", job)
    assert refused.returncode in (1, 2), refused.stderr
    assert "EDUMP001" in refused.stderr or "ERESUME004" in refused.stderr
    assert ferrylog.kinds() == before
    if change == "back again":
        (tmp_path / "kept").rename(place)
        assert ferrylog("resume", job).returncode == 0
        assert loaded.target_client.shop.c.count_documents({}) == len(ROWS)


def test_another_archive_does_not_go_on_with_an_unfinished_job(
    loaded: Pair, tmp_path: Path
) -> None:
    """A file is known by its content; of standard input nothing is known."""
    ferrylog, place = Terminal(tmp_path, loaded), tmp_path / "archive"
    assert ferrylog("dump", "--archive", str(place)).returncode == 0
    other = tmp_path / "other"
    other.write_bytes(place.read_bytes()[:-1] + b"\xfe")
    words = ("restore", "--archive", str(place), "--chunk-docs", "100", "--restore-workers", "1")
    killed_in(ferrylog, "restore_completed", 3, *words)
    refused = ferrylog("restore", "--archive", str(other))
    assert "continuing" not in refused.stderr
    with place.open("rb") as stdin:
        words = ("restore", "--archive", "-", "--chunk-docs", "100", "--drop", "--new")
        killed_in(ferrylog, "restore_completed", 3, *words, stdin=stdin)
    piped = ferrylog("restore", "--archive", "-", "--chunk-docs", "100", "--drop")
    assert piped.returncode == 2, piped.stderr
    assert "--new" in piped.stderr


@pytest.mark.parametrize("form", ["archive", pytest.param("gzip", marks=pytest.mark.deep)])
def test_what_was_unpacked_and_is_gone_is_unpacked_again(
    form: str, loaded: Pair, tmp_path: Path
) -> None:
    """I24: the dump is still there."""
    ferrylog, place = Terminal(tmp_path, loaded), str(tmp_path / "dump")
    if form == "archive":
        assert ferrylog("dump", "--archive", place).returncode == 0
        words: tuple[str, ...] = ("restore", "--archive", place)
    else:
        assert ferrylog("dump", "--out", place, "--layout", "mongodump", "--gzip").returncode == 0
        words = ("restore", "--from", place)
    killed_in(
        ferrylog, "restore_completed", 3, *words, "--chunk-docs", "100", "--restore-workers", "1"
    )
    shutil.rmtree(f"{ferrylog.journal}.d")
    resumed = ferrylog("resume")
    assert resumed.returncode == 0, resumed.stderr
    assert loaded.target_client.shop.c.count_documents({}) == len(ROWS)


def test_an_archive_is_asked_for_what_it_does_not_hold(loaded: Pair, tmp_path: Path) -> None:
    """What is refused of a directory before the job is refused of an archive before a write."""
    ferrylog, place = Terminal(tmp_path, loaded), str(tmp_path / "archive")
    assert ferrylog("dump", "--archive", place).returncode == 0
    for words in (("-d", "shopp"), ("-d", "shop", "-c", "c", "-c", "missing")):
        refused = ferrylog("restore", "--archive", place, *words, "--new")
        assert refused.returncode != 0, refused.stderr
        assert "ESOURCE001" in refused.stderr
    loaded.target_client.shop.c.insert_one({"_id": "theirs"})
    before = loaded.target_client.list_database_names()
    taken = ferrylog("restore", "--archive", place, "--new")
    assert taken.returncode != 0
    assert "ETARGET001" in taken.stderr
    assert loaded.target_client.list_database_names() == before


def test_a_dump_that_lacks_something_says_so(loaded: Pair, tmp_path: Path) -> None:
    """A unit that was taken out leaves no files; what was given up is told by the dump itself."""
    loaded.source_client.shop.d.insert_many([{"_id": n} for n in range(500)])
    ferrylog, place = Terminal(tmp_path, loaded), tmp_path / "dump"
    words = ("dump", "--out", str(place), "--chunk-docs", "100", "--dump-workers", "1")
    killed_in(ferrylog, "dump_completed", 10, *words)
    assert ferrylog("set", "exclude=shop.c").returncode == 0
    assert ferrylog("resume").returncode == 0
    assert ferrylog("verify", "--from", str(place)).returncode == 0
    names = json.loads((place / "manifest.json").read_text())["namespaces"]
    assert [each["namespace"] for each in names] == ["shop.d"]
    assert any((place / "shop.d").iterdir())
    assert not (place / "shop.c").exists()
