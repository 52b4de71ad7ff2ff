"""What cannot follow is refused, and has changed nothing (I11)."""

import pytest

from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    AnyEvent,
    ChunkKept,
    ChunkReleased,
    CreateCompleted,
    DumpCompleted,
    InDoubt,
    Resolved,
    RestoreCompleted,
    RestoreProgressed,
    Started,
    TaskEvent,
    UnitCompleted,
    VerifyCompleted,
)
from statemachine.evolve import evolve, fold
from statemachine.state import NOTHING, State, digest
from statemachine.stimuli import (
    FileDamaged,
    Progressed,
    Restored,
)
from statemachine.words import (
    Status,
    TaskKey,
    TaskKind,
    UnitId,
)
from tests.statemachine.examples import example, examples
from tests.statemachine.story import (
    CHUNK,
    DUMP,
    DUMPED,
    RESTORE,
    RESTORED,
    UNIT,
    VERIFY,
    Story,
    began,
)

OF_TASKS = [event for event in examples() if isinstance(event, TaskEvent)]
OF_CHUNKS = [event for event in OF_TASKS if event.about == CHUNK]


def refused(state: State, event: AnyEvent) -> None:
    before = digest(state)
    with pytest.raises((ImpossibleTransition, UnknownEntity)):
        evolve(state, event)
    assert digest(state) == before


@pytest.mark.parametrize("event", OF_TASKS, ids=lambda event: event.kind)
def test_of_a_task_that_is_not_there(event: AnyEvent) -> None:
    """I11."""
    with pytest.raises(UnknownEntity):
        evolve(State(), event)
    refused(State(), event)


@pytest.mark.parametrize("event", OF_CHUNKS, ids=lambda event: event.kind)
def test_of_a_task_that_stands_elsewhere(event: AnyEvent) -> None:
    """I11, I15: all three stages of the chunk are there and completed; only a file can be lost."""
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    task = story.state.tasks[VERIFY]
    queues = story.state.queues
    del queues[VERIFY.kind, task.status, 0][VERIFY]
    task.status = Status.COMPLETED
    if event.kind == "dump_invalidated":
        evolve(story.state, event)
    else:
        refused(story.state, event)


@pytest.mark.parametrize("cls", [RestoreProgressed, RestoreCompleted], ids=lambda cls: cls.__name__)
def test_news_of_a_restore_that_was_not_started(cls: type[AnyEvent]) -> None:
    """I11, I17."""
    story = Story().planned(chunks=4)
    for key in (DUMP, DUMP._replace(entity=f"{UNIT}#1"), DUMP._replace(entity=f"{UNIT}#2")):
        story.succeed(key, DUMPED)
    event = example(cls, str(cls.model_fields["kind"].default))
    refused(story.state, event.model_copy(update={"entity": f"{UNIT}#2"}))


def test_a_verification_that_was_not_started() -> None:
    """I11."""
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    story.tell(began())
    task = story.state.tasks[VERIFY]
    del story.state.queues[VERIFY.kind, task.status, 0][VERIFY]
    task.status = Status.PENDING
    story.state.queues[VERIFY.kind, task.status, 0][VERIFY] = None
    refused(story.state, example(VerifyCompleted, "verify_completed"))


def test_a_discarded_restore_takes_its_progress_back() -> None:
    """I16, I25: whatever decision stands in the journal is what the fold follows."""
    for decision, documents in (("discard", 0), ("continue", 5)):
        story = Story().planned()
        story.succeed(DUMP, DUMPED)
        story.tell(Progressed(RESTORE, 1, 1, Restored(25, 5, 50, 2, 1)))
        evolve(story.state, InDoubt.of(RESTORE, attempt=1))
        evolve(story.state, Resolved.of(RESTORE, decision=decision, position=0))
        unit = story.state.units[UNIT]
        assert unit.restored_documents == story.state.done_documents == documents
        assert (story.state.chunks[CHUNK].done == NOTHING) is (decision == "discard")


def test_a_letter_counts_the_failure_it_is_about_once() -> None:
    """I18: damage and doubt are counted where they happen."""
    story = Story().planned()
    for _ in range(3):
        story.succeed(DUMP, DUMPED)
        story.tell(FileDamaged(RESTORE, story.attempt(RESTORE), 1, "cut"))
    assert (story.status(DUMP), story.state.tasks[DUMP].failures) == (Status.FAILED, 3)


def test_a_restore_ends_at_the_end_of_its_file() -> None:
    story = Story().planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, Restored(1, 10, 100, 0, 0))
    assert story.state.chunks[CHUNK].done.position == DUMPED.file_bytes


def test_a_restore_without_a_file_ends_at_nothing() -> None:
    """No legal history holds it; the fold of one that does stays whole."""
    story = Story().planned(chunks=2)
    story.succeed(DUMP, DUMPED)
    story.state.chunks[CHUNK].file = None
    story.succeed(RESTORE, Restored(1, 10, 100, 0, 0))
    assert story.state.chunks[CHUNK].done.position == 0


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


def test_a_chunk_nobody_planned() -> None:
    """I11: a completion of a chunk that is not there is refused."""
    story = Story().planned()
    story.state.chunks.clear()
    with pytest.raises(UnknownEntity, match=CHUNK):
        story.succeed(DUMP, DUMPED)


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
