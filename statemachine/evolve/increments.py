"""Arms: increments, captured, applied and followed."""

from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    ApplyCompleted,
    ApplyProgressed,
    CaptureCompleted,
    CaptureInvalidated,
    CaptureProgressed,
    ChainAccepted,
    CutoverRequested,
    FollowCompleted,
    IncrementCompleted,
    IncrementStarted,
    MomentPassed,
    SettleCompleted,
    ShapeCompleted,
    ShardPlanned,
)
from statemachine.evolve.hands import answered, healed, once_more, put, remove, told
from statemachine.evolve.tasks import done, moved
from statemachine.state import Applied, ChunkFile, Link, Shard, State, Task
from statemachine.transitions import next_phase
from statemachine.words import THE_JOB, Phase, ShardId, TaskKey, TaskKind, link_entity

# --- capture ---


def capture_progressed(state: State, event: CaptureProgressed) -> None:
    task = moved(state, event)
    task.interruptions = task.waits = task.waited_ms = 0
    healed(state, event)
    state.token, state.reached, state.changes = event.token, event.cluster_time, event.changes


def capture_completed(state: State, event: CaptureCompleted) -> None:
    done(state, event)
    state.closed = True
    state.token, state.reached, state.changes = event.token, event.cluster_time, event.changes
    state.cluster_time = event.cluster_time
    put(state, TaskKey(TaskKind.MANIFEST, THE_JOB), Task())


def moment_passed(state: State, event: MomentPassed) -> None:
    told(state, event)
    state.outdated = True


def capture_invalidated(state: State, event: CaptureInvalidated) -> None:
    """Nothing is at work: what was registered, planned and dumped as of the old time is forgotten.
    A worker that was given up may still bring news of it: its attempt has another number."""
    moved(state, event)
    for key in [key for key in state.tasks if key.kind is not TaskKind.CAPTURE]:
        remove(state, key)
    for kept in (state.units, state.chunks, state.flawed, state.filed, state.open_units):
        kept.clear()
    state.ripe.clear()
    state.files = state.done_documents = state.done_bytes = state.damaged = 0
    state.closed = state.outdated = False
    state.cluster_time = ""
    state.moments += 1
    state.forgotten = state.highest


# --- a chain is restored ---


def chain_accepted(state: State, event: ChainAccepted) -> None:
    _phase(state, event.kind)
    state.links = tuple(
        Link(each.number, each.digest, each.until, each.log, each.documents + each.erased)
        for each in event.links
    )


def increment_started(state: State, event: IncrementStarted) -> None:
    if event.increment != state.applied + 1 or state.increment != state.applied:
        raise ImpossibleTransition(
            entity=link_entity(event.increment),
            status=f"{state.applied} applied of {state.increment} started",
            event=event.kind,
        )
    if event.increment > len(state.links):
        raise UnknownEntity(entity=link_entity(event.increment), event=event.kind)
    state.increment = event.increment
    state.deadline_ms = event.deadline_ms
    state.proposed = False
    state.shards_planned = 0
    for kind in (TaskKind.SHAPE, TaskKind.SETTLE):
        put(state, TaskKey(kind, event.about), Task())


def shard_planned(state: State, event: ShardPlanned) -> None:
    if event.increment != state.increment or state.proposed or event.shard in state.shards:
        raise ImpossibleTransition(
            entity=event.shard, status=f"increment {state.increment}", event=event.kind
        )
    state.shards[event.shard] = Shard(
        event.shard,
        event.namespace,
        event.target,
        event.type,
        event.lower,
        event.upper,
        ChunkFile(
            event.file,
            event.documents,
            event.bytes,
            event.file_bytes,
            event.sha256,
            place="dump",
            erased=event.erased,
        ),
    )
    state.shards_planned += 1
    put(state, TaskKey(TaskKind.APPLY, event.shard), Task())


def shape_completed(state: State, event: ShapeCompleted) -> None:
    phase = _next_phase(state, event.kind) if event.task in state.tasks else None
    done(state, event)
    state.phase, state.proposed = phase, True


def apply_progressed(state: State, event: ApplyProgressed) -> None:
    task = moved(state, event)
    task.interruptions = task.waits = task.waited_ms = 0
    healed(state, event)
    _applied(state, _the_shard(state, event), event, event.position)


def apply_completed(state: State, event: ApplyCompleted) -> None:
    done(state, event)
    shard = _the_shard(state, event)
    _applied(state, shard, event, shard.file.file_bytes)
    del state.shards[shard.id]
    remove(state, event.task)


def _applied(
    state: State, shard: Shard, event: ApplyProgressed | ApplyCompleted, position: int
) -> None:
    before = shard.done
    shard.done = Applied(position, event.documents, event.erased, event.bytes, event.last_key)
    state.upserted += event.documents - before.documents
    state.erased += event.erased - before.erased
    state.done_documents += event.documents - before.documents + event.erased - before.erased
    state.done_bytes += event.bytes - before.bytes


def settle_completed(state: State, event: SettleCompleted) -> None:
    done(state, event)
    state.differing = len(event.differing)


def increment_completed(state: State, event: IncrementCompleted) -> None:
    if event.increment != state.increment or state.shards:
        raise ImpossibleTransition(
            entity=event.about,
            status=f"increment {state.increment}, {len(state.shards)} shards left",
            event=event.kind,
        )
    _phase(state, f"last_{event.kind}" if event.last else event.kind)
    state.applied = event.increment
    state.deadline_ms = 0
    for unit in state.units.values():
        unit.rejected, unit.passing = unit.rejected - unit.passing, 0
    for kind in (TaskKind.SHAPE, TaskKind.SETTLE):
        remove(state, TaskKey(kind, event.about))


def proposed_again(state: State) -> None:
    """A new process makes sure of the target before its shards go on."""
    if state.increment > state.applied:
        once_more(state, TaskKey(TaskKind.SHAPE, link_entity(state.increment)))


def _phase(state: State, event: str) -> None:
    state.phase = _next_phase(state, event)


def _next_phase(state: State, event: str) -> Phase:
    if state.phase is None:
        raise ImpossibleTransition(entity=THE_JOB, status="no chain", event=event)
    return next_phase(state.phase, event)


def _the_shard(state: State, event: ApplyProgressed | ApplyCompleted) -> Shard:
    try:
        return state.shards[ShardId(event.entity)]
    except KeyError:
        raise UnknownEntity(entity=event.entity, event=event.kind) from None


# --- a source is followed ---


def follow_completed(state: State, event: FollowCompleted) -> None:
    """The next round waits for its turn, unless nothing is left."""
    done(state, event)
    state.token, state.reached, state.lag_ms = event.token, event.cluster_time, event.lag_ms
    state.upserted += event.documents
    state.erased += event.erased
    state.done_documents += event.documents + event.erased
    state.done_bytes += event.bytes
    if not event.drained:
        once_more(state, event.task)
        return
    state.drained = True
    put(state, TaskKey(TaskKind.SETTLE, THE_JOB), Task())


def cutover_requested(state: State, event: CutoverRequested) -> None:
    told(state, event)
    state.cutover = True
    answered(state, event.request)
