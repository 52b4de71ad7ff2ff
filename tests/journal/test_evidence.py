"""A file that stands for itself: what is changed in it is found, without the journal."""

import hashlib
import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from journal.errors import BadEvidence, EvidenceExists, EvidenceUnreachable
from journal.evidence import Evidence, examine, read_key, write
from journal.rows import Row
from journal.sqlite import SqliteJournal
from statemachine.words import JobId
from tests.simulation.simulate import Simulation

KEY = b"a key of sixteen"


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> SqliteJournal:
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    Simulation(7, path).run()
    return SqliteJournal.read_only(path)


def job_of(journal: SqliteJournal) -> JobId:
    return journal.jobs()[0]


def exported(journal: SqliteJournal, path: Path, key: bytes | None = None) -> Path:
    job = job_of(journal)
    write(path, journal.rows(job), job=job, key=key, made_by="me", made_at="now")
    return path


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def test_what_was_exported_is_verified(journal: SqliteJournal, tmp_path: Path) -> None:
    """I45: the whole history, its end and its state, from the file alone."""
    file = exported(journal, tmp_path / "e.ndjson")
    found = examine(file)
    assert found.job == job_of(journal)
    assert found.events == journal.last_seq()
    assert found.manifest["status"] == "completed"
    assert not found.sealed
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_others_can_verify_it(journal: SqliteJournal, tmp_path: Path) -> None:
    """I2: with the few lines that docs/journal-format.md gives, and nothing of ferrylog."""
    page = Path(__file__).parents[2] / "docs" / "journal-format.md"
    script = tmp_path / "verify.py"
    script.write_text(page.read_text().partition("```python\n")[2].partition("```")[0])
    file = exported(journal, tmp_path / "e")
    command = [sys.executable, "-I", script, file]
    subprocess.run(command, check=True, cwd=tmp_path)
    file.write_bytes(file.read_bytes().replace(b"plan_started", b"plan_resumed", 1))
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert "was changed" in done.stderr


def test_no_changed_byte_is_silent(journal: SqliteJournal, tmp_path: Path) -> None:
    """I2, I45: flipped, cut, doubled, swapped: refused with the line."""
    whole = exported(journal, tmp_path / "e").read_bytes()
    draw, damaged = random.Random(1), tmp_path / "damaged"
    good = examine(tmp_path / "e")
    for _ in range(400):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        damaged.write_bytes(changed)
        assert verdict(damaged, good) != "wrong"
    for _ in range(100):
        damaged.write_bytes(whole[: draw.randrange(len(whole))])
        with pytest.raises(BadEvidence, match="line"):
            examine(damaged)
    lines = whole.splitlines(keepends=True)
    for at in range(1, len(lines) - 1):
        for other in (
            [*lines[:at], *lines[at + 1 :]],
            [*lines[:at], lines[at], *lines[at:]],
            [*lines[: at - 1], lines[at], lines[at - 1], *lines[at + 1 :]],
        ):
            damaged.write_bytes(b"".join(other))
            with pytest.raises(BadEvidence):
                examine(damaged)


def verdict(path: Path, good: Evidence) -> str:
    """A flip in the header or the manifest may leave every event as it was."""
    try:
        found = examine(path)
    except BadEvidence:
        return "refused"
    same = (found.events, found.last_hash, found.state) == (good.events, good.last_hash, good.state)
    return "same" if same else "wrong"


def forged(file: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """Rewritten by somebody who knows how: every hash and the manifest made anew."""
    lines = lines_of(file)
    change(lines)
    before, sha, out = bytes(32), hashlib.sha256(), []
    for each in lines[:-1]:
        if "hash" in each:
            texts = [each[name].encode() for name in ("job", "kind", "entity", "data")]
            numbers = [each[name] for name in ("version", "epoch", "recorded_at_ms")]
            packed = struct.pack("<7q", *numbers, *map(len, texts))
            before = hashlib.sha256(before + packed + b"".join(texts)).digest()
            each["hash"] = before.hex()
        out.append(json.dumps(each, separators=(",", ":")).encode() + b"\n")
        sha.update(out[-1])
    lines[-1] |= {"last_hash": before.hex(), "sha256": sha.hexdigest()}
    out.append(json.dumps(lines[-1], separators=(",", ":")).encode() + b"\n")
    file.write_bytes(b"".join(out))
    return file


def test_a_seal_shows_a_forger(journal: SqliteJournal, tmp_path: Path) -> None:
    """I45: without a key a careful forger passes; with one nobody does."""

    def somebody_else(lines: list[dict[str, Any]]) -> None:
        lines[1]["data"] = lines[1]["data"].replace('"by":"', '"by":"not ')

    plain = forged(exported(journal, tmp_path / "plain"), somebody_else)
    assert examine(plain).events == journal.last_seq()
    sealed = exported(journal, tmp_path / "sealed", KEY)
    assert examine(sealed, KEY).sealed
    assert not examine(sealed).sealed
    with pytest.raises(BadEvidence, match="does not fit this key"):
        examine(sealed, KEY[::-1])
    with pytest.raises(BadEvidence, match="does not fit this key"):
        examine(forged(sealed, somebody_else), KEY)
    with pytest.raises(BadEvidence, match="carries no seal"):
        examine(plain, KEY)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[3].update(version="3"),
        lambda lines: lines[3].update(kind="job_teleported"),
        lambda lines: lines[3].update(data="[]"),
        lambda lines: lines[3].update(data='{"x":"\\ud800"}'),
        lambda lines: lines[3].update(epoch=2**70),
        lambda lines: lines[3].update(job="another"),
        lambda lines: lines[0].update(schema="ferrylog.evidence/9"),
        lambda lines: lines[0].update(job="../victim"),
        lambda lines: lines[0].update(job=""),
        lambda lines: lines[-1].update(schema="x"),
        lambda lines: lines[-1].update(events=7),
        lambda lines: lines[-1].update(status="failed"),
        lambda lines: lines.insert(3, lines[2]),
        lambda lines: lines.insert(3, {"a": [[]] * 9}),
    ],
)
def test_hostile_lines_are_refused(
    journal: SqliteJournal, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None]
) -> None:
    """P10: never a traceback, never a wrong state."""
    file = exported(journal, tmp_path / "e")
    lines = lines_of(file)
    change(lines)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BadEvidence):
        examine(file)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"{}\n", b"[1]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"null\n"]
)
def test_no_evidence_at_all(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "e"
    file.write_bytes(content)
    with pytest.raises(BadEvidence):
        examine(file)


def test_nothing_is_replaced_and_nothing_half_stays(journal: SqliteJournal, tmp_path: Path) -> None:
    file = exported(journal, tmp_path / "e")
    before = file.read_bytes()
    with pytest.raises(EvidenceExists):
        exported(journal, file)
    assert file.read_bytes() == before
    with pytest.raises(EvidenceUnreachable):
        exported(journal, tmp_path / "nowhere" / "e")
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_is_long_enough(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(KEY + b"\n")
    assert read_key(file) == KEY
    file.write_bytes(b"short")
    with pytest.raises(BadEvidence, match="at least 16"):
        read_key(file)
    with pytest.raises(EvidenceUnreachable):
        read_key(tmp_path / "nowhere")


def test_a_manifest_says_what_it_says_once(journal: SqliteJournal, tmp_path: Path) -> None:
    """I45: the seal covers the values; another spelling of them is not the sealed one."""
    file = exported(journal, tmp_path / "e", KEY)
    raw = file.read_bytes()
    for other in (b'"status":"failed","status":', b'"events":999,"status":', b' "status":'):
        file.write_bytes(raw[::-1].replace(b'"status":'[::-1], other[::-1], 1)[::-1])
        with pytest.raises(BadEvidence, match="not written as a manifest"):
            examine(file, KEY)


def test_the_job_comes_first_and_events_are_about_what_they_say(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    """I11: hashes made anew cannot make a history of these."""

    def no_beginning(lines: list[dict[str, Any]]) -> None:
        del lines[1]
        for version, each in enumerate(lines[1:-1], 1):
            each["version"] = version

    def elsewhere(lines: list[dict[str, Any]]) -> None:
        lines[3]["entity"] = "shop.other"

    for change in (no_beginning, elsewhere):
        file = forged(exported(journal, tmp_path / change.__name__), change)
        with pytest.raises(BadEvidence, match="no earlier event|is about"):
            examine(file)


def test_two_exports_at_once_do_not_meet(journal: SqliteJournal, tmp_path: Path) -> None:
    """One of them gets the name, whole; the other is told."""
    job, file = job_of(journal), tmp_path / "e"

    def interrupted() -> Iterator[list[Row]]:
        for rows in journal.rows(job):
            exported(journal, file)
            yield rows

    with pytest.raises(EvidenceExists):
        write(file, interrupted(), job=job, key=None)
    assert examine(file).events == journal.last_seq()
    assert list(tmp_path.iterdir()) == [file]
