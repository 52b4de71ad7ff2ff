"""The state as data: what a fresh one holds, what its digest covers, what its sums count."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from statemachine.effects import wanted_effects
from statemachine.evolve import fold
from statemachine.snapshot import freeze, thaw
from statemachine.state import NOTHING, Chunk, ChunkFile, Done, State, Task, Unit, digest, plain
from statemachine.stimuli import (
    Created,
    Dumped,
    Failed,
    FileDamaged,
    FoundUnit,
    Planned,
    Progressed,
    Rejection,
    Released,
    Restored,
    Succeeded,
    Surveyed,
    Verified,
)
from statemachine.words import (
    BsonText,
    Cause,
    ChunkId,
    JobStatus,
    Key,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
)
from tests.statemachine.examples import SETTINGS, SPEC
from tests.statemachine.story import CHUNK, DUMP, RESTORE, UNIT, VERIFY, Story, began

OTHER = ChunkId(f"{UNIT}#1")
OTHER_DUMP, OTHER_RESTORE, OTHER_VERIFY = (
    TaskKey(kind, OTHER) for kind in (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.VERIFY)
)
FILE = ChunkFile("f", 10, 100, 50, "ab")


def fresh_unit() -> Unit:
    return Unit(UNIT, UNIT, "collection", "00", BsonText("{}"), (), 7, 70)


def fresh_chunk() -> Chunk:
    return Chunk(CHUNK, UNIT, None, None, 10, natural=False)


def filled() -> State:
    """A state with one of everything."""
    state = Story().planned(indexes=1).state
    state.chunks[CHUNK].file = FILE
    state.units[UNIT].built = ("i9",)
    state.filed[OTHER] = Chunk(OTHER, UNIT, None, None, 10, natural=False, file=FILE)
    state.releasing[OTHER] = "g"
    return state


def test_before_anything_happened() -> None:
    assert plain(State()) == {
        "spec": None,
        "status": "pending",
        "epoch": 0,
        "settings": None,
        "closed": False,
        "why": "",
        "code": "",
        "request": 0,
        "immediate": False,
        "rollback": False,
        "added": [],
        "dropped": 0,
        "suspects": 0,
        "adding": 0,
        "damaged": 0,
        "cluster_time": "",
        "users": 0,
        "roles": 0,
        "retries": 0,
        "kept": 0,
        "files": 0,
        "done_documents": 0,
        "done_bytes": 0,
        "units": {},
        "chunks": {},
        "tasks": {},
        "queues": {},
        "priorities": [0],
        "open_units": [],
        "ripe": [],
        "quarantine": [],
        "flawed": {},
        "filed": {},
        "breakers": {"dump": CLOSED, "restore": CLOSED, "apply": CLOSED},
        "alerts": [],
        "releasing": {},
        "since": "",
        "token": "",
        "reached": "",
        "changes": 0,
        "outdated": False,
        "moments": 0,
        "highest": 0,
        "forgotten": 0,
        "lag_ms": 0,
        "cutover": False,
        "drained": False,
        "differing": 0,
        "phase": None,
        "links": [],
        "increment": 0,
        "applied": 0,
        "deadline_ms": 0,
        "proposed": False,
        "shards": {},
        "shards_planned": 0,
        "upserted": 0,
        "erased": 0,
        "operations": [],
        "undos": [],
        "undone": 0,
        "skipped": 0,
        "undo_kept": 0,
        "rolled_to": "",
        "forced": False,
        "persevering": False,
        "committed": False,
    }
    assert (Task().status, Task().attempt, Task().failures) == (Status.PENDING, 0, 0)
    assert (Task().interruptions, Task().epoch, Task().not_before_ms) == (0, 0, 0)
    assert (Task().waits, Task().waited_ms, Task().delay_ms, Task().priority) == (0, 0, 0, 0)
    assert Done() == NOTHING == (0, 0, 0, 0, 0, None)
    assert (fresh_chunk().file, fresh_chunk().done) == (None, NOTHING)
    assert (fresh_chunk().priority, fresh_chunk().verified) == (0, (0, 0, 0))
    assert not fresh_chunk().bisected
    assert not fresh_chunk().dropped


CLOSED = {"failures": 0, "opened": 0, "until_ms": 0, "waited_ms": 0, "probe": None}


def test_a_fresh_unit_has_done_nothing() -> None:
    counters = [each.name for each in fields(Unit)][8:]
    texts = {
        "target_uuid": "",
        "columns": "",
        "found": "",
        "built": (),
        "status": UnitStatus.PENDING,
    }
    expected = {**dict.fromkeys(counters, 0), **texts}
    assert {name: getattr(fresh_unit(), name) for name in counters} == expected


def other(value: Any) -> Any:
    """Something else of the same shape."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return f"{value}!"
        case Done():
            return Done(position=1)
        case ChunkFile():
            return None
        case None:
            return FILE
        case tuple():
            return ()
        case _:
            raise AssertionError(value)


PARTS: dict[str, Callable[[State], Any]] = {
    "task": lambda state: state.tasks[DUMP],
    "chunk": lambda state: state.chunks[CHUNK],
    "unit": lambda state: state.units[UNIT],
}


@pytest.mark.parametrize("part", PARTS)
def test_the_digest_covers_every_field_of_its_parts(part: str) -> None:
    """I7: two states that differ anywhere have different digests."""
    whole = digest(filled())
    for each in fields(PARTS[part](filled())):
        state = filled()
        found = PARTS[part](state)
        setattr(found, each.name, other(getattr(found, each.name)))
        assert digest(state) != whole, each.name


def test_the_digest_covers_every_field() -> None:
    """I7."""
    state = filled()
    assert set(plain(state)) == {each.name for each in fields(State)}
    assert plain(state)["spec"] == SPEC.model_dump(mode="json")
    assert plain(state)["settings"] == SETTINGS.model_dump(mode="json")
    assert plain(state)["units"][UNIT]["indexes"] == [{"name": "i0", "unique": False, "spec": "{}"}]
    assert plain(state)["chunks"][CHUNK]["file"]["sha256"] == "ab"
    assert plain(state)["chunks"][CHUNK]["done"]["position"] == 0
    assert plain(state)["queues"] == {"dump processing 0": [CHUNK]}, "an empty queue is no queue"
    assert plain(state)["open_units"] == [UNIT]
    assert plain(state)["releasing"] == {OTHER: "g"}


def test_each_number_stands_under_its_name() -> None:
    numbers = {"epoch": 1, "retries": 2, "kept": 3, "files": 4}
    sums = {"done_documents": 5, "done_bytes": 6, "why": "w", "code": "c", "closed": True}
    state = State(**numbers, **sums)  # type: ignore[arg-type]
    assert plain(State()) | numbers | sums == plain(state)


def test_the_digest_is_pinned() -> None:
    """I7: what another process, or another year, computes; of any text, half characters too."""
    assert digest(State(why="caf\u00e9 \ud800")) == PINNED


PINNED = "66259b20b615857802f811cfd1ecc4a020ff31c67be032eb2bb0410d8e377743"


def test_a_snapshot_keeps_one_of_everything() -> None:
    """I9."""
    assert thaw(json.loads(json.dumps(freeze(filled())))) == filled()


def sums(story: Story) -> dict[str, int]:
    unit = story.state.units[UNIT]
    names = [each.name for each in fields(Unit)]
    counted = {name: getattr(unit, name) for name in names[names.index("status") + 1 :]}
    return {name: n for name, n in counted.items() if n}


def test_every_sum() -> None:
    """I25: planned, dumped, restored, present, rejected, verified, settled, weight: counted where
    it happens, taken back where a file is lost."""
    story = Story().planned(chunks=2)
    base = {"named": 2, "planned": 2, "weight": 2 * 50 * 3}
    assert sums(story) == base
    story.succeed(DUMP, Dumped("f", 10, 100, 50, 1, "ab"))
    dumped = {"dumped_documents": 10, "dumped_bytes": 100, "weight_done": 50}
    assert sums(story) == base | dumped
    assert story.state.files == 1
    bad = Rejection(Key("1"), "E", "")
    story.tell(Progressed(RESTORE, 1, 1, Restored(25, 4, 40, 2, 1, (bad,))))
    restored = {"restored_documents": 4, "restored_bytes": 40, "present": 2, "rejected": 1}
    assert sums(story) == base | dumped | restored
    assert (story.state.done_documents, story.state.done_bytes) == (4, 40)
    assert story.state.chunks[CHUNK].done == Done(25, 4, 40, 2, 1)
    story.tell(FileDamaged(RESTORE, 1, 1, "cut"))
    assert sums(story) == base
    assert (story.state.done_documents, story.state.done_bytes, story.state.files) == (0, 0, 0)
    assert story.state.tasks[DUMP].why == "cut"
    assert story.state.tasks[DUMP].failures == 1


def test_every_sum_to_the_end() -> None:
    """I25: as above, through verification and release."""
    story = Story().planned(chunks=2)
    story.succeed(DUMP, Dumped("f", 10, 100, 50, 1, "ab"))
    story.succeed(OTHER_DUMP, Dumped("g", 20, 200, 60, 1, "cd"))
    story.succeed(RESTORE, Restored(50, 9, 90, 3, 1))
    assert story.state.chunks[CHUNK].done == Done(50, 9, 90, 3, 1)
    story.succeed(OTHER_RESTORE, Restored(60, 20, 200, 4, 0))
    assert (story.state.done_documents, story.state.done_bytes) == (29, 290)
    story.succeed(VERIFY, Verified(False, 10, 9, "a", "b", 1, ()))
    assert (story.state.files, story.state.releasing) == (2, {CHUNK: "f"})
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    story.succeed(OTHER_VERIFY, Verified(True, 20, 20, "a", "a", 0, ()))
    assert (story.state.files, story.state.releasing) == (1, {OTHER: "g"})
    assert (story.state.done_documents, story.state.done_bytes) == (29, 290)
    assert sums(story) == {
        "named": 2,
        "planned": 2,
        "restored": 2,
        "settled": 2,
        "weight": 300,
        "weight_done": 300,
        "dumped_documents": 30,
        "dumped_bytes": 300,
        "restored_documents": 29,
        "restored_bytes": 290,
        "present": 7,
        "rejected": 1,
        "mismatched": 1,
        "source_documents": 30,
        "target_documents": 29,
    }
    assert {key.kind for key in story.state.tasks} == {"survey", "create", "plan"}
    assert story.state.units[UNIT].status is UnitStatus.COMPLETED
    story.succeed(TaskKey(TaskKind.RELEASE, OTHER), Released())
    assert (story.state.kept, story.state.files, list(story.state.flawed)) == (0, 0, [CHUNK])
    assert story.state.status is JobStatus.COMPLETED
    last = story.events[-1]
    assert (last.rejected, last.mismatched, last.dead_letters) == (1, 1, 0)  # type: ignore[union-attr]


def test_a_file_that_stays_is_counted_as_kept() -> None:
    story = Story(verify=False).planned(chunks=2)
    story.succeed(DUMP, Dumped("f", 10, 100, 50, 1, "ab"))
    story.succeed(RESTORE, Restored(50, 10, 100, 0, 0))
    story.tell(Failed(TaskKey(TaskKind.RELEASE, CHUNK), 0, 1, Cause.FATAL, "E", "denied"))
    assert (story.state.kept, story.state.files) == (1, 0)
    assert [e.why for e in story.events if e.kind == "chunk_kept"] == ["E: denied"]  # type: ignore[union-attr]


def test_an_empty_chunk_weighs_something() -> None:
    """I25: 100 percent is reached by empty collections too."""
    story = Story(verify=False)
    found = FoundUnit(UNIT, "t", "collection", "00", BsonText("{}"), (), 0, 0)
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed((found,)))
    story.succeed(TaskKey(TaskKind.CREATE, UNIT), Created((), uuid="11"))
    story.succeed(TaskKey(TaskKind.PLAN, UNIT), Planned((), 0, natural=True))
    unit = story.state.units[UNIT]
    assert (unit.weight, unit.weight_done, unit.target_uuid, unit.target) == (2, 0, "11", "t")
    assert story.state.chunks[CHUNK].natural
    story.succeed(DUMP, Dumped("f", 0, 0, 50, 0, "ab"))
    assert unit.weight_done == 1
    story.tell(FileDamaged(RESTORE, 1, 1, "cut"))
    assert unit.weight_done == 0
    story.succeed(DUMP, Dumped("f", 0, 0, 50, 0, "ab"))
    story.succeed(RESTORE, Restored(50, 0, 0, 0, 0))
    assert unit.weight_done == 2


def test_a_verify_job_counts_what_it_read() -> None:
    story = Story(kind="verify", of="j1")
    found = FoundUnit(UNIT, UNIT, "collection", "00", BsonText("{}"), (), 5, 50)
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed((found,)))
    story.succeed(TaskKey(TaskKind.PLAN, UNIT), Planned((), 5, natural=False))
    story.succeed(VERIFY, Verified(True, 5, 4, "", "", 1, ()))
    assert (story.state.done_documents, story.state.files, story.state.kept) == (5, 0, 0)
    assert story.state.units[UNIT].target_documents == 4


def test_a_task_remembers_its_last_failure() -> None:
    """A7, I18: code, reason and time of the retry; counted once; forgotten when requeued."""
    story = Story().planned()
    story.now = 1000
    story.fail(DUMP, Cause.TRANSIENT, jitter=0.0)
    task = story.state.tasks[DUMP]
    assert (task.code, task.why, task.not_before_ms, task.failures) == (
        "ESOURCE002",
        "bad",
        1500,
        1,
    )
    assert story.state.retries == 1
    story.now = 1500
    story.tell()
    story.fail(DUMP, Cause.PERMANENT)
    assert (task.code, task.failures, task.status) == ("ESOURCE002", 2, Status.FAILED)
    assert story.state.why == "dump of shop.orders#0 was given up: ESOURCE002: bad"
    story.tell(began())
    assert (task.code, task.why, task.failures, task.interruptions) == ("", "", 0, 0)
    assert (task.attempt, task.epoch, story.state.why) == (3, 2, "")


def test_a_unit_that_is_skipped_gives_its_files_back() -> None:
    """Decision 1: files of its chunks are released, its open work is forgotten, no other's."""
    skip = SETTINGS.model_copy(update={"on_exhausted": "skip-unit", "dump_workers": 4})
    story = Story(skip)
    two = UnitId("shop.two")
    found = [
        FoundUnit(unit, unit, "collection", "00", BsonText("{}"), (), 5, 50) for unit in (UNIT, two)
    ]
    story.succeed(TaskKey(TaskKind.SURVEY, "job"), Surveyed(tuple(found)))
    for unit in (UNIT, two):
        story.succeed(TaskKey(TaskKind.CREATE, unit), Created(()))
        story.succeed(TaskKey(TaskKind.PLAN, unit), Planned((Key("1"),), 5, natural=False))
    story.succeed(DUMP, Dumped("f", 10, 100, 50, 1, "ab"))
    story.succeed(TaskKey(TaskKind.DUMP, f"{two}#0"), Dumped("g", 10, 100, 50, 1, "ab"))
    story.fail(OTHER_DUMP, Cause.PERMANENT)
    state = story.state
    assert (state.releasing, state.files) == ({CHUNK: "f"}, 2)
    assert list(state.chunks) == [f"{two}#0", f"{two}#1"]
    assert [key for key in state.tasks if key.entity.startswith(UNIT)] == [OTHER_DUMP]
    assert list(state.open_units) == [two]
    assert TaskKey(TaskKind.RESTORE, f"{two}#0") in state.tasks
    late = Succeeded(RESTORE, 1, 1, replace(Restored(50, 10, 100, 0, 0)))
    assert story.tell(late) == ["result_ignored"]


def test_folding_goes_on_from_a_state() -> None:
    """I9."""
    events = Story().planned(chunks=3).events
    assert digest(fold(events[5:], fold(events[:5]))) == digest(fold(events))


def test_progress_keeps_the_place_in_the_queue() -> None:
    """A11: what started first stays first."""
    story = Story().planned(chunks=2)
    for key in (DUMP, OTHER_DUMP):
        story.succeed(key, Dumped("f", 10, 100, 50, 1, "ab"))
    story.tell(Progressed(RESTORE, 1, 1, Restored(25, 5, 50, 0, 0)))
    assert list(story.state.queue(TaskKind.RESTORE, Status.PROCESSING)) == [RESTORE, OTHER_RESTORE]


def test_what_is_wanted() -> None:
    """P7: what was started and has no outcome, with all that an executor needs; files to remove."""
    story = Story(verify=False).planned(chunks=5)
    story.succeed(DUMP, Dumped("f", 10, 100, 50, 1, "ab"))
    story.succeed(OTHER_DUMP, Dumped("g", 10, 100, 50, 1, "cd"))
    story.fail(OTHER_RESTORE, Cause.TRANSIENT)
    story.succeed(RESTORE, Restored(50, 10, 100, 0, 0))
    wanted = {effect.task: effect for effect in wanted_effects(story.state)}
    assert set(wanted) == {
        TaskKey(TaskKind.DUMP, f"{UNIT}#2"),
        TaskKey(TaskKind.DUMP, f"{UNIT}#3"),
        TaskKey(TaskKind.RELEASE, CHUNK),
    }
    dump = wanted[TaskKey(TaskKind.DUMP, f"{UNIT}#2")]
    assert dump.chunk and dump.unit
    assert (dump.chunk.id, dump.unit.id, dump.attempt, dump.epoch) == (f"{UNIT}#2", UNIT, 1, 1)
    release = wanted[TaskKey(TaskKind.RELEASE, CHUNK)]
    assert release.unit
    assert (release.file, release.attempt, release.epoch) == ("f", 0, 1)
    assert (release.unit.id, release.chunk) == (UNIT, None)


def test_who_is_cancelled_was_not_interrupted() -> None:
    """I18: a cancelled attempt costs nothing: no failure, no interruption."""
    story = Story().planned()
    story.fail(DUMP, Cause.FATAL)
    task = story.state.tasks[DUMP]
    assert (task.status, task.failures, task.interruptions) == (Status.PENDING, 0, 0)
    assert (task.waits, task.waited_ms, task.delay_ms) == (0, 0, 0)
