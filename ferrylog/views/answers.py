"""What operators ask when something seems wrong, answered from the state (A26, A27, A28)."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from ferrylog.clock import when
from ferrylog.views.shapes import AnswerReport
from ferrylog.views.spans import span
from ferrylog.views.told import HELD, Told
from statemachine.decide.operations import TAKING_BACK
from statemachine.decide.schedule import fetched, held_back
from statemachine.policy import POOLS, files_limit, workers_of
from statemachine.state import State, Task, is_stored
from statemachine.words import Cause, JobStatus, Pool, Status, TaskKey, TaskKind

SHOWN: Final = 3
"""Tasks, codes: the worst first."""
MANY: Final = 3
"""Retries are nothing to act on up to here, or up to one for each so many chunks."""
PER_CHUNKS: Final = 20
ADVICE: Final = {
    Cause.UNAVAILABLE: "look at the network and at the servers' health; fewer workers ask less of "
    "a server that throttles",
    Cause.TRANSIENT: "look at the servers' load; `ferrylog set {job} max-retries=N` raises the "
    "limit",
}


class Asked(NamedTuple):
    """What answers are given from."""

    job: str
    state: State
    told: Told
    running: bool
    """A process works on the job."""
    now_ms: int


Answer = tuple[str, str]
"""What is so, and what to do about it."""


def answers(asked: Asked) -> tuple[AnswerReport, ...]:
    """Always the same questions, in this order."""
    found = (
        ("Why is nothing processed?", _idle(asked)),
        ("Is something stuck?", _stuck(asked)),
        ("Why are there retries?", _retries(asked)),
    )
    return tuple(
        AnswerReport(question=question, answer=answer, remedy=remedy)
        for question, (answer, remedy) in found
    )


# --- nothing is processed ---


def _idle(asked: Asked) -> Answer:
    state = asked.state
    if state.status is JobStatus.MOVED:
        return f"The job has left this journal: {state.why}.", "go on where it went"
    if state.terminal:
        return f"The job is {state.status}{_because(state.why)}.", ""
    if state.status in HELD:
        return _held(asked)
    if not asked.running:
        return "No process runs the job.", _go_on(asked)
    reasons = list(_reasons(asked))
    at_work = state.count(Status.PROCESSING)
    if at_work:
        reasons.insert(0, (f"{_counted(at_work, 'task')} at work.", ""))
    if not reasons:
        return "Nothing is pending.", ""
    return " ".join(said for said, _ in reasons), "; ".join(do for _, do in reasons if do)


def _held(asked: Asked) -> Answer:
    state, event = asked.state, asked.told.asked
    by = f" by {event.by} at {when(asked.told.asked_ms)}" if event is not None else ""
    text = f"The job is {state.status}{by}{_because(state.why)}."
    if state.status in (JobStatus.PAUSING, JobStatus.STOPPING) and asked.running:
        return f"{text} {_counted(state.count(Status.PROCESSING), 'task')} at work until then.", ""
    letters = state.count(Status.FAILED)
    look = "see `ferrylog dead-letters list`, then " if letters else ""
    return text, f"{look}{_go_on(asked)}"


def _go_on(asked: Asked) -> str:
    """`resume` does the same; but nobody is to think that the job goes forward again."""
    backwards = asked.state.rollback or asked.state.status in TAKING_BACK
    return f"ferrylog {'rollback' if backwards else 'resume'} {asked.job}"


def _reasons(asked: Asked) -> Iterator[Answer]:
    state = asked.state
    for pool, breaker in state.breakers.items():
        if breaker.opened:
            yield (
                f"The breaker of the {pool} pool is open until {when(breaker.until_ms)}, after "
                f"{breaker.failures} failures in a row.",
                "look at the network and at the servers' health",
            )
    waiting = list(_tasks(state, Status.WAITING))
    if waiting:
        key, task = min(waiting, key=lambda each: each[1].not_before_ms)
        yield (
            f"{_counted(len(waiting), 'task')} waiting for a retry, the next at "
            f"{when(task.not_before_ms)}: {key.kind} of {key.entity} after {task.code}.",
            "",
        )
    if TaskKind.CREATE in held_back(state):
        left = state.size(TaskKind.PLAN, Status.PENDING) + state.size(
            TaskKind.PLAN, Status.PROCESSING
        )
        yield (
            "Nothing is written to the target before every file of the dump was looked at: those "
            f"of {left:,} units are left.",
            "",
        )
    yield from _folder(asked)
    letters = state.count(Status.FAILED)
    if letters:
        yield f"{_counted(letters, 'task')} given up.", "ferrylog dead-letters list"


def _folder(asked: Asked) -> Iterator[Answer]:
    """The work folder holds as many chunk files as it may."""
    state = asked.state
    if state.settings is None or state.spec is None:
        return
    limit = files_limit(state.settings)
    if state.size(TaskKind.DUMP, Status.PENDING) and state.files >= limit:
        yield (
            f"{state.files} chunk files wait to be restored, and no more than {limit} may.",
            f"ferrylog set {asked.job} restore-workers=N, or files-ahead=N",
        )
    stored = is_stored(state.spec.source) and state.size(TaskKind.RESTORE, Status.PENDING)
    if stored and fetched(state) >= limit:
        yield (
            f"{fetched(state)} fetched files wait to be compared, and no more than {limit} may.",
            f"ferrylog set {asked.job} dump-workers=N, or files-ahead=N",
        )


def _tasks(state: State, wanted: Status) -> Iterator[tuple[TaskKey, Task]]:
    for (_, status, _), queue in state.queues.items():
        if status is wanted:
            for key in queue:
                yield key, state.tasks[key]


# --- stuck ---


def _stuck(asked: Asked) -> Answer:
    state, settings = asked.state, asked.state.settings
    began = sorted(asked.told.began_ms.items(), key=lambda each: each[1])
    if not began or settings is None or state.resting:
        return "Nothing is at work.", ""
    longest = ", ".join(
        f"{key.kind} of {key.entity} for {span(max(0, asked.now_ms - at_ms))}"
        for key, at_ms in began[:SHOWN]
    )
    limit = f"a worker that shows no life for {span(settings.hang_ms)} is given up"
    text = f"Longest at work: {longest}; {limit}.{''.join(_full(state))}"
    if asked.now_ms - began[0][1] <= settings.hang_ms:
        return text, ""
    return text, f"ferrylog inspect explain '{began[0][0].entity}'"


def _full(state: State) -> Iterator[str]:
    assert state.settings is not None
    for pool in Pool:
        workers = workers_of(pool, state.settings)
        pending = sum(state.size(kind, Status.PENDING) for kind in POOLS[pool])
        if pending and state.busy(POOLS[pool]) >= workers:
            yield f" All {workers} workers of the {pool} pool are busy, {pending:,} tasks pending."


# --- retries ---


def _retries(asked: Asked) -> Answer:
    state, counts = asked.state, asked.told.retries
    if not state.retries:
        return "There were none.", ""
    text = f"{state.retries:,} in all."
    worst = sorted(counts.items(), key=lambda each: -each[1])[:SHOWN]
    if worst:
        codes = ", ".join(f"{count} × {code} ({cause})" for (cause, code), count in worst)
        text += f" Lately: {codes}."
    chunks = sum(unit.planned for unit in state.units.values())
    if not worst or state.retries <= max(MANY, chunks // PER_CHUNKS):
        return text, ""
    return text, ADVICE.get(Cause(worst[0][0][0]), "").format(job=asked.job)


def _because(why: str) -> str:
    return f": {why.rstrip('.')}" if why else ""


def _counted(number: int, word: str) -> str:
    return f"1 {word} is" if number == 1 else f"{number:,} {word}s are"
