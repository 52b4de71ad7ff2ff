"""Units whose names look like another's chunks and indexes: no view takes one for the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrylog.cli import main
from ferrylog.cli.inspect.explain import stories
from ferrylog.cli.inspect.timeline import history
from ferrylog.recall import recall
from ferrylog.views.model import status_report
from ferrylog.views.story import Attempt, StoryReport
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.events import (
    JobRequested,
    ResultIgnored,
    TaskEvent,
    UnitCompleted,
    UnitRegistered,
)
from statemachine.stimuli import Dumped, Succeeded
from statemachine.words import Cause, JobId, JobStatus, TaskKind
from tests.ferrylog import histories
from tests.ferrylog.histories import BEGIN, JOB, Play, failed
from tests.ferrylog.test_inspect import Ask, ask  # noqa: F401 — a fixture
from tests.statemachine.examples import SPEC

UNITS = ("shop.a", "shop.a@x", "shop.a@b", "shop.a#1", "shop.a@when_1", "shop.a@x#1")
SHARED = {
    "shop.a#1": ["unit", "chunk"],
    "shop.a@when_1": ["unit", "index"],
    "shop.a@x#1": ["unit", "chunk"],
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every unit goes the same way, but for the units and chunks that share a name."""
    path = tmp_path / "ferrylog.db"
    monkeypatch.setattr(histories, "UNITS", UNITS)
    dumped = Succeeded("", 0, 0, Dumped("1-1.flb", 10, 1000, 400, 2, "5e" * 32))  # type: ignore[arg-type]
    cut = failed(Cause.TRANSIENT, "ECONN003", "cut")
    Play(
        path,
        {
            (TaskKind.DUMP, "shop.a#1", 1): [(10, dumped), (20, dumped)],
            (TaskKind.PLAN, "shop.a#1", 1): [(10, cut)],
            (TaskKind.RESTORE, "shop.a@x#1", 1): [(10, cut)],
        },
    ).run()
    return path


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal.read_only(path) as opened:
        yield opened


def told(journal: SqliteJournal, entity: str) -> dict[str, StoryReport]:
    return {report.type: report for report in stories(journal, JOB, entity)}


def owner(recorded: Recorded) -> tuple[str, str]:
    """The unit of the event, and the rest of its entity's name."""
    event = recorded.event
    kind = event.task.kind if isinstance(event, TaskEvent) else TaskKind.DUMP
    kind = event.task if isinstance(event, ResultIgnored) else kind
    of_unit = kind in (TaskKind.CREATE, TaskKind.PLAN)
    if event.about == "job" or of_unit or isinstance(event, UnitRegistered | UnitCompleted):
        return event.about, ""
    name, _, rest = event.about.rpartition("@" if kind is TaskKind.INDEX else "#")
    return name, rest


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_told_what_is_its_own(journal: SqliteJournal, unit: str) -> None:
    """I45: three chunks of ten documents each, whatever the others are called."""
    parts = told(journal, unit)["unit"].parts
    assert parts is not None
    assert (parts.chunks, parts.dumped, parts.restored, parts.verified) == (3, 3, 3, 3)
    assert parts.documents == 30
    assert parts.retries == {"shop.a@x": 1, "shop.a#1": 1}.get(unit, 0)


@pytest.mark.parametrize(("name", "types"), SHARED.items())
def test_a_shared_name_has_a_story_for_each(
    ask: Ask,  # noqa: F811
    journal: SqliteJournal,
    name: str,
    types: list[str],
) -> None:
    """I45: the unit first; no attempt of one is told of the other."""
    assert list(told(journal, name)) == types
    assert [line["type"] for line in ask("explain", name, "--json").lines()] == types
    text = ask("explain", name).out
    for kind in types:
        assert f"\n{kind} {name} of job {JOB}\n" in text
    nouns = " and ".join("an index" if kind == "index" else f"a {kind}" for kind in types)
    assert text.startswith(f"{name} is the name of {nouns}:\n")
    for kind, report in told(journal, name).items():
        stages = {each.stage for each in report.history if isinstance(each, Attempt)}
        assert stages == {
            "unit": {"create", "plan"}, "chunk": {"dump", "restore", "verify"}, "index": {"index"},
        }[kind]  # fmt: skip


def test_what_was_ignored_belongs_to_its_task(journal: SqliteJournal) -> None:
    """I20: late news of the chunk's dump is no part of the unit of that name."""
    found = told(journal, "shop.a#1")
    ignored = {
        kind: [each.type for each in report.history if each.type == "note"
               and each.kind == "result_ignored"]
        for kind, report in found.items()
    }  # fmt: skip
    assert ignored == {"unit": [], "chunk": ["note"]}


@pytest.mark.parametrize("unit", UNITS)
def test_the_events_of_a_unit(ask: Ask, journal: SqliteJournal, unit: str) -> None:  # noqa: F811
    """I45: the name itself and what lies below the unit, in every way of looking."""
    expected = [
        recorded.seq
        for recorded in journal.read(JOB)
        if recorded.event.about == unit or owner(recorded)[0] == unit
    ]
    for more in ((), ("--forensic",), ("--tail", "1000"), ("--kind", "*")):
        lines = ask("events", "--entity", unit, "--json", *more).lines()
        assert [line["seq"] for line in lines] == expected, more


def test_every_view_counts_the_same(journal: SqliteJournal) -> None:
    """I45: explain and timeline, which read a journal in different ways."""
    for line in history(journal, JOB).units:
        parts = told(journal, line.namespace)["unit"].parts
        assert parts is not None
        stages = {stage.stage: stage for stage in line.stages}
        for stage, counted in (("dump", parts.dumped), ("restore", parts.restored)):
            assert stages[stage].completed == counted
        assert sum(stage.retries for stage in line.stages) == parts.retries


def test_only_what_runs_has_time_left(tmp_path: Path) -> None:
    """I25: a job that rests does not come nearer to its end."""
    path = tmp_path / "ferrylog.db"
    Play(path, {}).run(pause_at_ms=450)
    seen = dict[JobStatus, set[bool]]()
    with SqliteJournal.read_only(path) as journal:
        for recorded in journal.read(JOB):
            past = recall(journal, JOB, to_seq=recorded.seq)
            report = status_report(JOB, past, running=False)
            seen.setdefault(past.state.status, set()).add(report.eta_s is not None)
    assert seen[JobStatus.PAUSED] == {False}
    assert seen[JobStatus.COMPLETED] == {False}
    assert True in seen[JobStatus.RUNNING]


def test_a_job_id_commands_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A journal from elsewhere may call its job anything."""
    path, name = tmp_path / "ferrylog.db", JobId("\x1b[2J\n\u202ejob")
    with SqliteJournal.create(path) as journal:
        asked = JobRequested(by="me", spec=SPEC)
        journal.append(name, [asked], expected=0, epoch=0, at_ms=BEGIN)
    monkeypatch.setattr("sys.argv", ["ferrylog", "jobs", "--journal", str(path)])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("\\x1b[2J\\n\\u202ejob  migrate")
