"""The last touch of a unit: when all else of it is done; once more when that changes."""

from dataclasses import replace

import pytest

from statemachine.decide.asked import refusal
from statemachine.effects import wanted_effects
from statemachine.events import MetadataDifference
from statemachine.evolve import fold
from statemachine.policy import MAX_INTERRUPTIONS
from statemachine.state import digest
from statemachine.stimuli import (
    Built,
    Copied,
    Created,
    DropAsked,
    ExcludeAsked,
    Finished,
    PauseAsked,
    Planned,
    PriorityAsked,
    Rejection,
    Released,
    RequeueAsked,
    Restored,
    Succeeded,
    Surveyed,
)
from statemachine.words import Cause, ChunkId, Key, Status, TaskKey, TaskKind, UnitId, UnitStatus
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    CREATE,
    DUMP,
    DUMPED,
    EQUAL,
    FINISH,
    PLAN,
    RESTORE,
    RESTORED,
    SURVEY,
    UNIT,
    VERIFY,
    Story,
    began,
    found,
    parts,
)

VIEW = UnitId("shop.v")
FINISH_VIEW = TaskKey(TaskKind.FINISH, VIEW)
INDEX = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
COPY = TaskKey(TaskKind.COPY, CHUNK)
NEXT = ChunkId(f"{UNIT}#1")
AGAIN = TaskKey(TaskKind.RESTORE, NEXT)
COPIED = Copied(10, Key("z"), 10, 100, 0, 0)
BAD = Rejection(Key("1"), "EMONGO121", "no")
REJECTED = Restored(50, 9, 90, 0, 1, (BAD,))
DIFFERENCE = MetadataDifference(what="index i0", source="{}", target="")
DIFFERS = Finished((DIFFERENCE,))


def restored(*, indexes: int = 0, done: Restored = RESTORED, **settings: object) -> Story:
    """A restore of one part, to the point where its documents are there."""
    story = Story(
        SETTINGS.model_copy(update=settings),
        kind="restore",
        source="file:/d",
        verify=False,
        metadata=True,
    )
    story.succeed(SURVEY, Surveyed((found(indexes=indexes),)))
    story.succeed(PLAN, parts())
    story.succeed(CREATE, Created(()))
    story.succeed(RESTORE, done)
    return story


def without_index() -> Story:
    """A job that ended without its index, and says that it is missing."""
    story = restored(indexes=1)
    story.fail(INDEX, Cause.PERMANENT)
    assert story.succeed(FINISH, DIFFERS)[-1] == "job_completed"
    return story


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("expires", [True, False])
@pytest.mark.parametrize("kind", ["migrate", "restore", "verify", "dump", "plan"])
def test_who_gets_a_last_touch(kind: str, expires: bool, metadata: bool) -> None:
    """A16, I46: who writes switches expiry on; who was asked to compares; a dump and a dry run do
    neither."""
    source = "file:/d" if kind == "restore" else "mongodb://a/"
    story = Story(kind=kind, metadata=metadata, source=source)
    story.succeed(SURVEY, Surveyed((found(expires=expires), found(VIEW, view=True))))
    if kind in ("migrate", "restore"):
        story.succeed(CREATE, Created(()))
    story.succeed(PLAN, parts(0) if kind == "restore" else Planned((), 10, natural=False))
    if kind in ("migrate", "restore"):
        story.succeed(TaskKey(TaskKind.CREATE, VIEW), Created(()))
        story.succeed(CREATE, Created(()))
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    compares = metadata and kind in ("migrate", "restore", "verify")
    switches = expires and kind in ("migrate", "restore")
    assert (FINISH in story.state.tasks) == (compares or switches)
    assert (FINISH_VIEW in story.state.tasks) == compares, "a view holds nothing that could expire"


def test_it_comes_when_all_else_is_done() -> None:
    """I29: data, verification and indexes; then the unit is complete, and then the job."""
    story = Story(metadata=True).planned(indexes=1)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        assert not [kind for kind in story.succeed(key, result) if "finish" in kind]
    assert story.succeed(INDEX, Built()) == ["index_completed", "finish_started"]
    [effect] = [each for each in wanted_effects(story.state) if each.task == FINISH]
    assert effect.unit
    assert (effect.unit.id, effect.unit.status) == (UNIT, UnitStatus.PROCESSING)
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    assert story.succeed(FINISH, DIFFERS) == ["finish_completed", "unit_completed", "job_completed"]
    assert story.events[-3].differing == (DIFFERENCE,)  # type: ignore[union-attr]
    assert story.state.units[UNIT].differing == 1
    assert story.events[-1].mismatched == 1  # type: ignore[union-attr]
    assert digest(fold(story.events)) == digest(story.state)


def test_it_comes_after_an_index_that_was_given_up() -> None:
    """A8: what is missing is what the comparison will say."""
    story = restored(indexes=1)
    assert story.fail(INDEX, Cause.PERMANENT) == ["index_dead_lettered", "finish_started"]
    [effect] = [each for each in wanted_effects(story.state) if each.task == FINISH]
    assert effect.given_up == ("i0",)


def test_an_index_that_stands_is_not_given_up() -> None:
    """A8: of two, the one."""
    story = restored(indexes=2)
    story.succeed(INDEX, Built())
    story.fail(TaskKey(TaskKind.INDEX, f"{UNIT}@i1"), Cause.PERMANENT)
    [effect] = [each for each in wanted_effects(story.state) if each.task == FINISH]
    assert effect.given_up == ("i1",)


def test_it_comes_without_a_chunk_that_was_dropped() -> None:
    """A34, I30."""
    story = Story(metadata=True, verify=False).planned()
    story.fail(DUMP, Cause.PERMANENT)
    story.tell(DropAsked("me", CHUNK, TaskKind.DUMP, 1))
    assert story.tell(began())[-1] == "finish_started"


def test_in_direct_mode_too() -> None:
    """A1."""
    story = Story(mode="direct", metadata=True, verify=False).planned()
    assert story.succeed(COPY, COPIED) == ["copy_completed", "finish_started"]


def test_it_waits_for_its_own_unit_only() -> None:
    """I29."""
    story = Story(kind="verify", metadata=True)
    kinds = story.succeed(SURVEY, Surveyed((found(VIEW, view=True), found())))
    assert kinds[-2:] == ["plan_started", "finish_started"]
    assert story.succeed(FINISH_VIEW, Finished()) == ["finish_completed", "unit_completed"]


def test_it_goes_by_the_priority_of_its_unit() -> None:
    """A32."""
    story = Story(metadata=True, verify=False).planned(chunks=2)
    story.tell(PriorityAsked("me", UNIT, 5, 1))
    for chunk in (CHUNK, NEXT):
        story.succeed(TaskKey(TaskKind.DUMP, chunk), DUMPED)
        story.succeed(TaskKey(TaskKind.RESTORE, chunk), RESTORED)
    assert story.state.tasks[FINISH].priority == 5


# --- it fails ---


@pytest.mark.parametrize("policy", ["pause", "skip-unit", "fail-job"])
def test_it_never_fails_the_data(policy: str) -> None:
    """A8, I30: the unit is complete, and the job says that something was given up."""
    story = restored(on_exhausted=policy)
    assert story.fail(FINISH, Cause.PERMANENT) == [
        "finish_dead_lettered",
        "unit_completed",
        "job_completed",
    ]
    assert story.events[-1].dead_letters == 1  # type: ignore[union-attr]
    assert story.tell(RequeueAsked("me", UNIT, 1, TaskKind.FINISH)) == [
        "finish_requeued",
        "job_reopened",
    ]
    assert story.tell(began())[-1] == "finish_started"
    assert story.succeed(FINISH, DIFFERS) == ["finish_completed", "job_completed"]
    last = story.events[-1]
    assert (last.dead_letters, last.mismatched) == (0, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize("policy", ["pause", "skip-unit", "fail-job"])
def test_an_outage_pauses_where_the_policy_is_to_pause(policy: str) -> None:
    """A8: time heals it, so the job must not end without."""
    story = restored(on_exhausted=policy, max_retries=1)
    kinds = story.fail(FINISH, Cause.TRANSIENT)
    if policy != "pause":
        assert kinds == ["finish_dead_lettered", "unit_completed", "job_completed"]
        return
    assert kinds == ["finish_dead_lettered", "pause_requested", "job_paused"]
    assert story.tell(began()) == [
        "run_started",
        "job_resumed",
        "finish_requeued",
        "finish_started",
    ]
    assert story.succeed(FINISH, Finished())[-1] == "job_completed"


def test_it_is_tried_again_like_anything() -> None:
    """A7, A20, I16, I18."""
    story = restored()
    assert story.fail(FINISH, Cause.TRANSIENT) == ["finish_retry_scheduled"]
    story.now += 10_000
    assert story.tell() == ["finish_started"]
    assert story.fail(FINISH, Cause.FATAL)[0] == "finish_cancelled"
    assert story.tell(began())[-1] == "finish_started"
    assert story.tell(began())[1:] == ["finish_in_doubt", "finish_resolved", "finish_started"]
    for _ in range(MAX_INTERRUPTIONS - 2):
        story.tell(began())
    kinds = story.tell(began())
    assert kinds[-3:] == ["finish_dead_lettered", "unit_completed", "job_completed"]


@pytest.mark.parametrize("immediate", [True, False])
def test_a_pause_while_it_is_at_work(immediate: bool) -> None:
    """A18, I28."""
    story = restored()
    kinds = story.tell(PauseAsked("me", "", 1, immediate))
    if immediate:
        assert kinds == ["pause_requested", "finish_in_doubt", "job_paused"]
        assert story.tell(began())[-1] == "finish_started"
        assert story.succeed(FINISH, Finished())[-1] == "job_completed"
    else:
        assert story.succeed(FINISH, Finished()) == ["finish_completed", "job_paused"]
        assert story.tell(began())[-2:] == ["unit_completed", "job_completed"]


def test_a_unit_that_is_left_needs_none() -> None:
    """Decision 1, I29."""
    story = restored()
    assert story.tell(ExcludeAsked("me", UNIT)) == ["unit_excluded", "job_completed"]
    assert FINISH not in story.state.tasks


# --- it is done once more ---


def test_rejected_documents_that_come_after_all_are_looked_at() -> None:
    """A34, I18, I20, I29: attempts count on, so that late news of the first is known as such."""
    story = restored(done=REJECTED)
    story.tell(PriorityAsked("me", UNIT, 5, 1))
    story.succeed(FINISH, DIFFERS)
    story.tell(RequeueAsked("me", CHUNK, 2))
    assert story.state.tasks[FINISH].priority == 5
    assert story.tell(began())[-1] == "restore_started", "not before the documents are there"
    assert story.succeed(AGAIN, RESTORED) == ["restore_completed", "finish_started"]
    assert story.state.tasks[FINISH].attempt == 2
    assert story.tell(Succeeded(FINISH, 1, 2, DIFFERS)) == ["result_ignored"]
    assert story.succeed(FINISH, Finished())[-1] == "job_completed"
    assert story.events[-1].mismatched == 0  # type: ignore[union-attr]
    assert digest(fold(story.events)) == digest(story.state)


def test_nothing_changes_while_it_looks() -> None:
    """I29: what was asked for would not be seen."""
    story = restored(done=REJECTED, indexes=1)
    story.fail(INDEX, Cause.PERMANENT)
    why = f"the finish of {UNIT} is processing; ask again"
    assert refusal(story.state, RequeueAsked("me", CHUNK)) == why
    assert refusal(story.state, RequeueAsked("me", INDEX.entity, 0, TaskKind.INDEX)) == why


@pytest.mark.parametrize("what", ["chunk", "index"])
def test_one_that_waits_waits_longer(what: str) -> None:
    """I18, I29, I30: its time has come, its turn has not."""
    story = restored(done=REJECTED, indexes=1)
    story.fail(INDEX, Cause.PERMANENT)
    story.fail(FINISH, Cause.TRANSIENT)
    if what == "chunk":
        kinds = story.tell(RequeueAsked("me", CHUNK, 1))
    else:
        kinds = story.tell(RequeueAsked("me", INDEX.entity, 1, TaskKind.INDEX))
    assert kinds[-1] == ("restore_started" if what == "chunk" else "index_started")
    story.now += 10_000
    assert story.tell() == []
    key, result = (AGAIN, RESTORED) if what == "chunk" else (INDEX, Built())
    assert story.succeed(key, result)[-1] == "finish_started"


def test_one_that_waits_for_a_dead_chunk_is_nothing_to_do() -> None:
    """I30: in direct mode the chunk's letter alone pauses nothing."""
    story = Story(mode="direct", metadata=True, verify=False).planned()
    story.succeed(COPY, replace(COPIED, documents=9, rejected=1, rejections=(BAD,)))
    story.fail(FINISH, Cause.TRANSIENT)
    story.tell(RequeueAsked("me", CHUNK, 1))
    assert story.fail(TaskKey(TaskKind.COPY, NEXT), Cause.PERMANENT) == [
        "copy_dead_lettered",
        "pause_requested",
        "job_paused",
    ]


def test_an_index_that_stands_after_all_is_looked_at() -> None:
    """A34, I25, I29: the unit has ended; what was missing must not be missing for ever."""
    story = without_index()
    assert story.events[-1].mismatched == 1  # type: ignore[union-attr]
    story.tell(RequeueAsked("me", INDEX.entity, 1, TaskKind.INDEX))
    assert story.status(FINISH) is Status.PENDING
    assert story.tell(began())[-1] == "index_started"
    assert story.succeed(INDEX, Built()) == ["index_completed", "finish_started"]
    assert story.state.tasks[FINISH].attempt == 2
    assert story.succeed(FINISH, Finished()) == ["finish_completed", "job_completed"]
    last = story.events[-1]
    assert (last.mismatched, last.dead_letters) == (0, 0)  # type: ignore[union-attr]


def test_a_resume_tries_both_in_their_order() -> None:
    """A19, I29: the index first, though both were given up."""
    story = restored(indexes=1, max_retries=1)
    story.fail(INDEX, Cause.PERMANENT)
    story.fail(FINISH, Cause.TRANSIENT)
    assert story.tell(began()) == [
        "run_started",
        "job_resumed",
        "index_requeued",
        "finish_requeued",
        "index_started",
    ]
    assert story.succeed(INDEX, Built()) == ["index_completed", "finish_started"]
