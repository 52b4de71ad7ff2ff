"""Arms: the job as a whole."""

from typing import Final

from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    AnyEvent,
    JobExported,
    JobFailed,
    JobImported,
    JobReopened,
    JobRequested,
    JobResumed,
    PauseRequested,
    RunStarted,
    StopRequested,
)
from statemachine.evolve.hands import answered, put
from statemachine.evolve.increments import proposed_again
from statemachine.state import Breaker, State, Task, restores_chain
from statemachine.transitions import next_job_status, next_phase
from statemachine.words import (
    THE_JOB,
    Phase,
    TaskKey,
    TaskKind,
)


def job_requested(state: State, event: JobRequested) -> None:
    if state.spec is not None:
        raise ImpossibleTransition(entity="", status=state.status, event=event.kind)
    state.spec = event.spec
    first = TaskKind.CAPTURE if event.spec.incremental else TaskKind.SURVEY
    if event.spec.kind != "group":
        put(state, TaskKey(first, THE_JOB), Task())
    if restores_chain(event.spec):
        state.phase = Phase.INVALID


def job_moved_on(state: State, event: AnyEvent) -> None:
    """Move the job along its table. Nothing happens to a job that nobody asked for."""
    if state.spec is None:
        raise UnknownEntity(entity=THE_JOB, event=event.kind)
    status, phase = next_job_status(state.status, event.kind), state.phase
    if phase is not None and event.kind in OF_PHASES:
        phase = next_phase(phase, event.kind)
    state.status, state.phase = status, phase


OF_PHASES: Final = ("run_started", "job_completed", "job_failed")


def _epoch_began(state: State, event: RunStarted | JobExported) -> None:
    if event.epoch != state.epoch + 1:
        raise ImpossibleTransition(
            entity=f"epoch {event.epoch}", status=f"epoch {state.epoch}", event=event.kind
        )
    job_moved_on(state, event)
    state.epoch = event.epoch


def run_started(state: State, event: RunStarted) -> None:
    """A new process, most likely after somebody removed a cause: breakers begin closed."""
    _epoch_began(state, event)
    state.settings = event.settings
    state.immediate = False
    proposed_again(state)
    for pool in state.breakers:
        state.breakers[pool] = Breaker()


def pause_requested(state: State, event: PauseRequested | StopRequested) -> None:
    job_moved_on(state, event)
    state.why = event.why
    state.immediate = event.immediate
    state.rollback = isinstance(event, StopRequested) and event.rollback
    answered(state, event.request)


def job_resumed(state: State, event: JobResumed) -> None:
    """Somebody says that the cause is removed: patience begins anew."""
    job_moved_on(state, event)
    state.why = ""
    state.rollback = False
    state.suspects = 0
    for task in state.tasks.values():
        task.waits = task.waited_ms = 0


def job_reopened(state: State, event: JobReopened) -> None:
    job_moved_on(state, event)
    state.why = f"reopened by {event.by}"


def job_failed(state: State, event: JobFailed) -> None:
    job_moved_on(state, event)
    state.code, state.why = event.code, event.why


def job_exported(state: State, event: JobExported) -> None:
    _epoch_began(state, event)
    state.why = f"exported by {event.by} on {event.host}"


def job_imported(state: State, event: JobImported) -> None:
    """The folders of the host that it left are none of this one's."""
    job_moved_on(state, event)
    if state.settings is not None:
        state.settings = state.settings.model_copy(update={"work_dir": ""})
    state.why = f"imported by {event.by} on {event.host}"
