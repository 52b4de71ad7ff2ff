"""The cases of injected failures: which command of ferrylog a server fails, how, and for how long.

What becomes of them is tried by `failures.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Failure:
    """What the server does instead of the command."""

    name: str
    how: dict[str, Any]
    cause: str
    """What ferrylog must make of it; empty: the job must not notice."""


def refusal(code: int, cause: str, name: str) -> Failure:
    return Failure(f"{code} {name}", {"errorCode": code}, cause)


def unsure(code: int, cause: str, name: str) -> Failure:
    """The command is carried out, and the server cannot promise that it stays."""
    concern = {"code": code, "codeName": name, "errmsg": name}
    return Failure(f"write concern {code}", {"writeConcernError": concern}, cause)


FAILOVERS = (
    refusal(11600, "unavailable", "shutdown"),
    refusal(10107, "unavailable", "no primary"),
    refusal(91, "unavailable", "shutdown"),
    refusal(189, "unavailable", "stepped down"),
)
THROTTLINGS = (
    refusal(16500, "unavailable", "throttled"),
    refusal(429, "unavailable", "throttled"),
)
TIME_LIMIT = refusal(50, "transient", "time limit")
WRITE_CONFLICT = refusal(112, "transient", "write conflict")
CURSOR_LOST = refusal(43, "transient", "cursor lost")
NOT_AUTHORISED = refusal(13, "fatal", "not authorised")
UNKNOWN = refusal(8000, "permanent", "unknown")
CLOSED = Failure("connection closed", {"closeConnection": True}, "unavailable")
SLOW = Failure("slow", {"blockConnection": True, "blockTimeMS": 1500}, "")
WRITE_TIMED_OUT = unsure(64, "transient", "WriteConcernFailed")
WRITE_SHUT_DOWN = unsure(91, "unavailable", "ShutdownInProgress")


@dataclass(frozen=True)
class Case:
    """`lasts`: so many times (int), so many seconds from the first time on (float), or until the
    job stops (`None`)."""

    side: str
    command: str
    failure: Failure
    lasts: float | int | None
    exits: tuple[int, ...] = (0,)
    """Of `start`."""
    mode: str = "coordinated"
    settings: tuple[tuple[str, str], ...] = ()
    early: bool = False
    """From the first command on, before there is a job."""

    @property
    def name(self) -> str:
        how_long = {int: f"{self.lasts} times", float: f"{self.lasts} s", type(None): "to the end"}
        more = "".join(f", {name[9:]}={value}" for name, value in self.settings)
        more += ", before there is a job" if self.early else ""
        words = (self.mode, self.side, self.command, self.failure.name, how_long[type(self.lasts)])
        return ", ".join(words) + more.lower()

    def __str__(self) -> str:
        return self.name


PLACES = (
    ("target", "insert"),
    ("target", "createIndexes"),
    ("source", "find"),
    ("source", "getMore"),
    ("source", "listCollections"),
)
SPARED = {"find": 1, "listCollections": 3}
"""Commands to the source before there is a job: who it is, what its databases hold, `admin` among
them."""
SILENT = ("find", "getMore")
"""What an attempt may overcome by itself, going on at the last key."""
ENDS = {"createIndexes": (3,), "getMore": (0, 5)}
"""Of a permanent failure, where it is not a pause: an index fails no data, and small enough parts
of a chunk need no `getMore`."""


def cases() -> Iterator[Case]:
    """The whole table."""
    for side, command in PLACES:
        for failure in (*FAILOVERS, *THROTTLINGS, CLOSED):
            yield Case(side, command, failure, 1.5)
        yield Case(side, command, TIME_LIMIT, 4 if command not in SPARED else 0.4)
        yield Case(side, command, NOT_AUTHORISED, None, exits=(5,))
        yield Case(side, command, UNKNOWN, None, exits=ENDS.get(command, (5,)))
        yield Case(side, command, SLOW, 4)
    yield Case("source", "getMore", CURSOR_LOST, 8)
    yield Case("source", "find", UNKNOWN, 3)
    for failure in (FAILOVERS[0], CLOSED):
        for command in SPARED:
            yield Case("source", command, failure, None, exits=(1,), early=True)
    yield Case("source", "listCollections", NOT_AUTHORISED, None, exits=(1,), early=True)
    yield from of_breakers()
    for mode in ("coordinated", "direct"):
        yield from of_writes(mode)
    for failure in (FAILOVERS[0], THROTTLINGS[0], CLOSED):
        yield Case("target", "insert", failure, 1.5, mode="direct")
        yield Case("source", "getMore", failure, 1.5, mode="direct")
    for failure in (NOT_AUTHORISED, UNKNOWN):
        yield Case("target", "insert", failure, None, exits=(5,), mode="direct")


def of_writes(mode: str) -> Iterator[Case]:
    yield Case("target", "insert", WRITE_CONFLICT, 4, mode=mode)
    yield Case("target", "insert", WRITE_TIMED_OUT, 4, mode=mode)
    yield Case("target", "insert", WRITE_SHUT_DOWN, 4, mode=mode)
    yield Case("target", "createIndexes", WRITE_TIMED_OUT, 2, mode=mode)
    yield Case("target", "create", WRITE_SHUT_DOWN, 2, mode=mode)
    yield Case("target", "insert", UNKNOWN, 2, mode=mode)


def of_breakers() -> Iterator[Case]:
    """With few failures to a breaker, and an outage that is longer than patience."""
    few = (("FERRYLOG_BREAKER_FAILURES", "4"),)
    yield Case("target", "insert", THROTTLINGS[0], 2.0, settings=few)
    yield Case("source", "find", FAILOVERS[1], 2.0, settings=few)
    impatient = (("FERRYLOG_PATIENCE", "1"),)
    yield Case("target", "insert", CLOSED, None, exits=(5,), settings=impatient)
    yield Case("source", "find", THROTTLINGS[1], None, exits=(5,), settings=impatient)
