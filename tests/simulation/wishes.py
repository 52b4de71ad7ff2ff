"""What an operator may ask for in a given state: sense and nonsense."""

from collections.abc import Callable, Iterator, Mapping
from random import Random

from statemachine.state import State
from statemachine.stimuli import (
    AddAsked,
    Asked,
    CommitAsked,
    CutoverAsked,
    DropAsked,
    ExcludeAsked,
    PauseAsked,
    PriorityAsked,
    RequeueAsked,
    RollbackAsked,
    SetAsked,
    SplitAsked,
    StopAsked,
)
from statemachine.words import ChunkId, Status, TaskKind, UnitId

WORKERS = ("dump_workers", "restore_workers", "shards_in_flight")
Number = Callable[[], int]
"""A new number for a request."""


def dead_letters(state: State, number: Number, _random: Random | None = None) -> Iterator[Asked]:
    followed = state.spec is not None and state.spec.follow  # here it is copied as it was at first
    for chunk in () if followed else state.flawed.values():
        yield RequeueAsked("me", chunk.id, number())
    for key, task in state.tasks.items():
        if task.status is Status.FAILED:
            yield RequeueAsked("me", key.entity, number(), key.kind)


def _pauses(state: State, number: Number, random: Random) -> Iterator[Asked]:
    yield PauseAsked("me", "simulated", number(), immediate=random.random() < 0.5)


def _stops(state: State, number: Number, random: Random) -> Iterator[Asked]:
    immediate, rollback = random.random() < 0.5, random.random() < 0.5
    yield StopAsked("me", "simulated", number(), immediate, rollback)


def _settings(state: State, number: Number, random: Random) -> Iterator[Asked]:
    for name in (*WORKERS, "files_ahead", "breaker_failures"):
        yield SetAsked("me", name, random.randint(1, 6), number())
    for retry in ("fixed", "linear", "exponential"):
        yield SetAsked("me", "retry", retry, number())
    yield SetAsked("me", "jitter", random.choice(("none", "full", "decorrelated")), number())


def _priorities(state: State, number: Number, random: Random) -> Iterator[Asked]:
    for entity in (*state.units, *state.chunks):
        yield PriorityAsked("me", entity, random.randint(-2, 2), number())


def _exclusions(state: State, number: Number, random: Random) -> Iterator[Asked]:
    yield from (ExcludeAsked("me", unit, number()) for unit in state.open_units)


def _additions(state: State, number: Number, random: Random) -> Iterator[Asked]:
    yield AddAsked("me", ("db.late",), number())


def _splits(state: State, number: Number, random: Random) -> Iterator[Asked]:
    yield from (SplitAsked("me", chunk, number()) for chunk in state.chunks)


def _drops(state: State, number: Number, random: Random) -> Iterator[Asked]:
    for key, task in state.tasks.items():
        if task.status is Status.FAILED:
            yield DropAsked("me", key.entity, key.kind, number())


def _nonsense(state: State, number: Number, random: Random) -> Iterator[Asked]:
    yield SetAsked("me", "dump_workers", 0, number())
    yield SetAsked("me", "moon", "full", number())
    yield SetAsked("me", "dump_workers", 10**9, number())
    yield PriorityAsked("me", "db.nowhere", 1, number())
    yield PriorityAsked("me", next(iter(state.units), ""), 10, number())
    yield ExcludeAsked("me", UnitId("db.nowhere"), number())
    yield AddAsked("me", (), number())
    yield SplitAsked("me", ChunkId("db.nowhere#0"), number())
    yield RequeueAsked("me", "db.nowhere#0", number())
    yield RequeueAsked("me", "job", number(), TaskKind.SURVEY)
    yield DropAsked("me", "job", TaskKind.SURVEY, number())


def cutovers(state: State, number: Number, random: Random | None = None) -> Iterator[Asked]:
    """Of a job that follows nothing it is refused."""
    yield CutoverAsked("me", number())


def _rollbacks(state: State, number: Number, random: Random) -> Iterator[Asked]:
    """Of a job at which somebody is at work: it is refused."""
    if not state.resting:
        yield RollbackAsked("me", "simulated", (), number())


def _commits(state: State, number: Number, random: Random) -> Iterator[Asked]:
    if not state.resting:
        yield CommitAsked("me", number())


WISHES: Mapping[str, Callable[[State, Number, Random], Iterator[Asked]]] = {
    "pause": _pauses,
    "stop": _stops,
    "set": _settings,
    "priority": _priorities,
    "exclude": _exclusions,
    "add": _additions,
    "split": _splits,
    "requeue": dead_letters,
    "drop": _drops,
    "cutover": cutovers,
    "rollback": _rollbacks,
    "commit": _commits,
    "nonsense": _nonsense,
}
"""By the name of the odds that decide when they come."""
