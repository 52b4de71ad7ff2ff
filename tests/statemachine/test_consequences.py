"""What one thing means for the others: a letter for its unit, a death for the next run."""

from dataclasses import replace

import pytest

from statemachine.decide import decide
from statemachine.decide.schedule import next_wake_ms
from statemachine.events import (
    ChunkDropped,
    ChunkReplaced,
    IndexSpec,
    PauseRequested,
    SplitRequested,
)
from statemachine.policy import (
    MAX_DEATHS,
    MAX_INTERRUPTIONS,
    MAX_REPORTED,
    MAX_SUSPECTS,
    backoff_ms,
    files_limit,
)
from statemachine.state import Task
from statemachine.stimuli import (
    Built,
    Created,
    ExportAsked,
    FoundUnit,
    ImportAsked,
    PauseAsked,
    Planned,
    Progressed,
    Rejection,
    Released,
    Restored,
    Split,
    Succeeded,
    Surveyed,
    Tick,
)
from statemachine.words import (
    BsonText,
    Cause,
    JobStatus,
    Key,
    Millis,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
)
from tests.statemachine.examples import SETTINGS
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

INDEX = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
SKIP = SETTINGS.model_copy(update={"on_exhausted": "skip-unit"})


def test_a_pause_names_who_asked() -> None:
    story = Story()
    story.tell(PauseAsked("ann", "lunch", request=7))
    event = story.events[-1]
    assert (event.by, event.why, event.request) == ("ann", "lunch", 7)  # type: ignore[union-attr]
    assert story.state.why == "lunch"


def test_progress_names_what_was_rejected() -> None:
    """Decision 7: by the block, not only at the end; up to the limit over all news."""
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    bad = Rejection(Key("1"), "E", "taken")
    news = replace(RESTORED, position=25, documents=4, rejected=1, rejections=(bad,))
    assert story.tell(Progressed(RESTORE, 1, 1, news)) == [
        "document_rejected",
        "restore_progressed",
    ]
    named = story.events[-2]
    assert (named.about, named.key, named.code, named.why) == (CHUNK, "1", "E", "taken")  # type: ignore[union-attr]


def test_a_letter_during_a_pause_still_skips_its_unit() -> None:
    """I19: the pause that is under way is no answer to the policy."""
    story = Story(SKIP).planned(chunks=2)
    story.tell(PauseAsked("me", "lunch"))
    assert story.fail(DUMP, Cause.PERMANENT) == [
        "dump_dead_lettered",
        "unit_skipped",
        "job_paused",
    ]


def test_an_index_never_skips_its_unit() -> None:
    """A8: whatever the cause, when the policy is to go on."""
    for cause in (Cause.PERMANENT, Cause.TRANSIENT):
        settings = SKIP.model_copy(update={"max_retries": 1})
        story = Story(settings).planned(indexes=1)
        for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
            story.succeed(key, result)
        assert story.fail(INDEX, cause) == ["index_dead_lettered", "unit_completed"]


def test_only_a_restore_is_continued() -> None:
    """I16: everything else is done again from nothing."""
    story = Story().planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.tell(Progressed(RESTORE, 1, 1, replace(RESTORED, position=25, documents=5)))
    story.tell(began())
    resolved = {event.kind: event for event in story.events if "_resolved" in event.kind}
    assert resolved["dump_resolved"].decision == "discard"  # type: ignore[union-attr]
    assert resolved["dump_resolved"].position == 0  # type: ignore[union-attr]
    assert resolved["restore_resolved"].decision == "continue"  # type: ignore[union-attr]
    assert resolved["restore_resolved"].position == 25  # type: ignore[union-attr]


def test_the_end_waits_for_the_registration_gate() -> None:
    """I29: even when nothing is left to do, an open registration or unit keeps the job going."""
    story = Story().planned()
    story.state.tasks.clear()
    story.state.queues.clear()
    assert decide(story.state, Tick(), Millis(0)) == []
    story.state.open_units.clear()
    story.state.closed = False
    assert decide(story.state, Tick(), Millis(0)) == []
    story.state.closed = True
    assert [event.kind for event in decide(story.state, Tick(), Millis(0))] == ["job_completed"]


def test_indexes_come_when_the_last_chunk_is_restored() -> None:
    """A4: not before; once each; without those that stand already."""
    story = Story()
    specs = tuple(IndexSpec(name=f"i{n}", unique=not n, spec=BsonText("{}")) for n in range(3))
    found = FoundUnit(UNIT, UNIT, "collection", "00", BsonText("{}"), specs, 100, 1000)
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed((found,)))
    story.succeed(TaskKey(TaskKind.CREATE, UNIT), Created(("i0",)))
    story.succeed(TaskKey(TaskKind.PLAN, UNIT), Planned((Key("1"),), 100, natural=False))
    other = f"{UNIT}#1"
    story.succeed(DUMP, DUMPED)
    story.succeed(TaskKey(TaskKind.DUMP, other), DUMPED)
    assert not any("index" in kind for kind in story.succeed(RESTORE, RESTORED))
    kinds = story.succeed(TaskKey(TaskKind.RESTORE, other), RESTORED)
    assert kinds.count("index_started") == 2
    assert TaskKey(TaskKind.INDEX, f"{UNIT}@i0") not in story.state.tasks


def test_a_skipped_unit_is_not_completed_by_what_is_left_of_it() -> None:
    """I29: another unit goes on to the end; the skipped one stays failed."""
    story = Story(SKIP)
    two = UnitId("shop.two")
    units = tuple(
        FoundUnit(unit, unit, "collection", "00", BsonText("{}"), (), 5, 50) for unit in (UNIT, two)
    )
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed(units))
    assert "unit_skipped" in story.fail(TaskKey(TaskKind.CREATE, UNIT), Cause.PERMANENT)
    story.succeed(TaskKey(TaskKind.CREATE, two), Created(()))
    story.succeed(TaskKey(TaskKind.PLAN, two), Planned((), 5, natural=False))
    entity = f"{two}#0"
    story.succeed(TaskKey(TaskKind.DUMP, entity), DUMPED)
    story.succeed(TaskKey(TaskKind.RESTORE, entity), RESTORED)
    story.succeed(TaskKey(TaskKind.VERIFY, entity), EQUAL)
    statuses = {unit.id: unit.status for unit in story.state.units.values()}
    assert statuses == {UNIT: UnitStatus.FAILED, two: UnitStatus.COMPLETED}
    assert story.state.tasks[TaskKey(TaskKind.CREATE, UNIT)].status is Status.FAILED


def test_a_built_index_ends_its_unit() -> None:
    story = Story().planned(indexes=1)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        assert "unit_completed" not in story.succeed(key, result)
    assert story.succeed(INDEX, Built())[:2] == ["index_completed", "unit_completed"]


def test_the_names_of_the_rejected_share_one_limit() -> None:
    """A limit on everything: over all news of a chunk, not for each."""
    bad = Rejection(Key("1"), "E", "")
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    first = Restored(10, 0, 0, 0, MAX_REPORTED - 5, (bad,) * (MAX_REPORTED - 5))
    kinds = story.tell(Progressed(RESTORE, 1, 1, first))
    assert kinds.count("document_rejected") == MAX_REPORTED - 5
    second = Restored(20, 0, 0, 0, MAX_REPORTED + 15, (bad,) * 20)
    assert story.tell(Progressed(RESTORE, 1, 1, second)).count("document_rejected") == 5
    third = Restored(30, 0, 0, 0, MAX_REPORTED + 35, (bad,) * 20)
    assert story.tell(Progressed(RESTORE, 1, 1, third)) == ["restore_progressed"]


def test_chunks_share_their_edges() -> None:
    """I21: from the open lower end to the open upper end."""
    story = Story().planned(chunks=3)
    edges = [(chunk.lower, chunk.upper) for chunk in story.state.chunks.values()]
    assert edges == [(None, "0"), ("0", "1"), ("1", None)]
    assert [chunk.documents for chunk in story.state.chunks.values()] == [33, 33, 33]
    planned = [event for event in story.events if event.kind == "plan_completed"]
    assert [event.chunks for event in planned] == [3]  # type: ignore[union-attr]


def test_a_release_is_told_once() -> None:
    """I20: while the job goes on."""
    story = Story(verify=False).planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    release = Succeeded(TaskKey(TaskKind.RELEASE, CHUNK), 0, 1, Released())
    assert story.tell(release) == ["chunk_released"]
    assert story.tell(release) == []


def test_a_late_success_masks_no_failure() -> None:
    """I20: the first outcome of an attempt counts; an older attempt counts no more."""
    story = Story().planned()
    success = Succeeded(DUMP, 1, 1, DUMPED)
    story.fail(DUMP, Cause.TRANSIENT)
    assert story.tell(success) == ["result_ignored"]
    story.now += 10_000
    assert story.tell() == ["dump_started"]
    assert story.tell(success) == ["result_ignored"]
    ignored = story.events[-1]
    assert (ignored.attempt, ignored.epoch, ignored.what) == (1, 1, "success of epoch 1")  # type: ignore[union-attr]
    assert story.status(DUMP) is Status.PROCESSING


def test_a_run_that_begins_while_pausing_goes_on() -> None:
    """A19: to resume is to withdraw the pause, reached or not."""
    story = Story().planned()
    story.tell(PauseAsked("me", "lunch"))
    assert story.tell(began())[:4] == [
        "run_started",
        "dump_in_doubt",
        "dump_resolved",
        "job_resumed",
    ]


def test_a_dead_survey_is_tried_again_by_a_resume() -> None:
    """A19, I19: it belongs to no unit."""
    story = Story()
    story.fail(TaskKey(TaskKind.SURVEY, "job"), Cause.PERMANENT)
    assert story.tell(began())[-3:] == ["job_resumed", "survey_requeued", "survey_started"]


def test_a_pause_waits_for_doubt_and_for_files() -> None:
    """I28: nothing at work, nothing in doubt, no file half removed."""
    story = Story(verify=False).planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    story.fail(TaskKey(TaskKind.DUMP, f"{UNIT}#1"), Cause.TRANSIENT)
    assert story.tell(PauseAsked("me", "lunch")) == ["pause_requested"], "a file is being removed"
    story.state.queues[TaskKind.DUMP, Status.IN_DOUBT, 0] = {DUMP: None}
    assert story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released()) == ["chunk_released"]
    story.state.queues[TaskKind.DUMP, Status.PROCESSING, 0] = {VERIFY: None}
    assert story.tell() == [], "one of each is two"
    story.state.queues[TaskKind.DUMP, Status.PROCESSING, 0].clear()
    story.state.queues[TaskKind.DUMP, Status.IN_DOUBT, 0].clear()
    assert story.tell() == ["job_paused"]


def test_a_pool_is_shared_by_its_kinds() -> None:
    """I26: after a death, dumps and verifications compete for the same workers."""
    story = Story(SETTINGS.model_copy(update={"dump_workers": 1})).planned(chunks=4)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    assert story.status(VERIFY) is Status.PENDING
    two = SETTINGS.model_copy(update={"dump_workers": 2, "files_ahead": 2})
    kinds = story.tell(began(two))
    assert [kind for kind in kinds if kind.endswith("_started")] == [
        "run_started",
        "dump_started",
        "verify_started",
    ]


def test_fewer_files_ahead_than_lie_there() -> None:
    """A limit on everything, also when it shrinks between two runs."""
    story = Story(SETTINGS.model_copy(update={"restore_workers": 1})).planned(chunks=6)
    for n in range(4):
        story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#{n}"), DUMPED)
    assert story.state.files == 4
    fewer = SETTINGS.model_copy(update={"files_ahead": 1, "dump_workers": 1})
    assert "dump_started" not in story.tell(began(fewer))


def test_the_end_waits_for_an_index_of_a_unit_that_has_ended() -> None:
    """I29, I30: a dead index is tried again after a pause, when all else may be done."""
    story = Story().planned(indexes=1)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    story.tell(PauseAsked("me", "lunch"))
    story.fail(INDEX, Cause.PERMANENT)
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    story.tell(began())
    story.fail(INDEX, Cause.PERMANENT)
    assert story.state.status is JobStatus.COMPLETED
    story = Story().planned(indexes=1)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    assert story.fail(INDEX, Cause.PERMANENT)[-1] == "unit_completed"
    story.tell(PauseAsked("me", "lunch"))
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    kinds = story.tell(began())
    assert kinds[-2:] == ["index_requeued", "index_started"], "the job goes on for it"
    assert story.succeed(INDEX, Built()) == ["index_completed", "job_completed"]


def test_nothing_waits_when_nothing_failed() -> None:
    assert next_wake_ms(Story().state, Millis(0)) is None


def test_what_runs_is_not_waited_for_by_the_clock() -> None:
    """I30: started by a clock that went back since, long before its time."""
    story = Story().planned()
    story.state.tasks[DUMP].not_before_ms = 500
    assert next_wake_ms(story.state, Millis(0)) is None


def test_the_limits() -> None:
    """A limit on everything, named; at the limit of doubling, too."""
    assert (MAX_INTERRUPTIONS, MAX_DEATHS, MAX_SUSPECTS, MAX_REPORTED) == (50, 2, 20, 1000)
    patient = SETTINGS.model_copy(update={"retry_base_ms": 1, "retry_cap_ms": 2**60})
    assert backoff_ms(Task(failures=1000), 1.0, patient) == 2**40
    assert files_limit(patient.model_copy(update={"files_ahead": 1, "dump_workers": 7})) == 7


def test_a_job_says_where_it_went() -> None:
    story = Story().planned()
    story.tell(ExportAsked("me", "here"))
    assert story.state.why == "exported by me on here"
    story.tell(ImportAsked("you", "there"))
    assert story.state.why == "imported by you on there"


@pytest.mark.parametrize("cause", [Cause.FATAL, Cause.PERMANENT])
def test_what_ferrylog_does_by_itself_answers_no_request(cause: Cause) -> None:
    """A20, I28: and its pauses let what runs go on to its end."""
    story = Story().planned(chunks=2)
    story.fail(DUMP, cause)
    [pause] = [event for event in story.events if isinstance(event, PauseRequested)]
    assert (pause.by, pause.request, pause.immediate) == ("ferrylog", 0, False)


def test_what_ferrylog_cuts_and_drops_answers_no_request() -> None:
    """A34."""
    story = Story().planned()
    story.fail(DUMP, Cause.PERMANENT, code="EDOC")
    story.succeed(TaskKey(TaskKind.SPLIT, CHUNK), Split((Key("1"),), (1, 99)))
    story.fail(TaskKey(TaskKind.DUMP, f"{UNIT}#1"), Cause.PERMANENT, code="EDOC")
    own = [event for event in story.events if isinstance(event, OWN)]
    assert [(event.kind, event.by, event.request) for event in own] == [
        (kind, "ferrylog", 0) for kind in ("split_requested", "chunk_replaced", "chunk_dropped")
    ]


OWN = (SplitRequested, ChunkReplaced, ChunkDropped)
