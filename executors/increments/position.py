"""The target's position: to which link of a chain it was brought, by which job.

A document on the target itself, which goes wherever the target goes: after a failover, or when the
target was put back to an earlier state, it tells what the collections beside it hold. It lies in
a database of ferrylog's own, which exists while a job is at work, and no longer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from executors.increments.model import Chain
from executors.select import split
from statemachine.errors import OperatorError

PLACE: Final = "ferrylog.position"
MAJORITY: Final = "majority"


class OtherPosition(OperatorError):
    """What was found on the target is not what an increment is made for: it is not applied."""

    code = "EPOSITION001"

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(
            f"the target is not at the state that the chain goes on from: found {found}, "
            f"expected {expected}",
            remedy="begin anew with --new --drop: the full dump first, then its increments; or put "
            "the target back as this job left it",
        )


class AnotherAtWork(OperatorError):
    """Two jobs would apply increments to one target at once."""

    code = "EPOSITION002"

    def __init__(self, job: str, link: int) -> None:
        super().__init__(
            f"job {job} is applying increment {link} of a chain to this target",
            remedy=f"let it end (`ferrylog resume {job}`); where it is gone for good, remove its "
            f"mark from the target: the document with _id {job!r} in {PLACE}",
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Of one job."""

    link: int
    digest: str
    """Of the link's manifest."""
    state: Literal["open", "done"]
    shaped: bool
    """Collections are those of the link; until then some may be those of the one before it."""
    collections: Mapping[str, str]
    """The target's UUIDs by those of the source, hexadecimal. Of time series: of the buckets."""

    def __str__(self) -> str:
        return f"link {self.link} {self.state} (manifest {self.digest[:12]})"


def position_of(client: MongoClient[Any], job: str) -> Position | None:
    """Where the job has brought the target; `None` before its first increment.

    Raises `AnotherAtWork`, `PyMongoError`.
    """
    found = must_be_alone(client, job)
    if (mine := found.get(job)) is None:
        return None
    return Position(
        link=mine["link"],
        digest=mine["digest"],
        state=mine["state"],
        shaped=mine["shaped"],
        collections=mine["collections"],
    )


def must_be_alone(client: MongoClient[Any], job: str) -> dict[str, dict[str, Any]]:
    """All marks on the target, by job. Raises `AnotherAtWork`, `PyMongoError`."""
    found = {str(each["_id"]): each for each in _place(client).find({})}
    for other, each in found.items():
        if other != job and each["state"] == "open":
            raise AnotherAtWork(other, int(each["link"]))
    return found


def save(client: MongoClient[Any], job: str, position: Position) -> None:
    """Durable, with everything that was written before, when this returns. Raises `PyMongoError`.

    A majority has what lies before it in the oplog, too.
    """
    _place(client).replace_one({"_id": job}, as_mark(position), upsert=True)


def as_mark(position: Position) -> dict[str, Any]:
    """As it stands on the target."""
    return {name: getattr(position, name) for name in Position.__slots__}


def open_position(
    client: MongoClient[Any],
    job: str,
    chain: Chain,
    number: int,
    first: Callable[[], Mapping[str, str]] = dict,
    note: Callable[[Mapping[str, Any] | None], None] | None = None,
) -> Position:
    """The link is about to be applied: from the link before it, or again after a crash.

    `first`: the collections of the full dump, for the first link. `note` takes the mark that is
    replaced, before it is. Raises `OtherPosition`, `AnotherAtWork`, `PyMongoError`.
    """
    there = position_of(client, job)
    if _is(there, chain, number):
        assert there is not None
        return there
    if number == 1 and there is None:
        collections = first()
    elif there is not None and there.state == "done" and _is(there, chain, number - 1):
        collections = there.collections
    else:
        expected = f"link {number - 1} done" if number > 1 else "the full dump alone"
        raise OtherPosition(_told(there), f"{expected}, or link {number} open")
    opened = Position(
        number, chain.increments[number - 1].digest, "open", shaped=False, collections=collections
    )
    if note is not None:
        note(as_mark(there) if there is not None else None)
    save(client, job, opened)
    return opened


def position_at(client: MongoClient[Any], job: str, chain: Chain, number: int) -> Position:
    """That of a target to which the link is being applied, or was. Raises as `open_position`."""
    there = position_of(client, job)
    if there is None or not _is(there, chain, number):
        raise OtherPosition(_told(there), f"link {number} open")
    return there


def close_position(client: MongoClient[Any], job: str, chain: Chain, number: int) -> None:
    """The target is at the link's end. Raises as `open_position`."""
    there = position_at(client, job, chain, number)
    save(client, job, Position(number, there.digest, "done", there.shaped, there.collections))


def reopen_position(client: MongoClient[Any], job: str, number: int) -> None:
    """The link is no longer at its end, if the job has a mark. Raises `PyMongoError`."""
    done = {"_id": job, "link": number, "state": "done"}
    _place(client).update_one(done, {"$set": {"state": "open"}})


def put_position_back(client: MongoClient[Any], job: str, mark: Mapping[str, Any] | None) -> None:
    """The mark becomes this one again; a job that has none any more keeps none. Raises
    `PyMongoError`."""
    if mark is None:
        clear_position(client, job)
    else:
        _place(client).replace_one({"_id": job}, mark)


def clear_position(client: MongoClient[Any], job: str) -> None:
    """Forget the job, whose end is on record: before that, a crash would find nothing to go on
    from. The database goes with its last document. Raises `PyMongoError`."""
    place = _place(client)
    place.delete_one({"_id": job})
    if place.find_one({}) is None:
        place.drop()


def _is(there: Position | None, chain: Chain, number: int) -> bool:
    return (
        there is not None
        and 1 <= number == there.link
        and there.digest == chain.increments[number - 1].digest
    )


def _told(there: Position | None) -> str:
    return "no mark of this job" if there is None else str(there)


def _place(client: MongoClient[Any]) -> Collection[dict[str, Any]]:
    database, collection = split(PLACE)
    return client.get_database(database).get_collection(
        collection,
        read_concern=ReadConcern(MAJORITY),
        write_concern=WriteConcern(MAJORITY),
    )
