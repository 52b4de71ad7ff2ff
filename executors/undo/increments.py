"""What a chain did to a target, taken back link by link: settled, applied, shaped, in reverse.

Each task of a link has its log (`executors.increments.ahead`), of which rows are taken back from
the last to the first, each under the names of its time. What is undone is taken off the log: what
goes on after a crash begins where the names are as the rows know them.

Shards were applied at once. What one of them cannot take back before another one is (`inverse`),
and the documents that gave way, come with the shape of their link, the last of its undos.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from executors.batches import RAW
from executors.commands import listed_indexes, there
from executors.compare import fields, is_index
from executors.folder import folder_name
from executors.increments.ahead import OF_DOCUMENTS, UNSAID
from executors.increments.inverse import About, Inverse, Tally, steps_of
from executors.increments.position import put_position_back, reopen_position
from executors.protocol import Stopped, StopToken
from executors.rawbson import id_of
from executors.survey import Namespace
from executors.undo.aside import Row
from executors.undo.catalogue import _Undoing
from executors.undo.log import rows, rows_at, undo_path
from executors.undo.recording import weight
from statemachine.events import JobSpec
from statemachine.state import Undo
from statemachine.stimuli import Undone
from statemachine.words import THE_JOB, ShardId, TaskKey, TaskKind

FOLLOWED: Final = Undone(
    changes=(
        "what was followed is not taken back by itself: collections that the job made go with "
        "--force",
    )
)
PIECE_DOCUMENTS: Final = 1000
PIECE_BYTES: Final = 4 << 20
"""That are taken back at once, about; a row may hold the keys of a whole block."""


def undo_increment(
    client: MongoClient[Any],
    spec: JobSpec,
    folder: Path,
    undo: Undo,
    stop: StopToken,
    *,
    force: bool = False,
) -> Undone:
    """Take back a shape, an apply, a settle, or tell of a follow. `folder`: the job's own. Again,
    or after a crash, what is undone stays so. `force`: collections that the job made go, whatever
    others wrote to them. `client` should be a patient one: indexes are built.

    Raises `Refused`, `PyMongoError`, `OSError`, `Stopped`.
    """
    back = _Back(client, spec, folder, stop, force=force)
    match undo.task:
        case TaskKind.APPLY:
            return back.applied(ShardId(undo.entity))
        case TaskKind.SHAPE:
            return back.shaped(undo.entity)
        case TaskKind.SETTLE if undo.entity != THE_JOB:
            return back.settled(undo.entity)
    return FOLLOWED


class Piece(NamedTuple):
    """A row of the catalogue, or some rows of the documents of one collection."""

    at: int
    end: int
    about: About | None
    """`None`: of the catalogue."""
    run: int = 0
    """Which of the runs that the log tells apart: in one no document comes twice."""


def pieces(path: Path) -> list[Piece]:
    """All of a log, in the order of writing. Raises `OSError`."""
    found: list[Piece] = []
    about: About | None = None
    count = size = run = 0
    for begin, at, row in rows_at(path):
        kind = row["k"]
        if kind == "documents":
            about, run = (row["ns"], row["type"]), run + 1
        elif kind not in OF_DOCUMENTS:
            found.append(Piece(begin, at, None))
        else:
            last = found[-1] if found else None
            more, weighs = weight(row)
            room = count + more <= PIECE_DOCUMENTS and size + weighs <= PIECE_BYTES
            if last is not None and last.end == begin and last.run == run and room:
                found[-1] = last._replace(end=at)
                count, size = count + more, size + weighs
            else:
                found.append(Piece(begin, at, about, run))
                count, size = more, weighs
    return found


def _backwards(path: Path, piece: Piece) -> Iterator[RawBSONDocument]:
    found: list[RawBSONDocument] = []
    for _, end, row in rows_at(path, piece.at):
        found.append(row)
        if end == piece.end:
            break
    return reversed(found)


class _Log(NamedTuple):
    path: Path
    pieces: Sequence[Piece]
    again: bool = False
    """What others changed was told when it was taken back first."""


class _Back:
    def __init__(
        self,
        client: MongoClient[Any],
        spec: JobSpec,
        folder: Path,
        stop: StopToken,
        *,
        force: bool,
    ) -> None:
        self._client = client
        self._spec = spec
        self._folder = folder
        self._stop = stop
        self._force = force

    def applied(self, shard: ShardId) -> Undone:
        """A log that was replayed is one shard, and nothing else is to be waited for; of others
        the rest is left for `shaped`."""
        path = undo_path(self._folder, TaskKey(TaskKind.APPLY, shard))
        every = pieces(path)
        if any(piece.about is None for piece in every):
            return self._log(path)
        tally = self._documents([_Log(path, every)])
        if not tally.waits and not tally.gone:
            _cut(path, 0)
        return _told(tally)

    def settled(self, entity: str) -> Undone:
        done = self._log(undo_path(self._folder, TaskKey(TaskKind.SETTLE, entity)))
        reopen_position(self._client, self._folder.name, int(entity.partition(":")[2]))
        return done

    def shaped(self, entity: str) -> Undone:
        """What is left of the link's documents first: names change with the rest."""
        applied = self._of_shards(TaskKind.APPLY, entity)
        moved = self._of_shards(TaskKind.SHAPE, entity)
        logs = [_Log(path, pieces(path), again=path in applied) for path in (*applied, *moved)]
        first = self._documents(logs, last=True)
        for log in logs:
            _cut(log.path, 0)
        done = self._log(undo_path(self._folder, TaskKey(TaskKind.SHAPE, entity)))
        return _sum(_told(first), done)

    def _of_shards(self, kind: TaskKind, entity: str) -> list[Path]:
        """Logs of this link's shards, or of what gave way to them (`moved_by`)."""
        folder = undo_path(self._folder, TaskKey(kind, entity)).parent
        return sorted(folder.glob(folder_name(f"{entity}#") + "*.bson"))

    def _documents(self, logs: Sequence["_Log"], *, last: bool = False) -> Tally:
        """Again and again, while fewer wait. `last`: nothing else is to come, so those that wait
        then wait for one another, or for what others wrote."""
        done, waits = 0, 0
        while True:
            tally = self._pass(logs, Tally(last))
            done += tally.done
            if tally.waits in (0, waits):
                break
            waits = tally.waits
        if last:
            done += self._exchanged(tally)
        tally.done = done
        return tally

    def _pass(self, logs: Sequence["_Log"], tally: Tally) -> Tally:
        inverse = dict[About, Inverse]()
        for path, every, again in logs:
            for piece in reversed(every):
                about = piece.about
                if about is None:  # an index that was shown
                    row = next(_backwards(path, piece))
                    self._catalogue(path).take(fields(bytes(row.raw)))
                    continue
                if about not in inverse:
                    inverse[about] = Inverse(self._client, about, self._spec, self._stop)
                steps = steps_of(_backwards(path, piece))
                inverse[about].take_back(steps, tally, again=again)
        return tally

    def _exchanged(self, tally: Tally) -> int:
        done = 0
        for about in dict.fromkeys(about for about, _ in tally.waiting):
            waiting = [each for other, each in tally.waiting if other == about]
            inverse = Inverse(self._client, about, self._spec, self._stop)
            if inverse.exchange(waiting):
                done += len(waiting)
                continue
            for each in waiting:
                tally.name(about, id_of(each), "others hold its place")
        tally.waits -= done
        return done

    def _log(self, path: Path) -> Undone:
        """Row by row and run by run, under the names of their time; what is undone is off the
        log."""
        every, catalogue = pieces(path), self._catalogue(path)
        left = [fields(bytes(row.raw)) for row in rows(path) if row["k"] not in OF_DOCUMENTS]
        done = Undone()
        while every:
            if self._stop.is_set():
                raise Stopped
            stretch = [every.pop()]
            if stretch[0].about is None:
                catalogue.take(left.pop(), left)
            else:
                while every and every[-1].run == stretch[0].run:
                    stretch.insert(0, every.pop())
                tally = self._documents([_Log(path, stretch)], last=True)
                done = _sum(done, _told(tally))
            _cut(path, stretch[0].at)
        return _sum(done, Undone(catalogue.documents, catalogue.kept, tuple(catalogue.changes)))

    def _catalogue(self, path: Path) -> "_Catalogue":
        catalogue = _Catalogue(self._client, self._spec, path, force=self._force)
        catalogue.job = self._folder.name
        return catalogue


class _Catalogue(_Undoing):
    """Takes back rows of the catalogue, one by one."""

    job = ""

    def take(self, row: Row, earlier: Sequence[Row] = ()) -> None:
        """`earlier`: the rows that are still to be taken back."""
        self._rows = list(earlier)
        match row["k"]:
            case "mark":
                before = row["before"]
                mark = bson.decode(before.raw) if before is not None else None
                put_position_back(self.client, self.job, mark)
            case "kept" | "renamed" | "saved":
                self._dealt.discard(row["ns"])  # what was made under the name before is another
                self._undo(row)
            case _:
                self._undo(row)

    def _gone(self, what: str) -> None:
        """Collections of the job's own were freed at its end; they would go anyway."""
        self.changes.append(what)

    def _changed(self, so: Row) -> str | None:
        if "before" not in so:
            return super()._changed(so)
        found = there(self.client, so["ns"])
        if found is None:
            return ""
        if found.uuid != so["uuid"]:
            return f"{found.name}: it is another collection by now"
        return _changed_options(found, so) if "options" in so else self._changed_one(found, so)

    def _changed_one(self, found: Namespace, so: Row) -> str | None:
        now = listed_indexes(self.client, found).get(so["name"])
        if _is_index(now, so["before"]):
            return ""
        if _is_index(now, so["ours"]):
            return None
        return f"index {so['name']} of {found.name}: it is another one by now"


def _is_index(one: RawBSONDocument | None, other: RawBSONDocument | None) -> bool:
    if one is None or other is None:
        return one is other
    return is_index(fields(bytes(one.raw)), fields(bytes(other.raw)))


def _changed_options(found: Namespace, so: Row) -> str | None:
    """As it is with options of a collection that one command changed."""
    stands = fields(found.options)
    ours, before = (fields(bytes(so[name].raw)) for name in ("options", "before"))
    now = {name: stands.get(name, UNSAID.get(name)) for name in ours}
    if all(_same(now[name], before[name]) for name in now):
        return ""
    if all(_same(now[name], ours[name]) for name in now):
        return None
    return f"options of {found.name}: {', '.join(now)} are others by now"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return bson.encode({"": one}, codec_options=RAW) == bson.encode({"": other}, codec_options=RAW)


def _cut(path: Path, size: int) -> None:
    """Durable when this returns."""
    if path.is_file():
        with path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())


def _told(tally: Tally) -> Undone:
    kept = tally.changed + (tally.gone + tally.waits if tally.last else 0)
    counts = {"removed or put back": tally.done, "kept": kept}
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    changes = (f"documents {said}",) if said else ()
    return Undone(tally.done, kept, (*changes, *tally.named))


def _sum(one: Undone, other: Undone) -> Undone:
    return Undone(
        one.documents + other.documents,
        one.kept + other.kept,
        (*one.changes, *other.changes),
    )
