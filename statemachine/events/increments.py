"""Increments: what changed is captured, applied link by link and shard by shard, or followed."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from statemachine.events.base import Event, Value
from statemachine.events.outcomes import MetadataDifference
from statemachine.events.tasks import TaskEvent
from statemachine.words import BsonText, Key, Millis, ShardId, UnitType, Verb, link_entity

# --- capture ---


class CaptureProgressed(TaskEvent):
    """The keys of all changes up to `cluster_time` are durable; the stream goes on at `token`."""

    verb = Verb.PROGRESSED
    kind: Literal["capture_progressed"] = "capture_progressed"
    attempt: PositiveInt
    token: BsonText
    cluster_time: str
    changes: NonNegativeInt
    """Events of the stream, over all attempts."""


class CaptureCompleted(TaskEvent):
    """All that changed up to `cluster_time` is known, and the catalogue as of then registered."""

    verb = Verb.COMPLETED
    kind: Literal["capture_completed"] = "capture_completed"
    units: NonNegativeInt
    token: BsonText
    cluster_time: str
    """`seconds.increment` as of which the increment holds its documents."""
    changes: NonNegativeInt
    notes: tuple[str, ...]
    """What was selected and is not carried, in words."""


class MomentPassed(Event):
    """The source can no longer be read as of the increment's time: nothing new starts, and what
    runs ends."""

    kind: Literal["moment_passed"] = "moment_passed"
    why: str


class CaptureInvalidated(TaskEvent):
    """The capture goes on to a later time; what was dumped as of the old one is forgotten."""

    verb = Verb.INVALIDATED
    kind: Literal["capture_invalidated"] = "capture_invalidated"
    why: str


# --- a chain is restored ---


class ChainLink(Value):
    """One increment of a chain, as its manifest describes it."""

    number: PositiveInt
    digest: str
    """SHA-256 of its manifest."""
    parent: str
    """The digest of the link before it."""
    since: str
    until: str
    """Cluster times: it holds what changed after the one, up to and with the other."""
    shards: NonNegativeInt
    documents: NonNegativeInt
    erased: NonNegativeInt
    bytes: NonNegativeInt
    log: bool = False
    """Its log is replayed up to `until`, instead of its shards."""


class ChainAccepted(Event):
    """The chain is whole and in order: these increments follow the full dump, one by one (Y1)."""

    kind: Literal["chain_accepted"] = "chain_accepted"
    links: tuple[ChainLink, ...]


class OfLink(Event):
    """Something that happened to an increment."""

    increment: PositiveInt

    @property
    def about(self) -> str:
        return link_entity(self.increment)


class IncrementStarted(OfLink):
    """All before it is applied: the turn of this increment has come (I32)."""

    kind: Literal["increment_started"] = "increment_started"
    digest: str
    deadline_ms: Millis
    """When it is to be applied, since the Unix epoch; 0: whenever. A restart does not move it."""


class ShardPlanned(OfLink):
    """A key range of a collection in this increment: its documents lie in this file, in order."""

    kind: Literal["shard_planned"] = "shard_planned"
    shard: ShardId
    namespace: str
    """On the source, at the increment's end."""
    target: str
    type: UnitType
    lower: Key | None
    upper: Key | None
    file: str
    """Relative to the root of the chain."""
    documents: NonNegativeInt
    erased: NonNegativeInt
    bytes: NonNegativeInt
    """Of the documents and keys, uncompressed."""
    file_bytes: NonNegativeInt
    sha256: str

    @property
    def about(self) -> str:
        return self.shard


class ShapeCompleted(TaskEvent):
    """The target's collections are those of the increment's end, but for new indexes."""

    verb = Verb.COMPLETED
    kind: Literal["shape_completed"] = "shape_completed"
    shards: NonNegativeInt
    """Planned in this increment."""
    changes: tuple[str, ...]
    """What was created, renamed, changed and dropped, in words."""


class ApplyProgressed(TaskEvent):
    """The target has acknowledged the shard up to `last_key`, by a majority (Y5)."""

    verb = Verb.PROGRESSED
    kind: Literal["apply_progressed"] = "apply_progressed"
    attempt: PositiveInt
    position: PositiveInt
    """In the shard's file."""
    last_key: Key | None
    """`None` of a log, which is in the order of time."""
    documents: NonNegativeInt
    erased: NonNegativeInt
    bytes: NonNegativeInt


class ApplyCompleted(TaskEvent):
    """The whole shard is on the target."""

    verb = Verb.COMPLETED
    kind: Literal["apply_completed"] = "apply_completed"
    last_key: Key | None
    documents: NonNegativeInt
    erased: NonNegativeInt
    bytes: NonNegativeInt


class SettleCompleted(TaskEvent):
    """The indexes stand; at the end of a job, expiry is on and what stands there is compared."""

    verb = Verb.COMPLETED
    kind: Literal["settle_completed"] = "settle_completed"
    changes: tuple[str, ...]
    differing: tuple[MetadataDifference, ...]


class IncrementCompleted(OfLink):
    """Every shard of the increment is applied, and none failed: the target is at its end (I32)."""

    kind: Literal["increment_completed"] = "increment_completed"
    last: bool
    """Of the job."""


# --- a source is followed ---


class FollowCompleted(TaskEvent):
    """One round: the target has every change of the source up to `cluster_time`."""

    verb = Verb.COMPLETED
    kind: Literal["follow_completed"] = "follow_completed"
    token: BsonText
    cluster_time: str
    lag_ms: NonNegativeInt
    """By the source's own clock, behind its newest change."""
    documents: NonNegativeInt
    """Written in this round."""
    erased: NonNegativeInt
    bytes: NonNegativeInt
    changes: tuple[str, ...]
    """Of collections and indexes, in words."""
    drained: bool
    """Nothing is left that changed before the round began; asked for by a cut-over."""


class CutoverRequested(Event):
    """Somebody stopped writing to the source: what is left is carried over, and following ends."""

    kind: Literal["cutover_requested"] = "cutover_requested"
    by: str
    request: NonNegativeInt
