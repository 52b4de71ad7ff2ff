"""What a job brought to a collection that was not there before, or held nothing, taken out again.

Nothing was written down for that: the proof that a document is the job's own is that the job can
tell what it brought. The sums of what it verified tell it of all documents at once; where they do
not agree with what lies there now (others wrote, an attempt was killed, nothing was verified), the
documents are compared one by one with the files that they came from, where those still lie, or with
the source as it is now. What nobody can prove stays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from executors.batches import Range
from executors.boundaries import from_key, to_key
from executors.chunkfile import DamagedFile
from executors.commands import drop, there
from executors.dump import as_called, mean_bytes
from executors.dumps.errors import DamagedDump
from executors.dumps.restoring import DumpSource
from executors.errors import CollectionGone, OtherCollection
from executors.fingerprint import (
    MODULUS,
    NOTHING,
    Fingerprint,
    digest_of,
    fingerprint,
    fingerprint_of,
    key_of,
)
from executors.folder import inside
from executors.protocol import StopToken
from executors.rawbson import as_stored, documents, id_of
from executors.rejected import shown
from executors.rows import rows
from executors.sides import InFile, InRange, Lookup, Side, each_of, lots_of
from executors.source import data_of, range_of
from executors.undo.documents import MAX_NAMED, Back, Step, steps_of
from executors.undo.log import UndoLog, undo_path
from executors.undo.log import rows as rows_of
from executors.undo.recording import Recorder, comparable, is_stamped, sum_of
from executors.undo.there import There
from executors.verify import stands_for_range
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.state import Chunk, ChunkFile, Undo, Unit, transforms
from statemachine.stimuli import Undone
from statemachine.words import ChunkId, TaskKey, TaskKind, undo_task

UNPROVEN: Final = "neither its file nor the source is there to compare with"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where documents came from, as far as that is still there."""

    folder: Path
    """The job's own."""
    dump: DumpSource | None = None
    source: MongoClient[Any] | None = None
    read_preference: str = "primary"


def unload(
    client: MongoClient[Any],
    unit: Unit,
    chunks: Sequence[Undo],
    spec: JobSpec,
    origin: Origin,
    stop: StopToken,
    *,
    force: bool = False,
) -> Undone:
    """Take out of the unit's collection what this job brought, and nothing else.

    `unit.target` is the name that it bears now; `chunks`: what was to be undone of the unit's
    chunks. A collection that we made is dropped when all that it holds is proven to be ours, or by
    `force`. Again, or after a crash, it goes on. Raises `PyMongoError`, `OSError`, `Stopped`.
    """
    found = there(client, unit.target)
    if found is None or found.type == "view" or found.uuid != unit.target_uuid:
        return Undone()  # gone, or another one, with which this job has nothing to do
    loaded = _Loaded(client, unit, chunks, spec, origin, stop)
    count = loaded.count()
    if not count:
        return Undone()
    ours = (force and unit.found == "nothing") or loaded.is_ours(count)
    if ours and unit.found == "nothing" and (force or loaded.count() == count):
        return loaded.drop(count)
    return loaded.pick()


def take_out(
    client: MongoClient[Any],
    unit: Unit,
    chunk: Undo,
    spec: JobSpec,
    origin: Origin,
    stop: StopToken,
) -> Undone:
    """Take out what one chunk brought to a collection of the job's own that stays, and nothing
    else; as `unload`."""
    found = there(client, unit.target)
    if found is None or found.uuid != unit.target_uuid:
        return Undone()
    return _Loaded(client, unit, (chunk,), spec, origin, stop).part(chunk)


@dataclass(slots=True)
class _Loaded:
    client: MongoClient[Any]
    unit: Unit
    chunks: Sequence[Undo]
    spec: JobSpec
    origin: Origin
    stop: StopToken
    notes: list[str] = field(default_factory=list)
    _proven: list[tuple[InRange, Fingerprint]] = field(default_factory=list)
    """Of the target: all that lay there was ours."""
    _sides: list[Side] = field(default_factory=list)
    """From elsewhere: what lies in the target as well is ours."""

    # --- the proof ---

    def is_ours(self, count: int) -> bool:
        """Whether each of the so many documents is proven to be ours."""
        if self._adds_up(count):
            return True
        proven = self._prove()
        return self._apart() and proven + sum(map(self._equal, self._sides)) == count

    def _apart(self) -> bool:
        """Whether no two chunks tell of the same documents: one that was cut in parts or carried
        once more stands beside what took its place, and would count twice."""
        if self.origin.dump is not None:
            files = [
                (file.place, file.name, file.at) for each in self.chunks if (file := each.file)
            ]
            return len(set(files)) == len(self.chunks)
        edges = sorted(map(_edges, self.chunks))
        return all(one[1] <= other[0] for one, other in pairwise(edges))

    def _prove(self) -> int:
        """Chunk by chunk; how many documents are proven by their sums."""
        for told in (self.notes, self._proven, self._sides):
            told.clear()
        proven, source = 0, self._source()
        for chunk in self.chunks:
            if found := self._verified(chunk):
                self._proven.append(found)
                proven += chunk.documents
            elif side := self._filed(chunk) or self._read_again(chunk, source):
                self._sides.append(side)
            else:
                self.notes.append(f"{chunk.chunk}: {UNPROVEN}")
        return proven

    def _adds_up(self, count: int) -> bool:
        """The sums of the verified chunks are that of the collection, whatever their ranges are."""
        documents = sum(chunk.documents for chunk in self.chunks if chunk.digest)
        merged = self.spec.on_conflict != "stop"  # others' are no difference then, and in the sums
        if documents != count or (merged and documents != self.unit.restored_documents):
            return False
        total = sum(int(chunk.digest, 16) for chunk in self.chunks if chunk.digest)
        side = self._in_target(None)
        found = fingerprint(side.blocks())
        if found.total != total % MODULUS:
            return False
        self._proven = [(side, found)]
        return True

    def _equal(self, side: Side) -> int:
        """How many documents of a side lie in the target."""
        lookup = Lookup(self.client, *self._where(), self.stop)
        equal = 0
        for lot in lots_of(side):
            mine = [(key, each) for each in lot if (key := key_of(each)) is not None]
            lies = lookup.find([key for key, _ in mine])
            equal += sum(lies.get(key) == digest_of(as_stored(each)) for key, each in mine)
        return equal

    def _verified(self, chunk: Undo) -> tuple[InRange, Fingerprint] | None:
        """Its range of the target, where that holds what was verified and nothing else."""
        merged = self.spec.on_conflict != "stop"
        if not chunk.digest or merged or not self._stands_for_range(chunk):
            return None
        side = self._in_target(chunk)
        found = fingerprint(side.blocks())
        return (side, found) if found.digest == chunk.digest else None

    def _stands_for_range(self, chunk: Undo) -> bool:
        """Of files in dumps, only ferrylog's own do."""
        return chunk.file is None or self.origin.dump is None or stands_for_range(chunk.file)

    def _filed(self, chunk: Undo) -> Side | None:
        """Its file, where that is still what it was."""
        if chunk.file is None:
            return None
        try:
            side = self._in_file(chunk.file)
            side.check()
        except (DamagedFile, DamagedDump, OperatorError, OSError) as error:
            self.notes.append(f"{chunk.chunk}: its file proves nothing: {error}")
            return None
        return side

    def _in_file(self, file: ChunkFile) -> InFile:
        dump = self.origin.dump
        if dump is None:
            return InFile(inside(self.origin.folder, file.name), file, self.stop)
        return InFile(
            dump.path(self.unit, file, self.stop), file, self.stop, dump.mine(self.unit, self.stop)
        )

    def _read_again(self, chunk: Undo, source: Unit | None) -> Side | None:
        if source is None or self.origin.source is None:
            return None
        what = range_of(
            source,
            _as_chunk(chunk, source),
            self.spec,
            read_preference=self.origin.read_preference,
        )
        return InRange(self.origin.source, what, self.stop, mean_bytes(self.unit))

    def _source(self) -> Unit | None:
        """The collection on the source, where that can be reached and is still the same."""
        if self.origin.source is None or transforms(self.spec):
            return None
        try:
            return as_called(self.origin.source, self.unit, self.spec)
        except (PyMongoError, OtherCollection, CollectionGone) as error:
            self.notes.append(f"{self.unit.id}: the source does not tell: {error}")
            return None

    # --- what is done ---

    def drop(self, count: int) -> Undone:
        drop(self.client, self.unit.target, self.spec)
        return Undone(count, 0, (f"dropped {self.unit.target} with {count} documents",))

    def part(self, chunk: Undo) -> Undone:
        """What one chunk brought goes. What nobody can prove of it stays."""
        self._prove()
        told = self._take(undo_task(chunk.task, chunk.entity)).told()
        if not (self._proven or self._sides):
            left = sum(block.documents for block in self._in_target(chunk).blocks())
            told = replace(told, kept=left)
        return replace(told, changes=(*told.changes, *self.notes[:MAX_NAMED]))

    def pick(self) -> Undone:
        """Exactly what is ours goes."""
        name = self.unit.target
        back = self._take(undo_task(TaskKind.CREATE, self.unit.id))
        left = self.count()
        if not left and self.unit.found == "nothing":
            return self.drop(back.removed)
        said = f"{name}: documents {back.removed} removed" + f", {left} kept" * bool(left)
        kept = (f"{name} _id {key}: kept" for key in self._first())
        return Undone(back.removed, left, (said, *kept, *self.notes[:MAX_NAMED]))

    def _take(self, task: TaskKey) -> Back:
        while not self._recorded(task):
            self._prove()
        back = Back(There(self.client, self.unit.target, self.unit.type, self.spec, self.stop))
        back.take(steps_of(undo_path(self.origin.folder, task)))
        for side in self._sides:
            back.take(step for each in each_of(side) if (step := _step(each)) is not None)
        return back

    def _recorded(self, task: TaskKey) -> bool:
        """Write down what sums prove to be ours: once some of it is gone, they prove nothing any
        more. `False`: others wrote there since, and nothing is written down."""
        path = undo_path(self.origin.folder, task)
        being = path.with_suffix(".being")
        being.unlink(missing_ok=True)
        with UndoLog(being) as log:
            recorder = Recorder(log, self.unit.target, self.unit.type)
            if not all(_written(recorder, *proven) for proven in self._proven):
                return False
        with UndoLog(path) as log:
            for row in rows_of(being):
                log.add(bytes(row.raw))
                log.sync()
        being.unlink(missing_ok=True)
        return True

    # --- the collection ---

    def count(self) -> int:
        """To the one document; the server's own counters may be wrong after a crash."""
        database, collection = self._where()
        count = [{"$group": {"_id": None, "n": {"$sum": 1}}}]
        asked = {"aggregate": collection, "pipeline": count, "cursor": {}}
        reply = self.client.get_database(database).command(asked)
        return sum(int(each["n"]) for each in reply["cursor"]["firstBatch"])

    def _first(self) -> Iterator[str]:
        database, collection = self._where()
        asked = {"find": collection, "projection": {"_id": 1}, "limit": MAX_NAMED}
        for each in rows(self.client, database, asked, self.stop):
            yield shown(to_key(id_of(each)))

    def _in_target(self, chunk: Undo | None) -> InRange:
        """The chunk's range, or all of it."""
        lower, upper = (chunk.lower, chunk.upper) if chunk is not None else (None, None)
        natural = chunk.natural if chunk is not None else True
        what = Range(*self._where(), lower, upper, natural=natural)
        return InRange(self.client, what, self.stop, mean_bytes(self.unit))

    def _where(self) -> tuple[str, str]:
        return data_of(self.unit.target, self.unit.type)


def _written(recorder: Recorder, side: InRange, proven: Fingerprint) -> bool:
    """Whether what was written down is what was proven."""
    seen = NOTHING
    for block in side.blocks():
        seen += fingerprint_of(documents(block.data), len(block.data))
        recorder.inserted(documents(block.data))
        recorder.sync()
    return seen == proven


def _step(document: bytes) -> Step | None:
    """That we inserted it."""
    key = key_of(document)
    if key is None:
        return None
    stored = as_stored(document)
    if is_stamped(stored):
        return Step(key, stamped=stored)
    return Step(key, sum_of(stored))


def _edges(chunk: Undo) -> tuple[bytes, bytes]:
    """Its range, as servers order it where no collation does."""
    lower = comparable(bytes(from_key(chunk.lower).raw)) if chunk.lower is not None else b""
    upper = comparable(bytes(from_key(chunk.upper).raw)) if chunk.upper is not None else b"\xff" * 8
    return lower, upper


def _as_chunk(chunk: Undo, source: Unit) -> Chunk:
    chunk_id = chunk.chunk or ChunkId("")
    return Chunk(chunk_id, source.id, chunk.lower, chunk.upper, 0, chunk.natural)
