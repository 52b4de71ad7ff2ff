"""A restore: the whole dump is looked at before anything is written; what is damaged is told."""

from dataclasses import replace

import pytest

from statemachine.decide.asked import refusal
from statemachine.effects import wanted_effects
from statemachine.evolve import fold
from statemachine.policy import MAX_DEATHS, MAX_INTERRUPTIONS
from statemachine.state import digest
from statemachine.stimuli import (
    AddAsked,
    Built,
    Created,
    DropAsked,
    ExcludeAsked,
    FileDamaged,
    Finished,
    FoundDamage,
    PauseAsked,
    PlannedFiles,
    Progressed,
    Rejection,
    Released,
    RequeueAsked,
    Restored,
    SplitAsked,
    Succeeded,
    Surveyed,
)
from statemachine.words import (
    Cause,
    ChunkId,
    JobStatus,
    Key,
    Place,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
)
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    CREATE,
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
from tests.statemachine.test_state import sums

OTHER = UnitId("shop.others")
VIEW = UnitId("shop.v")
NEXT = ChunkId(f"{UNIT}#1")
INDEX = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
RELEASE = TaskKey(TaskKind.RELEASE, CHUNK)
DAMAGE = FoundDamage("shop.orders.bson", 70, 30, "EBSON001", "no document")
EMPTY = PlannedFiles(())
BAD = Rejection(Key("1"), "EMONGO121", "no")
POLICIES = ["pause", "skip-unit", "fail-job"]


def restore(
    *, direct: bool = False, verify: bool = True, metadata: bool = False, **settings: object
) -> Story:
    """Surveyed not yet."""
    told = {"dump_workers": 4, "restore_workers": 4, **settings}
    mode = "direct" if direct else "coordinated"
    return Story(
        SETTINGS.model_copy(update=told),
        kind="restore",
        mode=mode,
        source="file:/d",
        verify=verify,
        metadata=metadata,
    )


def ready(
    count: int = 1,
    place: Place = "dump",
    *,
    indexes: int = 0,
    direct: bool = False,
    verify: bool = True,
    **settings: object,
) -> Story:
    """To the point where the parts of one unit are being restored."""
    story = restore(direct=direct, verify=verify, **settings)
    story.succeed(SURVEY, Surveyed((found(indexes=indexes),)))
    story.succeed(PLAN, parts(count, place))
    story.succeed(CREATE, Created(()))
    return story


def two(*, direct: bool = False, **settings: object) -> Story:
    """To the point where both units are being planned."""
    story = restore(direct=direct, **settings)
    story.succeed(SURVEY, Surveyed((found(), found(OTHER))))
    return story


def of(kind: TaskKind, unit: str = OTHER) -> TaskKey:
    chunk = kind in (TaskKind.RESTORE, TaskKind.VERIFY, TaskKind.RELEASE)
    return TaskKey(kind, f"{unit}#0" if chunk else unit)


def test_the_whole_way() -> None:
    """A13, A16, I17, I23, I25: survey, plan, create, restore, index, verify; nothing is dumped."""
    story = restore()
    assert story.succeed(SURVEY, Surveyed((found(indexes=1),))) == [
        "unit_registered",
        "survey_completed",
        "plan_started",
    ]
    assert story.succeed(PLAN, parts(2)) == [
        *["chunk_planned", "file_found"] * 2,
        "plan_completed",
        "create_started",
    ]
    assert story.succeed(CREATE, Created(())) == ["create_completed", *["restore_started"] * 2]
    [effect] = [each for each in wanted_effects(story.state) if each.task == RESTORE]
    assert effect.chunk
    assert effect.chunk.file == parts(2).files[0].file
    assert (effect.chunk.lower, effect.chunk.upper) == (None, "1")
    assert story.succeed(RESTORE, RESTORED) == ["restore_completed", "verify_started"]
    other = TaskKey(TaskKind.RESTORE, NEXT)
    assert story.succeed(other, RESTORED)[1:] == ["verify_started", "index_started"]
    for chunk in (CHUNK, NEXT):
        assert story.succeed(TaskKey(TaskKind.VERIFY, chunk), EQUAL) == ["verify_completed"]
    assert story.succeed(INDEX, Built()) == ["index_completed", "unit_completed", "job_completed"]
    assert sums(story) == {
        "named": 2,
        "planned": 2,
        "restored": 2,
        "settled": 2,
        "weight": 40,
        "weight_done": 40,
        "restored_documents": 20,
        "restored_bytes": 200,
        "source_documents": 20,
        "target_documents": 20,
    }
    assert digest(fold(story.events)) == digest(story.state)
    assert story.tell(began()) == ["run_started"], "I13"


def test_the_files_of_a_dump_stay_and_what_was_unpacked_goes() -> None:
    """I23, I44: only when the chunk is settled."""
    for place, kinds in (
        ("dump", ["restore_completed", "unit_completed", "job_completed"]),
        ("work", ["restore_completed", "unit_completed"]),
    ):
        story = ready(1, place, verify=False)  # type: ignore[arg-type]
        assert story.state.files == (place == "work")
        assert story.succeed(RESTORE, RESTORED) == kinds
        assert bool(story.state.releasing) == (place == "work")
    [effect] = wanted_effects(story.state)
    assert (effect.task, effect.file) == (RELEASE, f"{UNIT}/0")
    assert story.succeed(RELEASE, Released()) == ["chunk_released", "job_completed"]
    assert story.state.files == 0


# --- nothing is written before the whole dump was looked at ---


def test_nothing_is_created_before_every_unit_is_planned() -> None:
    """I23, I29: views neither, though there is nothing to plan of them."""
    story = restore()
    units = (found(VIEW, view=True), found(), found(OTHER))
    assert story.succeed(SURVEY, Surveyed(units))[-2:] == ["plan_started"] * 2
    assert story.succeed(PLAN, parts())[-1] == "plan_completed"
    kinds = story.succeed(of(TaskKind.PLAN), parts(unit=OTHER))
    assert kinds[-3:] == ["create_started"] * 3
    assert story.succeed(CREATE, Created(())) == ["create_completed"], "nor restored, before all is"
    assert story.succeed(of(TaskKind.CREATE, VIEW), Created(())) == [
        "create_completed",
        "unit_completed",
    ]
    assert story.succeed(of(TaskKind.CREATE), Created(()))[1:] == ["restore_started"] * 2


def test_a_plan_that_is_tried_again_keeps_the_gate_shut() -> None:
    """I23, I30."""
    story = two()
    story.succeed(PLAN, parts())
    assert story.fail(of(TaskKind.PLAN), Cause.TRANSIENT) == ["plan_retry_scheduled"]
    story.now += 10_000
    assert story.tell() == ["plan_started"]
    assert story.succeed(of(TaskKind.PLAN), EMPTY)[-2:] == ["create_started"] * 2


def test_a_create_that_is_tried_again_keeps_the_gate_shut() -> None:
    """I23, I30."""
    story = two()
    story.succeed(PLAN, parts())
    story.succeed(of(TaskKind.PLAN), parts(unit=OTHER))
    story.succeed(CREATE, Created(()))
    assert story.fail(of(TaskKind.CREATE), Cause.TRANSIENT) == ["create_retry_scheduled"]
    story.now += 10_000
    assert story.tell() == ["create_started"]
    assert story.succeed(of(TaskKind.CREATE), Created(()))[1:] == ["restore_started"] * 2


@pytest.mark.parametrize("leave", ["skip", "exclude"])
@pytest.mark.parametrize("kind", [TaskKind.PLAN, TaskKind.CREATE])
def test_a_unit_that_is_left_opens_the_gate(kind: TaskKind, leave: str) -> None:
    """Decision 1, I30."""
    story = two(on_exhausted="skip-unit", max_retries=1)
    story.succeed(PLAN, parts())
    if kind is TaskKind.CREATE:
        story.succeed(of(TaskKind.PLAN), parts(unit=OTHER))
        story.succeed(CREATE, Created(()))
    if leave == "skip":
        kinds = story.fail(of(kind), Cause.TRANSIENT)
        assert kinds[:2] == [f"{kind}_dead_lettered", "unit_skipped"]
    else:
        kinds = story.tell(ExcludeAsked("me", OTHER))
    opened = {TaskKind.PLAN: "create_started", TaskKind.CREATE: "restore_started"}
    assert kinds[-1] == opened[kind]


def test_a_dead_plan_keeps_the_gate_shut_in_direct_mode_too() -> None:
    """A8, I23, I30: nothing pauses by itself while something is left to do; what waits behind the
    gate is nothing to do."""
    story = two(direct=True, max_retries=1)
    assert story.fail(of(TaskKind.PLAN), Cause.TRANSIENT) == ["plan_dead_lettered"]
    assert story.succeed(PLAN, parts())[-3:] == ["plan_completed", "pause_requested", "job_paused"]
    assert story.tell(began())[-1] == "plan_started"
    assert story.succeed(of(TaskKind.PLAN), EMPTY)[-2:] == ["create_started"] * 2


def test_a_unit_that_cannot_be_created_stops_no_other_in_direct_mode() -> None:
    """A8, I29, I30: its parts can never start; that is no reason to wait for them."""
    story = two(direct=True)
    story.succeed(PLAN, parts())
    story.succeed(of(TaskKind.PLAN), parts(unit=OTHER))
    assert story.fail(CREATE, Cause.PERMANENT) == ["create_dead_lettered"]
    assert story.succeed(of(TaskKind.CREATE), Created(()))[1:] == ["restore_started"]
    story.succeed(of(TaskKind.RESTORE), RESTORED)
    assert story.succeed(of(TaskKind.VERIFY), EQUAL) == [
        "verify_completed",
        "unit_completed",
        "pause_requested",
        "job_paused",
    ]
    assert story.tell(began())[-1] == "create_started"
    assert story.succeed(CREATE, Created(()))[-1] == "restore_started"


def test_what_is_added_shuts_the_gate_again() -> None:
    """I23, I29: what runs goes on; nothing new is written before that, too, was looked at; and no
    suspect runs alone before."""
    story = ready(2)
    story.tell(AddAsked("me", (OTHER,), 1))
    story.tell(began())
    assert set(story.state.quarantine) == {RESTORE, TaskKey(TaskKind.RESTORE, NEXT)}
    assert not story.state.size(TaskKind.RESTORE, Status.PROCESSING)
    assert story.succeed(SURVEY, Surveyed((found(), found(OTHER))))[-1] == "plan_started"
    assert story.succeed(of(TaskKind.PLAN), parts(unit=OTHER))[-1] == "create_started"
    assert story.succeed(of(TaskKind.CREATE), Created(()))[1:] == ["restore_started"], "alone"


def test_an_outage_refuses_nothing_that_was_added() -> None:
    """A7: only what stays so is refused."""
    story = ready()
    story.tell(AddAsked("me", (OTHER,), 1))
    assert story.fail(SURVEY, Cause.TRANSIENT) == ["survey_retry_scheduled"]
    story.now += 10_000
    assert story.tell() == ["survey_started"]
    assert story.fail(SURVEY, Cause.PERMANENT)[:2] == ["request_refused", "survey_completed"]


def test_what_waits_behind_the_gate_is_nothing_to_do() -> None:
    """I30: a restore that was tried already, and a plan that was given up."""
    story = ready(direct=True, max_retries=2, retry_base_ms=0)
    story.tell(AddAsked("me", (OTHER,), 1))
    story.fail(RESTORE, Cause.TRANSIENT)
    assert story.status(RESTORE) is Status.WAITING
    story.succeed(SURVEY, Surveyed((found(), found(OTHER))))
    assert story.fail(of(TaskKind.PLAN), Cause.TRANSIENT)[-1] == "plan_started"
    assert story.fail(of(TaskKind.PLAN), Cause.TRANSIENT) == [
        "plan_dead_lettered",
        "pause_requested",
        "job_paused",
    ]


# --- what a dump may be ---


def test_an_empty_dump_is_restored_at_once() -> None:
    """I29."""
    assert restore().succeed(SURVEY, Surveyed(())) == ["survey_completed", "job_completed"]


@pytest.mark.parametrize("indexes", [0, 2])
def test_an_empty_unit_is_created_with_its_indexes(indexes: int) -> None:
    """A4, I29: no chunk's end is there to open them."""
    story = restore()
    story.succeed(SURVEY, Surveyed((found(indexes=indexes),)))
    assert story.succeed(PLAN, EMPTY) == ["plan_completed", "create_started"]
    kinds = story.succeed(CREATE, Created(("i0",)))
    if indexes:
        assert kinds == ["create_completed", "index_started"], "one stood before the data came"
        kinds = story.succeed(TaskKey(TaskKind.INDEX, f"{UNIT}@i1"), Built())
    assert kinds[1:] == ["unit_completed", "job_completed"]


def test_indexes_wait_for_the_data() -> None:
    """A4: the collection alone does not open them."""
    story = ready(indexes=1)
    assert INDEX not in story.state.tasks
    assert "index_started" in story.succeed(RESTORE, RESTORED)


def test_what_was_repaired_is_counted() -> None:
    """P10, I25: with each news, as it comes."""
    story = ready(verify=False)
    news = replace(RESTORED, position=20, documents=4, repaired=2)
    assert story.tell(Progressed(RESTORE, 1, 1, news)) == [
        "documents_repaired",
        "restore_progressed",
    ]
    assert story.succeed(RESTORE, replace(RESTORED, repaired=1))[0] == "documents_repaired"
    assert story.state.units[UNIT].repaired == 3


def test_a_restore_goes_on_where_it_was() -> None:
    """I16."""
    story = ready()
    story.tell(Progressed(RESTORE, 1, 1, replace(RESTORED, position=20, documents=4)))
    assert story.tell(began())[:3] == ["run_started", "restore_in_doubt", "restore_resolved"]
    [effect] = wanted_effects(story.state)
    assert effect.chunk
    assert (effect.chunk.done.position, effect.attempt) == (20, 2)


# --- damage ---


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("key", [SURVEY, PLAN])
def test_a_dump_that_is_not_in_order_ends_the_job(key: TaskKey, policy: str) -> None:
    """A8, I19: whatever the policy, with one letter; nothing was written yet."""
    story = restore(on_exhausted=policy)
    if key == PLAN:
        story.succeed(SURVEY, Surveyed((found(), found(OTHER))))
    kinds = story.fail(key, Cause.PERMANENT, code="EDUMP001")
    assert kinds == [f"{key.kind}_dead_lettered", "job_failed"]
    assert (story.state.code, story.state.why) == ("EDUMP001", "bad")
    late = Succeeded(of(TaskKind.PLAN), 1, 1, EMPTY)
    assert story.tell(late) == ["result_ignored"]
    assert not list(wanted_effects(story.state))
    assert story.tell(began()) == ["run_started"], "I13"


def test_a_dump_that_is_not_in_order_ends_a_job_that_pauses() -> None:
    """I19, I28."""
    story = restore()
    story.tell(PauseAsked("me", ""))
    assert story.fail(SURVEY, Cause.PERMANENT) == ["survey_dead_lettered", "job_failed"]
    assert story.state.status is JobStatus.FAILED


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("key", [SURVEY, PLAN, CREATE, RESTORE, VERIFY])
def test_what_time_may_heal_follows_the_policy(key: TaskKey, policy: str) -> None:
    """A8, I19, I30: a dump on a disk that fails is no damaged dump."""
    story = restore(on_exhausted=policy, max_retries=1)
    for task, result in (
        (SURVEY, Surveyed((found(),))),
        (PLAN, parts()),
        (CREATE, Created(())),
        (RESTORE, RESTORED),
    ):
        if task == key:
            break
        story.succeed(task, result)
    letter, *then = story.fail(key, Cause.TRANSIENT)
    assert letter == f"{key.kind}_dead_lettered"
    if policy == "fail-job":
        assert then == ["job_failed"]
    elif policy == "skip-unit" and key != SURVEY:
        assert then == ["unit_skipped", "job_completed"]
        assert story.state.units[UNIT].status is UnitStatus.FAILED
    else:
        assert then == ["pause_requested", "job_paused"]
        assert story.tell(began())[-1] == f"{key.kind}_started"


def test_what_was_added_and_is_not_in_order_ends_no_job() -> None:
    """A8, I30: hours of work stand on the target by then; who added it may take it out again."""
    story = ready()
    story.tell(AddAsked("me", (OTHER,), 1))
    story.succeed(SURVEY, Surveyed((found(), found(OTHER))))
    assert story.fail(of(TaskKind.PLAN), Cause.PERMANENT) == [
        "plan_dead_lettered",
        "pause_requested",
    ]
    assert story.succeed(RESTORE, RESTORED) == ["restore_completed", "job_paused"]
    assert story.tell(ExcludeAsked("me", OTHER)) == ["unit_excluded"]
    assert story.tell(began())[-1] == "verify_started"
    assert story.succeed(VERIFY, EQUAL)[-1] == "job_completed"


def test_a_suspected_plan_is_given_up_like_any_task() -> None:
    """I18: with it the process died, of the dump it says nothing."""
    story = two()
    story.succeed(of(TaskKind.PLAN), EMPTY)
    for _ in range(MAX_INTERRUPTIONS - 1):
        story.tell(began())
    kinds = story.tell(began())
    assert kinds[-3:] == ["plan_dead_lettered", "pause_requested", "job_paused"]


def test_what_is_whole_is_carried_and_the_rest_is_counted() -> None:
    """P10, I25: damage of the dump as a whole too, once, however often it is surveyed."""
    story = restore(verify=False)
    survey = Surveyed((found(),), damage=(replace(DAMAGE, file="dump.archive"),))
    assert story.succeed(SURVEY, survey) == [
        "unit_registered",
        "damage_found",
        "survey_completed",
        "plan_started",
    ]
    kinds = story.succeed(PLAN, replace(parts(), damage=(DAMAGE, DAMAGE)))
    assert kinds[:4] == ["damage_found", "damage_found", "chunk_planned", "file_found"]
    event = next(event for event in story.events if event.about == UNIT and "damage" in event.kind)
    assert (event.file, event.at, event.bytes, event.code, event.why) == (  # type: ignore[union-attr]
        "shop.orders.bson",
        70,
        30,
        "EBSON001",
        "no document",
    )
    story.tell(AddAsked("me", (OTHER,), 1))
    again = replace(survey, units=(found(), found(OTHER)))
    assert "damage_found" not in story.succeed(SURVEY, again)
    story.tell(ExcludeAsked("me", OTHER))
    story.succeed(CREATE, Created(()))
    assert story.succeed(RESTORE, RESTORED)[-1] == "job_completed"
    assert story.events[-1].damaged == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_part_that_is_damaged_is_a_dead_letter(policy: str) -> None:
    """I24, A8: there is no source that could be asked once more."""
    story = ready(2, on_exhausted=policy)
    letter, *then = story.tell(FileDamaged(RESTORE, 1, 1, "cut"))
    assert letter == "restore_dead_lettered"
    event = next(event for event in story.events if event.kind == letter)
    assert (event.cause, event.code, event.why) == (Cause.PERMANENT, "EFILE001", "cut")  # type: ignore[union-attr]
    expected = {
        "pause": ["pause_requested"],
        "skip-unit": ["unit_skipped", "job_completed"],
        "fail-job": ["job_failed"],
    }
    assert then == expected[policy]


def test_a_damaged_part_is_tried_again_or_dropped() -> None:
    """A34, I24, I25: who resumes has put it back; who drops it goes on without its documents."""
    story = ready()
    story.tell(FileDamaged(RESTORE, 1, 1, "cut"))
    assert story.tell(began())[-1] == "restore_started"
    story.tell(FileDamaged(RESTORE, 2, 2, "cut"))
    assert story.tell(DropAsked("me", CHUNK, TaskKind.RESTORE, 1)) == ["chunk_dropped"]
    assert story.tell(began())[-1] == "job_completed"
    last = story.events[-1]
    assert (last.rejected, last.dead_letters) == (10, 1)  # type: ignore[union-attr]


# --- what was rejected ---


def test_the_files_of_a_dump_are_not_counted() -> None:
    """A34: whatever became of their documents."""
    story = ready(verify=False)
    story.succeed(RESTORE, Restored(50, 9, 90, 0, 1, (BAD,)))
    assert story.state.files == 0
    story.tell(RequeueAsked("me", CHUNK, 1))
    assert story.state.files == 0


def test_rejected_documents_are_carried_again_from_their_file() -> None:
    """A34, I25: it was unpacked once, so it stays as long as somebody may ask; then it goes."""
    story = restore(verify=False)
    story.succeed(SURVEY, Surveyed((replace(found(), documents=0),)))
    story.succeed(PLAN, parts(1, "work"))
    assert story.state.units[UNIT].documents_estimate == 10, "counted when it was looked at"
    story.succeed(CREATE, Created(()))
    kinds = story.succeed(RESTORE, Restored(50, 9, 90, 0, 1, (BAD,)))
    assert kinds[-1] == "job_completed"
    assert (story.state.releasing, story.state.files) == ({}, 0)
    assert story.tell(RequeueAsked("me", CHUNK, 1)) == [
        "chunk_replaced",
        "chunk_planned",
        "file_found",
        "job_reopened",
    ]
    chunk = story.state.chunks[NEXT]
    assert (chunk.file, chunk.lower, chunk.upper) == (parts(1, "work").files[0].file, None, None)
    assert sums(story) == {"named": 2, "planned": 1, "weight": 10}
    assert story.state.units[UNIT].documents_estimate == 10
    assert story.state.files == 1
    assert story.tell(began())[-1] == "restore_started"
    again = TaskKey(TaskKind.RESTORE, NEXT)
    assert story.succeed(again, replace(RESTORED, present=9))[-1] == "unit_completed"
    release = TaskKey(TaskKind.RELEASE, NEXT)
    assert story.succeed(release, Released()) == ["chunk_released", "job_completed"]
    assert (story.state.files, story.events[-1].rejected) == (0, 0)  # type: ignore[union-attr]
    assert digest(fold(story.events)) == digest(story.state)


@pytest.mark.parametrize("kind", [TaskKind.RESTORE, TaskKind.VERIFY])
def test_a_dropped_part_may_come_back_with_its_file(kind: TaskKind) -> None:
    """A34."""
    story = ready(1, "work")
    if kind is TaskKind.VERIFY:
        story.succeed(RESTORE, RESTORED)
    story.fail(TaskKey(kind, CHUNK), Cause.PERMANENT)
    story.tell(DropAsked("me", CHUNK, kind, 1))
    assert (story.state.releasing, story.state.files) == ({}, 0)
    assert story.tell(RequeueAsked("me", CHUNK, 2))[2] == "file_found"
    assert story.state.files == 1
    assert story.tell(began())[-1] == "restore_started"


def test_the_file_of_a_unit_that_is_left_goes() -> None:
    """I23, decision 1: nobody can ask for it again."""
    story = ready(2, "work", on_exhausted="skip-unit")
    story.tell(Progressed(RESTORE, 1, 1, Restored(20, 3, 30, 0, 1, (BAD,))))
    story.fail(TaskKey(TaskKind.RESTORE, NEXT), Cause.PERMANENT)
    assert set(story.state.releasing) == {CHUNK, NEXT}
    assert story.state.files == 2


# --- no chunk is cut ---


def test_a_part_stays_whole() -> None:
    """I21: there is no source that knows where to cut; nobody's wish, no suspicion."""
    story = ready(2)
    wish = SplitAsked("me", CHUNK)
    assert refusal(story.state, wish) == f"{CHUNK} is a part of a dump and stays whole"
    for _ in range(MAX_DEATHS + 1):
        assert "split_requested" not in story.tell(began())
    assert story.fail(RESTORE, Cause.PERMANENT, code="EPOISON")[0] == "restore_dead_lettered"


# --- the same dump, verified ---


def verify(metadata: bool = False, **sides: str) -> Story:
    return Story(kind="verify", metadata=metadata, **{"source": "file:/d", **sides})


@pytest.mark.parametrize("sides", [{}, {"source": "mongodb://a/", "target": "file:/d"}])
def test_a_dump_is_verified_part_by_part(sides: dict[str, str]) -> None:
    """I25, I29: on whichever side it stands; nothing is written, no file of it goes."""
    story = verify(**sides)
    assert story.succeed(SURVEY, Surveyed((found(indexes=1), found(VIEW, view=True))))[-2:] == [
        "plan_started",
        "unit_completed",
    ]
    assert story.succeed(PLAN, parts(2))[-2:] == ["verify_started"] * 2
    assert story.succeed(VERIFY, replace(EQUAL, equal=False)) == ["verify_completed"]
    assert story.succeed(TaskKey(TaskKind.VERIFY, NEXT), EQUAL)[1:] == ["finish_started"]
    assert story.succeed(FINISH, Finished())[1:] == ["unit_completed", "job_completed"]
    assert story.events[-1].mismatched == 1  # type: ignore[union-attr]


def test_beside_an_empty_unit_there_may_lie_something() -> None:
    """I29: no part's verification would see it."""
    story = verify()
    story.succeed(SURVEY, Surveyed((found(),)))
    assert story.succeed(PLAN, EMPTY) == ["plan_completed", "finish_started"]
    assert story.succeed(FINISH, Finished())[1:] == ["unit_completed", "job_completed"]


def test_what_was_unpacked_to_be_verified_goes() -> None:
    """I23."""
    story = verify()
    story.succeed(SURVEY, Surveyed((found(),)))
    story.succeed(PLAN, parts(1, "work"))
    assert story.succeed(VERIFY, EQUAL) == ["verify_completed", "finish_started"]
    assert story.succeed(FINISH, Finished()) == ["finish_completed", "unit_completed"]
    assert story.succeed(RELEASE, Released())[-1] == "job_completed"
    assert story.state.files == 0


def test_a_damaged_part_cannot_be_verified() -> None:
    """I24, A34."""
    story = verify()
    story.succeed(SURVEY, Surveyed((found(),)))
    story.succeed(PLAN, parts())
    assert story.tell(FileDamaged(VERIFY, 1, 1, "cut")) == [
        "verify_dead_lettered",
        "pause_requested",
        "job_paused",
    ]
    assert story.tell(began())[-1] == "verify_started"


def test_a_dump_that_is_not_in_order_is_not_verified() -> None:
    """A8."""
    story = verify(source="mongodb://a/", target="file:/d")
    assert story.fail(SURVEY, Cause.PERMANENT) == ["survey_dead_lettered", "job_failed"]


# --- a dry run ---


def test_a_dry_run_counts_the_parts_and_that_is_all() -> None:
    """I46."""
    story = Story(kind="plan", source="file:/d")
    story.succeed(SURVEY, Surveyed((found(), found(VIEW, view=True))))
    kinds = story.succeed(PLAN, replace(parts(2, "work"), damage=(DAMAGE,)))
    assert kinds == [
        "damage_found",
        "chunk_planned",
        "chunk_planned",
        "plan_completed",
        "unit_completed",
    ]
    assert not story.state.chunks
    assert story.succeed(of(TaskKind.PLAN, VIEW), EMPTY)[-1] == "job_completed"
    assert story.events[-1].damaged == 1  # type: ignore[union-attr]
