"""What happened to increments, in sentences."""

from typing import Any

from ferrylog.views.spans import size
from statemachine.events import (
    AnyEvent,
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

MILESTONES = (
    CaptureCompleted,
    ChainAccepted,
    CutoverRequested,
    IncrementStarted,
    ShapeCompleted,
    SettleCompleted,
    IncrementCompleted,
)
"""What a run tells while it goes."""


def result_of_increments(stage: str, made: dict[str, Any]) -> str:
    """What an attempt has brought about; `made`: the fields of its event."""
    match stage:
        case "capture":
            return (
                f"{made['changes']:,} changes are known, and the increment is as of "
                f"{made['cluster_time']}."
            )
        case "shape":
            what = "; ".join(made["changes"]) or "nothing had to change"
            return f"{what}; {made['shards']:,} shards follow."
        case "settle":
            what = "; ".join(made["changes"]) or "nothing was left to build"
            return f"{what}; {len(made['differing']):,} options and indexes differ."
        case "follow":
            return (
                f"the target is as of {made['cluster_time']}: {made['documents']:,} documents "
                f"written, {made['erased']:,} deleted, {made['lag_ms']:,} ms behind."
            )
        case _:
            return (
                f"{made['documents']:,} documents of this shard lie on the target, and "
                f"{made['erased']:,} are deleted there ({size(made['bytes'])})."
            )


def is_milestone(event: AnyEvent) -> bool:
    return isinstance(event, MILESTONES) or (
        isinstance(event, FollowCompleted) and event.changes != ()
    )


def note_on_increments(event: AnyEvent) -> str:
    """A sentence; empty for an event of anything else."""
    match event:
        case CaptureProgressed():
            return f"All {event.changes:,} changes up to {event.cluster_time} are captured."
        case CaptureCompleted():
            return (
                f"The increment is as of {event.cluster_time}: {event.changes:,} changes, "
                f"{event.units} collections and views."
            )
        case MomentPassed():
            return f"The increment has to go on to a later time: {event.why}."
        case CaptureInvalidated():
            return f"What was dumped of the increment is forgotten: {event.why}."
        case ChainAccepted():
            last = event.links[-1].until if event.links else ""
            return f"The chain is whole: {len(event.links)} increments follow, up to {last}."
        case IncrementStarted():
            return f"The turn of increment {event.increment} has come."
        case IncrementCompleted():
            return f"Increment {event.increment} is applied."
        case CutoverRequested():
            return f"{event.by} asked for the cut-over."
        case _:
            return _of_the_target(event)


def _of_the_target(event: AnyEvent) -> str:
    match event:
        case ShardPlanned():
            return (
                f"{event.documents:,} documents and {event.erased:,} deletions of "
                f"{event.namespace} lie in {event.file}."
            )
        case ShapeCompleted():
            what = "; ".join(event.changes) or "nothing had to change"
            return f"The collections stand: {what}. {event.shards} shards follow."
        case ApplyProgressed() | ApplyCompleted():
            key = f", up to {event.last_key}" if event.last_key is not None else ""
            return (
                f"The target has {event.documents:,} documents, {event.erased:,} deletions, "
                f"{size(event.bytes)}{key}."
            )
        case SettleCompleted():
            what = "; ".join(event.changes) or "nothing was left to build"
            differing = f" {len(event.differing)} differ." if event.differing else ""
            return f"The indexes stand: {what}.{differing}"
        case FollowCompleted():
            what = "".join(f" {each}." for each in event.changes)
            return (
                f"The target is as of {event.cluster_time}: {event.documents:,} documents "
                f"written, {event.erased:,} deleted, {event.lag_ms:,} ms behind.{what}"
            )
        case _:
            return ""
