"""An independent judge of a migration: what lies on the servers, and what the journal says.

It imports nothing of the program it judges. A mistake in the data plane would otherwise be
copied by the code that is to find it, and both would agree. What it uses is pymongo, the bytes
that the servers return, and the public command `inspect events --json`.

    python tests/end_to_end/oracle.py SOURCE_URI TARGET_URI JOURNAL
"""

import json
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
OWN = ("admin", "config", "local")
"""Databases of the server itself; in them only traces of the program are looked for."""
PROGRAM = "ferrylog"
MANY = 10_000
"""Entries of a catalogue that fit into one answer."""
SHOWN = 5
"""Differences named per collection."""

# --- the servers -----------------------------------------------------------------------------


@dataclass
class Collection:
    """One entry of a catalogue and all it holds, as bytes."""

    type: str
    options: bytes
    id_index: bytes
    indexes: dict[str, bytes]
    documents: dict[bytes, bytes]
    """Raw `_id` element (type byte and value) to raw document."""
    doubles: int = 0
    """Documents that came twice in one scan: no server may do that."""


@dataclass
class Snapshot:
    """Everything users keep on one deployment, and what else was found there."""

    collections: dict[str, Collection]
    traces: list[str] = field(default_factory=list)

    @property
    def documents(self) -> int:
        return sum(
            len(each.documents)
            for name, each in self.collections.items()
            if not name.partition(".")[2].startswith("system.")
        )


def snapshot(uri: str) -> Snapshot:
    """Read a whole deployment; memory is that of its data."""
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=30_000) as client:
        found: dict[str, Collection] = {}
        traces: list[str] = []
        for database in sorted(client.list_database_names()):
            for entry in _catalogue(client, database):
                name = f"{database}.{entry['name']}"
                if database not in OWN:
                    found[name] = _collection(client, database, entry)
                elif PROGRAM in name:
                    traces.append(name)
        return Snapshot(found, traces)


def differences(source: Snapshot, target: Snapshot) -> list[str]:
    """Everything on which the target is not the source, in words; empty when equal (I22)."""
    mine, theirs = source.collections, target.collections
    found = [f"{name}: missing on the target" for name in sorted(mine.keys() - theirs.keys())]
    found += [f"{name}: nobody asked for it" for name in sorted(theirs.keys() - mine.keys())]
    found += [f"{name}: left behind on the target" for name in target.traces]
    for name in sorted(mine.keys() & theirs.keys()):
        found += [f"{name}: {what}" for what in _of_collection(mine[name], theirs[name])]
    return found


def _of_collection(mine: Collection, theirs: Collection) -> Iterator[str]:
    if mine.type != theirs.type:
        yield f"a {mine.type} became a {theirs.type}"
    for what in ("options", "id_index"):
        if getattr(mine, what) != getattr(theirs, what):
            yield f"{what} differ: {_text(getattr(mine, what))} / {_text(getattr(theirs, what))}"
    for name in sorted(mine.indexes.keys() | theirs.indexes.keys()):
        one, two = mine.indexes.get(name), theirs.indexes.get(name)
        if one != two:
            yield f"index {name} differs: {_text(one)} / {_text(two)}"
    if theirs.doubles:
        yield f"{theirs.doubles} documents came twice"
    yield from _of_documents(mine.documents, theirs.documents)


def _of_documents(mine: dict[bytes, bytes], theirs: dict[bytes, bytes]) -> Iterator[str]:
    if mine == theirs:
        return
    lost = [key for key in mine if key not in theirs]
    extra = [key for key in theirs if key not in mine]
    other = [key for key, raw in mine.items() if theirs.get(key, raw) != raw]
    for what, keys in (("lost", lost), ("extra", extra), ("changed", other)):
        if keys:
            some = ", ".join(key.hex() for key in keys[:SHOWN])
            yield f"{len(keys)} of {len(mine)} documents {what}: _id {some}"


def _text(raw: bytes | None) -> str:
    return "none" if raw is None else str(bson.decode(raw)) if raw else "-"


def _catalogue(client: MongoClient[dict[str, Any]], database: str) -> list[RawBSONDocument]:
    """Collections and views as raw documents; pymongo's own helper decodes them."""
    return _first_batch(client, database, {"listCollections": 1})


def _first_batch(
    client: MongoClient[dict[str, Any]], database: str, command: dict[str, Any]
) -> list[RawBSONDocument]:
    asked = {**command, "cursor": {"batchSize": MANY}}
    reply: Any = client.get_database(database).command(asked, codec_options=RAW)
    assert reply["cursor"]["id"] == 0, "more entries than one answer holds"
    return list(reply["cursor"]["firstBatch"])


def _collection(
    client: MongoClient[dict[str, Any]], database: str, entry: RawBSONDocument
) -> Collection:
    kind, name = str(entry["type"]), str(entry["name"])
    id_index = entry.get("idIndex")
    options = bytes(entry["options"].raw)
    found = Collection(kind, options, bytes(id_index.raw) if id_index else b"", {}, {})
    if kind == "view":
        return found
    collection = client.get_database(database).get_collection(name, codec_options=RAW)
    for index in _first_batch(client, database, {"listIndexes": name}):
        found.indexes[str(index["name"])] = bytes(index.raw)
    count = 0
    for batch in collection.find_raw_batches(hint={"$natural": 1}, batch_size=50_000):
        for raw in _cut(bytes(batch)):  # type: ignore[arg-type]  # bytes, say pymongo's docs
            found.documents[_id_of(raw)] = raw
            count += 1
    found.doubles = count - len(found.documents)
    return found


def _cut(batch: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(batch):
        size = struct.unpack_from("<i", batch, at)[0]
        yield batch[at : at + size]
        at += size


FIXED = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
FIXED |= {0x7F: 0, 0xFF: 0}
"""BSON element types whose value has one size."""


def _id_of(raw: bytes) -> bytes:
    """Type byte and value of `_id`, which servers store first; the BSON specification's sizes."""
    if raw[5:9] != b"_id\0":
        return bytes(RawBSONDocument(raw).raw)  # no `_id` at all: the whole document is its name
    kind = raw[4]
    if kind in FIXED:
        size = FIXED[kind]
    else:
        length = struct.unpack_from("<i", raw, 9)[0]
        if kind in (0x03, 0x04, 0x0F):
            size = length
        elif kind in (0x02, 0x0D, 0x0E):
            size = length + 4
        elif kind == 0x05:
            size = length + 5
        else:
            raise ValueError(f"BSON type {kind:#x} cannot be an _id")
    return raw[4:5] + raw[9 : 9 + size]


# --- the journal's story ---------------------------------------------------------------------


class Untold(Exception):
    """The journal cannot be read."""


@dataclass(frozen=True)
class Told:
    """One line of `inspect events --json`, as a reader without the program understands it."""

    seq: int
    epoch: int
    at_ms: int
    kind: str
    entity: str
    data: Mapping[str, Any]

    @property
    def task(self) -> tuple[str, str]:
        return self.kind.partition("_")[0], self.entity

    @property
    def verb(self) -> str:
        return self.kind.partition("_")[2]


TASKS = ("survey", "create", "plan", "dump", "restore", "split", "index", "verify")
OUTCOMES = ("completed", "retry_scheduled", "dead_lettered", "cancelled")
DECISIONS = ("resolved", "dead_lettered")


def events(journal: Path, command: Sequence[str] = (sys.executable, "-m", PROGRAM)) -> list[Told]:
    """The newest job's events. Raises `Untold`."""
    done = subprocess.run(
        [*command, "inspect", "events", "--json", "--journal", str(journal)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Untold(f"inspect events: exit {done.returncode}: {done.stderr.strip()}")
    return [_told(json.loads(line)) for line in done.stdout.splitlines()]


def _told(line: Mapping[str, Any]) -> Told:
    at = datetime.fromisoformat(line["recorded_at"])
    return Told(
        seq=line["seq"],
        epoch=line["epoch"],
        at_ms=round(at.timestamp() * 1000),
        kind=line["kind"],
        entity=line["entity"],
        data=line["data"],
    )


def story(told: Sequence[Told]) -> list[str]:
    """Everything in one job's journal that must never stand there; empty when all is well.

    Checks the sequence (I2), epochs (I5), one decision per doubt (I16), that nothing completed
    starts again (I15), attempts and waiting times (I18), the order of stages (I23), and that
    a pause is one (I28).
    """
    return [*_order(told), *_Reader().read(told)]


def _order(told: Sequence[Told]) -> Iterator[str]:
    epoch = 0
    for before, event in zip([None, *told[:-1]], told, strict=True):
        if before is not None and event.seq != before.seq + 1:
            yield f"seq {event.seq} follows {before.seq} (I2)"
        if event.kind == "run_started":
            if event.data["epoch"] != epoch + 1:
                yield f"seq {event.seq}: epoch {event.data['epoch']} follows {epoch} (I5)"
            epoch = event.data["epoch"]
        if event.epoch != epoch and event.kind != "job_requested":
            yield f"seq {event.seq}: epoch {event.epoch} in a run of epoch {epoch} (I5)"


class _Reader:
    """Follows each task through the events; the rules are the invariants, not the program's."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.running: dict[tuple[str, str], Told] = {}
        self.doubted: dict[tuple[str, str], Told] = {}
        self.completed: set[tuple[str, str]] = set()
        self.given_up: set[tuple[str, str]] = set()
        self.attempts: dict[tuple[str, str], int] = defaultdict(int)
        self.not_before: dict[tuple[str, str], int] = {}
        self.old: dict[tuple[str, str], Told] = {}
        """Started in an epoch that is over, and not yet said to be in doubt."""
        self.planned: dict[str, int] = defaultdict(int)
        self.chunks: dict[str, dict[str, tuple[str | None, str | None]]] = defaultdict(dict)
        """By unit: the chunks that count, and their ranges."""
        self.whole: set[str] = set()
        """Units whose plan was completed."""
        self.stages: tuple[str, ...] = ()
        """Of a chunk, in order."""
        self.pausing = False

    def read(self, told: Sequence[Told]) -> list[str]:
        for event in told:
            if event.kind == "run_started":
                self.old = dict(self.running)
            elif event.kind == "job_requested":
                self._requested(event.data["spec"])
            elif event.kind == "dump_invalidated":
                self._invalidated(event.entity)
            elif event.kind == "unit_skipped":
                self._skipped(event.entity)
            elif event.kind in ("chunk_planned", "split_requested", "chunk_replaced"):
                self._chunk(event)
            elif event.kind in ("pause_requested", "job_resumed"):
                self.pausing = event.kind == "pause_requested"
            elif event.kind == "job_paused":
                self._paused(event)
            elif event.kind == "job_completed":
                self._end(event)
            elif event.task[0] in TASKS:
                self._task(event)
        return self.problems

    def _requested(self, spec: Mapping[str, Any]) -> None:
        stages = ("dump", "restore") if spec["kind"] == "migrate" else ()
        self.stages = (*stages, "verify") if spec["verify"] else stages

    def _say(self, event: Told, what: str) -> None:
        self.problems.append(f"seq {event.seq} {event.kind} {event.entity}: {what}")

    def _task(self, event: Told) -> None:
        task = event.task
        match event.verb:
            case "started":
                self._started(event)
            case "in_doubt":
                if self.running.pop(task, None) is None:
                    self._say(event, "in doubt, but was not running (I16)")
                if self.old.pop(task, None) is None:
                    self._say(event, "in doubt, but of this epoch (I16)")
                self.doubted[task] = event
            case "resolved" | "dead_lettered" if task in self.doubted:
                del self.doubted[task]
            case "resolved":
                self._say(event, "resolved, but was not in doubt (I16)")
            case "requeued":
                self.given_up.discard(task)
                self.not_before.pop(task, None)
            case "progressed":
                self._needs_running(event)
            case verb if verb in OUTCOMES:
                self._outcome(event)
        if event.verb == "dead_lettered":
            self.given_up.add(task)

    def _started(self, event: Told) -> None:
        task, attempt = event.task, event.data["attempt"]
        if task in self.completed:
            self._say(event, "started again after it completed (I15)")
        if task in self.running:
            self._say(event, f"started twice, first at seq {self.running[task].seq} (I16)")
        for doubt in self.doubted.values():
            self._say(event, f"started while {doubt.kind} {doubt.entity} is undecided (I16)")
        for other in self.old.values():
            self._say(event, f"started before {other.kind} {other.entity} was in doubt (I16)")
        if task in self.given_up:
            self._say(event, "started after it was given up (I19)")
        if self.pausing:
            self._say(event, "started after a pause was requested (I28)")
        if attempt != self.attempts[task] + 1:
            self._say(event, f"attempt {attempt} follows {self.attempts[task]} (I18)")
        if event.at_ms < self.not_before.pop(task, 0):
            self._say(event, "started before its time (I18)")
        kind, entity = task
        for earlier, later in pairwise(self.stages):
            if kind == later and (earlier, entity) not in self.completed:
                self._say(event, f"started before its {earlier} completed (I23)")
        self.attempts[task] = attempt
        self.running[task] = event

    def _outcome(self, event: Told) -> None:
        task = event.task
        self._needs_running(event)
        self.running.pop(task, None)
        if event.verb == "completed":
            self.completed.add(task)
            if event.kind == "plan_completed":
                self.whole.add(event.entity)
                if self.planned[event.entity] != event.data["chunks"]:
                    self._say(event, f"{self.planned[event.entity]} chunks were planned (I21)")
        if event.verb == "retry_scheduled":
            self.not_before[task] = event.data["not_before_ms"]

    def _needs_running(self, event: Told) -> None:
        running = self.running.get(event.task)
        if running is None:
            self._say(event, "was not running (I20)")
        elif event.task in self.old:
            self._say(event, f"speaks for seq {running.seq} of an older epoch (I20)")

    def _invalidated(self, chunk: str) -> None:
        self.completed -= {("dump", chunk), ("restore", chunk)}

    def _chunk(self, event: Told) -> None:
        chunk = event.data["chunk"]
        unit = chunk.rpartition("#")[0]
        if event.kind == "chunk_planned":
            self.planned[unit] += 1
            self.chunks[unit][chunk] = (event.data["lower"], event.data["upper"])
            return
        self._taken_back(chunk)
        if event.kind == "chunk_replaced":
            del self.chunks[unit][chunk]

    def _taken_back(self, chunk: str) -> None:
        """Cut in two, or carried again under another name: nothing of it counts any more."""
        for kind in self.stages:
            for told in (self.running, self.doubted, self.old):
                told.pop((kind, chunk), None)
            self.completed.discard((kind, chunk))

    def _skipped(self, unit: str) -> None:
        """Given up by policy: what of it still runs reports into the void, none of it is owed."""
        self.whole.discard(unit)
        parts = (f"{unit}#", f"{unit}@")
        for task in list(self.running):
            if task[1] != unit and not task[1].startswith(parts):
                continue
            del self.running[task]

    def _paused(self, event: Told) -> None:
        for task in [*self.running, *self.doubted]:
            self._say(event, f"{task} has no outcome (I28)")

    def _end(self, event: Told) -> None:
        for task, running in self.running.items():
            self._say(event, f"{task} of seq {running.seq} still runs (I29)")
        for unit in self.whole:
            if not _covers(list(self.chunks[unit].values())):
                self._say(event, f"{unit}: its chunks do not cover it once (I21)")
            for chunk in self.chunks[unit]:
                for kind in self.stages:
                    task = (kind, chunk)
                    if task not in self.completed and task not in self.given_up:
                        self._say(event, f"{task} never completed (I14)")


def _covers(ranges: Sequence[tuple[str | None, str | None]]) -> bool:
    """Whether the ranges lead from the open end below to the one above, each once."""
    follows = dict(ranges)
    if len(follows) != len(ranges) or None not in follows:
        return False
    edge, steps = follows[None], 1
    while edge is not None and edge in follows:
        edge, steps = follows[edge], steps + 1
    return edge is None and steps == len(ranges)


def sums(told: Sequence[Told]) -> dict[str, int]:
    """Documents that the journal calls restored, per unit: must be what the target holds (I25)."""
    by_chunk: dict[str, int] = {}
    for event in told:
        if event.kind in ("restore_completed", "copy_completed"):
            by_chunk[event.entity] = event.data["documents"]
        elif event.kind in ("split_requested", "chunk_replaced"):
            by_chunk.pop(event.data["chunk"], None)
    found: dict[str, int] = defaultdict(int)
    for chunk, documents in by_chunk.items():
        found[chunk.rpartition("#")[0]] += documents
    return dict(found)


def judge(
    source: Snapshot,
    target: Snapshot,
    journal: Path,
    command: Sequence[str] = (sys.executable, "-m", PROGRAM),
) -> list[str]:
    """Both verdicts in one: the servers byte for byte, the story event by event."""
    found = differences(source, target)
    try:
        told = events(journal, command)
    except Untold as error:
        return [*found, str(error)]
    found += story(told)
    for unit, documents in sums(told).items():
        there = target.collections.get(unit)
        if there is None or len(there.documents) != documents:
            count = len(there.documents) if there else "none"
            found.append(f"{unit}: the journal says {documents} documents, there are {count} (I25)")
    return found


def main() -> None:
    source_uri, target_uri, journal = sys.argv[1:4]
    found = judge(snapshot(source_uri), snapshot(target_uri), Path(journal))
    print("\n".join(found) or "equal, and the journal's story holds")
    sys.exit(4 if found else 0)


if __name__ == "__main__":
    main()
