"""Requests: the same on both ends of the inbox; answered by a process, or by the rules alone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ferrylog import asking, clock, requests
from ferrylog.asking import NoAnswer, ask, wanted_job
from ferrylog.engine import Engine
from ferrylog.errors import NotRunning, Refused
from ferrylog.requests import Unreadable, read, written
from journal.errors import JournalHeld
from journal.inbox import Inbox, Request
from journal.lease import Lease
from journal.sqlite import SqliteJournal
from statemachine.decide.asked import VERBS
from statemachine.events import Event, PauseRequested, SettingChanged
from statemachine.stimuli import (
    AddAsked,
    Asked,
    CommitAsked,
    CutoverAsked,
    DropAsked,
    ExcludeAsked,
    JobAsked,
    PauseAsked,
    PriorityAsked,
    RequeueAsked,
    RollbackAsked,
    RunBegan,
    SetAsked,
    SplitAsked,
    StopAsked,
)
from statemachine.words import ChunkId, JobId, JobStatus, Millis, TaskKind, UnitId
from tests.ferrylog.histories import BEGIN, JOB, two_failures_and_a_kill
from tests.statemachine.examples import SETTINGS, SPEC

WISHES: list[Asked] = [
    PauseAsked("ann", "asked for", 7),
    PauseAsked("ann", "lunch: “soon”", 7, immediate=True),
    StopAsked("ann", "asked for", 7, immediate=True, rollback=True),
    SetAsked("ann", "dump_workers", 8, 7),
    SetAsked("ann", "retry", "8", 7),
    PriorityAsked("ann", "shop.orders#3", -5, 7),
    ExcludeAsked("ann", UnitId('shop."quoted" = ünits'), 7),
    AddAsked("ann", ("shop.*", "*.orders"), 7),
    SplitAsked("ann", ChunkId("shop.orders#3"), 7),
    RequeueAsked("ann", "shop.orders#3", 7),
    RequeueAsked("ann", "shop.orders@n_1", 7, TaskKind.INDEX),
    DropAsked("ann", "shop.orders#3", TaskKind.RESTORE, 7),
    CutoverAsked("ann", 7),
    CommitAsked("ann", 7),
]


def test_every_request_has_an_example() -> None:
    """Rollbacks are asked of a job at rest, with their plan: no request says that."""
    assert {type(wish) for wish in WISHES} == set(VERBS) - {RollbackAsked}


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: f"{VERBS[type(wish)]}")
def test_a_request_is_the_same_on_both_ends(wish: Asked, tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "j.db")
    verb, details = written(wish)
    number = inbox.leave(JOB, verb, wish.by, above=6, **details)
    (request,) = inbox.waiting(JOB)
    assert number == 7
    assert read(request) == wish


def test_a_pause_needs_no_details() -> None:
    assert read(Request(1, JOB, "pause", "ann", {})) == PauseAsked("ann", "asked for", 1)


@pytest.mark.parametrize(
    ("verb", "details", "why"),
    [
        ("dance", {}, "dance"),
        ("set", {"name": '"retry"'}, "value"),
        ("set", {"name": '"retry"', "value": "true"}, "value"),
        ("set", {"name": "retry", "value": "1"}, "Expecting value"),
        ("pause", {"immediate": '"yes"'}, "immediate"),
        ("pause", {"at": "1"}, "no at"),
        ("pause", {"by": '"somebody else"'}, "no by"),
        ("pause", {"request": "99"}, "no request"),
        ("drop", {"entity": '"a"', "task": '"dance"'}, "task"),
        ("add", {"include": '"a.*"'}, "include"),
        ("priority", {"entity": '"a"', "priority": "1.5"}, "priority"),
        ("pause", {"immediate": "["}, "pause"),
        ("pause", {"immediate": 1}, "pause"),
    ],
)
def test_what_nobody_of_ours_left_is_refused(verb: str, details: dict[str, str], why: str) -> None:
    """Unknown verbs, unknown and missing details, values of other types."""
    with pytest.raises(Unreadable, match=why):
        read(Request(1, JOB, verb, "ann", details))


def test_numbers_begin_above_what_was_answered(tmp_path: Path) -> None:
    """A job may arrive with its history in a journal whose inbox begins at 1."""
    inbox = Inbox(tmp_path / "j.db")
    assert inbox.leave(JOB, "pause", "ann") == 1
    assert inbox.leave(JOB, "pause", "ann", above=40) == 41
    assert inbox.leave(JOB, "pause", "ann", above=3) == 42


# --- nobody runs the job ---


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """With one job that a kill left running."""
    path = tmp_path / "ferrylog.db"
    begin(path)
    return path


def begin(path: Path) -> None:
    with SqliteJournal.create(path) as written_to:
        began = RunBegan("ann", "office", 4711, "0.1.0", SETTINGS)
        Engine(written_to, JOB).turn(
            [JobAsked("ann", SPEC.model_copy(update={"undo": True})), began], now=BEGIN
        )


def tell(path: Path, *wishes: Asked) -> None:
    with SqliteJournal.create(path) as written_to:
        engine = Engine(written_to, JOB)
        for wish in wishes:
            engine.tell([wish], now=Millis(BEGIN + 1000))


def test_a_setting_of_a_killed_job_is_recorded_here_and_now(journal: Path) -> None:
    """What the rules answer, without a process and without a start of anything."""
    answer = ask(journal, JOB, SetAsked("ann", "dump_workers", 8))
    (recorded,) = answer.recorded
    assert recorded.event == SettingChanged(
        by="ann", request=0, name="dump_workers", value=8, was=2
    )
    assert (answer.request, recorded.epoch) == (0, 1)
    settings = asking.state_of(journal, JOB).settings
    assert settings is not None
    assert settings.dump_workers == 8
    assert Inbox(journal).waiting(JOB) == []


def test_a_refusal_is_an_error_with_its_reason(journal: Path) -> None:
    with pytest.raises(Refused, match="no unit of the job") as refused:
        ask(journal, JOB, ExcludeAsked("ann", UnitId("shop.nothing")))
    assert (refused.value.code, refused.value.exit_code) == ("EJOB006", 2)


@pytest.mark.parametrize("wish", [PauseAsked("ann", "lunch"), StopAsked("ann", "enough")])
def test_what_was_killed_cannot_be_paused(journal: Path, wish: Asked) -> None:
    with pytest.raises(NotRunning, match="is running and no process runs it"):
        ask(journal, JOB, wish)


def test_a_paused_job_can_be_stopped(journal: Path) -> None:
    tell(journal, PauseAsked("ann", "lunch", immediate=True))
    with pytest.raises(NotRunning, match="is paused"):
        ask(journal, JOB, PauseAsked("ann", "lunch"))
    answer = ask(journal, JOB, StopAsked("ann", "enough", rollback=True))
    assert [each.event.kind for each in answer.recorded] == ["stop_requested", "job_stopped"]
    state = asking.state_of(journal, JOB)
    assert (state.status, state.rollback) == (JobStatus.STOPPED, True)
    with pytest.raises(Refused, match="the job is stopped"):
        ask(journal, JOB, StopAsked("ann", "enough"))


def test_a_finished_job_refuses_all_but_a_requeue(tmp_path: Path) -> None:
    path = tmp_path / "ferrylog.db"
    two_failures_and_a_kill(path)
    with pytest.raises(Refused, match="the job is completed"):
        ask(path, JOB, SetAsked("ann", "dump_workers", 8))
    with pytest.raises(Refused, match="has no rejected documents"):
        ask(path, JOB, RequeueAsked("ann", "shop.orders#1"))


# --- which job ---


def begin_another(path: Path, job: str, kind: str) -> JobId:
    with SqliteJournal.create(path) as written_to:
        began = RunBegan("ann", "office", 4711, "0.1.0", SETTINGS)
        asked = JobAsked("ann", SPEC.model_copy(update={"kind": kind, "of": JOB}))
        Engine(written_to, JobId(job)).turn([asked, began], now=BEGIN)
    return JobId(job)


def test_an_unfinished_migration_is_meant_before_what_looks_at_it(journal: Path) -> None:
    """A plan and a verification have nothing worth a setting; one that runs is meant itself."""
    begin_another(journal, "20261122-150000-aaaa", "plan")
    newest = begin_another(journal, "20261122-150000-bbbb", "verify")
    assert wanted_job(journal, None) == JOB
    assert wanted_job(journal, newest) == newest
    with Lease(journal, host="h", since="now"):
        assert wanted_job(journal, None) == newest


def test_a_finished_migration_is_meant_before_a_verification(tmp_path: Path) -> None:
    path = tmp_path / "ferrylog.db"
    two_failures_and_a_kill(path)
    begin_another(path, "20261122-150000-bbbb", "verify")
    assert wanted_job(path, None) == JOB


def test_without_a_migration_the_newest_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "ferrylog.db"
    newest = begin_another(path, "20261122-150000-bbbb", "plan")
    assert wanted_job(path, None) == newest


# --- a process runs it ---


@contextmanager
def running(path: Path, answer: Callable[[Engine, Request], object]) -> Iterator[list[Request]]:
    """A process that holds the journal and looks into its inbox; it may answer."""
    done, seen = threading.Event(), list[Request]()

    def live() -> None:
        with SqliteJournal.create(path) as written_to, Lease(path, host="h", since="now") as lease:
            ready.set()
            engine = Engine(written_to, JOB)
            while not done.wait(0.02):
                for request in Inbox(path).waiting(JOB):
                    seen.append(request)
                    if answer(engine, request) is not None:
                        Inbox(path).remove([request])
                    if answer is ends:
                        return
            assert lease is not None

    ready = threading.Event()
    thread = threading.Thread(target=live)
    thread.start()
    assert ready.wait(10)
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def answers(engine: Engine, request: Request) -> tuple[Event, ...]:
    engine.turn([read(request)], now=Millis(BEGIN + 1000))
    return engine.news


def ends(engine: Engine, request: Request) -> None:
    return None


def forgets(engine: Engine, request: Request) -> bool:
    return True


def test_a_running_process_answers(journal: Path) -> None:
    with running(journal, answers) as seen:
        answer = ask(journal, JOB, PauseAsked("ben", "lunch"))
    (recorded,) = answer.recorded
    assert isinstance(recorded.event, PauseRequested)
    assert recorded.event.request == answer.request == seen[0].id > 0


def test_a_running_process_refuses(journal: Path) -> None:
    with running(journal, answers), pytest.raises(Refused, match="no setting of a running job"):
        ask(journal, JOB, SetAsked("ben", "work_dir", "/tmp"))


def test_a_process_that_ends_without_an_answer_is_no_reason_to_give_up(journal: Path) -> None:
    with running(journal, ends):
        answer = ask(journal, JOB, SetAsked("ben", "dump_workers", 8))
    assert answer.request == 0
    assert [each.event.kind for each in answer.recorded] == ["setting_changed"]
    assert Inbox(journal).waiting(JOB) == []


def test_a_process_that_does_not_understand(journal: Path) -> None:
    with running(journal, forgets), pytest.raises(Refused, match="another version"):
        ask(journal, JOB, SetAsked("ben", "dump_workers", 8))


def test_a_process_that_does_not_answer(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I28: an error; and nothing happens later behind the operator's back."""
    monkeypatch.setattr(asking, "SPARE_S", -3.5)
    monkeypatch.setattr(asking, "AFTER_S", 0.2)
    with running(journal, lambda *_: None):
        with pytest.raises(NoAnswer, match="was taken back") as error:
            ask(journal, JOB, SetAsked("ben", "dump_workers", 8))
        assert Inbox(journal).waiting(JOB) == []
    assert error.value.exit_code == 7


def test_an_answer_in_the_last_moment(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process had read before it was taken back is answered all the same."""
    real, late_s = clock.monotonic_s, [0.0]
    monkeypatch.setattr(clock, "monotonic_s", lambda: real() + late_s[-1])
    monkeypatch.setattr(asking, "AFTER_S", 60.0)

    def slow(engine: Engine, request: Request) -> tuple[Event, ...]:
        late_s.append(3600.0)
        while Inbox(journal).waiting(JOB):
            threading.Event().wait(0.02)
        return answers(engine, request)

    with running(journal, slow):
        answer = ask(journal, JOB, SetAsked("ben", "dump_workers", 8))
    assert [each.event.kind for each in answer.recorded] == ["setting_changed"]


def test_another_process_that_runs_another_job(journal: Path, tmp_path: Path) -> None:
    with SqliteJournal.create(journal) as written_to:
        began = RunBegan("ann", "office", 4711, "0.1.0", SETTINGS)
        Engine(written_to, asking.JobId("other")).turn(
            [JobAsked("ann", SPEC.model_copy(update={"undo": True})), began], now=BEGIN
        )
    with Lease(journal, host="h", since="now"), pytest.raises(JournalHeld):
        ask(journal, JOB, SetAsked("ben", "dump_workers", 8))


def test_codec_knows_all_verbs() -> None:
    """Rollbacks are asked with their plan, of a job at rest: nobody can leave that in an inbox."""
    assert set(requests.CLASSES) == set(VERBS.values()) - {"rollback"}
