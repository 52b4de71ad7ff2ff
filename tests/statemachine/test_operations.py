"""Groups of operations: planned, committed, run; a failed one takes its group back."""

import pytest

from statemachine.decide.operations import flaws
from statemachine.effects import wanted_effects
from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import AnyEvent, GroupCommitted, OperationDropped, OperationPlanned
from statemachine.evolve import evolve
from statemachine.policy import MAX_INTERRUPTIONS
from statemachine.state import digest
from statemachine.stimuli import AddAsked, Failed, PauseAsked, PlannedOperation, StopAsked
from statemachine.words import BsonText, Cause, JobStatus, OperationId, Status, TaskKind
from tests.statemachine.examples import SETTINGS, example
from tests.statemachine.groups import (
    DONE,
    Group,
    at_work,
    group_of,
    operation,
    reversed_order,
    take_all_back,
    take_back,
    task,
)
from tests.statemachine.story import SURVEY, Story, began

DIAMOND = (
    operation("a"),
    operation("b", "a"),
    operation("c", "a"),
    operation("d", "b", "c"),
)


def test_nothing_starts_before_the_group_is_committed() -> None:
    """I36, P8, M1: all are planned with their compensations, then committed, then the first starts;
    nothing else is done for a group."""
    group = Group(*DIAMOND)
    planned = ["job_requested", *["operation_planned"] * 4, "group_committed"]
    assert [each.kind for each in group.events] == [*planned, "run_started", "operation_started"]
    assert at_work(group) == [task("a")]
    assert SURVEY not in group.state.tasks
    [effect] = wanted_effects(group.state)
    assert effect.operation is not None
    assert effect.operation.forward == "do a"
    assert effect.operation.compensation == "undo a"
    assert effect.unit is None
    assert effect.operation is not group.state.operations[OperationId("a")], "a copy"


def test_what_waits_starts_when_all_before_it_is_applied() -> None:
    """I36, M5: side by side as far as the waits and the workers allow."""
    group = Group(*DIAMOND)
    assert group.do("a") == ["operation_completed", "operation_started", "operation_started"]
    assert at_work(group) == [task("b"), task("c")]
    assert group.do("c") == ["operation_completed"]
    assert group.do("b") == ["operation_completed", "operation_started"]
    assert group.do("d") == ["operation_completed", "job_completed"]
    assert group.state.status is JobStatus.COMPLETED


def test_no_more_than_there_are_workers() -> None:
    """I26."""
    group = Group(*(operation(f"o{n}") for n in range(5)))
    assert len(at_work(group)) == SETTINGS.restore_workers


BAD: dict[str, tuple[tuple[PlannedOperation, ...], str]] = {
    "nothing": ((), "at least one operation"),
    "no compensation": (
        (PlannedOperation(OperationId("a"), BsonText("do"), BsonText("")),),
        "a has no compensation",
    ),
    "no forward": (
        (PlannedOperation(OperationId("a"), BsonText(""), BsonText("undo")),),
        "a does nothing",
    ),
    "one name twice": ((operation("a"), operation("b"), operation("a")), "two .* named a"),
    "unknown wait": ((operation("a", "x"),), "a waits for x, which is no operation"),
    "unknown rollback wait": ((operation("a", undo_after=("x",)),), "a waits for x, which is no"),
    "itself": ((operation("a", "a"),), "wait for each other: a → a"),
    "a cycle": (
        (operation("z"), operation("a", "z", "c"), operation("b", "a"), operation("c", "b")),
        "wait for each other: a → c → b → a",
    ),
    "against the order of starting": (
        (operation("a"), operation("b", "a", undo_after=("a",))),
        "the undo of b is to wait for that of a, which may start before it: let a wait for b",
    ),
    "in no order": (
        (operation("a"), operation("b", undo_after=("a",))),
        "the undo of b is to wait for that of a",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_group_is_refused_before_anything_is_planned(case: str) -> None:
    """I36, M1: compensation missing, cycle, unknown wait, rollback_wait_for against the order:
    refused as a whole, in words."""
    operations, words = BAD[case]
    group = Group(*operations)
    assert [each.kind for each in group.events] == ["job_requested", "job_failed", "run_started"]
    assert group.state.code == "EOPS001"
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(group.state.why)
    assert not group.state.operations
    assert not group.state.tasks


def test_everything_that_is_wrong_is_told() -> None:
    """I36."""
    nothing = PlannedOperation(OperationId("a"), BsonText(""), BsonText(""), (OperationId("x"),))
    assert len(list(flaws((nothing, nothing)))) == 7


def test_the_undo_may_wait_for_what_started_later() -> None:
    """M5: rollback_wait_for says what the order of starting says already, or is refused."""
    chain = (operation("a", undo_after=("b", "c")), operation("b", "a"), operation("c", "b"))
    assert not list(flaws(chain))
    diamond = (*DIAMOND[1:], operation("a", undo_after=("d",)))
    assert not list(flaws(diamond)), "whatever order they are written in"
    twice = (
        operation("a"),
        operation("b", "a"),
        operation("c", "a", "b"),
        operation("d", "c", "a"),
    )
    assert not list(flaws(twice)), "the same one on several ways"


def test_a_group_has_no_namespaces() -> None:
    """I20: nothing can be added to it."""
    group = Group(*DIAMOND)
    assert group.tell(AddAsked("me", ("x.*",), 1)) == ["request_refused"]


def test_a_group_is_asked_for_once() -> None:
    """I20."""
    group = Group(*DIAMOND)
    assert group.tell(group_of(operation("x"))) == []


def test_it_is_tried_as_often_as_it_says() -> None:
    """M5: an operation brings its own number of tries."""
    group = Group(operation("a", tries=2))
    assert group.fail(task("a"), Cause.TRANSIENT) == ["operation_retry_scheduled"]
    group.now = group.state.tasks[task("a")].not_before_ms
    assert group.tell() == ["operation_started"]
    assert group.fail(task("a"), Cause.TRANSIENT) == [
        "operation_dead_lettered",
        "stop_requested",
        "job_stopped",
    ]


def test_a_failed_operation_takes_its_group_back() -> None:
    """M6, I37, I38: what runs beside it ends first; what was planned never starts; all that was
    started is undone, the failed one and the one that ended late among them, last first."""
    group = Group(*DIAMOND)
    group.do("a")
    assert group.fail(task("b"), Cause.PERMANENT) == ["operation_dead_lettered", "stop_requested"]
    assert "operation b failed: ESOURCE002: bad" in group.state.why
    assert group.state.rollback
    assert group.do("c") == ["operation_completed", "job_stopped"]
    assert group.state.rollback, "whoever runs it takes it back now"
    expected = ["operation c", "operation b", "operation a"]
    assert reversed_order(group) == expected
    kinds = take_back(group)
    assert kinds == [
        "operation_dropped",
        *["undo_planned"] * 3,
        "rollback_started",
        "run_started",
        "undo_started",
    ]
    assert not group.state.rollback
    assert group.state.operations[OperationId("d")].cancelled
    assert task("d") not in group.state.tasks
    assert take_all_back(group) == expected
    assert group.state.status is JobStatus.ROLLED_BACK
    assert "operation_requeued" not in kinds


def test_a_second_failure_changes_nothing() -> None:
    """I19: the group is being stopped already."""
    group = Group(*DIAMOND)
    group.do("a")
    group.fail(task("b"), Cause.PERMANENT)
    assert group.fail(task("c"), Cause.PERMANENT) == ["operation_dead_lettered", "job_stopped"]
    assert group.state.rollback


def test_a_failure_during_a_pause_waits_for_the_operator() -> None:
    """I19: going on is the word that the cause is removed."""
    group = Group(*DIAMOND)
    group.tell(PauseAsked("me", "lunch"))
    assert group.fail(task("a"), Cause.PERMANENT) == ["operation_dead_lettered", "job_paused"]
    assert not group.state.rollback
    assert group.tell(began())[:3] == ["run_started", "job_resumed", "operation_requeued"]
    assert at_work(group) == [task("a")]


def test_what_everybody_would_fail_of_pauses_the_group() -> None:
    """A8: no operation is to blame for a full disk or a deployment that is away."""
    group = Group(*DIAMOND)
    kinds = group.fail(task("a"), Cause.FATAL)
    assert kinds == ["operation_cancelled", "pause_requested", "job_paused"]


def test_only_what_depends_on_it_is_left_out() -> None:
    """M6: with continue_on_error, and all the way down."""
    more = (operation("e", "d"), operation("f"))
    group = Group(*DIAMOND, *more, continue_on_error=True)
    group.do("a", "f")
    kinds = group.fail(task("b"), Cause.PERMANENT)
    assert "stop_requested" not in kinds
    kinds += group.do("c")
    assert kinds.count("operation_dropped") == 2
    dropped = [each for each in group.events if isinstance(each, OperationDropped)]
    assert [each.operation for each in dropped] == ["d", "e"]
    assert kinds[-1] == "job_completed"
    last = group.events[-1]
    assert last.kind == "job_completed"
    assert last.dead_letters == 1


def test_an_operation_that_kills_the_process_takes_its_group_back() -> None:
    """I18, M6."""
    group = Group(operation("a"), operation("b"))
    for _ in range(MAX_INTERRUPTIONS - 1):
        kinds = group.tell(began())
        assert kinds[1:5] == [
            "operation_in_doubt",
            "operation_resolved",
            "operation_in_doubt",
            "operation_resolved",
        ]
    kinds = group.tell(began())
    assert kinds.count("operation_dead_lettered") == 2
    assert kinds[-2:] == ["stop_requested", "job_stopped"]
    assert group.state.rollback


def test_late_news_is_no_news() -> None:
    """I20: of an operation that was stopped at once, and of its group that was taken back."""
    group = Group(*DIAMOND)
    kinds = group.tell(StopAsked("me", "now", 1, immediate=True, rollback=True))
    assert kinds == ["stop_requested", "operation_in_doubt", "job_stopped"]
    assert group.succeed(task("a"), DONE) == ["result_ignored"]
    take_back(group)
    assert group.succeed(task("a"), DONE) == ["result_ignored"]
    failed = Failed(task("a"), 1, 1, Cause.FATAL, "E", "")
    assert group.tell(failed) == ["result_ignored"]
    assert take_all_back(group) == ["operation a"], "in doubt: it may have had an effect"
    assert group.succeed(task("a"), DONE) == ["result_ignored"]


def test_what_is_no_history_of_a_group() -> None:
    """I11, I36."""
    planned, committed = (
        example(OperationPlanned, "operation_planned"),
        GroupCommitted(operations=1),
    )
    dropped = OperationDropped(operation=OperationId("a"), why="")
    group, other = Group(*DIAMOND), Story()
    twice = Group(*DIAMOND)
    twice.state.closed = False
    same = planned.model_copy(update={"operation": OperationId("a")})
    for story, event in (
        (group, planned),
        (group, committed),
        (twice, same),
        (group, dropped),
        (group, dropped.model_copy(update={"operation": OperationId("x")})),
        (other, planned),
        (other, committed),
        (other, dropped),
    ):
        refused(story, event)


def refused(story: Story, event: AnyEvent) -> None:
    before = digest(story.state)
    with pytest.raises((ImpossibleTransition, UnknownEntity)):
        evolve(story.state, event)
    assert digest(story.state) == before


def test_an_operation_stands_where_its_task_stands() -> None:
    group = Group(*DIAMOND)
    group.do("a")
    statuses = {key.entity: each.status for key, each in group.state.tasks.items()}
    expected = {"a": Status.COMPLETED, "d": Status.PENDING}
    assert {name: statuses[name] for name in expected} == expected
    assert all(key.kind is TaskKind.OPERATION for key in group.state.tasks)
