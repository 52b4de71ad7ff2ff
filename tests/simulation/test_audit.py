"""Audits of random histories: whatever happened, the journal alone tells it, and all of it."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from ferrylog.cli.inspect.explain import stories
from ferrylog.cli.inspect.timeline import history
from ferrylog.recall import recall
from ferrylog.views.compare import diff_report, diff_text, told
from ferrylog.views.drawing import timeline_text
from ferrylog.views.story import Attempt, StoryReport
from ferrylog.views.telling import CAUSES, story_text
from journal import audit
from journal.audit import Wanted
from journal.codec import encode
from journal.entities import Type, type_of
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.events import (
    Cancelled,
    DeadLettered,
    DumpCompleted,
    InDoubt,
    RetryScheduled,
    RollbackStarted,
    Started,
    TaskEvent,
    VerifyCompleted,
)
from statemachine.words import THE_JOB, TaskKind, Verb, undo_task
from tests.simulation.simulate import JOB, Simulation

SEEDS = 24
TERMINAL = (Verb.COMPLETED, Verb.DEAD_LETTERED)
OF_THE_JOB = (
    *("run", "survey", "manifest", "job", "unit"),
    *("operation", "undo", "rollback", "increment"),
)


@pytest.fixture(scope="module", params=range(SEEDS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "journal.db"
    Simulation(request.param, path, check_every=10_000).run()
    return path


def by_entity(records: list[Recorded]) -> dict[tuple[Type, str], list[Recorded]]:
    """What does not tell whether it is about a unit or a chunk is about all of that name."""
    named: dict[str, set[Type]] = defaultdict(set)
    for recorded in records:
        about = type_of(recorded.event.kind, encode(recorded.event))
        if about is not None:
            named[recorded.event.about].add(about)
    found: dict[tuple[Type, str], list[Recorded]] = defaultdict(list)
    for recorded in records:
        about = type_of(recorded.event.kind, encode(recorded.event))
        for each in named[recorded.event.about] if about is None else (about,):
            found[each, recorded.event.about].append(recorded)
    return found


def test_every_entity_has_its_whole_story_told(path: Path) -> None:
    """I45: who, when and why of each attempt of each entity, durations of at least 0, checksums;
    of what has ended no attempt is left open, and clocks that jump change none of it."""
    with SqliteJournal.read_only(path) as journal:
        records = list(journal.read(JOB))
        begun = (each.seq for each in records if isinstance(each.event, RollbackStarted))
        taken_back = max(begun, default=0)
        for (about, entity), own in by_entity(records).items():
            assert [*audit.find(journal, Wanted(JOB, entity=entity, type=about))] == own
            [told] = (each for each in stories(journal, JOB, entity) if each.type == about)
            whole = sorted(own + undone(records, entity), key=lambda each: each.seq)
            attempts_are_all_there(told, whole, taken_back)
            words_name_every_cause(story_text(told), whole)
            assert (told.proof.first.seq, told.proof.last.seq) == (whole[0].seq, whole[-1].seq)
            assert [each.seq for each in told.history] == sorted(each.seq for each in told.history)


def undone(records: list[Recorded], entity: str) -> list[Recorded]:
    """How what was done to it was taken back belongs to its story."""
    undos = {undo_task(kind, entity).entity for kind in TaskKind if entity != THE_JOB}
    return [each for each in records if each.event.about in undos]


def attempts_are_all_there(told: StoryReport, own: list[Recorded], taken_back: int) -> None:
    attempts = [each for each in told.history if isinstance(each, Attempt)]
    started = [each.seq for each in own if isinstance(each.event, Started)]
    assert [each.seq for each in attempts] == started
    assert all(each.duration_ms is None or each.duration_ms >= 0 for each in attempts)
    assert all(each.run is not None and each.run.by for each in attempts)
    last: dict[str, Verb] = {}
    for recorded in own:
        if isinstance(recorded.event, TaskEvent):
            last[recorded.event.task.kind] = recorded.event.verb
    for each in attempts:
        if last[each.stage] in TERMINAL:
            assert each.outcome != "open", "I45: an attempt without an end"
        if each.outcome == "failed":
            assert each.cause and each.code and each.why and each.decision
        if each.outcome == "lost":
            decided = each.decided_in_run is not None and each.decision
            assert each.at_once or decided or each.seq < taken_back


def words_name_every_cause(text: str, own: list[Recorded]) -> None:
    words = " ".join(text.split())
    lost = sum(isinstance(each.event, InDoubt) for each in own)
    gone = words.count("The process was gone before it told")
    assert gone + words.count("It was cut off: somebody wanted a rest at once.") == lost
    for event in (each.event for each in own):
        match event:
            case RetryScheduled():
                assert f"{CAUSES[event.cause]}: {event.code}: {event.why}" in words
                assert f"(jitter {event.jitter:.2f})" in words
            case DeadLettered() | Cancelled():
                assert f"{event.code}: {event.why}" in words
            case DumpCompleted():
                assert event.file in words
                assert event.sha256 in words
            case VerifyCompleted():
                assert event.source_digest in words
            case _:
                pass
    assert not set(text) & {chr(code) for code in (*range(10), *range(11, 32), 127)}


def test_the_other_views_never_stumble(path: Path) -> None:
    """I45: the timeline counts every event and every run; a job equals itself."""
    with SqliteJournal.read_only(path) as journal:
        records = list(journal.read(JOB))
        line = history(journal, JOB, silence_ms=1000)
        this = told(str(path), recall(journal, JOB), line, None, Counter())
    assert line.events == len(records)
    kinds = [recorded.event.kind for recorded in records]
    assert len(line.runs) == kinds.count("run_started")
    assert all(run.duration_ms >= 0 for run in line.runs)
    stages = [stage for unit in line.units for stage in unit.stages]
    assert all(stage.duration_ms >= 0 for stage in stages)
    for what in ("started", "completed", "dead_letters"):
        verb = {"dead_letters": "dead_lettered"}.get(what, what)
        suffixed = [kind for kind in kinds if kind.endswith(f"_{verb}")]
        of_units = [kind for kind in suffixed if kind.split("_")[0] not in OF_THE_JOB]
        assert sum(getattr(stage, what) for stage in stages) == len(of_units)
    assert timeline_text(line)
    report = diff_report(this, this)
    assert report.differing == 0
    assert diff_text(report)
