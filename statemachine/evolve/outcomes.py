"""Arms: what tasks bring about."""

from statemachine.events import (
    TASK_OF,
    CensusCompleted,
    CopyCompleted,
    CopyProgressed,
    CreateCompleted,
    DumpCompleted,
    DumpInvalidated,
    FinishCompleted,
    IndexCompleted,
    ManifestCompleted,
    PlanCompleted,
    RestoreCompleted,
    RestoreProgressed,
    SplitCompleted,
    SurveyCompleted,
    VerifyCompleted,
)
from statemachine.evolve.chunks import (
    add_verified,
    advance,
    begin_again,
    forget_progress,
    open_indexes,
    restored,
)
from statemachine.evolve.hands import (
    healed,
    once_more,
    put,
    ripen,
    stands,
    the_chunk,
    the_unit,
)
from statemachine.evolve.tasks import done, moved
from statemachine.state import ChunkFile, Part, State, Task, keeps_files
from statemachine.transitions import next_unit_status
from statemachine.words import (
    THE_JOB,
    Status,
    TaskKey,
    TaskKind,
)


def survey_completed(state: State, event: SurveyCompleted) -> None:
    done(state, event)
    state.closed = True
    state.cluster_time = state.cluster_time or event.cluster_time
    state.users, state.roles = event.users, event.roles
    state.since = state.since or event.since
    follow = TaskKey(TaskKind.FOLLOW, THE_JOB)
    if state.spec is not None and state.spec.follow and follow not in state.tasks:
        put(state, follow, Task())
    manifest = TaskKey(TaskKind.MANIFEST, THE_JOB)
    if state.spec is not None and keeps_files(state.spec) and manifest not in state.tasks:
        put(state, manifest, Task())


def create_completed(state: State, event: CreateCompleted) -> None:
    done(state, event)
    unit = the_unit(state, event.entity, event)
    unit.built, unit.target_uuid, unit.created = event.built, event.uuid, True
    unit.found = event.found
    if state.spec is not None and state.spec.kind == "restore":
        open_indexes(state, unit)  # of an empty unit: there is no chunk whose end could do it
    elif unit.type != "view":
        put(state, TaskKey(TaskKind.PLAN, unit.id), Task(priority=unit.priority))
    ripen(state, unit)


def census_completed(state: State, event: CensusCompleted) -> None:
    done(state, event)
    unit = the_unit(state, event.entity, event)
    unit.columns = event.columns
    put(state, TaskKey(TaskKind.PLAN, unit.id), Task(priority=unit.priority))
    ripen(state, unit)


def plan_completed(state: State, event: PlanCompleted) -> None:
    done(state, event)
    unit = the_unit(state, event.entity, event)
    unit.status = next_unit_status(unit.status, event.kind, unit=unit.id)
    if state.spec is not None and state.spec.kind == "restore":
        put(state, TaskKey(TaskKind.CREATE, unit.id), Task(priority=unit.priority))
    ripen(state, unit)


def dump_completed(state: State, event: DumpCompleted) -> None:
    done(state, event)
    chunk = the_chunk(state, event.entity, event)
    unit = state.units[chunk.unit]
    chunk.file = ChunkFile(
        event.file,
        event.documents,
        event.bytes,
        event.file_bytes,
        event.sha256,
        erased=event.erased,
        rejected=event.rejected,
        parts=tuple(Part(e.name, e.documents, e.file_bytes, e.sha256) for e in event.parts),
    )
    begin_again(state, chunk)
    state.files += 1
    unit.dumped_documents += event.documents
    unit.dumped_bytes += event.bytes
    if len(state.stages) == 1:
        state.done_documents += event.documents
        state.done_bytes += event.bytes
    advance(state, chunk, unit, TaskKind.DUMP)


def dump_invalidated(state: State, event: DumpInvalidated) -> None:
    """The dump starts again: take back what its completion brought."""
    task = moved(state, event)
    task.failures += 1
    task.why = event.why
    chunk = the_chunk(state, event.entity, event)
    forget_progress(state, chunk)
    assert chunk.file is not None
    unit = state.units[chunk.unit]
    unit.weight_done -= max(1, chunk.documents)
    unit.dumped_documents -= chunk.file.documents
    unit.dumped_bytes -= chunk.file.bytes
    chunk.file, chunk.again = None, True
    state.files -= 1
    restore = TaskKey(TaskKind.RESTORE, chunk.id)
    if stands(state, restore, Status.COMPLETED):  # its verification found the file damaged
        once_more(state, restore)
        unit.weight_done -= max(1, chunk.documents)
        unit.restored -= 1


def progressed(state: State, event: RestoreProgressed | CopyProgressed) -> None:
    task = moved(state, event)
    task.interruptions = task.waits = task.waited_ms = 0
    healed(state, event)
    last_key = event.last_key if isinstance(event, CopyProgressed) else None
    chunk = the_chunk(state, event.entity, event)
    restored(state, chunk, event, position=event.position, last_key=last_key)


def carried(state: State, event: RestoreCompleted | CopyCompleted) -> None:
    """The chunk's documents are on the target."""
    done(state, event)
    chunk = the_chunk(state, event.entity, event)
    unit = state.units[chunk.unit]
    restored(state, chunk, event, position=chunk.file.file_bytes if chunk.file else 0)
    unit.restored += 1
    if chunk.bisected:
        state.suspects = 0
    advance(state, chunk, unit, TASK_OF[event.kind])


def completed(state: State, event: IndexCompleted | SplitCompleted | ManifestCompleted) -> None:
    done(state, event)


def verify_completed(state: State, event: VerifyCompleted) -> None:
    done(state, event)
    chunk = the_chunk(state, event.entity, event)
    unit = state.units[chunk.unit]
    chunk.verified = (int(not event.equal), event.source_documents, event.target_documents)
    add_verified(unit, chunk, 1)
    if len(state.stages) == 1:
        state.done_documents += event.source_documents
    advance(state, chunk, unit, TaskKind.VERIFY)


def finish_completed(state: State, event: FinishCompleted) -> None:
    done(state, event)
    unit = the_unit(state, event.entity, event)
    unit.differing = len(event.differing)
    unit.swapped = state.spec is not None and bool(state.spec.swap)
