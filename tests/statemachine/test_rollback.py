"""What a job did is taken back: each operation once, last first, whatever happens on the way."""

from dataclasses import replace
from itertools import count

import pytest

from statemachine.decide.schedule import next_wake_ms
from statemachine.effects import wanted_effects
from statemachine.events import (
    DumpInvalidated,
    InDoubt,
    JobCommitted,
    JobRolledBack,
    RollbackStarted,
    Started,
    UndoCompleted,
    UndoPlanned,
    UndoSkipped,
)
from statemachine.policy import MAX_INTERRUPTIONS
from statemachine.stimuli import (
    AddAsked,
    CommitAsked,
    Created,
    DropAsked,
    ExcludeAsked,
    ExportAsked,
    FileDamaged,
    Finished,
    PauseAsked,
    Planned,
    PriorityAsked,
    Released,
    RequeueAsked,
    RollbackAsked,
    SetAsked,
    Split,
    SplitAsked,
    StopAsked,
    Surveyed,
    Undone,
    Verified,
)
from statemachine.undoing import OPERATIONS, undo_plan
from statemachine.words import (
    Cause,
    ChunkId,
    JobStatus,
    Key,
    Millis,
    OperationId,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
)
from tests.statemachine.chain import Chain, following, round_
from tests.statemachine.examples import SETTINGS, example
from tests.statemachine.groups import (
    Group,
    again,
    at_work,
    decided,
    operation,
    reversed_order,
    rollback_asked,
    take_all_back,
    take_back,
    task,
    undo,
)
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
from tests.statemachine.test_operations import refused

THREE = (operation("a"), operation("b", "a"), operation("c", "b"))
BACK = ["operation c", "operation b", "operation a"]
UNDONE = Undone(5, 1, ("did it",))


def done(*operations: object, **spec: object) -> Group:
    """A group that has completed."""
    group = Group(*THREE, **spec)
    group.do("a", "b", "c")
    assert group.state.status is JobStatus.COMPLETED
    return group


def refusal(story: Story, request: int = 9) -> str:
    """Why the rollback is refused."""
    asked = replace(rollback_asked(story), request=request)
    assert story.tell(asked) == ["request_refused"]
    return str(story.events[-1].why)  # type: ignore[union-attr]


# --- order, one by one ---


def test_everything_is_undone_one_after_another() -> None:
    """I37, I38, I41, P9: the plan is journaled first, in one commit with its begin; each undo is an
    event; the job is rolled back when none is left."""
    group = done()
    assert decided(group, rollback_asked(group)) == ["undo_planned"] * 3 + ["rollback_started"]
    assert take_back(group)[-2:] == ["run_started", "undo_started"]
    assert group.state.status is JobStatus.ROLLING_BACK
    assert at_work(group) == [undo("c")]
    assert group.succeed(undo("c"), UNDONE) == ["undo_completed", "undo_started"]
    assert at_work(group) == [undo("b")]
    assert group.succeed(undo("c"), UNDONE) == ["result_ignored"], "I39"
    assert take_all_back(group) == BACK[1:]
    last = group.events[-1]
    assert isinstance(last, JobRolledBack)
    assert (last.undone, last.skipped, last.kept) == (3, 0, 1)
    assert group.state.terminal
    assert group.tell(began()) == ["run_started"], "I13"


def test_the_plan_stands_in_the_journal() -> None:
    """I38: numbered in the order of undoing."""
    group = done()
    take_back(group)
    plan = [each for each in group.events if isinstance(each, UndoPlanned)]
    assert [(each.number, each.about) for each in plan] == list(enumerate(BACK, 1))
    [begun] = [each for each in group.events if isinstance(each, RollbackStarted)]
    assert (begun.undos, begun.to, begun.force) == (3, "", False)
    assert (begun.by, begun.why) == ("me", "asked for")


def test_an_undo_knows_what_it_undoes() -> None:
    """M1: the compensation that was stored when the operation was planned."""
    group = done()
    take_back(group, force=True)
    [effect] = wanted_effects(group.state)
    assert effect.operation is not None
    assert effect.operation.compensation == "undo c"
    assert effect.undo is not None
    assert (effect.undo.number, effect.undo.task) == (1, TaskKind.OPERATION)
    assert effect.force
    assert effect.chunks == ()


def test_a_death_at_any_moment_changes_no_order() -> None:
    """I38, I39, P9: a rollback that is cut off after any of its commits goes on with the first undo
    that has none recorded; over all processes each is recorded once."""
    group = Group(*THREE)
    group.do("a")
    group.fail(task("b"), Cause.PERMANENT)
    begins = len(group.events)
    take_back(group)
    moments = [len(group.events)]
    while working := at_work(group):
        group.succeed(working[0], UNDONE)
        moments.append(len(group.events))
    assert len(moments) == 3
    for moment in range(begins + 4, len(group.events)):
        other = again(group, moment)
        other.tell(began())
        take_all_back(other)
        records = [each.entity for each in other.events if isinstance(each, UndoCompleted)]
        assert records == BACK[1:], moment
        assert other.state.status is JobStatus.ROLLED_BACK
        ends = [each for each in other.events if isinstance(each, JobRolledBack)]
        assert len(ends) == 1, moment


def test_a_death_before_the_plan_leaves_the_job_as_it_was() -> None:
    """I38: the plan and its begin are one commit."""
    group = done()
    before = len(group.events)
    take_back(group)
    other = again(group, before)
    assert other.state.status is JobStatus.COMPLETED
    assert not other.state.undos


def test_an_undo_that_was_cut_off_is_done_again() -> None:
    """I39: its effect may run twice, its record stands once; after too many deaths it has failed,
    whatever the policy."""
    for policy in ("pause", "fail-job", "skip-unit"):
        group = done()
        take_back(group)
        told = SETTINGS.model_copy(update={"on_exhausted": policy})
        for _ in range(MAX_INTERRUPTIONS - 1):
            assert group.tell(began(told))[1:] == ["undo_in_doubt", "undo_resolved", "undo_started"]
        assert group.tell(began(told))[1:] == [
            "undo_in_doubt",
            "undo_dead_lettered",
            "rollback_failed",
        ]
        assert group.tell(began())[1:] == ["rollback_continued", "undo_requeued", "undo_started"]
        assert take_all_back(group) == BACK


# --- what belongs to it ---


def eventful() -> Story:
    """A migration with retries, a file that was lost, a chunk that was split, one that was put in
    the place of another, and dead letters."""
    story = Story(SETTINGS.model_copy(update={"dump_workers": 4}), undo=True).planned(chunks=3)
    chunks = [ChunkId(f"{UNIT}#{n}") for n in range(6)]
    dumps, restores = ([TaskKey(kind, each) for each in chunks] for kind in DUMP_AND_RESTORE)
    for dump in dumps[:2]:
        story.succeed(dump, DUMPED)
    story.succeed(restores[1], replace(RESTORED, rejected=1))
    story.succeed(TaskKey(TaskKind.VERIFY, chunks[1]), EQUAL)
    story.fail(RESTORE, Cause.TRANSIENT)
    story.now = 10**6
    story.tell()
    story.tell(FileDamaged(RESTORE, 2, 1, "cut"))
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    story.succeed(VERIFY, EQUAL)
    story.succeed(TaskKey(TaskKind.RELEASE, chunks[1]), Released())
    story.tell(RequeueAsked("me", chunks[1], 1), SplitAsked("me", chunks[2], 2))
    story.succeed(TaskKey(TaskKind.SPLIT, chunks[2]), Split((Key("1"),), (1, 1)))
    for dump in dumps[3:5]:
        story.succeed(dump, DUMPED)
    story.succeed(restores[3], RESTORED)
    story.fail(restores[4], Cause.PERMANENT)
    return story


DUMP_AND_RESTORE = (TaskKind.DUMP, TaskKind.RESTORE)


def test_each_operation_is_undone_once_however_often_it_started() -> None:
    """I37, I38, I39: retries, dead letters, replaced and split chunks."""
    story = eventful()
    story.tell(StopAsked("me", "enough", 3, immediate=True, rollback=True))
    expected = [f"restore {UNIT}#{n}" for n in (4, 3, 1, 0)] + [f"create {UNIT}"]
    assert reversed_order(story) == expected
    attempts = [each for each in story.events if isinstance(each, Started) and each.task == RESTORE]
    assert len(attempts) == 3
    take_back(story)
    assert take_all_back(story) == expected
    assert story.state.status is JobStatus.ROLLED_BACK


def test_a_chunk_is_undone_by_what_was_known_of_it() -> None:
    """I37: its range, its file, and what its verification found, whether or not it is settled."""
    plan = {each.entity: each for each in undo_plan(eventful().events)}
    whole = plan[CHUNK]
    assert (whole.documents, whole.digest) == (10, "a")
    assert (whole.lower, whole.upper, whole.natural) == (None, "0", False)
    assert whole.file is not None
    assert whole.file.name == "f"
    assert whole.chunk == CHUNK
    assert whole.unit == UNIT
    assert plan[f"{UNIT}#4"].digest == ""
    made = plan[UNIT]
    assert (made.task, made.unit, made.chunk, made.file) == (TaskKind.CREATE, UNIT, None, None)


def test_the_files_of_a_dump_are_known() -> None:
    """I37: parts that were found, with their place; of a chunk that differed no digest."""
    story = Story(kind="restore", source="file:/d", undo=True)
    story.succeed(SURVEY, Surveyed((found(),)))
    story.succeed(PLAN, parts())
    story.succeed(CREATE, Created((), "77", "nothing"))
    assert story.state.units[UnitId(UNIT)].found == "nothing"
    story.succeed(RESTORE, RESTORED)
    story.succeed(VERIFY, Verified(False, 10, 9, "a", "b", 0, ()))
    [chunk, _] = undo_plan(story.events)
    assert chunk.file is not None
    assert (chunk.file.name, chunk.file.place) == (f"{UNIT}/0", "dump")
    assert (chunk.documents, chunk.digest) == (0, "")
    take_back(story)
    assert story.state.undos[f"restore {CHUNK}"] == chunk
    [effect] = wanted_effects(story.state)
    assert effect.undo == chunk
    assert effect.unit is not None
    assert effect.unit.target_uuid == "77"
    assert effect.operation is None
    story.succeed(TaskKey(TaskKind.UNDO, f"restore {CHUNK}"), UNDONE)
    [effect] = wanted_effects(story.state)
    assert effect.chunks == (chunk,), "a creation is proven by its chunks"
    story.succeed(TaskKey(TaskKind.UNDO, f"create {UNIT}"), UNDONE)
    assert all(each.file is None for each in story.state.undos.values()), "no longer needed"


def test_a_chunk_of_which_nothing_is_known() -> None:
    """A history need not be whole to be undone."""
    event = Started.of(RESTORE, attempt=1)
    [only] = undo_plan([event, event])
    assert (only.chunk, only.lower, only.file, only.digest) == (CHUNK, None, None, "")


def test_what_is_no_operation_is_not_undone() -> None:
    """I37: what only reads, or writes to our own folder, changes no target."""
    others = {"survey", "census", "plan", "dump", "split", "verify", "manifest", "release"}
    others |= {"capture", "undo"}
    assert set(TaskKind) - OPERATIONS == others


def test_what_is_left_in_a_job_stays_where_it_is() -> None:
    """I37: nothing of the job starts any more; what is removed elsewhere is no news."""
    story = eventful()
    story.tell(StopAsked("me", "enough", 3, immediate=True, rollback=True))
    kinds = take_back(story)
    assert {kind for kind in kinds if kind.endswith("_started")} == {
        "rollback_started",
        "run_started",
        "undo_started",
    }
    assert not [kind for kind in kinds if kind.endswith("_requeued")]
    take_all_back(story)
    left = {each.status for key, each in story.state.tasks.items() if key.kind is not TaskKind.UNDO}
    assert Status.PROCESSING not in left


# --- where it begins ---


def completed() -> Story:
    story = Story(undo=True).planned()
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    assert story.state.status is JobStatus.COMPLETED
    return story


def failed() -> Story:
    story = Story(SETTINGS.model_copy(update={"on_exhausted": "fail-job"}), undo=True).planned()
    story.fail(DUMP, Cause.PERMANENT)
    assert story.state.status is JobStatus.FAILED
    return story


def failed_at_work() -> Story:
    told = SETTINGS.model_copy(update={"on_exhausted": "fail-job"})
    story = Story(told, undo=True).planned(chunks=3)
    story.succeed(DUMP, DUMPED)
    story.fail(TaskKey(TaskKind.DUMP, f"{UNIT}#1"), Cause.PERMANENT)
    assert RESTORE in at_work(story)
    return story


def stopped() -> Story:
    story = Story(undo=True).planned()
    story.tell(StopAsked("me", "enough", 1, immediate=True, rollback=True))
    assert story.state.status is JobStatus.STOPPED
    assert story.state.rollback
    return story


def paused() -> Story:
    story = Story(undo=True).planned()
    story.tell(PauseAsked("me", "lunch", 1, immediate=True))
    assert story.state.status is JobStatus.PAUSED
    return story


@pytest.mark.parametrize("rests", [completed, failed, failed_at_work, stopped, paused])
def test_from_wherever_a_job_rests(rests: object) -> None:
    """I37, I41: completed, failed, stopped, paused."""
    story: Story = rests()  # type: ignore[operator]
    expected = reversed_order(story)
    take_back(story)
    assert at_work(story) == [TaskKey(TaskKind.UNDO, expected[0])]
    assert take_all_back(story) == expected
    assert story.state.status is JobStatus.ROLLED_BACK
    assert "rolled back already" in refusal(story)
    assert not any(isinstance(key, InDoubt) for key in story.state.tasks)


def test_a_job_in_which_nothing_began_is_rolled_back_at_once() -> None:
    """I41."""
    story = Story(undo=True)
    story.tell(PauseAsked("me", "lunch", 1, immediate=True))
    assert take_back(story) == ["rollback_started", "run_started", "job_rolled_back"]


def test_not_while_somebody_is_at_work() -> None:
    """I37: what runs is stopped first."""
    group = Group(*THREE)
    assert refusal(group) == "the job is running"
    take_back(group2 := done())
    assert refusal(group2) == "the job is rolling_back"


def test_not_by_the_plan_of_an_earlier_day() -> None:
    """I37: what was started since it was read would stay."""
    group = Group(*THREE)
    early = rollback_asked(group)
    group.do("a")
    group.tell(PauseAsked("me", "lunch", 1, immediate=True))
    assert group.tell(replace(early, request=2)) == ["request_refused"]
    assert group.events[-1].why == "operation b was started since this was planned"  # type: ignore[union-attr]
    take_back(group, to="a")
    take_all_back(group)
    assert "undo_planned" in take_back(group)


def test_of_jobs_that_recorded_nothing() -> None:
    """I40: what was begun without a record of what it changes is not guessed at; a dump changes no
    target."""
    old = Story().planned()
    old.tell(PauseAsked("me", "lunch", 1, immediate=True))
    assert refusal(old) == "the job was begun without a record of what it changes"
    for kind in ("dump", "export", "verify", "plan"):
        other = Story(kind=kind, undo=True)
        other.tell(PauseAsked("me", "lunch", 1, immediate=True))
        assert refusal(other) == "the job changes nothing that could be taken back"
        assert other.tell(CommitAsked("me", 20)) == ["request_refused"]


def test_a_committed_job_stays() -> None:
    """I41: of what has ended, and once."""
    group = Group(*THREE)
    assert group.tell(CommitAsked("me", 1)) == ["request_refused"]
    group.do("a", "b", "c")
    assert group.tell(CommitAsked("me", 2)) == ["job_committed"]
    assert group.state.committed
    assert "committed" in refusal(group)
    assert group.tell(CommitAsked("me", 10)) == ["request_refused"]
    refused(group, JobCommitted(by="me"))
    for story in (failed(), completed()):
        assert story.tell(CommitAsked("me", 9)) == ["job_committed"]
    group = done()
    take_back(group)
    take_all_back(group)
    assert group.tell(CommitAsked("me", 9)) == ["job_committed"]


def test_a_request_is_answered_once() -> None:
    """I20."""
    group = done()
    asked = replace(rollback_asked(group), request=4)
    assert group.tell(asked)[-2:] == ["rollback_started", "undo_started"]
    assert group.state.request == 4
    assert group.tell(asked) == []


# --- a part, and the rest ---


def test_a_part_and_then_the_rest() -> None:
    """I42, I39: exactly what was started after the operation; then the others; then no more."""
    group = done()
    take_back(group, to="a")
    assert group.state.rolled_to == "a"
    assert take_all_back(group) == BACK[:2]
    assert group.state.status is JobStatus.ROLLED_BACK
    assert "undo_planned" not in take_back(group, to="b"), "they are undone"
    take_back(group)
    assert take_all_back(group) == BACK[2:]
    assert "rolled back already" in refusal(group)
    last = group.events[-2]
    assert isinstance(last, JobRolledBack)
    assert (last.undone, last.skipped) == (3, 0)


def test_what_was_never_started_never_will_be() -> None:
    """I37, I42: also where only a part is taken back."""
    group = Group(*THREE)
    group.do("a")
    group.fail(task("b"), Cause.PERMANENT)
    assert "operation_dropped" in take_back(group, to="a")
    assert group.state.operations[OperationId("c")].cancelled
    assert take_all_back(group) == ["operation b"]
    assert "operation_dropped" not in take_back(group)


def test_an_operation_is_named_with_or_without_its_kind() -> None:
    """I42."""
    events = completed().events
    assert [each.entity for each in undo_plan(events, UNIT)] == [CHUNK]
    assert [each.entity for each in undo_plan(events, f"create {UNIT}")] == [CHUNK]
    assert undo_plan(events, CHUNK) == ()
    with pytest.raises(ValueError, match="x was never started"):
        undo_plan(events, "x")


# --- failures ---


def test_a_failing_undo_is_tried_again_and_then_stops_the_rollback() -> None:
    """I41, M6: with the delays of any task; then nothing more happens before somebody goes on."""
    group = done()
    take_back(group)
    for _ in range(SETTINGS.max_retries - 1):
        assert group.fail(undo("c"), Cause.TRANSIENT) == ["undo_retry_scheduled"]
        assert at_work(group) == []
        assert next_wake_ms(group.state, Millis(group.now)) is not None
        group.now = group.state.tasks[undo("c")].not_before_ms
        assert group.tell() == ["undo_started"]
    kinds = group.fail(undo("c"), Cause.TRANSIENT)
    assert kinds == ["undo_dead_lettered", "rollback_failed"]
    assert group.state.status is JobStatus.ROLLBACK_FAILED
    assert group.state.code == "EROLLBACK001"
    assert "undo operation c failed: ESOURCE002: bad" in group.state.why
    assert group.state.resting
    assert group.tell() == []
    assert list(wanted_effects(group.state)) == []
    assert refusal(group) == "the job is rollback_failed"


@pytest.mark.parametrize("cause", [Cause.PERMANENT, Cause.FATAL])
def test_fixed_and_continued(cause: Cause) -> None:
    """I39, P9: it goes on where it stopped, with a whole budget."""
    group = done()
    take_back(group)
    group.succeed(undo("c"), UNDONE)
    assert group.fail(undo("b"), cause) == ["undo_dead_lettered", "rollback_failed"]
    assert group.tell(began()) == [
        "run_started",
        "rollback_continued",
        "undo_requeued",
        "undo_started",
    ]
    assert (group.state.why, group.state.code) == ("", "")
    assert group.state.tasks[undo("b")].failures == 0
    assert take_all_back(group) == BACK[1:]


def test_what_is_away_is_waited_out() -> None:
    """A9: behind the breaker, and with patience; then the rollback rests."""
    told = SETTINGS.model_copy(update={"breaker_failures": 1, "patience_ms": 5_000})
    group = done()
    group.tell(rollback_asked(group), began(told))
    assert group.fail(undo("c"), Cause.UNAVAILABLE) == ["undo_retry_scheduled", "breaker_opened"]
    [opened] = [each for each in group.events if each.kind == "breaker_opened"]
    until = opened.until_ms  # type: ignore[union-attr]
    assert until > group.state.tasks[undo("c")].not_before_ms
    group.now = group.state.tasks[undo("c")].not_before_ms
    assert group.tell() == [], "I43: it is open"
    group.now = until
    assert group.tell() == ["undo_started"]
    for _ in range(20):
        kinds = group.fail(undo("c"), Cause.UNAVAILABLE)
        if "undo_dead_lettered" in kinds:
            break
        group.now += 10**6
        assert group.tell() == ["undo_started"]
    assert kinds == ["undo_dead_lettered", "breaker_opened", "rollback_failed"]
    assert group.tell(began())[-1] == "undo_started"
    assert group.state.tasks[undo("c")].waited_ms == 0, "patience begins anew"


def test_a_clock_that_went_back_keeps_nobody_waiting() -> None:
    """I18: no retry is further away than a delay can be."""
    group = done()
    group.now = 10**9
    take_back(group)
    group.fail(undo("c"), Cause.TRANSIENT)
    group.now = 5
    assert group.tell() == ["undo_started"]


def test_others_are_undone_all_the_same() -> None:
    """M6, M5: with continue_on_error a failed undo stops only those that wait for it."""
    fan = (operation("a"), operation("b", "a"), operation("c", "a"), operation("d"))
    apart = (operation("e"), operation("f", "e"), operation("g", "f"))
    group = Group(*fan, *apart, settings=SETTINGS.model_copy(update={"restore_workers": 9}))
    group.do("a", "d", "b", "c", "e", "f", "g")
    take_back(group, continue_on_error=True)
    began_in = ["a", "d", "e", "b", "c", "f", "g"]
    assert reversed_order(group) == [f"operation {name}" for name in reversed(began_in)]
    assert group.fail(undo("g"), Cause.PERMANENT) == ["undo_dead_lettered", "undo_started"]
    assert at_work(group) == [undo("c")], "f waits for g"
    group.succeed(undo("c"), UNDONE)
    group.fail(undo("b"), Cause.PERMANENT)
    assert at_work(group) == [undo("d")], "e waits for f, which waits for g; a waits for b"
    assert group.succeed(undo("d"), UNDONE) == ["undo_completed", "rollback_failed"]
    assert "some undos failed, and others wait for them" in group.state.why
    assert group.tell(began())[-1] == "undo_started"
    order = ["g", "f", "b", "e", "a"]
    assert take_all_back(group) == [f"operation {name}" for name in order]


def test_an_undo_waits_for_whom_it_was_told_to() -> None:
    """M5: rollback_wait_for over an operation that stands between them."""
    chain = (operation("a", undo_after=("c",)), operation("b", "a"), operation("c", "b"))
    group = Group(*chain)
    group.do("a", "b", "c")
    take_back(group, continue_on_error=True)
    group.fail(undo("c"), Cause.PERMANENT)
    assert group.state.status is JobStatus.ROLLBACK_FAILED


def test_behind_a_failure_other_units_are_undone() -> None:
    """I38: what belongs to one collection waits for each other."""
    story = Story(undo=True)
    other = UnitId("shop.other")
    story.succeed(SURVEY, Surveyed((found(), found(other))))
    for unit in (UNIT, other):
        story.succeed(TaskKey(TaskKind.CREATE, unit), Created(()))
    for unit in (UNIT, other):
        story.succeed(TaskKey(TaskKind.PLAN, unit), Planned((), 10, natural=False))
        story.succeed(TaskKey(TaskKind.DUMP, f"{unit}#0"), DUMPED)
        story.succeed(TaskKey(TaskKind.RESTORE, f"{unit}#0"), RESTORED)
    story.tell(PauseAsked("me", "lunch", 1, immediate=True))
    take_back(story, continue_on_error=True)
    story.fail(undo(f"{other}#0", TaskKind.RESTORE), Cause.PERMANENT)
    assert at_work(story) == [undo(f"{UNIT}#0", TaskKind.RESTORE)]
    story.succeed(at_work(story)[0], UNDONE)
    assert at_work(story) == [undo(UNIT, TaskKind.CREATE)]
    assert story.succeed(at_work(story)[0], UNDONE) == ["undo_completed", "rollback_failed"]


def test_behind_a_failure_in_an_increment_nothing_is_undone() -> None:
    """I38: an increment touches any collection, and lies on top of what was carried before it."""
    story = Chain(undo=True).full()
    story.shaped(1)
    story.tell(StopAsked("me", "enough", 1, immediate=True, rollback=True))
    take_back(story, continue_on_error=True)
    expected = reversed_order(story)
    assert story.fail(at_work(story)[0], Cause.PERMANENT) == [
        "undo_dead_lettered",
        "rollback_failed",
    ]
    story.tell(began())
    while at_work(story)[0].entity.startswith("apply"):
        story.succeed(at_work(story)[0], UNDONE)
    assert story.fail(undo("link:1", TaskKind.SHAPE), Cause.PERMANENT)[-1] == "rollback_failed"
    story.tell(began())
    take_all_back(story)
    assert story.state.status is JobStatus.ROLLED_BACK
    assert story.state.undone == len(expected)


def test_one_is_left_out_by_somebodys_word() -> None:
    """I39, I41: recorded, counted, and never undone afterwards."""
    group = done()
    take_back(group)
    group.fail(undo("c"), Cause.PERMANENT)
    left_out = DropAsked("me", "operation c", TaskKind.UNDO, 7)
    assert group.tell(left_out) == ["undo_skipped"]
    [skipped] = [each for each in group.events if isinstance(each, UndoSkipped)]
    assert skipped.why == "left out by me: ESOURCE002: bad"
    assert group.tell(left_out) == []
    assert group.tell(DropAsked("me", "operation b", TaskKind.UNDO, 8)) == ["request_refused"]
    assert group.tell(began()) == ["run_started", "rollback_continued", "undo_started"]
    assert take_all_back(group) == BACK[1:]
    last = group.events[-1]
    assert isinstance(last, JobRolledBack)
    assert (last.undone, last.skipped) == (2, 1)
    assert undo_plan(group.events) == ()


def test_one_that_is_asked_for_again_waits_for_who_is_at_work() -> None:
    """I38: one after another, also behind a failure."""
    group = Group(operation("a"), operation("b"), operation("c"))
    group.do("a", "b", "c")
    take_back(group, continue_on_error=True)
    group.fail(undo("c"), Cause.PERMANENT)
    assert at_work(group) == [undo("b")]
    assert group.tell(RequeueAsked("me", "operation c", 5, TaskKind.UNDO)) == ["undo_requeued"]
    assert group.succeed(undo("b"), UNDONE) == ["undo_completed", "undo_started"]
    assert at_work(group) == [undo("c")]
    assert take_all_back(group) == ["operation c", "operation a"]


def test_one_is_asked_for_again() -> None:
    """M6: a dead undo is a dead letter like any other."""
    group = done()
    take_back(group, continue_on_error=True)
    group.fail(undo("c"), Cause.PERMANENT)
    assert group.state.status is JobStatus.ROLLBACK_FAILED
    assert group.tell(RequeueAsked("me", "operation c", 5, TaskKind.UNDO)) == ["undo_requeued"]
    assert group.tell(began()) == ["run_started", "rollback_continued", "undo_started"]


# --- pauses, requests ---


@pytest.mark.parametrize("asked", [PauseAsked, StopAsked])
def test_a_rollback_pauses_and_goes_on(asked: type[PauseAsked | StopAsked]) -> None:
    """P9, A18: what runs is in doubt, and is done again; nothing is undone twice."""
    group = done()
    take_back(group)
    group.succeed(undo("c"), UNDONE)
    assert group.tell(asked("me", "lunch", 3)) == ["pause_requested", "undo_in_doubt", "job_paused"]
    assert group.state.status is JobStatus.ROLLBACK_PAUSED
    assert group.succeed(undo("b"), UNDONE) == ["result_ignored"]
    assert group.tell(PauseAsked("me", "again", 4)) == ["request_refused"]
    assert group.tell(StopAsked("me", "again", 5)) == ["request_refused"]
    assert group.tell(began()) == [
        "run_started",
        "undo_resolved",
        "rollback_continued",
        "undo_started",
    ]
    assert group.state.tasks[undo("b")].interruptions == 0, "nobody died"
    assert take_all_back(group) == BACK[1:]


def test_nothing_is_asked_of_a_job_that_is_taken_back() -> None:
    """I11, I20: but how it runs; every other request is refused, and says why."""
    story = eventful()
    story.tell(StopAsked("me", "enough", 3, immediate=True, rollback=True))
    numbers = count(20)
    letter = RequeueAsked("me", f"{UNIT}#4", 0, TaskKind.RESTORE)
    for words, moves in (("rolling_back", take_back), ("rolled_back", take_all_back)):
        moves(story)
        for wish in (
            AddAsked("me", ("x.*",)),
            ExcludeAsked("me", UNIT),
            SplitAsked("me", ChunkId(f"{UNIT}#5")),
            PriorityAsked("me", UNIT, 3),
            letter,
            DropAsked("me", f"{UNIT}#4", TaskKind.RESTORE),
        ):
            story_wish = replace(wish, request=next(numbers))
            assert story.tell(story_wish) == ["request_refused"], wish
            assert words in story.events[-1].why, wish  # type: ignore[union-attr]
    story = completed()
    take_back(story)
    assert story.tell(SetAsked("me", "retry", "fixed", 5)) == ["setting_changed"]


def test_a_job_that_is_taken_back_stays_in_its_journal() -> None:
    """I5: its record of what it changed lies on this host."""
    group = done()
    take_back(group)
    assert group.tell(ExportAsked("me", "here")) == []
    group.fail(undo("c"), Cause.PERMANENT)
    assert group.tell(ExportAsked("me", "here")) == []


def test_no_file_is_removed_while_a_job_is_taken_back() -> None:
    """I40: a creation is proven by the files of its chunks, where they still lie."""
    story = Story(undo=True).planned(chunks=2)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    assert story.state.releasing
    story.tell(StopAsked("me", "now", 1, immediate=True, rollback=True))
    take_back(story)
    assert {each.task.kind for each in wanted_effects(story.state)} == {TaskKind.UNDO}


# --- what increments did ---


def test_what_a_chain_brought_is_undone_increment_by_increment() -> None:
    """I37, I38: in the middle of the second one; what is done again in an epoch is undone once."""
    story = Chain(undo=True).full()
    story.applied(1)
    story.shaped(2)
    story.tell(began())
    story.tell(StopAsked("me", "enough", 1, immediate=True, rollback=True))
    expected = reversed_order(story)
    assert expected[0].startswith("apply ") or expected[0].startswith("shape ")
    assert expected[-1] == f"create {UNIT}"
    take_back(story)
    assert {each.task.kind for each in wanted_effects(story.state)} == {TaskKind.UNDO}
    assert take_all_back(story) == expected


def test_what_followed_is_undone_as_one() -> None:
    """I37: all rounds are one operation."""
    story = following(undo=True)
    follow = TaskKey(TaskKind.FOLLOW, "job")
    story.succeed(follow, round_(1))
    story.succeed(follow, round_(2))
    story.tell(PauseAsked("me", "lunch", 1, immediate=True))
    assert reversed_order(story).count("follow job") == 1
    expected = reversed_order(story)
    take_back(story)
    assert take_all_back(story) == expected


def test_the_last_touch_is_undone_too() -> None:
    """I37."""
    story = Story(undo=True, metadata=True).planned()
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL), (FINISH, Finished())):
        story.succeed(key, result)
    assert [each.task for each in undo_plan(story.events)][:1] == [TaskKind.FINISH]


# --- what is no history of a rollback ---


def test_what_cannot_follow() -> None:
    """I11, I39: an undo is planned once, at rest, of what is there; an undo that runs, or ran, is
    not left out."""
    group = done()
    planned = example(UndoPlanned, "undo_planned")
    refused(group, planned)  # of a unit that is none
    mine = planned.model_copy(update={"task": TaskKind.OPERATION, "entity": "c", "unit": None})
    skipped = UndoSkipped(entity="operation c", by="me", request=0, why="")
    refused(group, skipped)
    take_back(group)
    refused(group, mine)
    refused(group, skipped)
    group.succeed(undo("c"), UNDONE)
    refused(group, skipped)
    refused(Group(*THREE), mine)
    take_all_back(group)
    refused(group, mine)
    refused(group, skipped)
    refused(group, DumpInvalidated.of(undo("c")._replace(kind=TaskKind.DUMP), why=""))


def test_the_plan_is_read_anew_each_time() -> None:
    """I42: whoever asks brings what the history tells; what is undone already is left out."""
    group = done()
    everything = undo_plan(group.events)
    take_back(group, to="b")
    take_all_back(group)
    kinds = group.tell(RollbackAsked("me", "the rest", everything), began())
    assert kinds.count("undo_planned") == 2
    assert take_all_back(group) == BACK[1:]
