"""Documents that the user's own code does not let through, and the size of write commands."""

from dataclasses import replace

from statemachine.decide import decide
from statemachine.events import BatchResized, DocumentRejected
from statemachine.policy import MAX_REPORTED
from statemachine.state import State, transforms
from statemachine.stimuli import (
    FileDamaged,
    PauseAsked,
    Rejection,
    Released,
    RequeueAsked,
    Resized,
    Restored,
    Succeeded,
)
from statemachine.words import ChunkId, Key, Millis, Status, TaskKey, TaskKind, UnitId
from tests.statemachine.examples import SPEC
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
)

REJECTION = Rejection(Key("1"), "ETRANSFORM001", "no name")
SIZE = Resized(UnitId(UNIT), 500, 1_000_000, "slower", 2300)


def withheld(count: int = 3, told: int = 2) -> Story:
    story = Story().planned()
    story.succeed(DUMP, replace(DUMPED, rejected=count, rejections=(REJECTION,) * told))
    return story


def test_what_is_held_back_is_rejected_from_the_beginning() -> None:
    """A15: named, counted, and part of what the restore tells."""
    story = withheld()
    assert sum(isinstance(each, DocumentRejected) for each in story.events) == 2
    assert story.state.units[UnitId(UNIT)].rejected == 3
    chunk = story.state.chunks[ChunkId(CHUNK)]
    assert chunk.done.rejected == 3
    assert chunk.file is not None
    assert (chunk.file.documents, chunk.file.rejected) == (DUMPED.documents, 3)
    story.succeed(RESTORE, Restored(DUMPED.file_bytes, DUMPED.documents, DUMPED.bytes, 0, 3))
    assert story.state.units[UnitId(UNIT)].rejected == 3
    assert story.state.units[UnitId(UNIT)].restored_documents == DUMPED.documents


def test_no_more_of_them_are_named_than_of_others() -> None:
    """A15: the journal of a chunk stays small."""
    story = withheld(MAX_REPORTED + 5, MAX_REPORTED + 5)
    named = sum(isinstance(each, DocumentRejected) for each in story.events)
    assert named == MAX_REPORTED


def test_they_are_forgotten_with_their_file() -> None:
    """I24: a damaged file is dumped again, and holds back again what it held back."""
    story = withheld()
    attempt = story.attempt(RESTORE)
    story.tell(FileDamaged(RESTORE, attempt, story.state.epoch, "cut"))
    assert story.state.units[UnitId(UNIT)].rejected == 0


def test_verification_of_a_damaged_file_carries_its_chunk_again() -> None:
    """I24: what is compared with the target is the file; without it, all of it is done again."""
    story = Story(transform="users:clean").planned()
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    before = story.state.units[UnitId(UNIT)].restored_documents
    story.tell(FileDamaged(VERIFY, story.attempt(VERIFY), story.state.epoch, "gone"))
    unit = story.state.units[UnitId(UNIT)]
    assert (unit.restored, unit.restored_documents) == (0, 0)
    story.succeed(DUMP, DUMPED)
    assert story.state.tasks[VERIFY].status is Status.PENDING
    assert story.state.tasks[RESTORE].attempt == 2
    story.succeed(RESTORE, RESTORED)
    assert (unit.restored, unit.restored_documents) == (1, before)
    story.succeed(VERIFY, EQUAL)
    assert CHUNK not in story.state.chunks


def test_a_chunk_knows_that_its_range_was_carried_before() -> None:
    """I24: then it may meet its own documents, as they were transformed before."""
    story = withheld()
    chunk = story.state.chunks[ChunkId(CHUNK)]
    assert transforms(Story(model="users:User").state.spec or SPEC)
    assert not chunk.again
    story.tell(FileDamaged(RESTORE, story.attempt(RESTORE), story.state.epoch, "cut"))
    assert chunk.again
    story = withheld()
    story.succeed(RESTORE, Restored(DUMPED.file_bytes, DUMPED.documents, DUMPED.bytes, 0, 3))
    story.succeed(VERIFY, EQUAL)
    release = TaskKey(TaskKind.RELEASE, CHUNK)
    story.tell(Succeeded(release, 0, story.state.epoch, Released()))
    assert story.tell(RequeueAsked("me", CHUNK, request=1))[:2] == [
        "chunk_replaced",
        "chunk_planned",
    ]
    assert story.state.chunks[ChunkId(f"{UNIT}#1")].again


def test_a_size_is_journaled_once() -> None:
    """I43: a unit's write commands have the size that the journal last said."""
    story = Story().planned()
    assert story.tell(SIZE) == ["batch_resized"]
    assert story.tell(SIZE) == []
    unit = story.state.units[UnitId(UNIT)]
    assert (unit.batch_documents, unit.batch_bytes) == (500, 1_000_000)
    assert story.tell(replace(SIZE, documents=900, cause="faster")) == ["batch_resized"]
    last = story.events[-1]
    assert isinstance(last, BatchResized)
    assert (last.was_documents, last.was_bytes, last.documents) == (500, 1_000_000, 900)


def test_a_size_of_nothing_known_is_no_news() -> None:
    """I43: nor of a job that rests."""
    assert decide(State(), SIZE, Millis(0)) == []
    story = Story().planned()
    assert story.tell(replace(SIZE, unit=UnitId("no.such"))) == []
    story.tell(PauseAsked("me", "", 1, immediate=True))
    assert story.tell(SIZE) == []
