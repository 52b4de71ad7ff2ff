"""A dump: every chunk file stays, and a manifest names them when everything else is done."""

import pytest

from statemachine.decide.asked import refusal
from statemachine.effects import Effect, wanted_effects
from statemachine.evolve import fold
from statemachine.policy import MAX_INTERRUPTIONS, MAX_LOST
from statemachine.state import digest
from statemachine.stimuli import (
    AddAsked,
    DropAsked,
    ExcludeAsked,
    Manifested,
    PauseAsked,
    Planned,
    RequeueAsked,
    Split,
    SplitAsked,
    Succeeded,
    Surveyed,
    Unfiled,
)
from statemachine.words import Cause, ChunkId, JobStatus, Key, Status, TaskKey, TaskKind, UnitStatus
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    DUMP,
    DUMPED,
    MANIFEST,
    PLAN,
    SURVEY,
    UNIT,
    Story,
    began,
    found,
)
from tests.statemachine.test_state import sums

OTHER = "shop.others"
NEXT = ChunkId(f"{UNIT}#1")
WRITTEN = Manifested("ab", 10, 100)


def dump(*, direct: bool = False, **settings: object) -> Story:
    mode = "direct" if direct else "coordinated"
    return Story(SETTINGS.model_copy(update=settings), kind="dump", mode=mode, target="file:/d")


def key(chunk: str) -> TaskKey:
    return TaskKey(TaskKind.DUMP, chunk)


def manifest(story: Story) -> Effect:
    [effect] = [each for each in wanted_effects(story.state) if each.task == MANIFEST]
    return effect


def written(**settings: object) -> Story:
    """To the point where the manifest of one chunk is being written."""
    story = dump(**settings).planned()
    assert story.succeed(DUMP, DUMPED) == ["dump_completed", "unit_completed", "manifest_started"]
    return story


def two(**settings: object) -> Story:
    """To the point where the dumps of two units have started, one chunk each."""
    story = dump(**settings)
    story.succeed(SURVEY, Surveyed((found(), found(OTHER))))
    for unit in (UNIT, OTHER):
        story.succeed(TaskKey(TaskKind.PLAN, unit), Planned((), 10, natural=False))
    return story


def test_the_whole_way() -> None:
    """A13, I23, I25, I29: dumps, then the unit, then the manifest, then the end; no file goes."""
    story = dump().planned(chunks=2)
    assert MANIFEST in story.state.tasks
    assert story.succeed(DUMP, DUMPED) == ["dump_completed"]
    assert (story.state.files, list(story.state.filed), story.state.releasing) == (0, [CHUNK], {})
    assert DUMP not in story.state.tasks, "what is settled is a file and a few numbers"
    assert story.succeed(key(NEXT), DUMPED)[1:] == ["unit_completed", "manifest_started"]
    effect = manifest(story)
    assert effect.unit is None
    assert [unit.id for unit in effect.units] == [UNIT]
    assert [(chunk.id, chunk.file and chunk.file.name) for chunk in effect.filed] == [
        (CHUNK, "f"),
        (NEXT, "f"),
    ]
    assert story.succeed(MANIFEST, WRITTEN) == ["manifest_completed", "job_completed"]
    event = story.events[-2]
    assert (event.sha256, event.documents, event.bytes) == ("ab", 10, 100)  # type: ignore[union-attr]
    assert sums(story) == {
        "named": 2,
        "planned": 2,
        "settled": 2,
        "weight": 100,
        "weight_done": 100,
        "dumped_documents": 20,
        "dumped_bytes": 200,
    }
    assert not list(wanted_effects(story.state))
    assert not story.state.chunks
    assert digest(fold(story.events)) == digest(story.state)
    assert story.tell(began()) == ["run_started"], "I13"


def test_files_that_stay_take_no_room() -> None:
    """I30: the limit is on files that wait for a restore; a dump may hold more."""
    story = dump(files_ahead=1, dump_workers=1).planned(chunks=4)
    for n in range(4):
        assert story.status(key(f"{UNIT}#{n}")) is Status.PROCESSING
        story.succeed(key(f"{UNIT}#{n}"), DUMPED)
    assert story.status(MANIFEST) is Status.PROCESSING


def test_an_empty_dump_has_a_manifest_too() -> None:
    """I29: without units, or with views only."""
    story = dump()
    assert story.succeed(SURVEY, Surveyed(())) == ["survey_completed", "manifest_started"]
    assert (manifest(story).units, manifest(story).filed) == ((), ())
    assert story.succeed(MANIFEST, WRITTEN)[-1] == "job_completed"
    story = dump()
    assert story.succeed(SURVEY, Surveyed((found("shop.v", view=True),)))[-2:] == [
        "unit_completed",
        "manifest_started",
    ]
    assert [unit.id for unit in manifest(story).units] == ["shop.v"]


def test_the_manifest_waits_for_every_unit() -> None:
    """I29: one that is done says nothing of the others."""
    story = two()
    assert story.succeed(DUMP, DUMPED) == ["dump_completed", "unit_completed"]
    assert story.status(MANIFEST) is Status.PENDING
    assert story.succeed(key(f"{OTHER}#0"), DUMPED)[-1] == "manifest_started"


def test_there_is_one_manifest() -> None:
    """I15: a second survey brings no second one."""
    story = written()
    story.tell(PauseAsked("me", ""))
    story.fail(MANIFEST, Cause.FATAL)
    assert story.tell(AddAsked("me", (OTHER,), 1)) == ["namespaces_added", "survey_invalidated"]
    assert story.tell(began())[-1] == "survey_started"
    story.succeed(SURVEY, Surveyed((found(), found(OTHER))))
    assert story.state.tasks[MANIFEST].attempt == 1, "the same task, which waits"
    story.succeed(TaskKey(TaskKind.PLAN, OTHER), Planned((), 10, natural=False))
    assert story.succeed(key(f"{OTHER}#0"), DUMPED)[-1] == "manifest_started"
    assert [unit.id for unit in manifest(story).units] == [UNIT, OTHER]


# --- what is given up ---


@pytest.mark.parametrize("policy", ["pause", "skip-unit", "fail-job"])
def test_a_dump_is_not_done_without_its_manifest(policy: str) -> None:
    """A8, I19, I29: it is no unit's, so that none can be skipped; a resume tries again."""
    story = written(on_exhausted=policy)
    kinds = story.fail(MANIFEST, Cause.PERMANENT)
    if policy == "fail-job":
        assert kinds == ["manifest_dead_lettered", "job_failed"]
        return
    assert kinds == ["manifest_dead_lettered", "pause_requested", "job_paused"]
    assert story.tell(began()) == [
        "run_started",
        "job_resumed",
        "manifest_requeued",
        "manifest_started",
    ]
    assert story.succeed(MANIFEST, WRITTEN)[-1] == "job_completed"


@pytest.mark.parametrize("requeued", [True, False])
def test_a_pause_asked_for_says_nothing_of_a_letter(requeued: bool) -> None:
    """I19, I28: the letter comes while the job pauses; it is tried again all the same."""
    story = written()
    story.tell(PauseAsked("me", ""))
    assert story.fail(MANIFEST, Cause.PERMANENT) == ["manifest_dead_lettered", "job_paused"]
    if requeued:
        wish = RequeueAsked("me", "job", 2, TaskKind.MANIFEST)
        assert story.tell(wish) == ["manifest_requeued"]
    assert story.tell(began())[-1] == "manifest_started"


def test_a_manifest_is_tried_again_like_anything() -> None:
    """A7, A9, A20, I16: after a failure, a full disk, a death."""
    story = written()
    assert story.fail(MANIFEST, Cause.TRANSIENT) == ["manifest_retry_scheduled"]
    story.now += 10_000
    assert story.tell() == ["manifest_started"]
    assert story.fail(MANIFEST, Cause.FATAL)[0] == "manifest_cancelled"
    assert story.tell(began())[-1] == "manifest_started"
    assert story.tell(began()) == [
        "run_started",
        "manifest_in_doubt",
        "manifest_resolved",
        "manifest_started",
    ]
    assert story.state.tasks[MANIFEST].attempt == 4
    assert story.succeed(MANIFEST, WRITTEN)[-1] == "job_completed"


def test_a_manifest_that_keeps_killing_the_process_is_given_up() -> None:
    """I18, I30."""
    story = written()
    for _ in range(MAX_INTERRUPTIONS - 1):
        assert story.tell(began())[-1] == "manifest_started"
    assert story.tell(began())[-3:] == ["manifest_dead_lettered", "pause_requested", "job_paused"]


@pytest.mark.parametrize("immediate", [True, False])
def test_a_pause_while_the_manifest_is_written(immediate: bool) -> None:
    """A18, I28: it ends, or is in doubt; then the job goes on where it was."""
    story = written()
    kinds = story.tell(PauseAsked("me", "", 1, immediate))
    if immediate:
        assert kinds == ["pause_requested", "manifest_in_doubt", "job_paused"]
        assert story.tell(began())[-1] == "manifest_started"
        assert story.succeed(MANIFEST, WRITTEN)[-1] == "job_completed"
    else:
        assert story.succeed(MANIFEST, WRITTEN) == ["manifest_completed", "job_paused"]
        assert story.tell(began()) == ["run_started", "job_resumed", "job_completed"]


def test_units_that_are_left_stand_in_no_manifest() -> None:
    """Decision 1, I29: skipped or excluded, with chunks that were dumped already."""
    for leave in ("skip", "exclude"):
        story = dump(on_exhausted="skip-unit")
        story.succeed(SURVEY, Surveyed((found(), found(OTHER))))
        story.succeed(PLAN, Planned((Key("1"),), 10, natural=False))
        story.succeed(TaskKey(TaskKind.PLAN, OTHER), Planned((), 10, natural=False))
        story.succeed(DUMP, DUMPED)
        story.succeed(key(f"{OTHER}#0"), DUMPED)
        if leave == "skip":
            kinds = story.fail(key(NEXT), Cause.PERMANENT)
            assert kinds[-2:] == ["unit_skipped", "manifest_started"]
        else:
            assert story.tell(ExcludeAsked("me", UNIT)) == ["unit_excluded", "manifest_started"]
        effect = manifest(story)
        assert [unit.id for unit in effect.units] == [OTHER]
        assert [chunk.id for chunk in effect.filed] == [f"{OTHER}#0"]
        assert effect.left == ((UNIT,) if leave == "skip" else ())
        assert not story.state.releasing
        assert story.succeed(MANIFEST, WRITTEN)[-1] == "job_completed"


def test_nothing_is_left_but_the_manifest() -> None:
    """I29, I30: every unit was skipped; the end is told, with its dead letters."""
    story = dump(on_exhausted="skip-unit").planned()
    kinds = story.fail(DUMP, Cause.PERMANENT)
    assert kinds == ["dump_dead_lettered", "unit_skipped", "manifest_started"]
    story.succeed(MANIFEST, WRITTEN)
    assert story.events[-1].dead_letters == 1  # type: ignore[union-attr]


def test_a_dead_chunk_keeps_the_manifest_from_being_written() -> None:
    """I29, I30: in direct mode nothing pauses while something is left to do; a manifest that
    waits for the chunk is nothing to do."""
    story = two(direct=True)
    assert story.fail(DUMP, Cause.PERMANENT) == ["dump_dead_lettered"]
    assert story.succeed(key(f"{OTHER}#0"), DUMPED) == [
        "dump_completed",
        "unit_completed",
        "pause_requested",
        "job_paused",
    ]
    assert "dump_requeued" in story.tell(began())
    assert story.succeed(DUMP, DUMPED)[-1] == "manifest_started"


# --- what comes after the manifest ---


def without_a_chunk() -> Story:
    """A dump that ended without its first chunk of two."""
    story = dump().planned(chunks=2)
    story.succeed(key(NEXT), DUMPED)
    story.fail(DUMP, Cause.PERMANENT)
    assert story.tell(DropAsked("me", CHUNK, TaskKind.DUMP, 1)) == ["chunk_dropped"]
    assert story.tell(began())[-1] == "manifest_started"
    return story


def test_a_dropped_chunk_stands_in_no_manifest() -> None:
    """A34, I25."""
    story = without_a_chunk()
    assert [chunk.id for chunk in manifest(story).filed] == [NEXT]
    story.succeed(MANIFEST, WRITTEN)
    last = story.events[-1]
    assert (last.rejected, last.dead_letters) == (50, 1)  # type: ignore[union-attr]


def test_what_is_dumped_after_all_is_named_by_another_manifest() -> None:
    """A34, I15, I18, I20, I29: a job must not end with a manifest that does not know it. Attempts
    count on, so that late news of the first manifest is known for what it is."""
    story = without_a_chunk()
    story.succeed(MANIFEST, WRITTEN)
    kinds = story.tell(RequeueAsked("me", CHUNK, 2))
    assert kinds == ["chunk_replaced", "chunk_planned", "job_reopened"]
    assert story.status(MANIFEST) is Status.PENDING
    assert story.tell(began()) == ["run_started", "job_resumed", "dump_started"]
    again = f"{UNIT}#2"
    assert story.succeed(key(again), DUMPED)[-2:] == ["unit_completed", "manifest_started"]
    assert story.state.tasks[MANIFEST].attempt == 2
    assert [chunk.id for chunk in manifest(story).filed] == [NEXT, again]
    assert story.tell(Succeeded(MANIFEST, 1, 2, WRITTEN)) == ["result_ignored"]
    assert story.succeed(MANIFEST, WRITTEN) == ["manifest_completed", "job_completed"]
    assert story.events[-1].dead_letters == 0  # type: ignore[union-attr]
    assert digest(fold(story.events)) == digest(story.state)


def test_nothing_comes_to_a_dump_while_its_manifest_is_written() -> None:
    """I29: it would not be named."""
    story = without_a_chunk()
    why = "the manifest of job is processing; ask again"
    assert refusal(story.state, RequeueAsked("me", CHUNK, 2)) == why
    assert refusal(story.state, AddAsked("me", (OTHER,), 3)) == why
    story.fail(MANIFEST, Cause.TRANSIENT)
    assert story.tell(RequeueAsked("me", CHUNK, 2))[-1] == "dump_started"
    story.now += 10_000
    assert story.tell() == [], "its time has come, its turn has not"
    assert story.succeed(key(f"{UNIT}#2"), DUMPED)[-1] == "manifest_started"


def test_a_manifest_that_waits_for_a_dead_chunk_is_nothing_to_do() -> None:
    """I30: whether it was tried before or not."""
    story = dump(direct=True).planned(chunks=2)
    story.succeed(key(NEXT), DUMPED)
    story.fail(DUMP, Cause.PERMANENT)
    story.tell(DropAsked("me", CHUNK, TaskKind.DUMP, 1), began())
    story.fail(MANIFEST, Cause.TRANSIENT)
    story.tell(RequeueAsked("me", CHUNK, 2))
    kinds = story.fail(key(f"{UNIT}#2"), Cause.PERMANENT)
    assert kinds == ["dump_dead_lettered", "pause_requested", "job_paused"]


def test_what_is_lost_of_a_dump_is_dumped_again() -> None:
    """I14, I24, I25: found when the manifest is written, which then comes after it; no blame."""
    story = dump().planned(chunks=3)
    for chunk in (CHUNK, NEXT, f"{UNIT}#2"):
        story.succeed(key(chunk), DUMPED)
    before = sums(story)
    lost = Unfiled(((CHUNK, "it is gone"), (NEXT, "it was changed")))
    assert story.succeed(MANIFEST, lost) == [
        "manifest_cancelled",
        *["chunk_replaced", "chunk_planned"] * 2,
        *["dump_started"] * 2,
    ]
    cancelled = next(event for event in story.events if event.kind == "manifest_cancelled")
    assert (cancelled.code, cancelled.why) == ("EFILE001", "it is gone")  # type: ignore[union-attr]
    replaced = [event for event in story.events if event.kind == "chunk_replaced"]
    assert [event.why for event in replaced] == ["it is gone", "it was changed"]  # type: ignore[union-attr]
    edges = [(each.id, each.lower, each.upper) for each in story.state.chunks.values()]
    assert edges == [(f"{UNIT}#3", None, "0"), (f"{UNIT}#4", "0", "1")]
    assert (list(story.state.filed), story.state.tasks[MANIFEST].failures) == ([f"{UNIT}#2"], 0)
    for n in (3, 4):
        story.succeed(key(f"{UNIT}#{n}"), DUMPED)
    assert sums(story) == {**before, "named": 5}
    assert story.state.tasks[MANIFEST].attempt == 2
    assert [chunk.id for chunk in manifest(story).filed] == [f"{UNIT}#{n}" for n in (2, 3, 4)]
    assert story.succeed(MANIFEST, WRITTEN)[-1] == "job_completed"
    assert digest(fold(story.events)) == digest(story.state)


def test_what_is_lost_again_and_again_is_given_up() -> None:
    """I19: a disk that forgets is no reason to go on for ever."""
    story = written()
    for number in range(1, MAX_LOST):
        lost = f"{UNIT}#{number - 1}"
        story.succeed(MANIFEST, Unfiled(((ChunkId(lost), "it is gone"),)))
        story.succeed(key(f"{UNIT}#{number}"), DUMPED)
    last = ChunkId(f"{UNIT}#{MAX_LOST - 1}")
    assert story.succeed(MANIFEST, Unfiled(((last, "it is gone"),))) == [
        "manifest_dead_lettered",
        "chunk_replaced",
        "chunk_planned",
        "pause_requested",
        "job_paused",
    ]
    assert story.tell(began())[-1] == "dump_started"
    story.succeed(key(f"{UNIT}#{MAX_LOST}"), DUMPED)
    assert story.succeed(MANIFEST, WRITTEN)[-1] == "job_completed"


def test_what_is_lost_while_the_job_pauses_is_dumped_after_it() -> None:
    """I24, I28."""
    story = written()
    story.tell(PauseAsked("me", ""))
    kinds = story.succeed(MANIFEST, Unfiled(((CHUNK, "it is gone"),)))
    assert kinds == ["manifest_cancelled", "chunk_replaced", "chunk_planned", "job_paused"]
    assert story.tell(began())[-1] == "dump_started"


def test_namespaces_added_after_the_manifest_are_named_by_another() -> None:
    """I29: the job rests with its manifest written, and goes on for more."""
    story = written()
    story.tell(PauseAsked("me", ""))
    story.succeed(MANIFEST, WRITTEN)
    story.tell(AddAsked("me", (OTHER,), 1))
    assert story.tell(began())[-1] == "survey_started"
    assert story.succeed(SURVEY, Surveyed((found(), found(OTHER))))[-1] == "plan_started"
    story.succeed(TaskKey(TaskKind.PLAN, OTHER), Planned((), 10, natural=False))
    assert story.succeed(key(f"{OTHER}#0"), DUMPED)[-1] == "manifest_started"
    assert [unit.id for unit in manifest(story).units] == [UNIT, OTHER]
    assert story.succeed(MANIFEST, WRITTEN)[-1] == "job_completed"


def test_what_could_not_be_added_changes_nothing_of_what_was_found() -> None:
    """P10: users and roles that stay behind are still told; the time of the snapshot stands."""
    story = dump()
    story.succeed(SURVEY, Surveyed((found(),), cluster_time="7.1", users=2, roles=1))
    story.tell(AddAsked("me", ("shop.none",), 1))
    story.fail(SURVEY, Cause.PERMANENT)
    state = story.state
    assert (state.closed, state.cluster_time, state.users, state.roles) == (True, "7.1", 2, 1)
    assert {each.cluster_time for each in wanted_effects(state)} == {"7.1"}


# --- chunks ---


def test_a_chunk_may_be_cut_in_a_dump() -> None:
    """I14, I21: its parts are dumped and named."""
    story = dump().planned()
    story.tell(SplitAsked("me", CHUNK, 1))
    parts = Split((Key("1"),), (5, 5))
    story.succeed(TaskKey(TaskKind.SPLIT, CHUNK), parts)
    for n in (1, 2):
        story.succeed(key(f"{UNIT}#{n}"), DUMPED)
    assert [chunk.id for chunk in manifest(story).filed] == [NEXT, f"{UNIT}#2"]


def test_one_document_that_cannot_be_dumped_is_found() -> None:
    """Decision 7, I30: the manifest is written without it."""
    story = dump().planned()
    assert story.fail(DUMP, Cause.PERMANENT, code="EPOISON")[:2] == [
        "dump_cancelled",
        "split_requested",
    ]
    story.succeed(TaskKey(TaskKind.SPLIT, CHUNK), Split((Key("1"),), (1, 9)))
    assert "chunk_dropped" in story.fail(key(NEXT), Cause.PERMANENT, code="EPOISON")
    assert story.succeed(key(f"{UNIT}#2"), DUMPED)[-1] == "manifest_started"
    assert [chunk.id for chunk in manifest(story).filed] == [f"{UNIT}#2"]


def test_a_failed_survey_pauses_a_dump() -> None:
    """A8: a source is no dump: whoever resumes may have given it the right to read."""
    story = dump()
    assert story.fail(SURVEY, Cause.PERMANENT)[-1] == "job_paused"
    assert story.state.status is JobStatus.PAUSED
    story = dump()
    story.succeed(SURVEY, Surveyed((found(),)))
    assert story.fail(PLAN, Cause.PERMANENT)[-1] == "job_paused"
    assert story.state.units[UNIT].status is UnitStatus.PENDING
