"""Questions to a journal: the right events, in order, through an index, each with its proof."""

import random
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import apsw
import pytest

from journal import audit, overview
from journal.audit import Wanted, find
from journal.codec import known_kinds
from journal.entities import TYPES, Type, is_part, type_of
from journal.errors import DamagedJournal, UnknownEvent
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.events import (
    TASK_OF,
    AnyEvent,
    JobRequested,
    ResultIgnored,
    RunStarted,
    Started,
    TaskEvent,
)
from statemachine.words import JobId, Millis, TaskKey, TaskKind, unit_of
from tests.statemachine.examples import SETTINGS, SPEC

KINDS = (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.VERIFY, TaskKind.INDEX, TaskKind.PLAN)
ONE, TWO = JobId("one"), JobId("two")
UNITS = ("a.b", "a.b#1", "a.b@x", "a.bc", "a.b#", "[a].*")
ENTITIES = (
    *UNITS, "a.b#0", "a.b#17", "a.b#1#0", "a.b@n_1", "a.b@x@n_1", "a.bc#0", "a.b##2", "[a].*#0",
    "job", "é.ü#3",
)  # fmt: skip


def history(seed: int, count: int) -> Iterator[tuple[JobId, int, int, list[AnyEvent]]]:
    """Appends of two jobs in turn: job, epoch, time, events. The clock goes back at times."""
    lots = random.Random(seed)
    epochs = {ONE: 0, TWO: 0}
    at = 1_000_000
    for _ in range(count):
        job = lots.choice((ONE, TWO))
        events: list[AnyEvent] = []
        if not epochs[job]:
            events.append(JobRequested(by="me", spec=SPEC))
        if not epochs[job] or lots.random() < 0.1:
            epochs[job] += 1
            events.append(
                RunStarted(epoch=epochs[job], by="me", host="h", pid=1, version="0",
                           settings=SETTINGS)
            )  # fmt: skip
        for _ in range(lots.randint(1, 5)):
            kind = lots.choice(KINDS)
            task = TaskKey(kind, lots.choice(ENTITIES))
            events.append(
                Started.of(task, attempt=1)
                if lots.random() < 0.8
                else ResultIgnored(task=kind, entity=task.entity, attempt=1, epoch=1, what='"#')
            )
        at += lots.choice((0, 1, 10, 100, -200))
        yield job, epochs[job], at, events


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of 3,000 events of two jobs."""
    path = tmp_path_factory.mktemp("audit") / "ferrylog.db"
    versions = {ONE: 0, TWO: 0}
    with SqliteJournal.create(path) as journal:
        for job, epoch, at, events in history(7, 1000):
            versions[job] = journal.append(
                job, events, expected=versions[job], epoch=epoch, at_ms=Millis(at)
            ).version
    with apsw.Connection(str(path)) as db:
        db.execute(
            "CREATE INDEX IF NOT EXISTS events_by_time ON events (job, recorded_at_ms, version)"
        )
    return path


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal.read_only(path) as opened:
        yield opened


TYPE: dict[TaskKind, Type] = {
    TaskKind.SURVEY: "job", TaskKind.CREATE: "unit", TaskKind.PLAN: "unit",
    TaskKind.CENSUS: "unit",
    TaskKind.INDEX: "index", TaskKind.DUMP: "chunk", TaskKind.RESTORE: "chunk",
    TaskKind.VERIFY: "chunk", TaskKind.RELEASE: "chunk", TaskKind.COPY: "chunk",
    TaskKind.SPLIT: "chunk", TaskKind.FINISH: "unit", TaskKind.MANIFEST: "job",
    TaskKind.CAPTURE: "job", TaskKind.SHAPE: "job", TaskKind.APPLY: "job",
    TaskKind.SETTLE: "job", TaskKind.FOLLOW: "job",
    TaskKind.OPERATION: "job", TaskKind.UNDO: "job",
}  # fmt: skip


def task_of(event: AnyEvent) -> TaskKey:
    """A task that is about the same as the event."""
    if isinstance(event, TaskEvent):
        return event.task
    kind = event.task if isinstance(event, ResultIgnored) else TaskKind.SURVEY
    return TaskKey(kind, event.about)


def plainly(records: list[Recorded], wanted: Wanted) -> list[Recorded]:
    """The same question, answered without an index."""
    return [
        each
        for each in records
        if wanted.entity is None
        or each.event.about == wanted.entity
        or (wanted.below and unit_of(task_of(each.event)) == wanted.entity)
        if wanted.type in (None, TYPE[task_of(each.event).kind])
        if wanted.kind is None or fnmatchcase(each.event.kind, wanted.kind)
        if wanted.epoch in (None, each.epoch)
        if wanted.since_ms is None or each.recorded_at_ms >= wanted.since_ms
        if wanted.until_ms is None or each.recorded_at_ms < wanted.until_ms
        if wanted.after < each.seq <= wanted.until
    ]


def test_any_question_is_answered_as_if_every_event_were_looked_at(journal: SqliteJournal) -> None:
    """I45: 600 random combinations of filters, in the order of seq; `tail` is the end of it."""
    lots = random.Random(1)
    records = {job: list(journal.read(job)) for job in (ONE, TWO)}
    times = sorted(each.recorded_at_ms for each in records[ONE])
    answers = 0

    def perhaps(value: Any, share: float = 0.3) -> Any:
        return value if lots.random() < share else None

    for _ in range(600):
        entity = perhaps(lots.choice((*ENTITIES, "nobody")))
        wanted = Wanted(
            lots.choice((ONE, TWO)),
            entity=entity,
            below=entity is not None and lots.random() < 0.5,
            type=perhaps(lots.choice(TYPES), 0.1),
            kind=perhaps(lots.choice(("dump_started", "*_started", "[rv]*", "run_*", "none"))),
            epoch=perhaps(lots.randint(0, 60)),
            since_ms=perhaps(lots.choice(times)),
            until_ms=perhaps(lots.choice(times)),
            after=perhaps(lots.randint(0, 3000)) or 0,
            until=perhaps(lots.randint(0, 4000)) or audit.LAST,
        )
        expected = plainly(records[wanted.job], wanted)
        assert list(find(journal, wanted)) == expected, wanted
        assert list(find(journal, wanted, tail=7)) == expected[-7:], wanted
        assert list(find(journal, wanted, tail=1200)) == expected[-1200:], wanted
        answers += bool(expected)
    assert answers > 200


QUESTIONS = (
    Wanted(ONE),
    Wanted(ONE, entity="a.b#0"),
    Wanted(ONE, entity="a.b#0", kind="*_started"),
    Wanted(ONE, entity="a.b#1", type="unit"),
    Wanted(ONE, entity="a.b", below=True),
    Wanted(ONE, entity="a.b", below=True, kind="dump_*"),
    Wanted(ONE, kind="run_started"),
    Wanted(ONE, kind="*_started"),
    Wanted(ONE, epoch=2),
    Wanted(ONE, since_ms=1_000_100, until_ms=1_000_900),
    Wanted(ONE, since_ms=1_000_100, entity="a.b#0"),
    Wanted(ONE, after=100, until=200),
)


@pytest.mark.parametrize("wanted", QUESTIONS, ids=repr)
def test_no_question_scans_or_sorts(path: Path, wanted: Wanted) -> None:
    """Every statement searches an index or the position, so that the time follows the answer."""
    with SqliteJournal.read_only(path) as journal:
        asked: list[tuple[str, Any]] = []
        query = journal.query

        def noted(sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
            asked.append((sql, values))
            return query(sql, values)

        journal.query = noted  # type: ignore[method-assign]
        list(find(journal, wanted))
        list(find(journal, wanted, tail=5))
        for sql, values in asked:
            plan = [row[3] for row in query(f"EXPLAIN QUERY PLAN {sql}", values)]
            steps = [step for step in plan if "sqlite_schema" not in sql]
            bad = [s for s in steps if "TEMP B-TREE" in s or s.startswith("SCAN events")]
            assert not bad, (sql, plan)
            assert any("SEARCH" in step for step in plan) or "sqlite_schema" in sql, (sql, plan)


def test_a_file_without_the_index_over_time_answers_too(path: Path, tmp_path: Path) -> None:
    """Files of the first format have none: slower, and the same."""
    wanted = Wanted(ONE, since_ms=1_000_100, until_ms=1_000_900)
    without = altered(path, tmp_path, "DROP INDEX events_by_time")
    with SqliteJournal.read_only(path) as one, SqliteJournal.read_only(without) as other:
        assert list(find(one, wanted)) == list(find(other, wanted))


def test_names(journal: SqliteJournal) -> None:
    """What there is, one lookup for each: kinds, entities, units by their kind."""
    assert overview.kinds(journal, ONE) == [
        "dump_started", "index_started", "job_requested", "plan_started", "restore_started",
        "result_ignored", "run_started", "verify_started",
    ]  # fmt: skip
    assert overview.entities(journal, ONE, after="a.b#", count=2) == ["a.b##2", "a.b#0"]
    assert overview.knows(journal, ONE, "é.ü#3")
    assert not overview.knows(journal, ONE, "é.ü")
    assert overview.types(journal, ONE, "a.b#1") == ["unit", "chunk", "index"]
    assert overview.types(journal, ONE, "nobody") == []
    assert overview.names(journal, ONE, "job_requested") == ["job"]
    assert not overview.names(journal, JobId("nobody"), "job_requested")


def test_marks_are_all_events_in_order(journal: SqliteJournal) -> None:
    """I45: without data, but none is left out."""
    found = [(mark.seq, mark.epoch, mark.at_ms, mark.kind, mark.entity)
             for mark in overview.marks(journal, TWO)]  # fmt: skip
    assert found == [
        (r.seq, r.epoch, r.recorded_at_ms, r.event.kind, r.event.about) for r in journal.read(TWO)
    ]


@pytest.mark.parametrize(
    ("kind", "entity", "unit", "expected"),
    [
        ("dump_started", "a.b#0", "a.b", True), ("chunk_planned", "a.b#0", "a.b", True),
        ("index_started", "a.b@n%40#", "a.b", True), ("document_rejected", "a.b@x#0", "a.b", False),
        ("dump_started", "a.b@x#0", "a.b@x", True), ("plan_started", "a.b#0", "a.b", False),
        ("unit_completed", "a.b@x", "a.b", False), ("index_started", "a.b@x@n", "a.b", False),
        ("index_started", "a.b#1@n", "a.b", False), ("dump_started", "a.b#1#0", "a.b", False),
        ("dump_started", "b", "", False), ("job_paused", "job", "job", False),
        ("nobody_knows", "a.b@x", "a.b", True), ("nobody_knows", "a.bc", "a.b", False),
    ],
)  # fmt: skip
def test_what_lies_below_a_unit(kind: str, entity: str, unit: str, expected: bool) -> None:
    """A collection may be called `a.b#0` or `a.b@x`: it is no part of `a.b`."""
    assert is_part(kind, entity, b"{}", unit) is expected


@pytest.mark.parametrize("kind", sorted(known_kinds()))
def test_every_event_is_about_something(kind: str) -> None:
    """What a task's events are about is what the task is about."""
    data = b'{"task":"plan"}'
    undecided = kind.startswith(("priority_", "alert_"))  # of a unit, a chunk, the job
    assert (type_of(kind, data) is None) is undecided
    task = TASK_OF.get(kind, TaskKind.PLAN if kind == "result_ignored" else None)
    assert task is None or type_of(kind, data) == TYPE[task]
    assert (type_of(kind, b"[]") is None) is (undecided or kind == "result_ignored")


def altered(path: Path, folder: Path, sql: str) -> Path:
    """A copy of the journal on which somebody used SQL."""
    copy = folder / "altered.db"
    with apsw.Connection(str(path)) as db, apsw.Connection(str(copy)) as other:
        with other.backup("main", db, "main") as backup:
            backup.step()
        for trigger in ("changed", "deleted"):
            other.execute(f"DROP TRIGGER events_are_never_{trigger}")
        other.execute(sql)
    copy.chmod(0o600)
    Path(f"{copy}.tip").write_bytes(Path(f"{path}.tip").read_bytes())
    return copy


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE events SET data = CAST('{}' AS BLOB) WHERE seq = 500",
         "seq 500 .* does not match its hash"),
        ("UPDATE events SET recorded_at_ms = recorded_at_ms + 1 WHERE seq = 500",
         "seq 500 .* does not match its hash"),
        ("UPDATE events SET epoch = 99 WHERE seq = 500", "seq 500 .* does not match its hash"),
        ("UPDATE events SET hash = zeroblob(32) WHERE seq = 500", "seq 500 .* its hash"),
        ("UPDATE events SET kind = 'dump_exploded' WHERE seq = 500", "seq 500 .* its hash"),
        ("DELETE FROM events WHERE seq = 500", "has no event before it"),
    ],
)  # fmt: skip
def test_an_altered_row_is_named_and_the_ones_before_it_are_given(
    path: Path, tmp_path: Path, sql: str, message: str
) -> None:
    """I3, I45: what was changed, on the disk or by hand, is never shown as a fact."""
    copy = altered(path, tmp_path, sql)
    with SqliteJournal.read_only(path) as journal:
        job = JobId(journal.query("SELECT job FROM events WHERE seq = 500")[0][0])
    with SqliteJournal.read_only(copy) as journal:
        answer = find(journal, Wanted(job))
        given = [next(answer).seq]
        with pytest.raises(DamagedJournal, match=message):
            for recorded in answer:
                given.append(recorded.seq)  # noqa: PERF401 — all but the one that raises
        assert 490 < given[-1] < 510
        with pytest.raises(DamagedJournal, match=message):
            list(find(journal, Wanted(job), tail=3000))
        assert list(find(journal, Wanted(job, until=490)))


@pytest.mark.parametrize("data", ["''", "'['", "'{}'", "x'ff'"])
def test_an_altered_row_that_does_not_tell_what_it_is_about_is_not_left_out(
    path: Path, tmp_path: Path, data: str
) -> None:
    """I3, I45: it may be about what was asked for."""
    found = "SELECT seq, job, entity FROM events WHERE kind = 'result_ignored' LIMIT 1"
    with SqliteJournal.read_only(path) as journal:
        ((seq, job, entity),) = journal.query(found)
    copy = altered(path, tmp_path, f"UPDATE events SET data = CAST({data} AS BLOB) WHERE seq={seq}")
    with SqliteJournal.read_only(copy) as journal:
        for each in TYPES:
            with pytest.raises(DamagedJournal, match=f"seq {seq} .* its hash"):
                list(find(journal, Wanted(job, entity=entity, type=each)))


def test_an_unknown_event_is_named(path: Path, tmp_path: Path) -> None:
    """I6: with a hash that fits, but of a kind that no ferrylog of this format writes."""
    copy = tmp_path / "ferrylog.db"
    with SqliteJournal.create(copy) as journal:
        journal.append(ONE, [Started.of(TaskKey(TaskKind.DUMP, "a.b#0"), attempt=1)],
                       expected=0, epoch=1, at_ms=Millis(1))  # fmt: skip
    append_raw(copy, "dump_exploded", "a.b#0", b"{}")
    with (
        SqliteJournal.read_only(copy, trusted=False) as journal,
        pytest.raises(UnknownEvent, match="seq 2 .*dump_exploded.* none that this ferrylog knows"),
    ):
        list(find(journal, Wanted(ONE)))


def append_raw(path: Path, kind: str, entity: str, data: bytes) -> None:
    """A row that fits the chain and says anything."""
    from journal.codec import chain

    with apsw.Connection(str(path)) as db:
        found: Any = db.execute(
            "SELECT seq, version, hash FROM events ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        seq, version, before = found
        hash_ = chain(before, job=ONE, version=version + 1, epoch=1, recorded_at_ms=1, kind=kind,
                      entity=entity, data=data)  # fmt: skip
        db.execute(
            "INSERT INTO events VALUES (?, ?, ?, 1, 1, ?, ?, ?, ?)",
            (seq + 1, ONE, version + 1, kind, entity, data, hash_),
        )
