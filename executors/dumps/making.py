"""What a job dumped becomes a dump: a manifest, or what mongodump would have left."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from executors.boundaries import from_text
from executors.chunkfile import DamagedFile, check_chunk_file, fresh_file, sync_directory
from executors.dumps.claim import CLAIM, OURS, must_be_ours
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.manifest import (
    Facts,
    read_facts,
    read_link,
    read_manifest,
    write_manifest,
)
from executors.dumps.model import Damage, Dump, Dumped, Link, Part
from executors.dumps.pack import must_be_packable, pack_archive, pack_directory
from executors.dumps.stored import NOWHERE
from executors.dumps.storing import lost_in, must_be_ours_in, put_manifest, refuse_existing_in
from executors.errors import OutExists, OutUnwritable, StreamClosed
from executors.folder import inside
from executors.increments.chain import last_link, refuse_removal
from executors.increments.dumping import is_changed
from executors.increments.errors import CannotFollow
from executors.increments.log import log_parts
from executors.increments.model import Making
from executors.protocol import StopToken
from executors.storage.protocol import Store
from executors.storage.urls import open_store
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import DUMP, Chunk, Unit, is_stored
from statemachine.stimuli import Manifested, Surveyed, Unfiled
from statemachine.words import ChunkId

OF_WHAT: Final = ("cluster_time", "since", "include", "damage")
"""Facts that tell one dump of a job from another one of it."""


@dataclass(frozen=True)
class Out:
    """Where a dump goes."""

    folder: Path
    """Where the chunk files are written: the dump itself, or the job's work folder while they
    wait to be packed, or to be put into the store."""
    directory: Path | None = None
    """Of mongodump's layout."""
    archive: Callable[[], AbstractContextManager[BinaryIO]] | None = None
    """Opens what takes the archive; what was written is durable when it closes without error."""
    store: Store | None = None
    """Takes the chunk files from the work folder, each when it is whole, and the manifest."""
    facts: Callable[[], Facts] = lambda: Facts(tool_version="")


def make_dump(
    out: Out, spec: JobSpec, effect: Effect, stop: StopToken, *, making: Making | None = None
) -> Manifested | Unfiled:
    """Name every chunk file in a manifest, then pack them where another layout is wanted.

    A job that was taken up again looks at every file first: nobody knows what became of them
    meanwhile. Run again, it leaves the same. What others build on is not written again: raises
    `LinkNeeded`, and as `must_be_ours`; `OSError`, `Stopped`.
    """
    if lost := tuple(_lost(out, effect, stop, making)):
        return Unfiled(lost)
    parts: dict[str, list[Part]] = {}
    for chunk in effect.filed:
        parts.setdefault(chunk.unit, []).append(_part(chunk))
    namespaces = [_dumped(unit, parts.get(unit.id, []), making) for unit in effect.units]
    told = {
        "cluster_time": effect.cluster_time,
        "since": effect.since,
        "include": (*spec.include, *effect.include) if spec.include else (),
        "damage": tuple(_missing(effect)),
    }
    facts = out.facts().model_copy(update=told)
    if out.store is not None:
        sha256 = put_manifest(out.store, facts, namespaces, OF_WHAT)
    else:
        log = _log(making, spec, effect, stop)
        sha256 = _laid_down(out, spec, effect, facts, namespaces, making, log)
        _pack(out, spec, stop)
    return Manifested(
        sha256 if spec.layout == "chunks" else "",
        sum(each.documents for each in namespaces),
        sum(each.bytes for each in namespaces),
    )


def _laid_down(
    out: Out,
    spec: JobSpec,
    effect: Effect,
    facts: Facts,
    namespaces: Sequence[Dumped],
    making: Making | None,
    log: tuple[Part, ...],
) -> str:
    """The manifest is in the folder; its SHA-256."""
    link = _link(making, effect, log) if making is not None else None
    if sha256 := _standing(out.folder, facts, namespaces, link):
        return sha256
    if spec.layout == "chunks":
        _refuse_to_break(out.folder, making)
    _remove_unnamed(out.folder, effect, log)
    return write_manifest(out.folder, facts, namespaces, link)


def _standing(folder: Path, facts: Facts, namespaces: Sequence[Dumped], link: Link | None) -> str:
    """The SHA-256 of the manifest that stands there, if it says the same: the process that wrote it
    died before it could tell, and others may have followed since."""
    try:
        made: tuple[Link | None, Dump]
        made = read_link(folder) if link else (None, read_manifest(folder, alone=True))
        before = read_facts(folder)
    except (NoDump, DamagedDump):
        return ""
    wanted = (link, tuple(sorted(namespaces, key=lambda each: each.namespace)))
    same = (made[0], made[1].namespaces) == wanted and all(
        getattr(before, name) == getattr(facts, name) for name in OF_WHAT
    )
    return made[1].identity if same else ""


def _refuse_to_break(folder: Path, making: Making | None) -> None:
    """Raise `LinkNeeded` where links follow what would be written anew, `CannotFollow` where what
    the link is to follow is another one now."""
    if making is None:
        refuse_removal(folder, 0)
        return
    root, parent = folder.parent.parent, making.parent
    refuse_removal(root, parent.number + 1)
    if last_link(root, parent.number).digest != parent.digest:
        raise CannotFollow(str(root), "the link that the increment is to follow is another one now")


def _pack(out: Out, spec: JobSpec, stop: StopToken) -> None:
    gzip = spec.compression == "gzip"
    if out.directory is not None:
        pack_directory(read_manifest(out.folder), out.directory, gzip=gzip, stop=stop)
    elif out.archive is not None:
        with out.archive() as stream:
            pack_archive(read_manifest(out.folder), stream, gzip=gzip, stop=stop)
    else:
        (out.folder / CLAIM).unlink(missing_ok=True)


def _log(making: Making | None, spec: JobSpec, effect: Effect, stop: StopToken) -> tuple[Part, ...]:
    if making is None or not spec.keep_log:
        return ()
    return log_parts(making.folder, effect.cluster_time, stop)


def _link(making: Making, effect: Effect, log: tuple[Part, ...]) -> Link:
    parent = making.parent
    return Link(
        number=parent.number + 1,
        parent=parent.digest,
        base=parent.base,
        since=parent.until,
        until=effect.cluster_time,
        token=effect.token,
        log=log,
    )


def _lost(
    out: Out, effect: Effect, stop: StopToken, making: Making | None
) -> Iterator[tuple[ChunkId, str]]:
    """Raises as `must_be_ours`."""
    job = out.facts().job
    if out.store is not None:
        must_be_ours_in(out.store, job)
        yield from lost_in(out.store, effect)
    else:
        must_be_ours(out.folder, job, link=making is not None)
        yield from _lost_of(out.folder, effect, stop)


def _lost_of(folder: Path, effect: Effect, stop: StopToken) -> Iterator[tuple[ChunkId, str]]:
    for chunk in effect.filed:
        file = chunk.file
        assert file is not None
        path = inside(folder, file.name)
        try:
            if effect.epoch > 1 or not path.is_file() or path.stat().st_size != file.file_bytes:
                check_chunk_file(path, file_bytes=file.file_bytes, sha256=file.sha256, stop=stop)
        except DamagedFile as error:
            yield chunk.id, str(error)


def _remove_unnamed(folder: Path, effect: Effect, log: tuple[Part, ...]) -> None:
    """Chunk files that the manifest will not name: of attempts that were killed, of units that
    were left. Nothing else is ours."""
    named = {chunk.file.name for chunk in effect.filed if chunk.file is not None}
    named |= {part.file for part in log}
    for path in folder.glob("*/*.flb*"):
        if str(path.relative_to(folder)) not in named and OURS.fullmatch(path.name):
            path.unlink()
            with suppress(OSError):
                path.parent.rmdir()


def _missing(effect: Effect) -> Iterator[Damage]:
    """What the dump lacks, for whoever restores it: a restore of it is not whole either."""
    for unit in effect.units:
        if unit.dropped:
            why = f"{unit.dropped} of its chunks were left out when it was dumped"
            yield Damage(unit.id, 0, 0, "EDUMP036", why)
    for name in effect.left:
        yield Damage(name, 0, 0, "EDUMP036", "it was given up when the rest was dumped")


def refuse_unpackable(spec: JobSpec, found: Surveyed) -> None:
    """Raise `CannotPack` before anything is dumped that could not be packed at the end."""
    if spec.layout != "chunks":
        must_be_packable(
            Dumped(
                namespace=each.unit,
                type=each.type,
                options=from_text(each.options),
                indexes=each.indexes,
                uuid=each.uuid,
            )
            for each in found.units
        )


def out_of(spec: JobSpec, folder: Path, facts: Callable[[], Facts], stdout: BinaryIO) -> Out:
    """`folder`: the job's work folder, where chunk files wait that are to be packed, or put into a
    store."""
    if is_stored(spec.target):
        return Out(folder, store=open_store(spec.target, folder), facts=facts)
    path = spec.target.removeprefix(DUMP)
    match spec.layout:
        case "chunks":
            return Out(Path(path), facts=facts)
        case "mongodump":
            return Out(folder, directory=Path(path), facts=facts)
        case "archive":
            stream = (
                Stream(stdout) if path == "-" else partial(archive_file, Path(path), facts().job)
            )
            return Out(folder, archive=stream, facts=facts)


@contextmanager
def archive_file(path: Path, job: str) -> Iterator[BinaryIO]:
    """What takes an archive: it has its name only when it is whole and durable. Until then it is
    called after the job too: what a killed attempt of it left makes room for the next."""
    temporary = path.with_name(f".{path.name}.{job}.tmp")
    try:
        with fresh_file(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.absolute().parent)


class Stream:
    """Standard output. It takes one archive: what follows a piece of one is no archive."""

    def __init__(self, stdout: BinaryIO) -> None:
        self._stdout = stdout
        self._begun = False

    @contextmanager
    def __call__(self) -> Iterator[BinaryIO]:
        if self._begun:
            raise StreamClosed("a piece of it was written already")
        self._begun = True
        try:
            yield self._stdout
            self._stdout.flush()
        except OSError as error:
            raise StreamClosed(error.strerror or str(error)) from None


def refuse_reopening(spec: JobSpec) -> None:
    """Raise `LinkNeeded` where increments follow the full dump: nothing is added to it any more."""
    of_ours = spec.layout == "chunks" and not is_stored(spec.target)
    if spec.kind == "dump" and of_ours and not spec.incremental:
        folder = Path(spec.target.removeprefix(DUMP))
        if folder.is_dir():
            refuse_removal(folder, 0)


def refuse_existing(spec: JobSpec) -> None:
    """Raise `OutExists` where a new dump would be written over something, `OutUnwritable` where
    none can be written at all. Raises `StoreError`."""
    if is_stored(spec.target):
        refuse_existing_in(open_store(spec.target, NOWHERE))
        return
    path = Path(spec.target.removeprefix(DUMP))
    if spec.layout == "archive":
        if str(path) != "-" and path.exists():
            raise OutExists(str(path), "exists already")
    elif path.exists() and not path.is_dir():
        raise OutExists(str(path), "is no directory")
    elif path.is_dir() and any(path.iterdir()):
        raise OutExists(str(path), "is not empty")
    if str(path) != "-":
        _refuse_unwritable(path, archive=spec.layout == "archive")


def _refuse_unwritable(path: Path, *, archive: bool) -> None:
    """Of a directory, one above it may be missing; of an archive, none."""
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        raise OutUnwritable(str(path), f"{there} is no directory")
    if len(path.relative_to(there).parts) > (1 if archive else 2):
        raise OutUnwritable(str(path), f"there is no directory {path.parent}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutUnwritable(str(path), f"{there} is not writable")


def _dumped(unit: Unit, parts: Sequence[Part], making: Making | None) -> Dumped:
    """`making`: the increment, where it is one: what the chain did not hold is in it whole."""
    return Dumped(
        namespace=unit.id,
        type=unit.type,
        options=from_text(unit.options),
        indexes=unit.indexes,
        uuid=unit.uuid,
        parts=tuple(parts),
        documents=sum(part.documents for part in parts),
        bytes=sum(part.bytes for part in parts),
        whole=making is not None and unit.type != "view" and not is_changed(making, unit),
    )


def _part(chunk: Chunk) -> Part:
    file = chunk.file
    assert file is not None
    return Part(
        file=file.name,
        at=0,
        file_bytes=file.file_bytes,
        documents=file.documents,
        bytes=file.bytes,
        sha256=file.sha256,
        lower=chunk.lower,
        upper=chunk.upper,
        natural=chunk.natural,
        erased=file.erased,
    )
