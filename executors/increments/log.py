"""The log of an increment, replayed: a target at the end of one link goes on to a time in the next.

Events are applied in their order. Between two events that change collections, those that change
documents are applied in net form, a run at a time: for each document what the last of its events
leaves, made of the document on the target where only updates tell of it. How far the target is,
in events, stands on the target itself (`Mark`), behind each run and each change of a collection:
so a crash repeats no more than one of them. That is harmless:

- A run that is repeated meets documents as they were before it or as it left them. Its diffs,
  applied again from the first on, lead to the same document (see `diff`); of one that is gone,
  which its last event then erases or made, updates are passed over.
- A change of a collection that is there already is left as it is (see `ddl`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pymongo import MongoClient
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from executors.compare import fields
from executors.dumps.manifest import file_blocks
from executors.dumps.model import Part
from executors.increments.ahead import Ahead
from executors.increments.ddl import apply_ddl, is_carried, named
from executors.increments.errors import CannotCarry
from executors.increments.logfile import LOG, LogWriter, log_parts, time_of
from executors.increments.model import position_of
from executors.increments.net import Run, write_net
from executors.increments.position import MAJORITY, PLACE, OtherPosition
from executors.protocol import Stopped, StopToken
from executors.rawbson import documents
from executors.select import split
from statemachine.events import JobSpec
from statemachine.stimuli import Applying

__all__ = ["LOG", "LogWriter", "log_parts", "replay"]

_FIELD: Final = "log"
"""In the document that tells the target's position: it comes and goes with that."""


class Mark(NamedTuple):
    """How far the target has the log; documents and bytes written on the way."""

    events: int = 0
    documents: int = 0
    erased: int = 0
    bytes: int = 0


def replay(
    client: MongoClient[Any],
    spec: JobSpec,
    job: str,
    folder: Path,
    parts: Sequence[Part],
    until: str,
    stop: StopToken,
    ahead: Ahead | None = None,
) -> Iterator[Applying]:
    """Apply the events up to the cluster time `until`, and with it, from where the target is; yield
    after each block of the log that the target has, by a majority. The last yield is the whole.

    `folder` is the link's. `position` counts the bytes of all its parts. The job has opened the
    target's position for this link. `client` should be patient: indexes are built. `ahead` takes
    what brings the target back.

    Raises `CannotCarry`, `UnknownChange`, `TargetDiffers`, `OtherPosition`, `DamagedDump`,
    `PyMongoError`, `Stopped`, and `ValueError` for an event of a form that is not known.
    """
    replayer = _Replayer(client, spec, job, position_of(until), stop, ahead)
    whole, began = sum(part.file_bytes for part in parts), replayer.mark.events
    seen = at = 0
    for part in parts:
        if seen + part.documents > replayer.mark.events and not replayer.ended:
            for block, begin in file_blocks(folder, part, stop):
                if begin and seen > began:
                    yield replayer.told(at + begin)
                replayer.take(list(documents(block.data)), seen)
                seen += block.documents
                if replayer.ended:
                    break
        else:
            seen += part.documents
        at += part.file_bytes
    yield replayer.told(whole)


class _Replayer:
    """Applies events in their order; `mark` tells what the target has."""

    def __init__(
        self,
        client: MongoClient[Any],
        spec: JobSpec,
        job: str,
        end: tuple[int, int],
        stop: StopToken,
        ahead: Ahead | None,
    ) -> None:
        self._ahead = ahead
        self._client = client
        self._spec = spec
        self._job = job
        self._end = end
        self._stop = stop
        self.mark = _read(client, job)
        self.ended = False
        """An event behind the end was seen."""

    def told(self, position: int) -> Applying:
        mark = self.mark
        return Applying(position, None, mark.documents, mark.erased, mark.bytes)

    def take(self, events: Sequence[bytes], seen: int) -> None:
        """Apply what the target does not have of these, before which the log holds `seen`."""
        run = Run(self._spec)
        for number, event in enumerate(events, seen + 1):
            if time_of(event) > self._end:
                self.ended = True
                break
            if number <= self.mark.events:
                continue
            if run.holds(event):
                run.events = number
                continue
            self._write(run)
            self._change(event, number)
            run = Run(self._spec)
        self._write(run)

    def _write(self, run: Run) -> None:
        if run.events <= self.mark.events:
            return
        mark = self.mark
        for target, rows in run.targets.items():
            told = write_net(self._client, target, rows, self._spec, self._stop, self._ahead)
            mark = Mark(
                0,
                mark.documents + told.documents,
                mark.erased + told.erased,
                mark.bytes + told.bytes,
            )
        self._reached(mark._replace(events=run.events))

    def _change(self, event: bytes, number: int) -> None:
        if self._stop.is_set():
            raise Stopped
        _refuse_capped(event, self._spec)
        apply_ddl(self._client, event, self._spec, self._stop, self._ahead)
        self._reached(self.mark._replace(events=number))

    def _reached(self, mark: Mark) -> None:
        """Durable on the target when this returns, with all that was written before."""
        found = _place(self._client).update_one(
            {"_id": self._job}, {"$set": {_FIELD: mark._asdict()}}
        )
        if not found.matched_count:
            raise OtherPosition("no mark of this job", "the link open")
        self.mark = mark


def _read(client: MongoClient[Any], job: str) -> Mark:
    found = _place(client).find_one({"_id": job}) or {}
    return Mark(**found.get(_FIELD, {}))


def _place(client: MongoClient[Any]) -> Any:
    database, collection = split(PLACE)
    return client.get_database(database).get_collection(
        collection,
        read_concern=ReadConcern(MAJORITY),
        write_concern=WriteConcern(MAJORITY),
    )


def _refuse_capped(event: bytes, spec: JobSpec) -> None:
    """Repeated inserts would push others out; and of one that is made of another collection the
    documents are in no event."""
    told = fields(event)
    if told["operationType"] != "create" or not told["operationDescription"].get("capped"):
        return
    if is_carried(source := named(told["ns"]), spec):
        raise CannotCarry(source, "it is capped, and such a collection cannot be replayed")
