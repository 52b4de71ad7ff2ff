"""The diagrams written down a second time: a change of a table is a change of two files."""

from collections.abc import Mapping

import pytest

from statemachine.transitions import JOB_TRANSITIONS, TASK_TRANSITIONS, UNIT_TRANSITIONS

TASKS = """
pending: started → processing
pending: dead_lettered → failed
waiting: started → processing
processing: progressed → processing
processing: completed → completed
processing: retry_scheduled → waiting
processing: dead_lettered → failed
processing: cancelled → pending
processing: in_doubt → in_doubt
in_doubt: resolved → pending
in_doubt: dead_lettered → failed
completed: invalidated → pending
failed: requeued → pending
"""
UNITS = """
pending: plan_completed → processing
pending: unit_completed → completed
pending: unit_skipped → failed
pending: unit_excluded → excluded
processing: unit_completed → completed
processing: unit_skipped → failed
processing: unit_excluded → excluded
completed: chunk_replaced → processing
"""
JOBS = """
pending: run_started → running
pending: job_failed → failed
pending: job_exported → moved
running: run_started → running
running: pause_requested → pausing
running: stop_requested → stopping
running: job_completed → completed
running: job_failed → failed
running: job_exported → moved
pausing: run_started → pausing
pausing: pause_requested → pausing
pausing: stop_requested → stopping
pausing: job_paused → paused
pausing: job_resumed → running
pausing: job_failed → failed
pausing: job_exported → moved
paused: run_started → paused
paused: rollback_started → rolling_back
paused: stop_requested → stopping
paused: job_resumed → running
paused: job_exported → moved
stopping: run_started → stopping
stopping: stop_requested → stopping
stopping: job_stopped → stopped
stopping: job_resumed → running
stopping: job_failed → failed
stopping: job_exported → moved
stopped: run_started → stopped
stopped: rollback_started → rolling_back
stopped: job_resumed → running
stopped: job_exported → moved
rolling_back: run_started → rolling_back
rolling_back: pause_requested → rolling_back
rolling_back: stop_requested → rolling_back
rolling_back: job_paused → rollback_paused
rolling_back: rollback_failed → rollback_failed
rolling_back: job_rolled_back → rolled_back
rollback_paused: run_started → rollback_paused
rollback_paused: rollback_continued → rolling_back
rollback_failed: run_started → rollback_failed
rollback_failed: rollback_continued → rolling_back
rolled_back: run_started → rolled_back
rolled_back: rollback_started → rolling_back
rolled_back: job_committed → rolled_back
moved: job_imported → paused
completed: run_started → completed
completed: job_reopened → paused
completed: rollback_started → rolling_back
completed: job_committed → completed
failed: run_started → failed
failed: rollback_started → rolling_back
failed: job_committed → failed
"""


@pytest.mark.parametrize(
    ("table", "diagram"),
    [(TASK_TRANSITIONS, TASKS), (UNIT_TRANSITIONS, UNITS), (JOB_TRANSITIONS, JOBS)],
    ids=["tasks", "units", "jobs"],
)
def test_the_table_is_the_diagram(table: Mapping[str, Mapping[str, str]], diagram: str) -> None:
    """A6, I11: these transitions, each to its place, and no other."""
    arrows = [
        f"{status}: {event} → {then}"
        for status, row in table.items()
        for event, then in row.items()
    ]
    assert arrows == diagram.split("\n")[1:-1]
