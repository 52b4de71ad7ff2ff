"""The end of an export: its files are looked for, what dead attempts left goes, and a manifest
names the rest; a mark of success comes last of all."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from executors.export.errors import PlaceTaken
from executors.export.garbage import Unnamed, unnamed
from executors.export.manifest import Collection, File, Manifest, as_bytes, standing
from executors.export.names import CLAIM, MANIFEST, SUCCESS, Attempt
from executors.export.place import Export, holder
from executors.export.recipes import recipe_of
from executors.export.writers import writer_of
from executors.folder import folder_name
from executors.protocol import Stopped, StopToken
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit
from statemachine.state.entities import Part
from statemachine.stimuli import Manifested, Unfiled
from statemachine.words import ChunkId

TOLD: Final = 20
"""Names of others' files that a manifest tells."""


def end_export(to: Export, spec: JobSpec, effect: Effect, stop: StopToken) -> Manifested | Unfiled:
    """Run again, it leaves the same. Raises `PlaceTaken`, what the store raises, `Stopped`."""
    if holder(to.store) not in (None, to.job):
        raise PlaceTaken(to.store.url, f"job {holder(to.store)} exports to there by now")
    there = {}
    for found in to.store.list():
        if stop.is_set():
            raise Stopped
        there[found.name] = found.size
    if lost := tuple(_lost(effect.filed, there)):
        return Unfiled(lost)
    filed: dict[str, list[Chunk]] = {}
    for chunk in effect.filed:
        filed.setdefault(chunk.unit, []).append(chunk)
    collections = [
        _collection(to, spec, unit, filed.get(unit.id, []), stop) for unit in effect.units
    ]
    files = {file.name for each in collections for file in each.files}
    beside = unnamed(there, files, to.job)
    to.store.remove_drafts()
    to.store.remove(beside.dead)
    manifest = _manifest(to, effect, collections, beside)
    return _tell(to, spec, manifest, beside)


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


def _parts(chunk: Chunk) -> Sequence[Part]:
    """The files of a chunk; none of one that had no documents."""
    file = chunk.file
    assert file is not None
    if file.parts or not file.documents:
        return file.parts
    return [Part(file.name, file.documents, file.file_bytes, file.sha256)]


def _lost(filed: Iterable[Chunk], there: Mapping[str, int]) -> Iterator[tuple[ChunkId, str]]:
    for chunk in filed:
        for part in _parts(chunk):
            found = there.get(part.name)
            if found is None:
                yield chunk.id, f"{part.name} is missing"
                break
            if found != part.file_bytes:
                yield chunk.id, f"{part.name} has {found} bytes, {part.file_bytes} were written"
                break


def _collection(
    to: Export, spec: JobSpec, unit: Unit, filed: Iterable[Chunk], stop: StopToken
) -> Collection:
    files = [_file(part) for chunk in filed for part in _parts(chunk)]
    whole = [chunk.file for chunk in filed if chunk.file is not None]
    assert spec.export is not None
    if not files and unit.type != "view" and spec.export.empty == "file":
        files = [_empty(to, spec, unit, stop)]
    return Collection(
        namespace=unit.id,
        type=unit.type,
        documents=sum(file.documents for file in files),
        bytes=sum(file.bytes for file in whole),
        rejected=sum(file.rejected for file in whole),
        columns=tuple(json.loads(unit.columns)) if unit.columns else (),
        files=tuple(sorted(files, key=lambda file: file.name)),
    )


def _file(part: Part) -> File:
    return File(name=part.name, documents=part.documents, bytes=part.file_bytes, sha256=part.sha256)


def _empty(to: Export, spec: JobSpec, unit: Unit, stop: StopToken) -> File:
    """The one file of a collection without documents; its name is the same in every attempt."""
    recipe = recipe_of(spec, unit, without_id=False)
    name = Attempt(folder_name(unit.id), 0, to.job, 0, 0, recipe.suffix).name()
    draft = to.store.draft(name)
    _, size, sha256 = writer_of(recipe, unit.id, to.worker_memory)(draft).close()
    to.store.put_file(name, draft, stop)
    return File(name=name, documents=0, bytes=size, sha256=sha256)


def _manifest(
    to: Export, effect: Effect, collections: Sequence[Collection], beside: Unnamed
) -> Manifest:
    """With the time of the one that stands there, if it is of this job: that was the end."""
    before = standing(to.store)
    facts = to.facts()
    missing = tuple(_missing(effect, collections))
    told = {
        "cluster_time": effect.cluster_time,
        "created": before.created if before and before.job == to.job else facts.created,
    }
    return Manifest(
        **{**facts.model_dump(), **told},
        complete=not missing,
        missing=missing,
        beside=beside.foreign[:TOLD],
        documents=sum(each.documents for each in collections),
        bytes=sum(each.bytes for each in collections),
        rejected=sum(each.rejected for each in collections),
        collections=tuple(sorted(collections, key=lambda each: each.namespace)),
    )


def _missing(effect: Effect, collections: Iterable[Collection]) -> Iterator[str]:
    for unit in effect.units:
        if unit.dropped:
            yield f"{unit.id}: {unit.dropped} of its chunks were left out"
    for each in collections:
        if each.rejected:
            yield f"{each.namespace}: {each.rejected} documents are rejected"
    for name in effect.left:
        yield f"{name}: it was given up"
