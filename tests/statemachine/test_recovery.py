"""What a new run makes of what an older one left: one decision each, and what they mean."""

from typing import Any

import pytest

from statemachine.decide import decide
from statemachine.errors import UnknownEntity
from statemachine.events import JobFailed, Requeued, UnitSkipped
from statemachine.evolve import fold
from statemachine.state import Breaker, State
from statemachine.stimuli import PauseAsked, SplitAsked
from statemachine.words import Cause, ChunkId, JobStatus, Millis, Pool, Status, TaskKey, TaskKind
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import CHUNK, DUMP, DUMPED, RESTORED, UNIT, Story, began

OTHER = TaskKey(TaskKind.DUMP, f"{UNIT}#1")
WHY = "was given up: ETASK001: the process died 50 times while this was running"


def deadly(policy: str, **spec: Any) -> tuple[Story, list[str]]:
    """Two dumps at work that nobody can cut, and that have killed 49 processes before this one;
    others wait."""
    told = SETTINGS.model_copy(update={"on_exhausted": policy})
    story = Story(told, **spec).planned(chunks=4)
    for chunk in story.state.chunks.values():
        chunk.natural = True
    for key, task in story.state.tasks.items():
        if story.status(key) is Status.PROCESSING:
            task.interruptions = 49
    return story, story.tell(began(told))


def test_several_letters_are_one_pause() -> None:
    """I19: for the first; what waits stays where it is."""
    story, kinds = deadly("pause")
    assert kinds == ["run_started"] + 2 * ["dump_in_doubt", "dump_dead_lettered"] + [
        "pause_requested",
        "job_paused",
    ]
    assert story.state.why == f"dump of {CHUNK} {WHY}"


def test_several_letters_of_a_unit_skip_it_once() -> None:
    """A8, I19."""
    story, kinds = deadly("skip-unit")
    assert kinds.count("dump_dead_lettered") == 2
    skipped = [event for event in story.events if isinstance(event, UnitSkipped)]
    assert [(event.unit, event.why) for event in skipped] == [(UNIT, f"dump of {CHUNK} {WHY}")]
    assert story.state.status is JobStatus.COMPLETED


def test_several_letters_are_one_end() -> None:
    """A8, I19."""
    story, kinds = deadly("fail-job")
    assert kinds[-1] == "job_failed"
    failed = [event for event in story.events if isinstance(event, JobFailed)]
    assert [(event.code, event.why) for event in failed] == [("ETASK001", f"dump of {CHUNK} {WHY}")]


def test_in_direct_mode_the_others_go_on() -> None:
    """A1, A8: no pause while anything is left to do."""
    story, kinds = deadly("pause", mode="direct")
    assert kinds == [
        "run_started",
        *2 * ["copy_in_doubt", "copy_dead_lettered"],
        *2 * ["copy_started"],
    ]
    assert story.state.status is JobStatus.RUNNING


def test_what_is_dropped_alone_skips_no_unit() -> None:
    """Decision 7, I19: one letter has its consequence already, the other has not."""
    told = SETTINGS.model_copy(update={"on_exhausted": "skip-unit"})
    story = Story(told).planned(chunks=2)
    for key in (DUMP, OTHER):
        chunk = story.state.chunks[ChunkId(key.entity)]
        chunk.bisected, chunk.documents = True, 1
    story.tell(began(told))
    convicted = ["run_started", "dump_in_doubt", "dump_dead_lettered", "chunk_dropped"]
    assert story.tell(began(told)) == [*convicted, "dump_started"]
    assert story.tell(began(told)) == [*convicted, "unit_completed", "job_completed"]


def test_whom_the_process_died_with_carries_alone() -> None:
    """The next death shall tell who kills: suspects one after the other, before all else that
    carries documents; what does not goes on beside them."""
    story = Story(SETTINGS.model_copy(update={"dump_workers": 3})).planned(chunks=6)
    third = OTHER._replace(entity=f"{UNIT}#2")
    kinds = story.tell(began(SETTINGS.model_copy(update={"dump_workers": 3})))
    assert kinds[-1] == "dump_started" and kinds.count("dump_started") == 1
    assert list(story.state.quarantine) == [OTHER, third]
    assert story.succeed(DUMP, DUMPED) == ["dump_completed", "dump_started"], "no restore beside"
    assert story.fail(OTHER, Cause.TRANSIENT) == ["dump_retry_scheduled", "dump_started"]
    assert not story.state.tasks[OTHER].interruptions, "it can end without the process"
    kinds = story.succeed(third, DUMPED)
    assert kinds.count("dump_started") == 3 and kinds.count("restore_started") == 2


def test_the_last_free_worker_is_enough_for_a_suspect() -> None:
    """I18: one of each pool; the restore waits for the dump all the same."""
    told = SETTINGS.model_copy(update={"dump_workers": 1, "restore_workers": 1})
    story = Story(told).planned(chunks=3)
    story.succeed(DUMP, DUMPED)
    kinds = story.tell(began(told))
    assert [kind for kind in kinds if kind.endswith("_started")] == ["run_started", "dump_started"]
    assert list(story.state.quarantine) == [DUMP._replace(kind=TaskKind.RESTORE)]


def test_a_suspect_that_cannot_start_holds_nobody_back() -> None:
    """I30: no room for its file, no file to restore from, no free worker behind the breaker."""
    restore = DUMP._replace(kind=TaskKind.RESTORE)
    story = Story().planned(chunks=4)
    story.succeed(DUMP, DUMPED)
    story.tell(began())
    assert list(story.state.quarantine) == [OTHER._replace(entity=f"{UNIT}#2"), restore]
    story.state.files = 1000
    story.succeed(OTHER, DUMPED)
    assert story.status(restore) is Status.PROCESSING, "the dump has no room"
    story.succeed(restore, RESTORED)
    assert list(story.state.quarantine) == [OTHER._replace(entity=f"{UNIT}#2")]
    other = restore._replace(entity=OTHER.entity)
    assert story.status(other) is Status.PROCESSING

    story = Story().planned(chunks=4)
    story.succeed(DUMP, DUMPED)
    story.tell(began())
    story.state.chunks[CHUNK].file = None
    story.state.quarantine = {restore: None}
    story.succeed(OTHER, DUMPED)
    assert story.status(restore) is Status.PENDING
    assert story.state.size(TaskKind.DUMP, Status.PROCESSING) == 2

    story = Story().planned(chunks=4)
    story.succeed(DUMP, DUMPED)
    story.tell(began())
    story.state.breakers[Pool.DUMP] = Breaker(opened=1, until_ms=10_000, probe=OTHER)
    story.fail(OTHER, Cause.UNAVAILABLE)
    assert story.status(restore) is Status.PROCESSING, "the other pool goes on"


@pytest.mark.parametrize(
    ("bisected", "documents", "kind"),
    [
        (True, 0, "chunk_dropped"),
        (True, 1, "chunk_dropped"),
        (True, 2, "split_requested"),
        (False, 1, "split_requested"),
    ],
)
def test_only_a_part_with_one_document_is_given_up(
    bisected: bool, documents: int, kind: str
) -> None:
    """I18: an estimate of one is no proof before somebody looked."""
    story = Story().planned()
    chunk = story.state.chunks[CHUNK]
    chunk.bisected, chunk.documents = bisected, documents
    story.tell(began())
    assert kind in story.tell(began())


def test_haste_cuts_nothing() -> None:
    """I16: what an operator interrupted is not looked at for deaths of before."""
    story = Story().planned()
    story.state.tasks[DUMP].interruptions = 2
    story.tell(PauseAsked("me", "", immediate=True))
    assert story.tell(began()) == ["run_started", "dump_resolved", "job_resumed", "dump_started"]


def test_a_run_of_a_job_that_nobody_asked_for() -> None:
    """I11: it is decided like any other, and refused by the fold."""
    events = decide(State(), began(), Millis(0))
    assert [event.kind for event in events] == ["run_started"]
    with pytest.raises(UnknownEntity):
        fold(events)


def test_who_resumes_requeues() -> None:
    """A19, A34: in his name, by no request."""
    story = Story().planned()
    story.fail(DUMP, Cause.PERMANENT)
    story.tell(began())
    [requeued] = [event for event in story.events if isinstance(event, Requeued)]
    assert (requeued.by, requeued.request) == ("me", 0)


def test_a_letter_that_nobody_may_requeue_is_left() -> None:
    """I19: a split under way in another chunk of the job changes nothing for it."""
    told = SETTINGS.model_copy(update={"on_exhausted": "skip-unit"})
    story = Story(told).planned(chunks=2)
    story.tell(SplitAsked("me", CHUNK, 1))
    story.fail(OTHER, Cause.PERMANENT)
    assert story.tell(began(told)) == ["run_started"]
    assert story.status(OTHER) is Status.FAILED
