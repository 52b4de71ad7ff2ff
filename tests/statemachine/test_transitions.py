"""The tables are the diagrams: complete, and every event moves something."""

import pytest

from statemachine.errors import ImpossibleTransition
from statemachine.evolve import ARMS
from statemachine.transitions import (
    JOB_TRANSITIONS,
    TASK_TRANSITIONS,
    UNIT_TRANSITIONS,
    next_job_status,
    next_task_status,
    next_unit_status,
)
from statemachine.words import JobStatus, Status, UnitStatus, Verb
from tests.statemachine.examples import classes, kinds


def test_every_status_has_a_row() -> None:
    """A6: Pending, Waiting, Processing, InDoubt, Completed, Failed, and nothing else."""
    assert set(TASK_TRANSITIONS) == set(Status)
    assert set(UNIT_TRANSITIONS) == set(UnitStatus)
    assert set(JOB_TRANSITIONS) == set(JobStatus)


def test_every_event_has_its_arm() -> None:
    """I11: `evolve` covers every event, and nothing else."""
    assert set(ARMS) == set(classes())


def test_every_verb_moves_something() -> None:
    assert {verb for row in TASK_TRANSITIONS.values() for verb in row} == set(Verb)


def test_every_event_in_a_table_exists() -> None:
    known = {kind for cls in classes() for kind in kinds(cls)}
    named = {
        event
        for table in (JOB_TRANSITIONS, UNIT_TRANSITIONS)
        for row in table.values()
        for event in row
    }
    assert named <= known


def test_every_status_can_be_left_or_is_an_end() -> None:
    """A7, A8: Processing goes back through Waiting, or ends Failed; Failed only by a requeue."""
    assert set(TASK_TRANSITIONS[Status.FAILED]) == {Verb.REQUEUED}
    assert TASK_TRANSITIONS[Status.PROCESSING][Verb.RETRY_SCHEDULED] is Status.WAITING
    assert TASK_TRANSITIONS[Status.PROCESSING][Verb.DEAD_LETTERED] is Status.FAILED
    assert set(UNIT_TRANSITIONS[UnitStatus.COMPLETED]) == {"chunk_replaced"}
    assert not UNIT_TRANSITIONS[UnitStatus.FAILED] and not UNIT_TRANSITIONS[UnitStatus.EXCLUDED]


def test_a_miss_is_the_error() -> None:
    """I11: what the tables do not hold is impossible."""
    with pytest.raises(ImpossibleTransition, match="shop"):
        next_task_status(Status.COMPLETED, Verb.STARTED, entity="shop.a#0", event="dump_started")
    with pytest.raises(ImpossibleTransition):
        next_unit_status(UnitStatus.FAILED, "unit_completed", unit="shop.a")
    with pytest.raises(ImpossibleTransition, match="the job"):
        next_job_status(JobStatus.COMPLETED, "job_failed")
