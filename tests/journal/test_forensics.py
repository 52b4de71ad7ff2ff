"""A walk over a whole file that trusts nothing: every kind of damage is told, none stops it."""

import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from journal.codec import chain
from journal.errors import JournalBehind, TipMissing
from journal.forensics import Examination, Found, Unreadable, examine, walk
from journal.sqlite import SqliteJournal
from statemachine.errors import FerrylogError
from statemachine.events import AnyEvent, JobRequested, PauseRequested, RunStarted
from statemachine.words import JobId, Millis
from tests.statemachine.examples import SETTINGS, SPEC

ONE, TWO = JobId("one"), JobId("two")
COUNT = 400


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two jobs in turn, 400 events of all sizes."""
    path = tmp_path_factory.mktemp("forensics") / "ferrylog.db"
    lots = random.Random(3)
    began = RunStarted(epoch=1, by="me", host="h", pid=1, version="0", settings=SETTINGS)
    versions = {ONE: 0, TWO: 0}
    with SqliteJournal.create(path) as journal:
        for number in range(COUNT):
            job = (ONE, TWO)[number % 2] if number < 4 else lots.choice((ONE, TWO))
            event: AnyEvent = PauseRequested(
                by="me", why="x" * lots.choice((1, 900, 9000)), request=0, immediate=False
            )
            if versions[job] < 2:
                event = began if versions[job] else JobRequested(by="me", spec=SPEC)
            versions[job] = journal.append(
                job, [event], expected=versions[job], epoch=1, at_ms=Millis(1)
            ).version
    with apsw.Connection(str(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "ferrylog.db"
    for end in ("", ".tip"):
        shutil.copy(f"{whole}{end}", f"{copy}{end}")
    return copy


def alter(path: Path, *statements: str) -> None:
    """As somebody with SQL would, tired of triggers."""
    with apsw.Connection(str(path)) as db:
        for trigger in ("changed", "deleted"):
            db.execute(f"DROP TRIGGER IF EXISTS events_are_never_{trigger}")
        for statement in statements:
            db.execute(statement)


def examined(path: Path) -> Examination:
    with SqliteJournal.read_only(path, trusted=False) as journal:
        return examine(journal)


def rows(path: Path) -> list[Found | Unreadable]:
    with SqliteJournal.read_only(path, trusted=False) as journal:
        return list(walk(journal))


def test_nothing_is_wrong_with_a_whole_journal(path: Path) -> None:
    """I2: every event is counted, every chain followed to its end."""
    found = examined(path)
    assert (found.pages, found.tip, found.first_bad, found.bad) == (None, None, None, 0)
    assert found.events == COUNT
    assert sum(each.events for each in found.chains.values()) == COUNT
    with SqliteJournal.read_only(path) as journal:
        for job, each in found.chains.items():
            *_, last = journal.read(JobId(job))
            assert (each.seq, each.hash) == (last.seq, last.hash)


@pytest.mark.parametrize(
    ("sql", "seq", "fault"),
    [
        ("UPDATE events SET data = CAST('{}' AS BLOB) WHERE seq = 200", 200, "match its hash"),
        ("UPDATE events SET epoch = 7 WHERE seq = 200", 200, "match its hash"),
        ("UPDATE events SET hash = x'00' WHERE seq = 200", 200, "match its hash"),
        ("UPDATE events SET kind = 'unheard_of' WHERE seq = 200", 200, "unheard_of"),
        ("UPDATE events SET entity = CAST(x'ff1b' AS TEXT) WHERE seq = 200", 200, "not UTF-8"),
        ("DELETE FROM events WHERE seq = 200", 201, "seq 200 is missing"),
        ("DELETE FROM events WHERE seq BETWEEN 200 AND 210", 211, "seq 200 to 210 are missing"),
        ("UPDATE events SET seq = 1000 WHERE seq = 200", 201, "seq 200 is missing"),
        ("UPDATE events SET version = 9999 WHERE seq = 200", 200, "version 9999 stands where"),
    ],
)
def test_the_first_bad_event_and_the_last_good_one(
    path: Path, sql: str, seq: int, fault: str
) -> None:
    """I3: whatever was changed, it is named, and everything else is still shown."""
    alter(path, sql)
    found = examined(path)
    assert isinstance(found.first_bad, Found)
    assert found.first_bad.seq == seq
    assert any(fault in each for each in found.first_bad.faults), found.first_bad.faults
    assert found.last_good is not None
    assert found.last_good.seq == 199
    assert found.events >= COUNT - 11
    assert found.bad <= 4, "the chain is taken up again behind the damage"


def test_a_tip_that_tells_of_more(path: Path) -> None:
    """I4: an old copy, and no tip at all: the events can be looked at all the same."""
    alter(path, "DELETE FROM events WHERE seq > 390")
    found = examined(path)
    assert isinstance(found.tip, JournalBehind)
    assert found.first_bad is None
    assert found.events == 390
    Path(f"{path}.tip").unlink()
    assert isinstance(examined(path).tip, TipMissing)


HOSTILE = (
    b"", b"{", b"[]", b"null", b"\xff\xfe", b"{" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"by":"\\ud800","why":"x"}', b'{"by":NaN,"why":"x"}', b'{"by":1e999,"why":"x"}',
    b'{"by":' + b"9" * 10_000 + b',"why":"x"}', b'{"by":"a","why":"b"},{"kind":"job_paused"}',
    b'{"by":"\x1b[2J","why":"x"}', b'{"by":"a","why":"\x00"}',
    b'{"by":"a","why":"b","more":1}', b"\x00" * 5000,
)  # fmt: skip


def append_raw(path: Path, kind: bytes, entity: bytes, data: bytes, at_ms: int = 1) -> None:
    """A row that fits its chain as far as bytes can."""
    with apsw.Connection(str(path)) as db:
        last: Any = db.execute("SELECT max(seq) FROM events").fetchone()
        end: Any = db.execute(
            "SELECT version, hash FROM events WHERE job = 'one' ORDER BY version DESC LIMIT 1"
        ).fetchone()
        version, before = end
        hash_ = chain(before, job=ONE, version=version + 1, epoch=1, recorded_at_ms=at_ms,
                      kind=kind.decode("utf-8", "replace"),
                      entity=entity.decode("utf-8", "replace"), data=data)  # fmt: skip
        db.execute(
            "INSERT INTO events VALUES (?, 'one', ?, 1, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)",
            (last[0] + 1, version + 1, at_ms, kind, entity, data, hash_),
        )


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:20]))
def test_hostile_data_is_a_fault_and_no_more(path: Path, data: bytes) -> None:
    """I6: a row that fits its chain and says what no ferrylog says."""
    append_raw(path, b"pause_requested", b"job", data)
    append_raw(path, b"job_paused", b"job", b"{}")
    *_, bad, good = rows(path)
    assert isinstance(bad, Found)
    assert isinstance(good, Found)
    assert bad.data == data
    assert len(bad.faults) == 1
    assert not good.faults


def test_names_and_times_that_cannot_be(path: Path) -> None:
    """No text, no number of a row is trusted to be one."""
    for kind, entity, at in (
        (b"\xff", b"job", 1), (b"job_paused", b"\x1b]0;x\x07", 1),
        (b"job_paused", b"job", 2**63 - 1),
        (b"job_paused", b"job", -(2**63)), (b"", b"", 1), (b"job_paused", b"db.c#1", 1),
    ):  # fmt: skip
        append_raw(path, kind, entity, b"{}", at)
    found = rows(path)[-6:]
    assert [bool(isinstance(each, Found) and each.faults) for each in found] == [
        True, True, False, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bits_and_lost_pages(path: Path, seed: int) -> None:
    """I3, I4: the walk ends, raises nothing, and shows each event as it was written or as bad."""
    lots = random.Random(seed)
    before = {row.seq: row for row in rows(path) if isinstance(row, Found)}
    raw = bytearray(path.read_bytes())
    if lots.random() < 0.5:
        for _ in range(lots.choice((1, 10, 100))):
            raw[lots.randrange(100, len(raw))] ^= 1 << lots.randrange(8)
    else:
        page = lots.randrange(1, len(raw) // 4096)
        raw[page * 4096 : (page + 1) * 4096] = bytes(4096)
    path.write_bytes(raw)
    try:
        found = rows(path)
        examination = examined(path)
    except FerrylogError:
        return  # not even the header can be read
    good = [row for row in found if isinstance(row, Found) and not row.faults]
    assert all(before[row.seq] == row for row in good if row.seq in before)
    assert all(row.seq in before for row in good)
    nothing_readable_is_left_out(path, {row.seq for row in found if isinstance(row, Found)})
    if len(good) < COUNT:
        assert examination.first_bad or examination.pages or examination.tip


def nothing_readable_is_left_out(path: Path, shown: set[int]) -> None:
    """Each seq that was not shown, asked for by itself, is not there or cannot be read."""
    with SqliteJournal.read_only(path, trusted=False) as journal:
        for seq in set(range(1, COUNT + 1)) - shown:
            with suppress(FerrylogError):
                assert not journal.query(
                    "SELECT job, kind, entity, data, hash FROM events NOT INDEXED WHERE seq = ?",
                    (seq,),
                )
