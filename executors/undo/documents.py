"""What was done to documents, taken back: exactly that, and nothing of what others did since.

A step is undone where our document still lies. Where what lay there before lies there again, it is
undone already, so a log may be undone twice, or after a crash. Everything else stays as it is, and
is told. Rows are taken from the last to the first, each as of when it was written: so what was
possible then, unique indexes and all, is possible on the way back.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from executors.boundaries import to_key
from executors.classify import without_values
from executors.protocol import StopToken
from executors.rawbson import (
    documents,
    equal_but_for_empty_timestamps,
    id_of,
)
from executors.rejected import shown
from executors.undo.log import rows, rows_backwards
from executors.undo.recording import SUM_BYTES, comparable, erased, inserted, replaced, sum_of
from executors.undo.there import There
from executors.write import NO_DOCUMENT
from statemachine.events import JobSpec
from statemachine.stimuli import Undone

__all__ = ["erased", "inserted", "replaced", "undo_documents"]

MAX_NAMED: Final = 10
"""Documents that stay, by name."""
WORKERS: Final = 4
"""Transactions that delete at the same time."""
MOST_AT_ONCE: Final = 2500
"""Steps of one transaction: it keeps others waiting, and servers end it after a minute."""
BYTES_AT_ONCE: Final = 8 << 20
"""Of documents, about; as one who reads them finds out."""
READ_AT_ONCE: Final = 64 << 20
"""By one transaction, about, whatever it was told to expect."""
MOST_REMEMBERED: Final = 100_000
"""Documents that stay: after a crash a log may tell of one twice."""
GONE: Final = "its collection is gone"
CHANGED: Final = "it was changed since"
DELETED: Final = "it was deleted since"
REFUSED: Final = (20, 66, 10003, 10101, 11000)
"""What servers say where a document can neither go nor come: the rules of capped collections, and
what somebody else put in its place."""


class _TooLarge(Exception):
    """What lies there is too much for one transaction."""


class Step(NamedTuple):
    """What was done under one `_id`."""

    key: bytes
    """`{_id}`."""
    sum: bytes = b""
    """Of our document; empty: we left none."""
    before: bytes = b""
    """What lay there; empty: nothing."""
    stamped: bytes = b""
    """Instead of a sum: our document, whose empty timestamps the server may have filled."""


def undo_documents(
    client: MongoClient[Any], path: Path, spec: JobSpec, stop: StopToken, called: str = ""
) -> Undone:
    """Take back what the log at `path` tells of documents, from the last row to the first. Rows
    of another kind are passed over. `called`: the name that their collection has now, if another.
    Memory: a lot of documents, and 8 bytes a row.

    Raises `PyMongoError`, `OSError`, `Stopped`.
    """
    about = next((row for row in rows(path) if row["k"] == "documents"), None)
    if about is None:
        return Undone()
    back = Back(There(client, called or about["ns"], about["type"], spec, stop))
    back.take(steps_of(path))
    return back.told()


def steps_of(path: Path) -> Iterator[Step]:
    """What the log tells of documents, from the last to the first."""
    for row in rows_backwards(path):
        match row["k"]:
            case "inserted":
                yield from _inserted(row)
            case "stamped":
                ours = bytes(row["ours"].raw)
                yield Step(id_of(ours), stamped=ours)
            case "replaced":
                before = bytes(row["before"].raw)
                yield Step(id_of(before), row["sum"], before)
            case "erased":
                before = bytes(row["before"].raw)
                yield Step(id_of(before), before=before)


def _inserted(row: RawBSONDocument) -> Iterator[Step]:
    sums = row["sums"]
    for number, key in enumerate(documents(row["ids"])):
        yield Step(key, sums[number * SUM_BYTES : (number + 1) * SUM_BYTES])


@dataclass(slots=True)
class Back:
    """Undoes steps in one collection, and counts."""

    there: There
    removed: int = 0
    restored: int = 0
    kept: int = 0
    named: list[str] = field(default_factory=list)
    _many: int = 500
    """Steps of one transaction."""
    _remembered: set[bytes] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def told(self) -> Undone:
        done = ((self.removed, "removed"), (self.restored, "put back"), (self.kept, "kept"))
        counts = ", ".join(f"{count} {what}" for count, what in done if count)
        said = (f"{self.there.namespace}: documents {counts}",) if counts else ()
        return Undone(self.removed + self.restored, self.kept, (*said, *self.named))

    def take(self, steps: Iterator[Step]) -> None:
        """Undo all of them, in this order. Raises `PyMongoError`, `Stopped`."""
        lot: dict[bytes, Step] = {}
        size = puts = 0
        for step in steps:
            same = comparable(step.key)
            other = bool(step.before) != bool(puts)
            most = self._many if step.before else WORKERS * self._many
            if lot and (other or same in lot or len(lot) >= most or size >= BYTES_AT_ONCE):
                self._undo_all(lot)
                lot, size, puts = {}, 0, 0
            lot[same] = step
            size += len(step.before) + len(step.key)
            puts = len(step.before)
        if lot:
            self._undo_all(lot)

    def _undo_all(self, lot: dict[bytes, Step]) -> None:
        """What is deleted needs no order."""
        every = iter(lot.items())
        parts = list(iter(lambda: dict(islice(every, self._many)), {}))
        with ThreadPoolExecutor(WORKERS) as pool:
            for _ in pool.map(self._undo, parts):
                pass

    def _undo(self, lot: dict[bytes, Step]) -> None:
        """Steps of one kind, no two of one document. By halves where that is too much; where the
        server refuses the whole for one of them, that one is looked for so: it stays as it is."""
        try:
            self._undo_at_once(lot)
        except _TooLarge:
            self._undo_halves(lot)
        except OperationFailure as error:
            if error.code not in (*NO_DOCUMENT, *REFUSED):
                raise
            if len(lot) > 1:
                self._undo_halves(lot)
                return
            ((same, step),) = lot.items()
            if step.before or error.code in REFUSED:  # else: what it cannot even look for
                with self._lock:
                    self._keep(same, step, without_values(str(error)))

    def _undo_halves(self, lot: dict[bytes, Step]) -> None:
        every = list(lot.items())
        self._undo(dict(every[: len(every) // 2]))
        self._undo(dict(every[len(every) // 2 :]))

    def _undo_at_once(self, lot: dict[bytes, Step]) -> None:
        looked = _Looked()

        def work(session: ClientSession) -> None:
            nonlocal looked
            looked = self._look(lot, session)
            if looked.put:
                self.there.put(list(looked.put.values()), session)
            if looked.delete:
                self.there.delete(looked.delete, session)

        self.there.change(work)
        mean = looked.read // len(lot) + 1
        with self._lock:
            self._many = max(1, min(MOST_AT_ONCE, BYTES_AT_ONCE // mean))
            self.restored += len(looked.put)
            self.removed += len(looked.delete)
            for same, why in looked.keep:
                self._keep(same, lot[same], why)

    def _look(self, lot: dict[bytes, Step], session: ClientSession) -> "_Looked":
        looked, rest = _Looked(), dict(lot)
        for document in self.there.find([step.key for step in lot.values()], session):
            looked.read += len(document)
            if looked.read > READ_AT_ONCE and len(lot) > 1:
                raise _TooLarge
            key = id_of(document)
            step = rest.pop(same := comparable(key), None)
            if step is None or document == step.before:
                continue  # another document that a collation finds; or undone already
            if not is_ours(step, document):
                looked.keep.append((same, CHANGED))
            elif step.before:
                looked.put[same] = step.before
            else:
                looked.delete.append(key)
        for same, step in rest.items():
            self._missing(same, step, looked)
        # What was written last goes first.
        looked.put = {same: looked.put[same] for same in lot if same in looked.put}
        return looked

    def _missing(self, same: bytes, step: Step, looked: "_Looked") -> None:
        """Nothing lies there."""
        if step.before and not self.there.exists:
            looked.keep.append((same, GONE))
        elif step.sum and step.before:
            looked.keep.append((same, DELETED))
        elif step.before:
            looked.put[same] = step.before

    def _keep(self, same: bytes, step: Step, why: str) -> None:
        if same in self._remembered:
            return
        self.kept += 1
        if len(self._remembered) < MOST_REMEMBERED:
            self._remembered.add(same)
        if len(self.named) < MAX_NAMED:
            key = shown(to_key(step.key))
            self.named.append(f"{self.there.namespace} _id {key}: kept, {why}")


@dataclass(slots=True)
class _Looked:
    """What is to be done about a lot."""

    read: int = 0
    """Bytes."""
    put: dict[bytes, bytes] = field(default_factory=dict)
    delete: list[bytes] = field(default_factory=list)
    keep: list[tuple[bytes, str]] = field(default_factory=list)


def is_ours(step: Step, document: bytes) -> bool:
    if step.stamped:
        return equal_but_for_empty_timestamps(step.stamped, document)
    return sum_of(document) == step.sum
