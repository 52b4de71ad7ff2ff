"""Stimuli to facts: all opinions of ferrylog live here, as pure functions.

`decide` is idempotent: news that is late or comes twice is no news. What it returns has not
happened yet: the engine journals it first.
"""

from typing import assert_never

from statemachine.decide.asked import asked
from statemachine.decide.measured import measured, resized
from statemachine.decide.operations import TAKING_BACK, group_asked
from statemachine.decide.outcomes import failed, file_damaged, progressed, succeeded
from statemachine.decide.recovery import run_began
from statemachine.decide.schedule import tick
from statemachine.events import (
    AnyEvent,
    JobExported,
    JobImported,
    JobRequested,
)
from statemachine.state import State
from statemachine.stimuli import (
    Asked,
    ExportAsked,
    Failed,
    FileDamaged,
    GroupAsked,
    ImportAsked,
    JobAsked,
    Measured,
    Progressed,
    Resized,
    RunBegan,
    Stimulus,
    Succeeded,
    Tick,
)
from statemachine.words import JobStatus, Millis

__all__ = ["decide"]


def decide(state: State, stimulus: Stimulus, now: Millis) -> list[AnyEvent]:
    """What happens because of this news, given all that happened before it."""
    match stimulus:
        case JobAsked() | GroupAsked():
            return [] if state.spec else _requested(stimulus)
        case RunBegan():
            return run_began(state, stimulus)
        case Measured():
            return measured(state, stimulus)
        case Resized():
            return resized(state, stimulus)
        case ExportAsked() | ImportAsked():
            return _moved(state, stimulus)
        case Tick():
            return tick(state, now)
        case Succeeded():
            return succeeded(state, stimulus)
        case Progressed():
            return progressed(state, stimulus)
        case Failed():
            return failed(state, stimulus, now)
        case FileDamaged():
            return file_damaged(state, stimulus)
        case _ if isinstance(stimulus, Asked):
            return asked(state, stimulus)
        case _:
            assert_never(stimulus)


def _requested(asked: JobAsked | GroupAsked) -> list[AnyEvent]:
    if isinstance(asked, GroupAsked):
        return group_asked(asked)
    return [JobRequested(by=asked.by, spec=asked.spec)]


def _moved(state: State, asked: ExportAsked | ImportAsked) -> list[AnyEvent]:
    """A job leaves as it stands: what is at work is in doubt where it arrives."""
    if isinstance(asked, ImportAsked):
        moved = state.status is JobStatus.MOVED
        return [JobImported(by=asked.by, host=asked.host)] if moved else []
    if state.spec is None or state.terminal or state.status in (JobStatus.MOVED, *TAKING_BACK):
        return []
    return [JobExported(epoch=state.epoch + 1, by=asked.by, host=asked.host)]
