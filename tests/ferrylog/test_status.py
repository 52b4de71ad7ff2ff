"""How a job stands: counts that add up, who asked for what, why nothing happens."""

from collections import Counter
from pathlib import Path

import pytest

from ferrylog import clock
from ferrylog.engine import Engine
from ferrylog.past import Past
from ferrylog.views.answers import Asked
from ferrylog.views.answers import answers as answered
from ferrylog.views.counts import Counts
from ferrylog.views.model import exit_code, phase, status_report
from ferrylog.views.shapes import ChunkReport, SideCounts, StatusReport
from ferrylog.views.told import Told, told
from journal.sqlite import SqliteJournal
from statemachine.events import JobSpec
from statemachine.state import State, Unit
from statemachine.stimuli import (
    DropAsked,
    ExcludeAsked,
    Gauge,
    Measured,
    PauseAsked,
    PriorityAsked,
    RequeueAsked,
    SetAsked,
    SplitAsked,
    StopAsked,
)
from statemachine.words import Alert, Cause, Millis, Status, TaskKey, TaskKind, UnitId, UnitStatus
from tests.ferrylog.histories import BEGIN, CHUNK, JOB, KILLED, Play, failed, rejecting
from tests.ferrylog.saying import Say, say_with
from tests.simulation.simulate import Simulation
from tests.statemachine.examples import SETTINGS, SPEC
from tests.statemachine.story import RESTORED, UNIT
from tests.statemachine.test_files import stored

DIRECT = SPEC.model_copy(update={"mode": "direct"})
ORDERS = UnitId("shop.orders")
GONE = failed(Cause.PERMANENT, "ESOURCE001", "the collection is gone.")
CUT = failed(Cause.TRANSIENT, "ECONN003", "connection to the target was cut")
DOWN = failed(Cause.UNAVAILABLE, "ECONN001", "nobody answers")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An hour after the history began."""
    monkeypatch.setattr(clock, "now_ms", lambda: Millis(BEGIN + 3_600_000))
    return tmp_path / "ferrylog.db"


@pytest.fixture
def say(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_with(path, monkeypatch, capsys)


def reports(path: Path, *, running: bool = False) -> list[tuple[State, StatusReport]]:
    """After each event."""
    found = []
    with SqliteJournal.read_only(path) as journal:
        for recorded in journal.read(JOB):
            past = Past().follow(journal.pages(JOB, to_seq=recorded.seq))
            facts = told(journal, JOB, past)
            found.append((past.state, status_report(JOB, past, running=running, told=facts)))
    return found


def last(path: Path, *, running: bool = False, chunks: bool = False) -> StatusReport:
    with SqliteJournal.read_only(path) as journal:
        past = Past().follow(journal.pages(JOB))
        facts = told(journal, JOB, past)
        return status_report(JOB, past, running=running, told=facts, chunks=chunks)


# --- counts ---


def counted(state: State, unit: Unit, kind: TaskKind) -> SideCounts:
    """Chunk by chunk, as slow as can be."""
    counts = Counter[str]()
    for chunk in state.chunks.values():
        if chunk.unit == unit.id:
            task = state.tasks.get(TaskKey(kind, chunk.id))
            split = state.tasks.get(TaskKey(TaskKind.SPLIT, chunk.id))
            status = task.status if task is not None else Status.PENDING
            if split is not None and split.status is Status.FAILED:
                status = Status.FAILED
            counts[status] += 1
    counts["completed"] += unit.settled
    counts["failed"] += unit.dropped
    if unit.status is UnitStatus.FAILED:
        counts["failed"] += unit.planned - unit.settled - unit.dropped
    return SideCounts(**counts)


@pytest.mark.parametrize("seed", [3, 17, 155, 204])
def test_counts_are_those_of_the_chunks_at_every_prefix(path: Path, seed: int) -> None:
    """I25: per unit and side, and the six sum to the total, whatever happened."""
    Simulation(seed, path).run()
    past = Past()
    with SqliteJournal.read_only(path) as journal:
        for recorded in journal.read(journal.jobs()[0]):
            past.happened([recorded.event], [recorded.recorded_at_ms])
            state = past.state
            counts = Counts.of(state)
            for unit in state.units.values():
                found = counts.chunks(unit)
                for kind in state.stages:
                    names = ("dump", "restore") if kind is TaskKind.COPY else (str(kind),)
                    for name in names:
                        side = getattr(found, name)
                        assert side == counted(state, unit, kind), (recorded.seq, unit.id, kind)
                        assert sum(side.model_dump().values()) == found.total


def test_a_direct_job_has_one_side_for_both(path: Path) -> None:
    """A1, A21: what is copied counts as dumped and restored."""
    Play(path, {}, spec=DIRECT).run()
    seen = set()
    for state, report in reports(path):
        chunks = report.totals.chunks
        assert chunks.dump == chunks.restore
        seen.add(report.phase)
        if state.closed and not state.terminal:
            left = chunks.dump.pending + chunks.dump.waiting
            opened = report.stats.pending_downloads
            assert opened == report.stats.pending_restores <= left
    assert {"plan", "copy", "verify", "done"} <= seen
    report = last(path)
    assert report.mode == "direct"
    assert [each.phase for each in report.phases] == ["copy", "index", "verify"]
    assert sum(each.weight for each in report.phases) == 100
    assert all(each.percent == 100 for each in report.phases)


def test_progress_of_each_unit(path: Path) -> None:
    """A22: download and restore per cent, chunk by chunk; when each was finished."""
    Play(path, {}).run()
    before = 0.0
    for state, report in reports(path):
        assert before <= report.totals.percent <= 100
        before = report.totals.percent
        for unit in report.units:
            done = state.units[UnitId(unit.namespace)].status is UnitStatus.COMPLETED
            assert (unit.completed_at is not None) is done
            assert unit.dump_percent >= unit.restore_percent
    with SqliteJournal.read_only(path) as journal:
        ended = {
            each.event.about: each.recorded_at_ms
            for each in journal.read(JOB)
            if each.event.kind == "unit_completed"
        }
    report = last(path)
    assert len(ended) == 2
    assert all(each.completed_at and each.completed_at.startswith("2026") for each in report.units)
    assert report.stats.model_dump() == {
        "pending_downloads": 0, "pending_restores": 0, "active_units": 0,
    }  # fmt: skip


# --- how it ends ---


def plan(spec: JobSpec = SPEC) -> JobSpec:
    return spec.model_copy(update={"kind": "plan"})


def test_a_dry_run_ends_with_0(path: Path) -> None:
    """F15: its phase is the plan; its chunks have no sides."""
    state = Play(path, {}, spec=plan()).once()
    assert exit_code(state) == 0
    report = last(path)
    assert (report.kind, report.phase, report.phases) == ("plan", "done", ())
    assert report.totals.chunks.total == 6
    assert report.totals.chunks.dump == SideCounts()
    assert {phase(state) for state, _ in reports(path)} == {"plan", "done"}


def test_what_was_left_out_ends_with_3(path: Path) -> None:
    """Decision 7: a chunk that an operator let go counts as failed, the job ends with rejects."""
    play = Play(path, {(TaskKind.DUMP, CHUNK, 1): [(10, GONE)]})
    assert exit_code(play.once()) == 5
    drop = DropAsked("ann", CHUNK, TaskKind.DUMP)
    with SqliteJournal.create(path) as journal:
        Engine(journal, JOB).turn([drop], now=play.now)  # type: ignore[arg-type]
    state = play.once()
    assert exit_code(state) == 3
    report = last(path)
    orders = report.units[0]
    assert (orders.dropped, orders.chunks.dump.failed, orders.chunks.total) == (1, 1, 3)
    assert orders.documents.rejected == 10


def test_what_was_taken_out_is_no_failure(path: Path) -> None:
    """A32: an excluded unit counts what was done with it, and the job ends with 0."""
    state = Play(path, {}, wishes=[(350, ExcludeAsked("ann", ORDERS, 1))]).once()
    assert exit_code(state) == 0
    report = last(path)
    orders = report.units[0]
    assert (orders.status, report.totals.percent) == ("excluded", 100)
    assert sum(orders.chunks.dump.model_dump().values()) == orders.chunks.total < 3


# --- who asked for what ---


@pytest.mark.parametrize("stop", [False, True])
def test_who_wanted_it_to_rest(path: Path, say: Say, *, stop: bool) -> None:
    """A18, A20, M2: visible while it comes to rest and after; over when it goes on."""
    wish = (
        StopAsked("ben@desk", "enough", 1, immediate=True, rollback=True)
        if stop
        else PauseAsked("ben@desk", "lunch", 1)
    )
    play = Play(path, {}, spec=SPEC.model_copy(update={"undo": True}), wishes=[(350, wish)])
    state = play.once()
    assert (state.status, exit_code(state)) == ("stopped" if stop else "paused", 5)
    asked = [report.control for _, report in reports(path) if report.control is not None]
    assert {(each.asked, each.by) for each in asked} == {("stop" if stop else "pause", "ben@desk")}
    assert {(each.immediate, each.rollback) for each in asked} == {(stop, stop)}
    said = say("status").out
    assert f"{'stop' if stop else 'pause'}" in said
    assert "ben@desk" in said
    assert f"ferrylog {'rollback' if stop else 'resume'} {JOB}" in said
    play.run()
    assert last(path).control is None


def test_settings_and_priorities_are_those_of_now(path: Path) -> None:
    """A32: what was changed while it ran."""
    wishes = [
        (120, SetAsked("ann", "dump_workers", 1, 1)),
        (130, PriorityAsked("ann", "shop.customers", 5, 2)),
    ]
    Play(path, {}, wishes=wishes).run()  # type: ignore[arg-type]
    report = last(path)
    assert report.settings is not None
    assert report.settings["dump_workers"] == report.pools["dump"].workers == 1
    assert {unit.namespace: unit.priority for unit in report.units} == {
        "shop.orders": 0,
        "shop.customers": 5,
    }


def test_alerts_say_why_and_since_when(path: Path, say: Say) -> None:
    """F17: those that last."""
    slow = Gauge(Alert.SLOW, "job", 0.7, 0.5, "70 % below the average")
    retries = Gauge(Alert.RETRIES, "job", 9, 5, "many")
    wishes = [
        (120, Measured((slow, retries))),
        (130, Measured((slow,))),
        (140, PauseAsked("ben", "lunch", 1, immediate=True)),
    ]
    Play(path, {}, wishes=wishes).once()  # type: ignore[arg-type]
    (alert,) = last(path).alerts
    assert (alert.alert, alert.value, alert.limit) == ("slow", 0.7, 0.5)
    assert alert.since is not None
    assert "alert: slow of job: 70 % below the average" in say("status").out


def test_pools_and_their_breakers(path: Path) -> None:
    """A17, F4, I26: never more busy than there are workers; an open breaker is told, then one
    task probes."""
    settings = SETTINGS.model_copy(update={"breaker_failures": 2, "retry_base_ms": 10})
    script = {
        (TaskKind.RESTORE, f"shop.orders#{n}", attempt): [(10, CUT)]
        for n in range(3)
        for attempt in (1, 2)
    }
    Play(path, script, settings=settings).run()
    states = set()
    for _, report in reports(path):
        for pool in report.pools.values():
            assert pool.busy + pool.available == pool.workers or not report.settings
            assert pool.retrying <= pool.busy
        breaker = report.pools["restore"].breaker
        states.add(breaker.state)
        assert (breaker.until is None) is (breaker.state == "closed")
    assert {"closed", "open"} <= states
    assert {report.pools["restore"].breaker.state for _, report in reports(path, running=True)} == {
        "closed",
        "half-open",
    }, "by the clock of now, its time is long over"


# --- why ---


def answers(report: StatusReport) -> tuple[str, str, str]:
    idle, stuck, retries = report.answers
    return idle.answer, stuck.answer, retries.answer


def test_why_nothing_is_processed(path: Path, say: Say) -> None:
    """A26: nobody runs it; retries wait; a breaker is open; then, whatever is at work."""
    settings = SETTINGS.model_copy(update={"breaker_failures": 1, "files_ahead": 2})
    script = {
        (TaskKind.DUMP, CHUNK, 1): [(10, DOWN)],
        (TaskKind.RESTORE, "shop.orders#0", 1): [(5000, KILLED)],
    }
    Play(path, script, settings=settings).once()
    idle = [report.answers[0] for _, report in reports(path, running=True)]
    said = " ".join(each.answer for each in idle)
    assert "task is at work" in said
    assert "waiting for a retry, the next at" in said
    assert "dump of shop.orders#1 after ECONN001" in said
    assert "The breaker of the dump pool is open until" in said
    assert "look at the network" in " ".join(each.remedy for each in idle)
    nobody = last(path).answers[0]
    assert (nobody.answer, nobody.remedy) == ("No process runs the job.", f"ferrylog resume {JOB}")
    assert "No process runs the job." in say("status").out


def test_the_work_folder_is_full(path: Path) -> None:
    """A26: dumping waits for restoring."""
    settings = SETTINGS.model_copy(update={"files_ahead": 2})
    script = {
        (TaskKind.RESTORE, f"{unit}#{n}", 1): [(9000, CUT)]
        for unit in ("shop.orders", "shop.customers")
        for n in range(3)
    }
    Play(path, script, settings=settings).run()
    told = [report.answers[0] for _, report in reports(path, running=True)]
    full = [each for each in told if "chunk files wait to be restored" in each.answer]
    assert full
    assert "restore-workers" in full[0].remedy


def test_restores_wait_for_what_was_fetched_to_be_compared() -> None:
    """A26: of a dump in a store, so many files lie in the work folder and no more."""
    story = stored(chunks=4, files_ahead=2)
    for n in range(2):
        story.succeed(TaskKey(TaskKind.RESTORE, f"{UNIT}#{n}"), RESTORED)
    idle = answered(Asked("j", story.state, Told(), running=True, now_ms=0))[0]
    assert "2 fetched files wait to be compared, and no more than 2 may" in idle.answer
    assert "dump-workers" in idle.remedy


def test_dead_letters_are_a_reason(path: Path) -> None:
    """A26, A34: look at them, then go on."""
    Play(path, {(TaskKind.DUMP, CHUNK, 1): [(10, GONE)]}).once()
    idle = last(path).answers[0]
    assert "The job is paused by ferrylog at" in idle.answer
    assert idle.remedy == f"see `ferrylog dead-letters list`, then ferrylog resume {JOB}"


def test_what_is_at_work_for_long(path: Path) -> None:
    """A27: the longest first, with its chunk; what the limit is; whether the pool is full."""
    Play(path, {(TaskKind.DUMP, CHUNK, 1): [(40, KILLED)]}).once()
    _, stuck, _ = last(path, running=False).answers
    assert "Longest at work: dump of shop.orders#0 for" in stuck.answer
    assert "no life for 5 min 00 s is given up" in stuck.answer
    assert "All 2 workers of the dump pool are busy" in stuck.answer
    assert not stuck.remedy
    _, stuck, _ = last(path, running=True).answers
    assert stuck.remedy == "ferrylog inspect explain 'shop.orders#0'", "long ago by now"


def test_why_there_are_retries(path: Path) -> None:
    """A28: by code, with advice when there are many."""
    script = {
        (TaskKind.RESTORE, f"{unit}#{n}", attempt): [(10, CUT if unit == "shop.orders" else DOWN)]
        for unit in ("shop.orders", "shop.customers")
        for n in range(2)
        for attempt in (1, 2)
    }
    Play(path, script).run()
    report = last(path)
    _, _, retries = report.answers
    assert retries.answer.startswith("8 in all. Lately: ")
    assert "4 × ECONN003 (transient)" in retries.answer
    assert "4 × ECONN001 (unavailable)" in retries.answer
    assert retries.remedy


# --- chunk by chunk ---


def test_every_open_chunk(path: Path, say: Say) -> None:
    """A22: its sides, attempts, last error, range, priority; sorted by unit and number."""
    script = {
        (TaskKind.RESTORE, "shop.orders#0", 1): [(10, rejecting(3))],
        (TaskKind.DUMP, "shop.orders#2", 1): [(10, CUT)],
    }
    wishes = [
        (310, PriorityAsked("ann", "shop.orders#1", 3, 1)),
        (310, SplitAsked("ann", "shop.customers#2", 2)),  # type: ignore[arg-type]
        (1600, PauseAsked("ann", "lunch", 3)),
    ]
    Play(path, script, wishes=wishes).once()  # type: ignore[arg-type]
    found = {chunk.chunk: chunk for chunk in last(path, chunks=True).chunks or ()}
    assert found["shop.orders#0"].state == "flawed"
    assert found["shop.orders#0"].rejected == 1
    everything = [chunk for seq in range(1, 200) for chunk in chunks_at(path, seq)]
    waited = [chunk for chunk in everything if chunk.chunk == "shop.orders#2" and chunk.code]
    assert waited[0].code == "ECONN003"
    assert waited[0].sides["dump"].status == "waiting"
    assert waited[0].sides["dump"].not_before is not None
    assert any(chunk.priority == 3 for chunk in everything)
    assert any("split" in chunk.sides for chunk in everything if chunk.chunk == "shop.customers#2")
    names = [chunk.chunk for chunk in chunks_at(path, 40)]
    assert names == sorted(names, key=lambda name: (name.startswith("shop.c"), name))
    assert "shop.orders#0" in say("status", "--chunks").out
    assert say("status", "--json").document()["chunks"] is None


def chunks_at(path: Path, seq: int) -> tuple[ChunkReport, ...]:
    with SqliteJournal.read_only(path) as journal:
        past = Past().follow(journal.pages(JOB, to_seq=seq))
        if past.state.spec is None:
            return ()
        return status_report(JOB, past, running=False, chunks=True).chunks or ()


def test_a_moment_of_the_past(path: Path, say: Say) -> None:
    """What was told later is not told of it."""
    Play(path, {}, wishes=[(350, PauseAsked("ben", "lunch", 1))]).run()
    whole = say("status", "--json").document()
    assert (whole["status"], whole["control"]) == ("completed", None)
    for seq in (10, 30, whole["last_seq"] - 1):
        then = say("status", "--json", "--at", str(seq)).document()
        assert then["last_seq"] == seq
        assert then["status"] != "completed"
        assert all(unit["completed_at"] is None for unit in then["units"]) or seq > 30


def test_reopened_by_a_requeue(path: Path) -> None:
    """A34: a rejected document is tried again after the end: paused, and why."""
    play = Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(10, rejecting(12, 13))]})
    assert exit_code(play.once()) == 3
    with SqliteJournal.create(path) as journal:
        engine = Engine(journal, JOB)
        engine.turn([RequeueAsked("ann", CHUNK)], now=play.now)  # type: ignore[arg-type]
    report = last(path)
    assert (report.status, report.why, report.control) == ("paused", "reopened by ann", None)
    assert report.units[0].completed_at is None
    assert report.units[0].chunks.total == 3
    play.once()
    assert last(path).units[0].documents.rejected == 0
