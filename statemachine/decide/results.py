"""What a task that succeeded brought: the events of its end."""

from collections.abc import Sequence
from typing import assert_never

from statemachine.decide.found import damage_told, files_found
from statemachine.decide.increments import (
    completion,
    out_of_line,
)
from statemachine.events import (
    AnyEvent,
    CensusCompleted,
    ChainAccepted,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    ChunkReplaced,
    ConflictForeseen,
    CopyCompleted,
    CreateCompleted,
    DeadLettered,
    DocumentRejected,
    DocumentsRepaired,
    DumpCompleted,
    FinishCompleted,
    IndexCompleted,
    JobFailed,
    ManifestCompleted,
    OperationCompleted,
    PlanCompleted,
    RequestRefused,
    RestoreCompleted,
    SplitCompleted,
    SurveyCompleted,
    UndoCompleted,
    UnitRegistered,
    VerifyCompleted,
)
from statemachine.policy import (
    MAX_REPORTED,
    US,
)
from statemachine.state import State
from statemachine.stimuli import (
    Applying,
    Built,
    Captured,
    Censused,
    Copied,
    Created,
    Dumped,
    Failed,
    Finished,
    Followed,
    FoundUnit,
    Manifested,
    Operated,
    Planned,
    PlannedFiles,
    Rejection,
    Released,
    Restored,
    Result,
    Settled,
    Shaped,
    Split,
    Succeeded,
    Surveyed,
    Undone,
    Unfiled,
    Verified,
)
from statemachine.words import (
    Cause,
    ChunkId,
    Key,
    Phase,
    TaskKey,
    UnitId,
)


def completions(state: State, task: TaskKey, result: Result) -> list[AnyEvent]:
    match result:
        case Surveyed():
            return _surveyed(state, task, result)
        case Created() | Censused():
            return [_readied(task, result)]
        case Planned() | PlannedFiles():
            return _planned(state, UnitId(task.entity), result)
        case Split():
            return _split(state, ChunkId(task.entity), result)
        case Dumped():
            return _dumped(task, result)
        case Restored() | Copied():
            return _carried(state, ChunkId(task.entity), result)
        case Built():
            return [IndexCompleted(entity=task.entity)]
        case Verified():
            return [
                VerifyCompleted(
                    entity=task.entity,
                    equal=result.equal,
                    source_documents=result.source_documents,
                    target_documents=result.target_documents,
                    source_digest=result.source_digest,
                    target_digest=result.target_digest,
                    rejected=result.rejected,
                    differing=result.differing,
                )
            ]
        case Finished() | Manifested() | Operated() | Undone():
            return [_ended(task, result)]
        case Captured() | Shaped() | Applying() | Settled() | Followed():
            found = result.units if isinstance(result, Captured) else ()
            return [*_registered(state, found), *completion(state, task, result)]
        case Released() | Unfiled():
            raise AssertionError("these have paths of their own")
        case _:
            assert_never(result)


def _dumped(task: TaskKey, result: Dumped) -> list[AnyEvent]:
    return [
        *rejections(ChunkId(task.entity), result.rejections[:MAX_REPORTED]),
        DumpCompleted(
            entity=task.entity,
            file=result.file,
            documents=result.documents,
            bytes=result.bytes,
            file_bytes=result.file_bytes,
            blocks=result.blocks,
            sha256=result.sha256,
            erased=result.erased,
            rejected=result.rejected,
            parts=result.parts,
        ),
    ]


def _readied(task: TaskKey, result: Created | Censused) -> AnyEvent:
    if isinstance(result, Censused):
        return CensusCompleted.of(task, columns=result.columns, documents=result.documents)
    return CreateCompleted.of(task, built=result.built, uuid=result.uuid, found=result.found)


def _ended(task: TaskKey, result: Finished | Manifested | Operated | Undone) -> AnyEvent:
    if isinstance(result, Operated):
        return OperationCompleted(entity=task.entity, changes=result.changes)
    if isinstance(result, Undone):
        return UndoCompleted(
            entity=task.entity,
            documents=result.documents,
            kept=result.kept,
            changes=result.changes,
        )
    if isinstance(result, Finished):
        return FinishCompleted(entity=task.entity, differing=result.differing)
    return ManifestCompleted(
        entity=task.entity,
        sha256=result.sha256,
        documents=result.documents,
        bytes=result.bytes,
    )


def nothing_found(state: State, task: TaskKey) -> SurveyCompleted:
    """What was found before stands."""
    users, roles = state.users, state.roles
    return SurveyCompleted(
        entity=task.entity, units=0, cluster_time="", users=users, roles=roles, notes=()
    )


def _surveyed(state: State, task: TaskKey, result: Surveyed) -> list[AnyEvent]:
    """What is registered already stays as it was found first."""
    if why := out_of_line(state, result.links):
        attempt, cause, code = state.tasks[task].attempt, Cause.PERMANENT, "ECHAIN002"
        letter = DeadLettered.of(task, attempt=attempt, cause=cause, code=code, why=why)
        return [letter, JobFailed(code=code, why=why)]
    units = _registered(state, result.units)
    done = SurveyCompleted(
        entity=task.entity,
        units=len(units),
        cluster_time=result.cluster_time,
        users=result.users,
        roles=result.roles,
        notes=result.notes,
        since=result.since,
    )
    if state.adding and not units:
        why = f"nothing on the source is selected by {', '.join(state.added[-state.adding :])}"
        return [RequestRefused(by=US, request=0, verb="add", why=why), done]
    damage = () if state.adding else result.damage  # told by the first survey
    chain = [ChainAccepted(links=result.links)] if state.phase is Phase.INVALID else []
    return [*units, *damage_told("", damage), *chain, done]


def _registered(state: State, found: Sequence[FoundUnit]) -> list[AnyEvent]:
    return [
        UnitRegistered(
            unit=each.unit,
            target=each.target,
            type=each.type,
            uuid=each.uuid,
            options=each.options,
            indexes=each.indexes,
            documents=each.documents,
            bytes=each.bytes,
            expires=each.expires,
        )
        for each in found
        if each.unit not in state.units
    ]


def _planned(state: State, unit: UnitId, plan: Planned | PlannedFiles) -> list[AnyEvent]:
    if isinstance(plan, PlannedFiles):
        return files_found(state, unit, plan)
    foreseen: list[AnyEvent] = [
        ConflictForeseen(unit=unit, code=code, why=why) for code, why in plan.conflicts
    ]
    if state.units[unit].type == "view":
        return [*foreseen, PlanCompleted(entity=unit, chunks=0)]
    count = len(plan.boundaries) + 1
    chunks = _chunks(
        state,
        unit,
        (None, *plan.boundaries, None),
        [plan.documents // count] * count,
        natural=plan.natural,
    )
    return [*foreseen, *chunks, PlanCompleted(entity=unit, chunks=count)]


def _split(state: State, chunk_id: ChunkId, split: Split) -> list[AnyEvent]:
    chunk = state.chunks[chunk_id]
    parts = _chunks(
        state,
        chunk.unit,
        (chunk.lower, *split.boundaries, chunk.upper),
        split.documents,
        natural=False,
    )
    return [
        SplitCompleted(entity=chunk_id, chunks=len(parts)),
        ChunkReplaced(chunk=chunk_id, by=US, request=0, why="split"),
        *parts,
    ]


def _chunks(
    state: State,
    unit: UnitId,
    edges: Sequence[Key | None],
    documents: Sequence[int],
    *,
    natural: bool,
) -> list[AnyEvent]:
    """The ranges between the edges as new chunks of the unit, numbered on."""
    first = state.units[unit].named
    return [
        ChunkPlanned(
            unit=unit,
            chunk=ChunkId(f"{unit}#{first + index}"),
            lower=edges[index],
            upper=edges[index + 1],
            documents=count,
            natural=natural,
        )
        for index, count in enumerate(documents)
    ]


def _carried(state: State, chunk_id: ChunkId, done: Restored | Copied) -> list[AnyEvent]:
    counts = {
        "entity": chunk_id,
        "documents": done.documents,
        "bytes": done.bytes,
        "present": done.present,
        "rejected": done.rejected,
    }
    completed = (
        RestoreCompleted.model_validate(counts)
        if isinstance(done, Restored)
        else CopyCompleted.model_validate(counts)
    )
    return [*of_documents(state, chunk_id, done), completed]


def of_documents(state: State, chunk_id: ChunkId, done: Restored | Copied) -> list[AnyEvent]:
    """What became of single documents."""
    room = max(0, MAX_REPORTED - state.chunks[chunk_id].done.rejected)
    events = rejections(chunk_id, done.rejections[:room])
    if done.repaired:
        events.append(DocumentsRepaired(chunk=chunk_id, documents=done.repaired))
    return events


def rejections(chunk: ChunkId, rejections: Sequence[Rejection]) -> list[AnyEvent]:
    return [
        DocumentRejected(chunk=chunk, key=each.key, code=each.code, why=each.why)
        for each in rejections
    ]


def released(state: State, news: Succeeded | Failed) -> list[AnyEvent]:
    chunk = ChunkId(news.task.entity)
    if state.terminal or news.epoch != state.epoch or chunk not in state.releasing:
        return []
    if isinstance(news, Failed):
        return [ChunkKept(chunk=chunk, why=f"{news.code}: {news.why}")]
    return [ChunkReleased(chunk=chunk)]
