"""The last words of a run: how it ended, and where to look."""

from collections.abc import Iterator
from typing import Final

from ferrylog.redact import one_line
from ferrylog.views.fidelity import damaged_places
from ferrylog.views.human import reason
from ferrylog.views.model import exit_code, rejects
from statemachine.decide.operations import TAKING_BACK
from statemachine.state import State
from statemachine.words import JobStatus


def last_words(state: State, job: str, journal: str) -> str:
    """Of a job that rests. `journal`: as a shell takes it."""
    if state.status in (JobStatus.PAUSED, JobStatus.STOPPED):
        return f"{state.status}: {one_line(state.why)}\n{go_on(state, job, journal)}"
    if state.status in TAKEN_BACK:
        return _taken_back(state, job, journal)
    if state.status is JobStatus.FAILED:
        return f"failed: {one_line(reason(state.code, state.why))}"
    match exit_code(state):
        case 0:
            return f"done · journal {journal} · ask it: ferrylog inspect events --journal {journal}"
        case 3:
            return " · ".join(("done, but not with everything", *_missing(state, journal)))
        case _:
            differing, missing = _differing(state, journal), _missing(state, journal)
            return " · ".join(("source and target differ", *differing, *missing))


def go_on(state: State, job: str, journal: str) -> str:
    """How a job that rests goes on, in the direction in which it went."""
    backwards = state.rollback or state.status in TAKING_BACK
    verb, words = ("rollback", "take it back") if backwards else ("resume", "resume")
    return f"{words} with: ferrylog {verb} {job} --journal {journal}"


TAKEN_BACK: Final = (
    JobStatus.ROLLBACK_PAUSED,
    JobStatus.ROLLBACK_FAILED,
    JobStatus.ROLLED_BACK,
)


def _taken_back(state: State, job: str, journal: str) -> str:
    see = f"ferrylog inspect rollback {job} --journal {journal}"
    if state.status is not JobStatus.ROLLED_BACK:
        again = f"ferrylog rollback {job} --journal {journal}"
        why = one_line(reason(state.code, state.why)) if state.code else one_line(state.why)
        return f"{state.status}: {why}\ngo on with: {again}\nsee: {see}"
    told = [f"rolled back: {state.undone:,} undone"]
    if state.skipped:
        told.append(f"{state.skipped:,} skipped")
    if state.undo_kept:
        told.append(f"{state.undo_kept:,} kept, because others changed them since")
    return f"{', '.join(told)} · {see}"


def _missing(state: State, journal: str) -> Iterator[str]:
    places = damaged_places(state)
    if places:
        one = f"{places:,} place{'s' * (places > 1)} of the dump cannot be read"
        yield f"{one}: ferrylog inspect events --kind damage_found --journal {journal}"
    if rejects(state):
        yield f"with rejects: ferrylog dead-letters list --journal {journal}"


def _differing(state: State, journal: str) -> Iterator[str]:
    """Documents and metadata are told by different events."""
    units = state.units.values()
    for number, what, kind in (
        (sum(unit.mismatched for unit in units), "chunk", "verify_completed"),
        (sum(unit.differing for unit in units), "option, index or the like", "finish_completed"),
        (state.differing, "option, index or the like", "settle_completed"),
    ):
        if number:
            see = f"ferrylog inspect events --kind {kind} --journal {journal}"
            yield f"{number:,} × {what}: {see}"
