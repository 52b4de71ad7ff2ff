"""Files of dumps: chunks whose documents lie in one, damage that was found, files that are lost."""

from collections.abc import Sequence

from statemachine.events import (
    AnyEvent,
    Cancelled,
    ChunkPlanned,
    ChunkReplaced,
    ConflictForeseen,
    DamageFound,
    FileFound,
    PlanCompleted,
)
from statemachine.policy import US
from statemachine.state import State
from statemachine.stimuli import FoundDamage, FoundFile, PlannedFiles, Succeeded, Unfiled
from statemachine.words import ChunkId, UnitId


def files_found(state: State, unit: UnitId, plan: PlannedFiles) -> list[AnyEvent]:
    """Chunks whose documents lie in the files of a dump."""
    first = state.units[unit].named
    events: list[AnyEvent] = [
        ConflictForeseen(unit=unit, code=code, why=why) for code, why in plan.conflicts
    ]
    events += damage_told(unit, plan.damage)
    for number, each in enumerate(plan.files, first):
        planned = chunk_found(unit, ChunkId(f"{unit}#{number}"), each)
        events += planned if state.stages else planned[:1]  # a dry run counts it and that is all
    return [*events, PlanCompleted(entity=unit, chunks=len(plan.files))]


def damage_told(unit: str, damage: Sequence[FoundDamage]) -> list[AnyEvent]:
    return [
        DamageFound(
            unit=UnitId(unit),
            file=each.file,
            at=each.at,
            bytes=each.bytes,
            code=each.code,
            why=each.why,
        )
        for each in damage
    ]


def chunk_found(unit: UnitId, chunk: ChunkId, found: FoundFile) -> list[AnyEvent]:
    """A chunk whose documents lie in a file of a dump."""
    file = found.file
    planned = ChunkPlanned(
        unit=unit,
        chunk=chunk,
        lower=found.lower,
        upper=found.upper,
        documents=file.documents,
        natural=found.natural,
    )
    return [
        planned,
        FileFound(
            chunk=chunk,
            file=file.name,
            place=file.place,
            at=file.at,
            documents=file.documents,
            bytes=file.bytes,
            file_bytes=file.file_bytes,
            sha256=file.sha256,
        ),
    ]


def files_lost(state: State, news: Succeeded, result: Unfiled) -> list[AnyEvent]:
    """What is lost of a dump is dumped again; the manifest comes after it (I24)."""
    first = result.chunks[0][1]
    events: list[AnyEvent] = [
        Cancelled.of(news.task, attempt=news.attempt, code="EFILE001", why=first)
    ]
    named = dict[UnitId, int]()
    for chunk_id, why in result.chunks:
        chunk = state.filed[chunk_id]
        number = named.setdefault(chunk.unit, state.units[chunk.unit].named)
        named[chunk.unit] += 1
        events += [
            ChunkReplaced(chunk=chunk_id, by=US, request=0, why=why),
            ChunkPlanned(
                unit=chunk.unit,
                chunk=ChunkId(f"{chunk.unit}#{number}"),
                lower=chunk.lower,
                upper=chunk.upper,
                documents=chunk.documents,
                natural=chunk.natural,
            ),
        ]
    return events
