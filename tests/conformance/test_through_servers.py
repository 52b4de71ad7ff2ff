"""Inputs of others, all the way: into a real server, out of it, into another one; or refused."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from bson import json_util

from tests.conformance import plain
from tests.conformance.corpus import corpus, files, invalid_bson, needs_corpus, valid_bson
from tests.conftest import Pair
from tests.counts import count
from tests.end_to_end import every_kind
from tests.end_to_end.test_dump_restore import LAYOUTS, at
from tests.end_to_end.test_main_job import Terminal

pytestmark = needs_corpus
Run = CompletedProcess[str]


def first_now(values: list[Any], **options: Any) -> list[Any]:
    """The first goes to the short lane, the others to the deep one."""
    rest = [pytest.param(each, marks=pytest.mark.deep, **options) for each in values[1:]]
    return [*values[:1], *rest]


def named(path: Path) -> str:
    return str(path.relative_to(corpus() or "/"))


def roots() -> list[Path]:
    """Folders of databases that mongodump wrote."""
    return sorted({path.parent.parent for path in files("*.metadata.json*")})


def archives() -> list[Path]:
    return [path for pattern in ("*.archive", "*.archive.gz") for path in files(pattern)]


def lone() -> list[Path]:
    """Files of documents with nothing beside them that tells more."""
    found = [path for pattern in ("*.bson", "*.bson.gz") for path in files(pattern)]
    of_dumps = roots()
    return [path for path in found if path.parent.parent not in of_dumps]


def samples() -> Iterator[tuple[str, list[Any]]]:
    """Files with one document a line, as Extended JSON: a name of a collection and what is in
    it."""
    for path in files("*.json"):
        try:
            found = [json_util.loads(line) for line in path.read_text().splitlines() if line]
        except (ValueError, TypeError):  # one JSON over many lines
            continue
        if found and all(isinstance(each, dict) and "_id" in each for each in found):
            yield f"{path.parent.name}.{path.stem}", found


def wrapped(number: int, document: bytes) -> bytes:
    """The very bytes, in a field of a document that has an `_id`."""
    return bytes(
        every_kind.raw(
            (0x10, b"_id", struct.pack("<i", number)), (0x03, b"of others", document)
        ).raw
    )


@pytest.mark.parametrize("layout", first_now(["chunks", "mongodump", "archive"]))
def test_documents_and_samples_come_back(layout: str, pair: Pair, tmp_path: Path) -> None:
    """I22: every document of the BSON corpus that a server takes, every sample, to the byte."""
    source, there = pair.source_client, []
    for number, case in enumerate(valid_bson()):
        document = wrapped(number, case.bson)
        if plain.insert(source.corpus, "c", document):
            there.append(document)
    for name, found in samples():
        source.samples[name].insert_many(found)
    ferrylog = Terminal(tmp_path, pair)
    down, up = LAYOUTS[layout]
    for words in (("dump", *at(down, tmp_path / "d")), ("restore", *at(up, tmp_path / "d"))):
        done = ferrylog(*words, "--chunk-docs", "300")
        assert done.returncode == 0, done.stderr
    target = every_kind.read(pair.target_client)
    assert target["corpus.c"]["documents"] == sorted(there)
    assert every_kind.differences(every_kind.read(source), target) == []
    assert ferrylog("verify", "--metadata").returncode == 0
    count("documents of others through servers", len(there))


def test_what_servers_refuse_is_rejected_by_name(pair: Pair, tmp_path: Path) -> None:
    """Faults 14 to 26: of a file whose envelopes are right, what a server refuses is rejected and
    named, and nothing else; with --objcheck the file is refused before anything is written."""
    cases = [each.bson for each in (*valid_bson(), *invalid_bson())]
    every = [wrapped(number, each) for number, each in enumerate(cases)]
    taken = [each for each in every if plain.insert(pair.source_client.d, "c", each)]
    (tmp_path / "c.bson").write_bytes(b"".join(every))
    ferrylog = Terminal(tmp_path, pair)
    words = ("restore", "--from", str(tmp_path / "c.bson"), "-d", "d", "-c", "c")
    checked = ferrylog(*words, "--objcheck")
    assert (checked.returncode, every_kind.read(pair.target_client)) == (4, {}), checked.stderr
    restored = ferrylog(*words)
    assert restored.returncode == 3, restored.stderr
    target = every_kind.read(pair.target_client)
    assert target["d.c"]["documents"] == sorted(taken)
    assert _rejected(ferrylog) == {each for each in range(len(every)) if every[each] not in taken}
    count("documents of others that servers refuse, rejected", len(every) - len(taken))


def _rejected(ferrylog: Terminal) -> set[int]:
    letters = ferrylog.json("dead-letters", "list")["letters"]
    return {json_util.loads(each["_id"]) for each in letters}


@pytest.mark.parametrize("root", first_now(roots()), ids=named)
def test_a_dump_directory_is_restored_or_refused(root: Path, pair: Pair, tmp_path: Path) -> None:
    """Faults 9 to 33."""
    restored = Terminal(tmp_path, pair)("restore", "--from", str(root))
    judge(restored, lambda: plain.directory(root), pair)


@pytest.mark.parametrize("path", first_now(archives()), ids=named)
def test_an_archive_is_restored_or_refused(path: Path, pair: Pair, tmp_path: Path) -> None:
    """Faults 9 to 33."""
    restored = Terminal(tmp_path, pair)("restore", "--archive", str(path))
    judge(restored, lambda: plain.archive(path), pair)


def judge(restored: Run, read: Callable[[], plain.Told], pair: Pair) -> None:
    """The target holds what a server holds that was made by plain commands; or nothing, and there
    was a reason to refuse."""
    told = _told(read)
    if told is None:
        assert restored.returncode == 4, restored.stderr
    elif told.version > _version(pair):
        assert (restored.returncode, "older than" in restored.stderr) == (1, True)
    else:
        refused = [
            name for each in told.namespaces for name in plain.make(pair.source_client, each)
        ]
        assert bool(restored.returncode) == bool(refused), restored.stderr
        assert all(name in restored.stderr for name in refused)
        _compare(told, pair)
        count("dumps of others, restored")
        return
    assert every_kind.read(pair.target_client) == {}
    count("dumps of others, refused")


def _told(read: Callable[[], plain.Told]) -> plain.Told | None:
    try:
        return read()
    except plain.Unreadable:
        return None


def _version(pair: Pair) -> tuple[int, ...]:
    info = pair.target_client.server_info()
    return tuple(info["versionArray"][:2])


def _compare(told: plain.Told, pair: Pair) -> None:
    made, found = every_kind.read(pair.source_client), every_kind.read(pair.target_client)
    for each in told.namespaces:
        name = f"{each.database}.{each.collection}"
        stored, here = made[name].pop("documents", []), found[name].pop("documents", [])
        assert len(here) == len(stored)
        # A server fills in empty timestamps, which we repair, and makes an `_id` by chance.
        may_be = {*stored, *each.documents}
        assert all(one in may_be or plain.without_id(one) in may_be for one in here)
    assert every_kind.differences(made, found) == []


@pytest.mark.parametrize("objcheck", [False, True], ids=["plain", "objcheck"])
@pytest.mark.parametrize("path", first_now(lone()), ids=named)
def test_a_lone_file_is_restored_or_refused(
    path: Path, objcheck: bool, pair: Pair, tmp_path: Path
) -> None:
    """Faults 13 to 28."""
    ferrylog, checked = Terminal(tmp_path, pair), ("--objcheck",) * objcheck
    restored = ferrylog("restore", "--from", str(path), "-d", "d", "-c", "c", *checked)
    try:
        documents = plain.documents(plain.content(path))
    except plain.Unreadable:
        assert restored.returncode == 4, restored.stderr
        assert every_kind.read(pair.target_client) == {}
        return
    source = pair.source_client.d
    refused = [each for each in documents if not plain.insert(source, "c", each)]
    if refused and objcheck:
        assert restored.returncode in {3, 4}, restored.stderr
        return
    assert restored.returncode == (3 if refused else 0), restored.stderr
    assert len(ferrylog.json("dead-letters", "list")["letters"]) == len(refused)
    said = plain.Said("d", "c", {}, documents)
    _compare(plain.Told((), [said] if documents else []), pair)
