"""A dump as the source of a job: what it holds as units, its files as chunks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from threading import Lock
from typing import BinaryIO, Final

from executors.batches import BLOCK_BYTES
from executors.beside import beside
from executors.boundaries import to_text
from executors.dumps.beneath import open_file
from executors.dumps.bsonfile import parts, salvaged, unpack
from executors.dumps.chunksalvage import salvage_chunk
from executors.dumps.errors import DamagedDump
from executors.dumps.exported import text_blocks, unpack_texts
from executors.dumps.gunzip import plain
from executors.dumps.manifest import MANIFEST, check_file, read_facts
from executors.dumps.model import Damage, Dump, Dumped, Part
from executors.dumps.named import UNPACKED, dump_path, open_named
from executors.dumps.stored import fetch_chunk, read_stored
from executors.dumps.unpack import unpack_archive
from executors.fingerprint import key_of
from executors.folder import folder_name, inside
from executors.metadata import expires
from executors.pace import UNLIMITED, Pace
from executors.placement import Mine, Places, belongs
from executors.plan import is_capped
from executors.protocol import Stopped, StopToken
from executors.rawbson import documents
from executors.select import USERS, carried, selected, targets_of
from executors.sides import InFile
from executors.storage.protocol import Store
from executors.storage.urls import open_store
from executors.structure import envelope_flaw, walk
from executors.unchanged import Mark, Unchanged, mark_of
from statemachine.events import JobSpec
from statemachine.state import ChunkFile, Unit, is_stored
from statemachine.stimuli import FoundDamage, FoundFile, FoundUnit, PlannedFiles, Surveyed
from statemachine.words import Place, UnitId

WAIT_S: Final = 1.0
"""Between two looks at the token while another worker unpacks."""
FETCHED: Final = "fetched"
"""Where chunk files of a store lie while they are needed, in the job's work folder."""
LOOKING: Final = 4
"""Chunk files that are looked at beside each other before a restore: nothing else runs then."""


class DumpSource:
    """The dump that a job reads. It is opened when it is first asked for; an archive, which
    cannot be sought in, becomes chunk files of the work folder then, once."""

    def __init__(
        self, spec: JobSpec, folder: Path, archive: Callable[[StopToken], BinaryIO]
    ) -> None:
        """`folder`: the job's work folder. `archive`: opens the archive from its beginning."""
        self._spec = spec
        self._folder = folder
        self._archive = archive
        self._places = Places(spec)
        self._opened: tuple[Dump, tuple[Damage, ...]] | None = None
        self._store = _store_of(spec, folder)
        self.unchanged = Unchanged()
        """What was looked at when it was planned."""
        self._lock = Lock()
        self._unpacking = Lock()

    def path(self, unit: Unit, file: ChunkFile, stop: StopToken, *, pace: Pace = UNLIMITED) -> Path:
        """Where a chunk's file lies. One that was unpacked, or lies in a store, may be gone or not
        be here yet: it comes again, with the same bytes (I24). Raises as `survey`, `DamagedFile`
        for one in a store that is not what it was, `OSError`."""
        if file.place == "dump":
            return inside(self._dump(stop)[0].root, file.name)
        path = inside(self._folder, file.name)
        if file.place == "store":
            self._fetch(file, path, stop, pace)
        else:
            self._must_lie_there(unit, path, stop)
        return path

    def survey(self, stop: StopToken, added: Sequence[str] = ()) -> Surveyed:
        """Raises `DamagedDump`, `NoDump`, `OperatorError` for names, `Stopped`."""
        dump, damage = self._dump(stop)
        wanted, notes = wanted_of(dump, self._spec, added)
        names = targets_of([each.namespace for each in wanted], self._spec)
        found = [_unit(each, names[each.namespace]) for each in wanted]
        return Surveyed(
            tuple(found),
            cluster_time=dump.cluster_time,
            notes=(*dump.notes, *notes),
            damage=tuple(map(_damage, damage)),
        )

    def plan(self, unit: Unit, stop: StopToken) -> PlannedFiles:
        """Where the unit's documents lie, every envelope of them looked at; of several targets,
        those that belong to this one are counted.

        Raises `DamagedDump`, `OSError`, `Stopped`; to salvage means to tell of damage instead.
        """
        dump, _ = self._dump(stop)
        each = _named(dump, unit)
        found = [*self._files(dump, each, stop)]
        files = [_file(one, place) for one, place in found if isinstance(one, Part)]
        if mine := self.mine(unit, stop):
            files = [self._counted(unit, one, mine, stop) for one in files]
        return PlannedFiles(
            tuple(files),
            tuple(_damage(one) for one, _ in found if isinstance(one, Damage)),
        )

    def mine(self, unit: Unit, stop: StopToken) -> Mine | None:
        """What of the unit belongs to the job's target; `None`: all of it. Raises as `survey`."""
        return self._places.mine(unit.id, (self._dump(stop)[0],))

    def _counted(self, unit: Unit, found: FoundFile, mine: Mine, stop: StopToken) -> FoundFile:
        file = found.file
        path = self.path(unit, file, stop)
        documents = size = 0
        for block in InFile(path, file, stop, mine).blocks():
            documents += block.documents
            size += len(block.data)
        if file.place == "store":  # by far not all of them have room
            path.unlink()
        return replace(found, file=file._replace(documents=documents, bytes=size))

    def opened(self, stop: StopToken) -> Dump:
        """The dump itself. Raises as `survey`."""
        return self._dump(stop)[0]

    def _fetch(self, file: ChunkFile, path: Path, stop: StopToken, pace: Pace) -> None:
        """What lies there was fetched whole by this process: see `_open`."""
        self._dump(stop)
        if path.exists():
            return
        assert self._store is not None
        size, sha256 = file.file_bytes, file.sha256
        name = file.name.removeprefix(f"{FETCHED}/")
        pace.files(size, stop)
        fetch_chunk(self._store, name, path, stop, file_bytes=size, sha256=sha256)
        self.unchanged.holds(path, 0, size, sha256, mark_of(path))

    def _must_lie_there(self, unit: Unit, path: Path, stop: StopToken) -> None:
        """Where an unpacked file of the unit is gone, unpack it again, with the same bytes.

        One worker does, the others wait: nobody reads a file that is being made. Raises as
        `survey`.
        """
        while not self._unpacking.acquire(timeout=WAIT_S):
            if stop.is_set():
                raise Stopped
        try:
            if path.exists():
                return
            if self._spec.layout == "archive":
                with self._lock:
                    self._opened = None
                    (self._folder / UNPACKED / MANIFEST).unlink(missing_ok=True)
                self._dump(stop)
            else:
                self.plan(unit, stop)
        finally:
            self._unpacking.release()

    def knows_ranges(self, stop: StopToken) -> bool:
        """Whether each chunk stands for a range of `_id`s: then nothing can lie beside them."""
        return self._spec.layout != "archive" and self._dump(stop)[0].layout == "chunks"

    def again(self, unit: Unit, stop: StopToken) -> Callable[[], Iterator[bytes]] | None:
        """Reads the unit's documents once more, of several targets those of this one; `None` where
        that is not possible. Those without `_id` are among them: each stands for one."""
        if self._spec.layout == "archive" or self._spec.salvage:
            return None
        dump, _ = self._dump(stop)
        each = _named(dump, unit)
        mine = self.mine(unit, stop)
        if not each.data and not each.texts:
            return partial(iter, ())
        return partial(_documents, dump.root, each, stop, mine)

    def _dump(self, stop: StopToken) -> tuple[Dump, tuple[Damage, ...]]:
        with self._lock:
            if self._opened is None:
                self._opened = self._open(stop)
            return self._opened

    def _open(self, stop: StopToken) -> tuple[Dump, tuple[Damage, ...]]:
        spec = self._spec
        if self._store is not None:
            rmtree(self._folder / FETCHED, ignore_errors=True)  # a killed process: who knows
            stored, facts = read_stored(self._store)
            return stored, facts.damage
        if spec.layout != "archive":
            dump = open_named(spec)
            return dump, read_facts(dump.root).damage if dump.layout == "chunks" else ()
        return unpack_archive(
            partial(self._archive, stop),
            dump_path(spec),
            self._folder / UNPACKED,
            documents=spec.chunk_docs,
            bytes_=spec.chunk_bytes,
            stop=stop,
            objcheck=spec.objcheck,
            salvage=spec.salvage,
            wanted=lambda name: carried(name, spec),
        )

    def _files(
        self, dump: Dump, each: Dumped, stop: StopToken
    ) -> Iterator[tuple[Part | Damage, Place]]:
        """The parts with the places they lie in; to salvage, with the damage between them. Of a
        store, nobody looks into them before they are needed (ADR 0031)."""
        if self._spec.layout == "archive":
            for part in each.parts:
                self._look_at(dump, part, stop, objcheck=False)
                yield replace(part, file=f"{UNPACKED}/{part.file}"), "work"
        elif self._store is not None:
            for part in each.parts:
                yield replace(part, file=f"{FETCHED}/{part.file}"), "store"
        elif dump.layout == "chunks":
            folder = folder_name(each.namespace)
            names = [f"{folder}/{number}-0.flb" for number in range(len(each.parts))]
            for checked in beside(
                lambda look: [*self._checked(dump, *look, stop)],
                zip(each.parts, names, strict=True),
                LOOKING,
            ):
                yield from checked
        elif each.texts:
            for found in self._unpacked(dump, each, stop):
                yield found, "work"
        elif each.data:
            for found in self._walked(dump, each, stop):
                yield found, "work" if each.gzip else "dump"

    def _unpacked(self, dump: Dump, each: Dumped, stop: StopToken) -> Iterator[Part | Damage]:
        """Of JSONL."""
        spec = self._spec
        size = {"documents": spec.chunk_docs, "bytes_": spec.chunk_bytes}
        for found in unpack_texts(
            dump, each, self._folder, **size, stop=stop, salvage=spec.salvage
        ):
            if isinstance(found, Part):
                path = self._folder / found.file
                self._holds(path, found, mark_of(path))
            yield found

    def _walked(self, dump: Dump, each: Dumped, stop: StopToken) -> Iterator[Part | Damage]:
        """Of a file of mongodump."""
        spec, name = self._spec, each.data
        size = {"documents": spec.chunk_docs, "bytes_": spec.chunk_bytes}
        whole = is_capped(each.options)
        with open_file(dump.root, name) as file:
            if each.gzip:
                for found in unpack(
                    plain(file, True, name),
                    name,
                    self._folder,
                    folder_name(each.namespace),
                    **size,
                    stop=stop,
                    objcheck=spec.objcheck,
                    salvage=spec.salvage,
                    whole=whole,
                ):
                    if isinstance(found, Part):
                        path = self._folder / found.file
                        self._holds(path, found, mark_of(path))
                    yield found
            elif spec.salvage:
                yield from salvaged(file, name, **size, stop=stop, whole=whole)
            else:
                mark = mark_of(file)
                for part in parts(
                    file, name, **size, stop=stop, objcheck=spec.objcheck, whole=whole
                ):
                    self._holds(dump.root / name, part, mark)
                    yield part

    def _checked(
        self, dump: Dump, part: Part, name: str, stop: StopToken
    ) -> Iterator[tuple[Part | Damage, Place]]:
        """A chunk file of ours; to salvage, what is whole of a damaged one, as `name` of the work
        folder."""
        spec = self._spec
        try:
            self._look_at(dump, part, stop, objcheck=spec.objcheck or spec.salvage)
        except DamagedDump as error:
            if not spec.salvage:
                raise
            found = list(salvage_chunk(dump.root, part, self._folder, name, stop))
            if not any(isinstance(one, Damage) for one in found):
                found.append(Damage(part.file, error.at or 0, 0, error.detail, error.why))
            yield from ((one, "work") for one in found)
        else:
            yield part, "dump"

    def _look_at(self, dump: Dump, part: Part, stop: StopToken, *, objcheck: bool) -> None:
        """At a chunk file; a restore need not do it again. Raises `DamagedDump`, `Stopped`."""
        path = dump.root / part.file
        mark = mark_of(path)
        check_file(dump.root, part, stop, objcheck=objcheck)
        self._holds(path, part, mark)

    def _holds(self, path: Path, part: Part, mark: Mark) -> None:
        self.unchanged.holds(path, part.at, part.file_bytes, part.sha256, mark)


def _store_of(spec: JobSpec, folder: Path) -> Store | None:
    """That the dump lies in. Raises `StoreError`."""
    url = dump_path(spec)
    return open_store(url, folder) if is_stored(url) else None


def _documents(
    root: Path, each: Dumped, stop: StopToken, mine: Mine | None = None
) -> Iterator[bytes]:
    """Raises `Stopped`, and `DamagedDump`: the file may have changed since it was looked at."""
    for block in text_blocks(root, each, stop) if each.texts else _blocks(root, each, stop):
        for document in documents(block):
            key = None if mine is None else key_of(document)
            if mine is None or key is None or belongs(mine, key):
                yield document


def _blocks(root: Path, each: Dumped, stop: StopToken) -> Iterator[bytes]:
    with open_file(root, each.data) as file, plain(file, each.gzip, each.data) as whole:
        rest = b""
        while piece := whole.read(BLOCK_BYTES):
            if stop.is_set():
                raise Stopped
            block = rest + piece
            row = walk(block)
            yield block[: row.end]
            rest = block[row.end :]
            if row.flaw:
                break
        if rest and (wrong := envelope_flaw(rest)):
            raise DamagedDump(each.data, wrong.why, detail=str(wrong.code))


def _named(dump: Dump, unit: Unit) -> Dumped:
    """Raises `DamagedDump` where it is gone."""
    for each in dump.namespaces:
        if each.namespace == unit.id:
            return each
    raise DamagedDump(unit.id, "the dump does not hold it any more", detail="EDUMP035")


def wanted_of(
    dump: Dump, spec: JobSpec, added: Sequence[str] = ()
) -> tuple[list[Dumped], list[str]]:
    """What of the dump is to be carried, and what is left there in words."""
    wanted, notes = [], []
    for each in dump.namespaces:
        name = each.namespace
        if carried(name, spec, added):
            wanted.append(each)
        elif name in USERS and each.bytes and not spec.users:
            notes.append(f"{name} stays in the dump: --users-and-roles restores it")
        elif name not in USERS and selected(name, spec.include, spec.exclude, added):
            notes.append(f"{name} stays in the dump: it belongs to the server that was dumped")
    return wanted, notes


def _unit(each: Dumped, target: str) -> FoundUnit:
    return FoundUnit(
        unit=UnitId(each.namespace),
        target=target,
        type=each.type,
        uuid=each.uuid,
        options=to_text(each.options),
        indexes=each.indexes,
        documents=0,  # counted when its files are looked at
        bytes=each.bytes,
        expires=expires(each.options, each.indexes) or each.namespace in USERS,
    )


def _file(part: Part, place: Place) -> FoundFile:
    file = ChunkFile(
        part.file,
        part.documents,
        part.bytes,
        part.file_bytes,
        part.sha256,
        part.at,
        place,
    )
    return FoundFile(file, part.lower, part.upper, part.natural)


def _damage(each: Damage) -> FoundDamage:
    return FoundDamage(each.file, each.at, each.bytes, each.code, each.why)
