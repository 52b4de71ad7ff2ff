"""The diagrams, as tables: a miss is the error. `docs/states.md` is generated from them."""

from collections.abc import Mapping
from typing import Final

from statemachine.errors import ImpossibleTransition
from statemachine.words import JobStatus, Phase, Status, UnitStatus, Verb

# fmt: off
TASK_TRANSITIONS: Final[Mapping[Status, Mapping[Verb, Status]]] = {
    Status.PENDING:    {Verb.STARTED:         Status.PROCESSING,
                        Verb.DEAD_LETTERED:   Status.FAILED},
    Status.WAITING:    {Verb.STARTED:         Status.PROCESSING},
    Status.PROCESSING: {Verb.PROGRESSED:      Status.PROCESSING,
                        Verb.COMPLETED:       Status.COMPLETED,
                        Verb.RETRY_SCHEDULED: Status.WAITING,
                        Verb.DEAD_LETTERED:   Status.FAILED,
                        Verb.CANCELLED:       Status.PENDING,
                        Verb.IN_DOUBT:        Status.IN_DOUBT},
    Status.IN_DOUBT:   {Verb.RESOLVED:        Status.PENDING,
                        Verb.DEAD_LETTERED:   Status.FAILED},
    Status.COMPLETED:  {Verb.INVALIDATED:     Status.PENDING},
    Status.FAILED:     {Verb.REQUEUED:        Status.PENDING},
}

UNIT_TRANSITIONS: Final[Mapping[UnitStatus, Mapping[str, UnitStatus]]] = {
    UnitStatus.PENDING:    {"plan_completed": UnitStatus.PROCESSING,
                            "unit_completed": UnitStatus.COMPLETED,
                            "unit_skipped":   UnitStatus.FAILED,
                            "unit_excluded":  UnitStatus.EXCLUDED},
    UnitStatus.PROCESSING: {"unit_completed": UnitStatus.COMPLETED,
                            "unit_skipped":   UnitStatus.FAILED,
                            "unit_excluded":  UnitStatus.EXCLUDED},
    UnitStatus.COMPLETED:  {"chunk_replaced": UnitStatus.PROCESSING},
    UnitStatus.FAILED:     {},
    UnitStatus.EXCLUDED:   {},
}

JOB_TRANSITIONS: Final[Mapping[JobStatus, Mapping[str, JobStatus]]] = {
    JobStatus.PENDING:   {"run_started":     JobStatus.RUNNING,
                          "job_failed":      JobStatus.FAILED,
                          "job_exported":    JobStatus.MOVED},
    JobStatus.RUNNING:   {"run_started":     JobStatus.RUNNING,
                          "pause_requested": JobStatus.PAUSING,
                          "stop_requested":  JobStatus.STOPPING,
                          "job_completed":   JobStatus.COMPLETED,
                          "job_failed":      JobStatus.FAILED,
                          "job_exported":    JobStatus.MOVED},
    JobStatus.PAUSING:   {"run_started":     JobStatus.PAUSING,
                          "pause_requested": JobStatus.PAUSING,
                          "stop_requested":  JobStatus.STOPPING,
                          "job_paused":      JobStatus.PAUSED,
                          "job_resumed":     JobStatus.RUNNING,
                          "job_failed":      JobStatus.FAILED,
                          "job_exported":    JobStatus.MOVED},
    JobStatus.PAUSED:    {"run_started":     JobStatus.PAUSED,
                          "rollback_started": JobStatus.ROLLING_BACK,
                          "stop_requested":  JobStatus.STOPPING,
                          "job_resumed":     JobStatus.RUNNING,
                          "job_exported":    JobStatus.MOVED},
    JobStatus.STOPPING:  {"run_started":     JobStatus.STOPPING,
                          "stop_requested":  JobStatus.STOPPING,
                          "job_stopped":     JobStatus.STOPPED,
                          "job_resumed":     JobStatus.RUNNING,
                          "job_failed":      JobStatus.FAILED,
                          "job_exported":    JobStatus.MOVED},
    JobStatus.STOPPED:   {"run_started":     JobStatus.STOPPED,
                          "rollback_started": JobStatus.ROLLING_BACK,
                          "job_resumed":     JobStatus.RUNNING,
                          "job_exported":    JobStatus.MOVED},
    JobStatus.ROLLING_BACK: {"run_started":  JobStatus.ROLLING_BACK,
                          "pause_requested": JobStatus.ROLLING_BACK,
                          "stop_requested":  JobStatus.ROLLING_BACK,
                          "job_paused":      JobStatus.ROLLBACK_PAUSED,
                          "rollback_failed": JobStatus.ROLLBACK_FAILED,
                          "job_rolled_back": JobStatus.ROLLED_BACK},
    JobStatus.ROLLBACK_PAUSED: {"run_started": JobStatus.ROLLBACK_PAUSED,
                          "rollback_continued": JobStatus.ROLLING_BACK},
    JobStatus.ROLLBACK_FAILED: {"run_started": JobStatus.ROLLBACK_FAILED,
                          "rollback_continued": JobStatus.ROLLING_BACK},
    JobStatus.ROLLED_BACK: {"run_started":   JobStatus.ROLLED_BACK,
                          "rollback_started": JobStatus.ROLLING_BACK,
                          "job_committed":   JobStatus.ROLLED_BACK},
    JobStatus.MOVED:     {"job_imported":    JobStatus.PAUSED},
    JobStatus.COMPLETED: {"run_started":     JobStatus.COMPLETED,
                          "job_reopened":    JobStatus.PAUSED,
                          "rollback_started": JobStatus.ROLLING_BACK,
                          "job_committed":   JobStatus.COMPLETED},
    JobStatus.FAILED:    {"run_started":     JobStatus.FAILED,
                          "rollback_started": JobStatus.ROLLING_BACK,
                          "job_committed":   JobStatus.FAILED},
}

PHASES: Final[Mapping[Phase, Mapping[str, Phase]]] = {
    Phase.INVALID:    {"run_started":              Phase.INVALID,
                       "chain_accepted":           Phase.ALLOCATING,
                       "job_failed":               Phase.FAILED},
    Phase.ALLOCATING: {"run_started":              Phase.ALLOCATING,
                       "shape_started":            Phase.PROPOSING,
                       "job_failed":               Phase.FAILED},
    Phase.PROPOSING:  {"run_started":              Phase.PROPOSING,
                       "shape_started":            Phase.PROPOSING,
                       "shape_completed":          Phase.WAITING,
                       "job_failed":               Phase.FAILED},
    Phase.WAITING:    {"run_started":              Phase.ALLOCATING,
                       "increment_completed":      Phase.ALLOCATING,
                       "last_increment_completed": Phase.APPLYING,
                       "job_failed":               Phase.FAILED},
    Phase.APPLYING:   {"run_started":              Phase.APPLYING,
                       "job_completed":            Phase.DONE,
                       "job_failed":               Phase.FAILED},
    Phase.DONE:       {"run_started":              Phase.DONE,
                       "job_completed":            Phase.DONE},
    Phase.FAILED:     {"run_started":              Phase.FAILED},
}
# fmt: on


def next_task_status(status: Status, verb: Verb, entity: str, event: str) -> Status:
    try:
        return TASK_TRANSITIONS[status][verb]
    except KeyError:
        raise ImpossibleTransition(entity=entity, status=status, event=event) from None


def next_unit_status(status: UnitStatus, event: str, *, unit: str) -> UnitStatus:
    try:
        return UNIT_TRANSITIONS[status][event]
    except KeyError:
        raise ImpossibleTransition(entity=unit, status=status, event=event) from None


def next_job_status(status: JobStatus, event: str) -> JobStatus:
    try:
        return JOB_TRANSITIONS[status][event]
    except KeyError:
        raise ImpossibleTransition(entity="", status=status, event=event) from None


def next_phase(phase: Phase, event: str) -> Phase:
    try:
        return PHASES[phase][event]
    except KeyError:
        raise ImpossibleTransition(entity="", status=phase, event=event) from None
