"""The end of an export: its files are looked for, what dead attempts left goes, and a manifest
names the rest; a mark of success comes last of all."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from executors.export.errors import BadManifest
from executors.export.garbage import Unnamed, unnamed
from executors.export.manifest import Collection, File, Manifest, as_bytes, standing
from executors.export.names import CLAIM, MANIFEST, SUCCESS, Attempt, job_of
from executors.export.place import Export, must_be_ours
from executors.export.recipes import recipe_of
from executors.export.writers import writer_of
from executors.folder import folder_name
from executors.protocol import Stopped, StopToken
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import Chunk, Part, Unit
from statemachine.stimuli import Manifested, Unfiled
from statemachine.words import ChunkId

if TYPE_CHECKING:
    from executors.export.counts import Counts

TOLD: Final = 20
"""Names of others' files that a manifest tells."""


def end_export(to: Export, spec: JobSpec, effect: Effect, stop: StopToken) -> Manifested | Unfiled:
    """Run again, it leaves the same. Raises `PlaceTaken`, what the store raises, `Stopped`."""
    must_be_ours(to.store, to.job)
    there = _there(to, stop)
    if lost := tuple(_lost(effect.filed, there)):
        return Unfiled(lost)
    counts, unread = _counted(to, spec, effect.filed, stop)
    if unread:
        return Unfiled(unread)
    filed: dict[str, list[Chunk]] = {}
    for chunk in effect.filed:
        filed.setdefault(chunk.unit, []).append(chunk)
    collections = [_collection(unit, filed.get(unit.id, ()), counts) for unit in effect.units]
    collections = [_with_a_file(to, spec, each, effect.units, stop) for each in collections]
    beside = unnamed(there, {file.name for each in collections for file in each.files}, to.job)
    to.store.remove_drafts(_is_of_this_place)
    to.store.remove(beside.dead)
    return _tell(to, spec, _manifest(to, effect, collections, beside), beside)


def _is_of_this_place(name: str) -> bool:
    """Not of an export that goes on in a folder beneath it."""
    return "/" not in name or job_of(name) is not None


def _there(to: Export, stop: StopToken) -> dict[str, int]:
    """Bytes of all that lies there, by name."""
    there = {}
    for found in to.store.list():
        if stop.is_set():
            raise Stopped
        there[found.name] = found.size
    return there


def _tell(to: Export, spec: JobSpec, manifest: Manifest, beside: Unnamed) -> Manifested:
    """The manifest of an export that is replaced goes as the new one comes, its files after it."""
    data = as_bytes(manifest)
    to.store.put(MANIFEST, data, replace=True)
    assert spec.export is not None
    if spec.export.overwrite:
        to.store.remove(beside.replaced)
    to.store.remove([CLAIM])
    if manifest.complete:
        to.store.put(SUCCESS, b"", replace=True)
    return Manifested(hashlib.sha256(data).hexdigest(), manifest.documents, manifest.bytes)


def parts_of(chunk: Chunk) -> Sequence[Part]:
    """The files of a chunk; none of one that had no documents."""
    file = chunk.file
    assert file is not None
    if file.parts or not file.documents:
        return file.parts
    return [Part(file.name, file.documents, file.file_bytes, file.sha256)]


def _lost(filed: Iterable[Chunk], there: Mapping[str, int]) -> Iterator[tuple[ChunkId, str]]:
    for chunk in filed:
        for part in parts_of(chunk):
            found = there.get(part.name)
            if found != part.file_bytes:
                has = "is missing" if found is None else f"has {found} bytes"
                yield chunk.id, f"{part.name} {has}, {part.file_bytes} were written"
                break


def _counted(
    to: Export, spec: JobSpec, filed: Iterable[Chunk], stop: StopToken
) -> tuple[Mapping[str, "Counts"], tuple[tuple[ChunkId, str], ...]]:
    """What files of columns say they hold; and the chunks of those that say nothing."""
    assert spec.export is not None
    if spec.export.format != "parquet":
        return {}, ()
    from executors.export.footers import footers  # noqa: PLC0415 — pyarrow is an extra

    whose = {part.name: (chunk.id, part) for chunk in filed for part in parts_of(chunk)}
    counts: dict[str, Counts] = {}
    unread: dict[ChunkId, str] = {}
    for name, found in footers(to.store, {n: p.file_bytes for n, (_, p) in whose.items()}, stop):
        if isinstance(found, str):
            unread[whose[name][0]] = found
        else:
            counts[name] = found
    return counts, tuple(unread.items())


def _collection(unit: Unit, filed: Sequence[Chunk], counts: Mapping[str, "Counts"]) -> Collection:
    files = [
        File(
            name=part.name,
            documents=part.documents,
            bytes=part.file_bytes,
            sha256=part.sha256,
            present=counts[part.name].present if part.name in counts else {},
            census=counts[part.name].census if part.name in counts else {},
        )
        for chunk in filed
        for part in parts_of(chunk)
    ]
    whole = [chunk.file for chunk in filed if chunk.file is not None]
    return Collection(
        namespace=unit.id,
        type=unit.type,
        documents=sum(file.documents for file in files),
        bytes=sum(file.bytes for file in whole),
        rejected=sum(file.rejected for file in whole),
        columns=tuple(json.loads(unit.columns)) if unit.columns else (),
        files=tuple(sorted(files, key=lambda file: file.name)),
    )


def _with_a_file(
    to: Export, spec: JobSpec, told: Collection, units: Sequence[Unit], stop: StopToken
) -> Collection:
    """One of a collection without documents, where that is wanted; its name is always the same."""
    assert spec.export is not None
    if told.files or told.type == "view" or spec.export.empty == "none":
        return told
    unit = next(each for each in units if each.id == told.namespace)
    recipe = recipe_of(spec, unit)
    name = Attempt(folder_name(unit.id), 0, to.job, 0, 0, recipe.suffix).name()
    draft = to.store.draft(name)
    _, size, sha256 = writer_of(recipe, unit.id, to.worker_memory)(draft).close()
    to.store.put_file(name, draft, stop, replace=True)  # another version may have begun
    file = File(name=name, documents=0, bytes=size, sha256=sha256)
    return told.model_copy(update={"files": (file,)})


def _manifest(
    to: Export, effect: Effect, collections: Sequence[Collection], beside: Unnamed
) -> Manifest:
    """With the time of the one that stands there, if it is of this job: that was the end."""
    before, facts = _before(to), to.facts()
    missing = tuple(_missing(effect, collections))
    told = {
        "cluster_time": effect.cluster_time,
        "created": before.created if before and before.job == to.job else facts.created,
    }
    return Manifest(
        **{**facts.model_dump(), **told},
        complete=not missing,
        missing=missing,
        beside=tuple(_as_text(name) for name in beside.foreign[:TOLD]),
        documents=sum(each.documents for each in collections),
        bytes=sum(each.bytes for each in collections),
        rejected=sum(each.rejected for each in collections),
        collections=tuple(sorted(collections, key=lambda each: each.namespace)),
    )


def _as_text(name: str) -> str:
    """Disks take names that are no text."""
    return name.encode(errors="backslashreplace").decode()


def _before(to: Export) -> Manifest | None:
    """One that cannot be read is replaced all the same: the place is ours."""
    try:
        return standing(to.store)
    except BadManifest:
        return None


def _missing(effect: Effect, collections: Iterable[Collection]) -> Iterator[str]:
    for unit in effect.units:
        if unit.dropped:
            yield f"{unit.id}: {unit.dropped} of its chunks were left out"
    for each in collections:
        if each.rejected:
            yield f"{each.namespace}: {each.rejected} documents are rejected"
    for name in effect.left:
        yield f"{name}: it was given up"
