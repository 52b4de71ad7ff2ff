"""Increments: what their effects bring back, and whose turn it is."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, assert_never

from statemachine.events import (
    AnyEvent,
    ApplyCompleted,
    ApplyProgressed,
    Cancelled,
    CaptureCompleted,
    CaptureInvalidated,
    CaptureProgressed,
    ChainLink,
    FollowCompleted,
    IncrementCompleted,
    IncrementStarted,
    JobFailed,
    MomentPassed,
    SettleCompleted,
    ShapeCompleted,
    ShardPlanned,
    UnitExcluded,
)
from statemachine.policy import MAX_MOMENTS, US
from statemachine.state import State
from statemachine.stimuli import (
    Applying,
    Captured,
    Capturing,
    Failed,
    Followed,
    FoundShard,
    Progressed,
    Settled,
    Shaped,
)
from statemachine.words import (
    THE_JOB,
    Millis,
    Phase,
    ShardId,
    Status,
    TaskKey,
    TaskKind,
    link_entity,
    unit_of,
)

CHAIN: Final = (TaskKind.SHAPE, TaskKind.APPLY, TaskKind.SETTLE)
"""A failure of one of these that is nobody's to remove is the end of the job (I34)."""


def completion(
    state: State, task: TaskKey, result: Captured | Shaped | Applying | Settled | Followed
) -> list[AnyEvent]:
    match result:
        case Captured():
            return [
                CaptureCompleted(
                    entity=task.entity,
                    units=len(result.units),
                    token=result.token,
                    cluster_time=result.cluster_time,
                    changes=result.changes,
                    notes=result.notes,
                )
            ]
        case Shaped():
            return _shaped(state, task, result)
        case Applying():
            return [
                ApplyCompleted(
                    entity=task.entity,
                    last_key=result.last_key,
                    documents=result.documents,
                    erased=result.erased,
                    bytes=result.bytes,
                )
            ]
        case Settled():
            return _settled(state, task, result)
        case Followed():
            return [
                FollowCompleted(
                    entity=task.entity,
                    token=result.token,
                    cluster_time=result.cluster_time,
                    lag_ms=result.lag_ms,
                    documents=result.documents,
                    erased=result.erased,
                    bytes=result.bytes,
                    changes=result.changes,
                    drained=result.drained and state.cutover,
                )
            ]
        case _:
            assert_never(result)


def out_of_line(state: State, links: Sequence[ChainLink]) -> str:
    """Why these are not the increments that are wanted; empty when they are (I32)."""
    spec = state.spec
    assert spec is not None
    if state.phase is not Phase.INVALID:
        return ""
    wanted = spec.links + bool(spec.at)
    if [each.number for each in links] != list(range(1, wanted + 1)):
        return f"{wanted} increments are wanted, and {len(links)} were found"
    for before, each in pairwise(links):
        if each.parent != before.digest or _instant(each.until) <= _instant(before.until):
            return f"increment {each.number} does not follow the one before it"
    return ""


def _instant(cluster_time: str) -> tuple[int, int]:
    seconds, _, increment = cluster_time.partition(".")
    return int(seconds), int(increment)


def _shaped(state: State, task: TaskKey, shaped: Shaped) -> list[AnyEvent]:
    """What is planned once stays: a repeated shaping finds the same shards."""
    found = () if state.proposed else shaped.shards
    planned = state.shards_planned if state.proposed else len(found)
    shards: list[AnyEvent] = [
        _planned(state.increment, index, each) for index, each in enumerate(found)
    ]
    done = ShapeCompleted(entity=task.entity, shards=planned, changes=shaped.changes)
    return [*shards, done]


def _planned(increment: int, index: int, found: FoundShard) -> ShardPlanned:
    file = found.file
    return ShardPlanned(
        increment=increment,
        shard=ShardId(f"{link_entity(increment)}#{index}"),
        namespace=found.namespace,
        target=found.target,
        type=found.type,
        lower=found.lower,
        upper=found.upper,
        file=file.name,
        documents=file.documents,
        erased=file.erased,
        bytes=file.bytes,
        file_bytes=file.file_bytes,
        sha256=file.sha256,
    )


def _settled(state: State, task: TaskKey, settled: Settled) -> list[AnyEvent]:
    """Of an increment it is the end (I32); what followed has none to end."""
    done = SettleCompleted(entity=task.entity, changes=settled.changes, differing=settled.differing)
    if task.entity == THE_JOB:
        return [done]
    last = state.increment == len(state.links)
    return [done, IncrementCompleted(increment=state.increment, last=last)]


def progress(state: State, news: Progressed) -> list[AnyEvent]:
    """What is durable of a capture or a shard; nothing where it is old news."""
    done, entity = news.result, news.task.entity
    if isinstance(done, Capturing):
        known = (_instant(state.reached), state.changes) if state.reached else None
        if known is not None and (_instant(done.cluster_time), done.changes) <= known:
            return []
        return [
            CaptureProgressed(
                entity=entity,
                attempt=news.attempt,
                token=done.token,
                cluster_time=done.cluster_time,
                changes=done.changes,
            )
        ]
    assert isinstance(done, Applying)
    if done.position <= state.shards[ShardId(entity)].done.position:
        return []
    return [
        ApplyProgressed(
            entity=entity,
            attempt=news.attempt,
            position=done.position,
            last_key=done.last_key,
            documents=done.documents,
            erased=done.erased,
            bytes=done.bytes,
        )
    ]


# --- whose turn it is ---


def next_increment(state: State, now: Millis) -> list[AnyEvent]:
    """Strictly one after another, when all before it is applied (I32)."""
    if state.increment > state.applied or state.applied == len(state.links):
        return []
    if not state.closed or state.open_units:
        return []
    assert state.spec is not None
    link = state.links[state.applied]
    allowed = state.spec.increment_ms
    deadline = Millis(now + allowed if allowed else 0)
    return [IncrementStarted(increment=link.number, digest=link.digest, deadline_ms=deadline)]


def overdue(state: State, now: Millis) -> list[AnyEvent]:
    """Deadlines are instants in the journal: no restart moves them."""
    assert state.spec is not None
    named = {
        "the job": state.spec.deadline_ms,
        f"increment {state.increment}": state.deadline_ms,
    }
    for what, deadline in named.items():
        if deadline and now > deadline:
            why = f"{what} was to be done {now - deadline} ms ago"
            return [JobFailed(code="EDEADLINE001", why=why)]
    return []


# --- the source can no longer be read as of the increment's time ---


def moment_passed(state: State, news: Failed) -> list[AnyEvent]:
    """Nothing else starts; when all that runs has ended, the capture goes on to a later time."""
    ended: AnyEvent = Cancelled.of(news.task, attempt=news.attempt, code=news.code, why=news.why)
    if state.outdated:
        return [ended]
    if state.moments + 1 >= MAX_MOMENTS:
        why = f"for the {MAX_MOMENTS}th time in this increment: {news.why}"
        return [ended, JobFailed(code=news.code, why=why)]
    return [ended, MomentPassed(why=news.why)]


def captured_again(state: State) -> list[AnyEvent]:
    if not state.outdated or state.count(Status.PROCESSING) or state.count(Status.IN_DOUBT):
        return []
    return [CaptureInvalidated(entity=THE_JOB, why="the source can only be read as of later")]


def of_a_moment(state: State, news: Failed) -> bool:
    """Whether the task read the source as of the increment's time, and that is over; or the keys
    that it needs are lost, which a capture brings again."""
    assert state.spec is not None
    reads = news.task.kind in (TaskKind.PLAN, TaskKind.DUMP, TaskKind.MANIFEST)
    return state.spec.incremental and reads and news.code in ("ESNAP001", "EKEYS001")


# --- the bulk copy of a source that is followed ---


def collection_gone(state: State, news: Failed) -> list[AnyEvent]:
    """Dropped while it was copied: the change stream will say so to the target."""
    unit = unit_of(news.task)
    assert state.spec is not None
    if not state.spec.follow or news.code != "EGONE001" or unit is None:
        return []
    return [UnitExcluded(unit=unit, by=US, request=0)]
