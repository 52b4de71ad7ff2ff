"""Decisions one by one: what each stimulus brings about, and what it does not."""

from dataclasses import replace

from statemachine.decide.schedule import next_wake_ms
from statemachine.effects import wanted_effects
from statemachine.evolve import fold
from statemachine.policy import MAX_INTERRUPTIONS, MAX_REPORTED
from statemachine.state import digest
from statemachine.stimuli import (
    Built,
    Created,
    Failed,
    FileDamaged,
    FoundUnit,
    JobAsked,
    PauseAsked,
    Planned,
    Progressed,
    Rejection,
    Released,
    Succeeded,
    Surveyed,
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
)
from tests.statemachine.examples import SETTINGS, SPEC
from tests.statemachine.story import (
    CHUNK,
    DUMP,
    DUMPED,
    EQUAL,
    RESTORE,
    RESTORED,
    UNIT,
    VERIFY,
    Story,
    began,
)


def test_the_whole_way() -> None:
    """A2-A4, A13-A16: dump, then restore, then verify; then the chunk leaves the maps; when all
    have, the unit is complete, and then the job."""
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
    other = TaskKey(TaskKind.DUMP, f"{UNIT}#1")
    assert story.succeed(other, DUMPED) == ["dump_completed", "restore_started"], "alone"
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
