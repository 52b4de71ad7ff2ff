"""Decisions one by one: what each stimulus brings about, and what it does not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from statemachine.decide import decide
from statemachine.decide.schedule import next_wake_ms
from statemachine.effects import wanted_effects
from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    AnyEvent,
    ChunkKept,
    ChunkReleased,
    CreateCompleted,
    DumpCompleted,
    JobExported,
    RunSettings,
    Started,
    UnitCompleted,
    VerifyCompleted,
)
from statemachine.evolve import evolve, fold
from statemachine.policy import MAX_INTERRUPTIONS, MAX_REPORTED, backoff_ms, files_limit
from statemachine.state import State, Task, digest
from statemachine.stimuli import (
    Built,
    Created,
    Dumped,
    ExportAsked,
    Failed,
    FileDamaged,
    FoundUnit,
    ImportAsked,
    JobAsked,
    PauseAsked,
    Planned,
    Progressed,
    Rejection,
    Released,
    Restored,
    Result,
    RunBegan,
    Stimulus,
    Succeeded,
    Surveyed,
    Tick,
    Verified,
)
from statemachine.words import (
    BsonText,
    Cause,
    ChunkId,
    JobStatus,
    Key,
    Millis,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
    index_task,
    unit_of,
)
from tests.statemachine.examples import SETTINGS, SPEC, examples

UNIT = UnitId("shop.orders")
CHUNK = ChunkId("shop.orders#0")
DUMP = TaskKey(TaskKind.DUMP, CHUNK)
RESTORE = TaskKey(TaskKind.RESTORE, CHUNK)
VERIFY = TaskKey(TaskKind.VERIFY, CHUNK)
DUMPED = Dumped("f", 10, 100, 50, 1, "ab")
RESTORED = Restored(50, 10, 100, 0, 0)
EQUAL = Verified(True, 10, 10, "a", "a", 0, ())


class Story:
    """A job, stimulus by stimulus; collects every event."""

    def __init__(self, settings: RunSettings = SETTINGS, **spec: object) -> None:
        self.state = State()
        self.events: list[AnyEvent] = []
        self.now = 0
        self.tell(JobAsked("me", SPEC.model_copy(update=spec)), began(settings))

    def tell(self, *stimuli: Stimulus) -> list[str]:
        """Kinds of what happens because of them, ticks included."""
        before = len(self.events)
        for stimulus in stimuli:
            self._happen(stimulus)
        while self._happen(Tick()):
            pass
        return [event.kind for event in self.events[before:]]

    def _happen(self, stimulus: Stimulus) -> Sequence[AnyEvent]:
        events = decide(self.state, stimulus, Millis(self.now))
        for event in events:
            evolve(self.state, event)
        self.events += events
        return events

    def succeed(self, key: TaskKey, result: Result) -> list[str]:
        return self.tell(Succeeded(key, self.attempt(key), self.state.epoch, result))

    def fail(
        self, key: TaskKey, cause: Cause, jitter: float = 0.5, code: str = "ESOURCE002"
    ) -> list[str]:
        """By default with a code that blames no document of the chunk."""
        attempt = self.attempt(key)
        return self.tell(Failed(key, attempt, self.state.epoch, cause, code, "bad", jitter))

    def attempt(self, key: TaskKey) -> int:
        return self.state.tasks[key].attempt if key in self.state.tasks else 0

    def planned(self, chunks: int = 1, indexes: int = 0) -> "Story":
        """To the point where the unit's dumps have started."""
        from statemachine.events import IndexSpec

        specs = tuple(
            IndexSpec(name=f"i{n}", unique=False, spec=BsonText("{}")) for n in range(indexes)
        )
        found = FoundUnit(UNIT, UNIT, "collection", "00", BsonText("{}"), specs, 100, 1000)
        self.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed((found,)))
        if TaskKey(TaskKind.CREATE, UNIT) in self.state.tasks:
            self.succeed(TaskKey(TaskKind.CREATE, UNIT), Created(()))
        edges = tuple(Key(str(n)) for n in range(chunks - 1))
        self.succeed(TaskKey(TaskKind.PLAN, UNIT), Planned(edges, 100, natural=False))
        return self

    def status(self, key: TaskKey) -> Status:
        return self.state.tasks[key].status


def began(settings: RunSettings = SETTINGS) -> RunBegan:
    return RunBegan("me", "host", 1, "0", settings)


def test_the_whole_way() -> None:
    """A2, A3, A4, A15, A16: dump, then restore, then verify; then the chunk leaves the maps."""
    story = Story().planned(indexes=1)
    assert story.status(DUMP) is Status.PROCESSING
    assert story.succeed(DUMP, DUMPED) == ["dump_completed", "restore_started"]
    assert story.succeed(RESTORE, RESTORED) == [
        "restore_completed",
        "verify_started",
        "index_started",
    ]
    assert story.succeed(VERIFY, EQUAL) == ["verify_completed"]
    assert CHUNK not in story.state.chunks
    assert [effect.file for effect in wanted_effects(story.state) if effect.file] == ["f"]
    index = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
    assert story.succeed(index, Built()) == ["index_completed", "unit_completed"]
    release = TaskKey(TaskKind.RELEASE, CHUNK)
    assert story.succeed(release, Released()) == ["chunk_released", "job_completed"]
    assert story.succeed(release, Released()) == []
    assert digest(fold(story.events)) == digest(story.state)


def test_asking_twice_is_asking_once() -> None:
    story = Story()
    assert story.tell(JobAsked("me", SPEC)) == []


def test_a_fast_empty_source_does_not_end_the_job_early() -> None:
    """I29: the end waits for the registration gate."""
    story = Story()
    assert story.state.status is JobStatus.RUNNING
    assert story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed(())) == [
        "survey_completed",
        "job_completed",
    ]


def test_retries_then_a_dead_letter_then_a_pause() -> None:
    """A7, A8, A9, I18, I19: the third failure is the last; exactly one letter, one pause."""
    story = Story().planned()
    for attempt, delay in ((1, 750), (2, 1500)):
        assert story.fail(DUMP, Cause.TRANSIENT) == ["dump_retry_scheduled"]
        assert story.state.tasks[DUMP].attempt == attempt
        assert next_wake_ms(story.state, Millis(story.now)) == story.now + delay
        assert story.tell() == [], "not before its time"
        story.now += delay
        assert story.tell() == ["dump_started"]
    assert story.fail(DUMP, Cause.TRANSIENT) == [
        "dump_dead_lettered",
        "pause_requested",
        "job_paused",
    ]
    assert story.tell() == []
    assert story.tell(began()) == ["run_started", "job_resumed", "dump_requeued", "dump_started"]
    assert (story.state.tasks[DUMP].attempt, story.state.tasks[DUMP].failures) == (4, 0)


def test_a_permanent_failure_is_not_tried_again() -> None:
    story = Story().planned()
    assert story.fail(DUMP, Cause.PERMANENT)[0] == "dump_dead_lettered"


def test_a_fatal_failure_pauses_without_blame() -> None:
    """A20: disk full is nobody's third failure."""
    story = Story().planned()
    kinds = ["dump_cancelled", "pause_requested", "job_paused"]
    assert story.fail(DUMP, Cause.FATAL) == kinds
    assert (story.status(DUMP), story.state.tasks[DUMP].failures) == (Status.PENDING, 0)


def test_skip_unit_goes_on_without_it() -> None:
    """Decision 1: the unit is given up, the job goes on and says so."""
    story = Story(SETTINGS.model_copy(update={"on_exhausted": "skip-unit"})).planned(chunks=2)
    other = TaskKey(TaskKind.DUMP, f"{UNIT}#1")
    assert story.succeed(other, DUMPED) == ["dump_completed", "restore_started"]
    kinds = story.fail(DUMP, Cause.PERMANENT)
    assert kinds == ["dump_dead_lettered", "unit_skipped"]
    assert story.state.units[UNIT].status is UnitStatus.FAILED
    late = Succeeded(TaskKey(TaskKind.RESTORE, f"{UNIT}#1"), 1, 1, RESTORED)
    assert story.tell(late) == ["result_ignored"]
    assert story.succeed(TaskKey(TaskKind.RELEASE, f"{UNIT}#1"), Released()) == [
        "chunk_released",
        "job_completed",
    ]
    assert [event.dead_letters for event in story.events if event.kind == "job_completed"] == [1]  # type: ignore[union-attr]


def test_fail_job_ends_it() -> None:
    story = Story(SETTINGS.model_copy(update={"on_exhausted": "fail-job"})).planned()
    assert story.fail(DUMP, Cause.PERMANENT) == ["dump_dead_lettered", "job_failed"]
    assert story.state.terminal
    assert story.tell(began()) == ["run_started"], "I13"


def test_a_failed_survey_has_no_unit_to_skip() -> None:
    story = Story(SETTINGS.model_copy(update={"on_exhausted": "skip-unit"}))
    assert "pause_requested" in story.fail(TaskKey(TaskKind.SURVEY, "job"), Cause.PERMANENT)


def test_a_failed_index_never_fails_the_data() -> None:
    story = Story().planned(indexes=1)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    index = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
    assert story.fail(index, Cause.PERMANENT) == ["index_dead_lettered", "unit_completed"]


def test_what_was_in_flight_is_in_doubt_and_decided_once() -> None:
    """I16, I18: one decision each; attempts count on, the budget is untouched."""
    story = Story().planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.tell(Progressed(RESTORE, 1, 1, replace(RESTORED, position=25, documents=5)))
    kinds = story.tell(began())
    assert kinds[:5] == [
        "run_started",
        "dump_in_doubt",
        "dump_resolved",
        "restore_in_doubt",
        "restore_resolved",
    ]
    assert story.state.chunks[CHUNK].done.position == 25, "continued, not begun anew"
    assert story.state.tasks[RESTORE].attempt == 2
    assert story.state.tasks[RESTORE].failures == 0
    old = Succeeded(RESTORE, 1, 1, RESTORED)
    assert story.tell(old) == ["result_ignored"], "I20"
    assert story.tell(Failed(RESTORE, 1, 1, Cause.FATAL, "E", "")) == ["result_ignored"]
    assert story.tell(Progressed(RESTORE, 1, 1, RESTORED)) == ["result_ignored"]
    assert story.tell(FileDamaged(RESTORE, 1, 1, "")) == ["result_ignored"]


def test_a_restore_without_progress_begins_anew() -> None:
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    story.tell(began())
    resolved = [event for event in story.events if event.kind == "restore_resolved"]
    assert [event.decision for event in resolved] == ["discard"]  # type: ignore[union-attr]


def test_a_task_that_keeps_killing_the_process_is_given_up() -> None:
    """I18: interruptions are bounded too; of what carries documents, see test_isolation."""
    story = Story()
    for _ in range(MAX_INTERRUPTIONS - 1):
        assert "survey_started" in story.tell(began())
    kinds = story.tell(began())
    assert kinds == [
        "run_started",
        "survey_in_doubt",
        "survey_dead_lettered",
        "pause_requested",
        "job_paused",
    ]


def test_pause_lets_work_end_and_starts_nothing() -> None:
    """A18, I28."""
    story = Story().planned(chunks=4)
    assert story.tell(PauseAsked("me", "lunch", request=7)) == ["pause_requested"]
    assert story.tell(PauseAsked("me", "lunch", request=7)) == []
    assert story.succeed(DUMP, DUMPED) == ["dump_completed"]
    other = TaskKey(TaskKind.DUMP, f"{UNIT}#1")
    assert story.fail(other, Cause.FATAL) == ["dump_cancelled", "job_paused"]
    kinds = story.tell(began())
    assert kinds[:2] == ["run_started", "job_resumed"]


def test_a_dead_letter_during_a_pause_asks_for_no_second_one() -> None:
    """I19."""
    story = Story().planned()
    story.tell(PauseAsked("me", "lunch"))
    assert story.fail(DUMP, Cause.PERMANENT) == ["dump_dead_lettered", "job_paused"]


def test_pools_are_separate_and_never_exceeded() -> None:
    """A17, I26."""
    story = Story().planned(chunks=5)
    assert story.state.size(TaskKind.DUMP, Status.PROCESSING) == 2
    for n in range(2):
        story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#{n}"), DUMPED)
    assert story.state.size(TaskKind.DUMP, Status.PROCESSING) == 2
    assert story.state.size(TaskKind.RESTORE, Status.PROCESSING) == 2


def test_first_in_first_out() -> None:
    """A11, A12."""
    story = Story().planned(chunks=4)
    assert story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#1"), DUMPED)[1:] == [
        "dump_started",
        "restore_started",
    ]
    started = [event.entity for event in story.events if event.kind == "dump_started"]  # type: ignore[union-attr]
    assert started == [f"{UNIT}#{n}" for n in range(3)]


def test_dumping_waits_when_the_work_folder_is_full() -> None:
    """A limit on everything: files ahead."""
    settings = SETTINGS.model_copy(update={"files_ahead": 2, "restore_workers": 1})
    story = Story(settings).planned(chunks=6)
    assert files_limit(settings) == 2
    for n in range(2):
        story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#{n}"), DUMPED)
    assert not story.state.size(TaskKind.DUMP, Status.PROCESSING)
    story.succeed(RESTORE, RESTORED)
    story.succeed(VERIFY, EQUAL)
    assert story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released()) == [
        "chunk_released",
        "dump_started",
    ]


def test_a_damaged_file_is_dumped_again() -> None:
    """I24, I25: counters go back, the attempt numbers do not."""
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    assert story.tell(FileDamaged(RESTORE, 1, 1, "cut")) == [
        "restore_cancelled",
        "dump_invalidated",
        "dump_started",
    ]
    unit = story.state.units[UNIT]
    assert (unit.dumped_documents, unit.weight_done, story.state.files) == (0, 0, 0)
    story.succeed(DUMP, DUMPED)
    assert story.state.tasks[RESTORE].attempt == 2


def test_a_file_that_is_damaged_again_and_again_is_given_up() -> None:
    """I18, I24: the dump's budget bounds it; a requeue dumps again."""
    story = Story().planned()
    for _ in range(2):
        story.succeed(DUMP, DUMPED)
        story.tell(FileDamaged(RESTORE, story.attempt(RESTORE), 1, "cut"))
    story.succeed(DUMP, DUMPED)
    kinds = story.tell(FileDamaged(RESTORE, story.attempt(RESTORE), 1, "cut"))
    assert kinds[1:] == [
        "dump_invalidated",
        "dump_dead_lettered",
        "pause_requested",
        "job_paused",
    ]
    assert "dump_started" in story.tell(began())


def test_rejected_documents_are_named_and_their_chunk_is_remembered() -> None:
    """Decision 7, A34: a rejected document never pauses the job; it may be requeued."""
    story = Story(verify=False).planned()
    story.succeed(DUMP, DUMPED)
    bad = Rejection(Key("1"), "EMONGO11000", "taken")
    kinds = story.succeed(RESTORE, replace(RESTORED, rejected=1, rejections=(bad,)))
    assert kinds == ["document_rejected", "restore_completed", "unit_completed"]
    assert story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())[-1] == "job_completed"
    assert list(story.state.flawed) == [CHUNK]
    assert story.state.kept == 0


def test_only_so_many_rejections_are_named() -> None:
    """A limit on everything: names in the journal; all are counted."""
    story = Story(verify=False).planned()
    story.succeed(DUMP, DUMPED)
    bad = Rejection(Key("1"), "E", "")
    count = MAX_REPORTED + 5
    kinds = story.succeed(RESTORE, replace(RESTORED, rejected=count, rejections=(bad,) * count))
    assert kinds.count("document_rejected") == MAX_REPORTED
    assert story.state.units[UNIT].rejected == count


def test_a_file_that_cannot_be_removed_is_kept_and_said() -> None:
    story = Story(verify=False).planned()
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    kinds = story.fail(TaskKey(TaskKind.RELEASE, CHUNK), Cause.FATAL)
    assert kinds == ["chunk_kept", "job_completed"]


def test_views_need_no_chunks() -> None:
    story = Story()
    view = FoundUnit(UnitId("shop.v"), "shop.v", "view", "", BsonText("{}"), (), 0, 0)
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed((view,)))
    create = TaskKey(TaskKind.CREATE, "shop.v")
    assert story.succeed(create, Created(())) == [
        "create_completed",
        "unit_completed",
        "job_completed",
    ]


def test_a_verify_job_only_reads() -> None:
    """A verify job plans and verifies; views have nothing to verify."""
    story = Story(kind="verify", of="j1")
    view = FoundUnit(UnitId("shop.v"), "shop.v", "view", "", BsonText("{}"), (), 0, 0)
    unit = FoundUnit(UNIT, UNIT, "collection", "00", BsonText("{}"), (), 100, 1000)
    assert story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed((view, unit)))[-2:] == [
        "plan_started",
        "unit_completed",
    ]
    story.succeed(TaskKey(TaskKind.PLAN, UNIT), Planned((), 10, natural=False))
    unequal = replace(EQUAL, equal=False)
    assert story.succeed(VERIFY, unequal) == [
        "verify_completed",
        "unit_completed",
        "job_completed",
    ]
    assert story.state.units[UNIT].mismatched == 1


def test_delays_double_and_stay_below_the_cap() -> None:
    """A9, I18: equal jitter; each interval begins where the one before ends."""
    tasks = [Task(failures=n) for n in (0, 1, 2)]
    assert [backoff_ms(task, 0.0, SETTINGS) for task in tasks] == [500, 1000, 2000]
    assert [backoff_ms(task, 1.0, SETTINGS) for task in tasks] == [1000, 2000, 4000]
    assert backoff_ms(Task(failures=1000), 1.0, SETTINGS) == SETTINGS.retry_cap_ms


@pytest.mark.parametrize(
    "event",
    [
        Started.of(DUMP, attempt=1),
        DumpCompleted.of(DUMP, file="f", documents=1, bytes=1, file_bytes=1, blocks=1, sha256=""),
        VerifyCompleted.of(
            VERIFY,
            equal=True,
            source_documents=1,
            target_documents=1,
            source_digest="",
            target_digest="",
            rejected=0,
            differing=(),
        ),
        CreateCompleted.of(TaskKey(TaskKind.CREATE, "no.such"), built=(), uuid=""),
        UnitCompleted(unit=UnitId("no.such")),
        ChunkReleased(chunk=CHUNK),
        ChunkKept(chunk=CHUNK, why=""),
    ],
    ids=lambda event: event.kind,
)
def test_an_event_about_nothing_is_refused_and_changes_nothing(event: AnyEvent) -> None:
    """I11: refused before it can be appended."""
    story = Story()
    before = digest(story.state)
    with pytest.raises((UnknownEntity, ImpossibleTransition)):
        evolve(story.state, event)
    assert digest(story.state) == before


def test_tasks_know_their_unit() -> None:
    assert unit_of(TaskKey(TaskKind.SURVEY, "job")) is None
    assert unit_of(TaskKey(TaskKind.INDEX, "a.b@c@d%40e")) == "a.b@c@d%40e".rpartition("@")[0]
    assert unit_of(TaskKey(TaskKind.DUMP, "a.b#c#12")) == "a.b#c"


def test_resuming_requeues_failed_indexes_too() -> None:
    """A dead index is tried again with the rest when somebody resumes after a pause."""
    story = Story().planned(chunks=2, indexes=1)
    other = ChunkId(f"{UNIT}#1")
    for chunk in (CHUNK, other):
        story.succeed(TaskKey(TaskKind.DUMP, chunk), DUMPED)
        story.succeed(TaskKey(TaskKind.RESTORE, chunk), RESTORED)
    story.fail(TaskKey(TaskKind.INDEX, f"{UNIT}@i0"), Cause.PERMANENT)
    story.fail(VERIFY, Cause.FATAL)
    story.succeed(TaskKey(TaskKind.VERIFY, other), EQUAL)
    story.succeed(TaskKey(TaskKind.RELEASE, other), Released())
    assert story.state.resting
    assert "index_requeued" in story.tell(began())


def test_a_chunk_nobody_planned() -> None:
    """I11: a completion of a chunk that is not there is refused."""
    story = Story().planned()
    story.state.chunks.clear()
    with pytest.raises(UnknownEntity, match=CHUNK):
        story.succeed(DUMP, DUMPED)


def test_what_is_shown_of_events() -> None:
    """Every event names what it is about."""
    about = {event.kind: event.about for event in examples()}
    assert about["job_requested"] == "job"
    assert about["unit_registered"] == "shop.orders"
    assert about["chunk_planned"] == about["dump_started"] == "shop.orders#0"
    assert about["index_started"] == "shop.orders@n_1"
    assert index_task(UNIT, "a@b%c").entity == "shop.orders@a%40b%25c"


def test_a_failed_job_wants_nothing() -> None:
    """I13: what was in flight when the job failed is not carried out by a later run."""
    story = Story(SETTINGS.model_copy(update={"on_exhausted": "fail-job"})).planned(chunks=2)
    story.fail(DUMP, Cause.PERMANENT)
    assert list(wanted_effects(story.state)) == []
    story.tell(began())
    assert list(wanted_effects(story.state)) == []


def test_two_failures_in_one_turn_are_one_end() -> None:
    """I19, I20: the second is news of a job that has ended."""
    story = Story(SETTINGS.model_copy(update={"on_exhausted": "fail-job"})).planned(chunks=2)
    story.fail(DUMP, Cause.PERMANENT)
    for cause in (Cause.PERMANENT, Cause.FATAL):
        assert story.fail(TaskKey(TaskKind.DUMP, f"{UNIT}#1"), cause) == ["result_ignored"]


def test_every_letter_of_a_recovery_has_its_consequence() -> None:
    """I19, I30: an index among the dead letters does not hide a chunk's."""
    story = Story().planned(chunks=2, indexes=1)
    other = ChunkId(f"{UNIT}#1")
    for chunk in (CHUNK, other):
        story.succeed(TaskKey(TaskKind.DUMP, chunk), DUMPED)
        story.succeed(TaskKey(TaskKind.RESTORE, chunk), RESTORED)
    for _ in range(MAX_INTERRUPTIONS - 1):
        story.tell(began())
    kinds = story.tell(began())
    assert kinds.count("index_dead_lettered") == 1
    assert kinds.count("verify_dead_lettered") == 2
    assert kinds[-2:] == ["pause_requested", "job_paused"]


def test_an_outage_while_indexes_build_pauses() -> None:
    """A8: time heals it, so the job must not end without the index."""
    story = Story().planned(indexes=1)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    index = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
    for _ in range(2):
        assert story.fail(index, Cause.TRANSIENT) == ["index_retry_scheduled"]
        story.now += 10_000
        story.tell()
    assert story.fail(index, Cause.TRANSIENT) == [
        "index_dead_lettered",
        "pause_requested",
        "job_paused",
    ]
    assert "index_requeued" in story.tell(began())
    assert story.succeed(index, Built())[-1] == "job_completed"


@pytest.mark.parametrize("kind", ["job_requested", "unit_registered", "chunk_planned"])
def test_nothing_is_introduced_twice(kind: str) -> None:
    """I11: a job, a unit, an open chunk exists once; a second introduction changes nothing."""
    story = Story().planned()
    again = next(event for event in story.events if event.kind == kind)
    before = digest(story.state)
    with pytest.raises(ImpossibleTransition, match=kind):
        evolve(story.state, again)
    assert digest(story.state) == before


def test_no_unit_without_its_job() -> None:
    """I11: a history begins with what was asked for."""
    registered = next(
        event for event in Story().planned().events if event.kind == "unit_registered"
    )
    with pytest.raises(UnknownEntity, match="job"):
        fold([registered])


@pytest.mark.parametrize("event", examples(), ids=lambda event: event.kind)
def test_nothing_happens_to_a_job_that_nobody_asked_for(event: AnyEvent) -> None:
    """I11: a history begins with its request and with nothing else."""
    if event.kind == "job_requested":
        assert fold([event]).spec is not None
        return
    state = State()
    with pytest.raises((UnknownEntity, ImpossibleTransition)):
        evolve(state, event)
    assert state == State()


@pytest.mark.parametrize("epoch", [1, 3, 2**70])
def test_epochs_follow_each_other(epoch: int) -> None:
    """P4: no run and no leaving takes an epoch that is not the next."""
    story = Story()
    for event in story.events:
        if event.kind == "run_started":
            with pytest.raises(ImpossibleTransition, match="epoch"):
                evolve(story.state, event.model_copy(update={"epoch": epoch}))
    with pytest.raises(ImpossibleTransition, match="epoch"):
        evolve(story.state, JobExported(epoch=epoch, by="me", host="here"))
    assert story.state.epoch == 1


def test_a_job_arrives_without_the_folders_of_its_old_host() -> None:
    story = Story(SETTINGS.model_copy(update={"work_dir": "/mnt/fast"}))
    story.tell(EXPORT, IMPORT)
    assert story.state.settings is not None
    assert story.state.settings.work_dir == ""
    before_any_run = fold(decide(State(), JobAsked("me", SPEC), Millis(0)))
    for asked in (EXPORT, IMPORT):
        for event in decide(before_any_run, asked, Millis(0)):
            evolve(before_any_run, event)
    assert before_any_run.status is JobStatus.PAUSED
    assert before_any_run.settings is None


def test_a_verification_always_verifies() -> None:
    """Whatever its `verify` says: it has no other stage."""
    story = Story(kind="verify", of="j1", verify=False).planned()
    story.succeed(VERIFY, EQUAL)
    assert story.state.units[UNIT].settled == 1


def test_an_effect_keeps_its_own_copy() -> None:
    """The fold goes on in place while an executor looks at its chunk."""
    story = Story().planned()
    (effect,) = (each for each in wanted_effects(story.state) if each.task == DUMP)
    assert effect.unit is not None
    assert effect.chunk is not None
    story.succeed(DUMP, DUMPED)
    assert effect.chunk.file is None
    assert effect.unit.dumped_documents == 0


# --- a job on its way to another journal ---

EXPORT, IMPORT = ExportAsked("me", "here"), ImportAsked("you", "there")


def test_a_job_leaves_as_it_stands_and_nothing_goes_on() -> None:
    """P4, I5: the epoch is fenced, nothing is wanted, no run begins, late news changes nothing."""
    story = Story().planned()
    epoch, attempt = story.state.epoch, story.attempt(DUMP)
    assert story.tell(EXPORT) == ["job_exported"]
    assert story.state.status is JobStatus.MOVED
    assert story.state.epoch == epoch + 1
    assert list(wanted_effects(story.state)) == []
    late = Succeeded(DUMP, attempt, epoch, DUMPED)
    assert story.tell(EXPORT, began(), PauseAsked("me", "why")) == []
    assert story.tell(late) == ["result_ignored"]
    with pytest.raises(ImpossibleTransition):
        evolve(story.state, next(event for event in story.events if event.kind == "run_started"))


def test_a_job_arrives_and_its_next_run_resolves_what_was_at_work() -> None:
    """I12, I16: moving a job is a crash with a different host afterwards."""
    story = Story().planned()
    story.tell(EXPORT)
    assert story.tell(IMPORT) == ["job_imported"]
    assert story.state.status is JobStatus.PAUSED
    assert story.tell(IMPORT) == []
    assert list(wanted_effects(story.state)) == []
    kinds = story.tell(began())
    assert kinds[:4] == ["run_started", "dump_in_doubt", "dump_resolved", "job_resumed"]
    assert story.attempt(DUMP) == 2
    assert story.state.epoch == 3


def test_what_has_ended_or_never_begun_does_not_leave() -> None:
    assert decide(State(), EXPORT, Millis(0)) == []
    story = Story()
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed(()))
    assert story.state.status is JobStatus.COMPLETED
    assert story.tell(EXPORT, IMPORT) == []


def test_a_job_may_leave_before_its_first_run_and_while_it_pauses() -> None:
    state = fold(decide(State(), JobAsked("me", SPEC), Millis(0)))
    assert [event.kind for event in decide(state, EXPORT, Millis(0))] == ["job_exported"]
    story = Story().planned()
    story.tell(PauseAsked("me", "why"))
    assert story.state.status is JobStatus.PAUSING
    assert story.tell(EXPORT, IMPORT) == ["job_exported", "job_imported"]


def test_a_retry_does_not_wait_for_a_clock_that_went_back() -> None:
    """I18, I30: a delay has a cap; what seems further away was scheduled by another clock."""
    story = Story().planned()
    story.now = 10**9
    assert story.fail(DUMP, Cause.TRANSIENT) == ["dump_retry_scheduled"]
    due = story.state.tasks[DUMP].not_before_ms
    story.now = due - 1
    assert story.tell() == []
    story.now = due - SETTINGS.retry_cap_ms
    assert story.tell() == []
    story.now = due - SETTINGS.retry_cap_ms - 1
    assert story.tell() == ["dump_started"]
