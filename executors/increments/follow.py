"""Following a source: what changes there is on the target moments later, round by round.

The stream of changes tells WHICH documents changed; what is written is what each of them is on the
source BY THEN, looked up by the UUID of its collection. So after a round that ends as of a time R,
of a source at rest since R, the target is alike:

- A document that changed after the copy began has an event, its last one up to R among them, and
  is looked up after that. One that did not change is as it was copied. In between the target may
  hold documents of different times; where a unique index does not bear that, the document in the
  way is removed, looked up too and written in the same round.
- Collections are known by UUID. Up to each event the target has the names that the source had
  then: documents before a rename or drop are written before it, under the old name. A rename ends
  its round, and so do drops one after another. So a round that is done again finds the target
  ahead by nothing but what its last event says, which shows: the old name is gone there.
- Of a collection that the source no longer has nothing is written: the event of its drop comes
  later. That no key of it is erased keeps what was made under its name since.
- What a collection's options and indexes are is looked up like a document (`alike`): what is told
  of has become so, whatever came between. A unique index that cannot stand yet, over documents of
  different times, is built at the end.
- A collection whose documents no event tells of (renamed into what is selected, or to where
  another query counts) is carried whole (`carry`), and followed from there.

The names with which following begins must be those that the source had at `since`: whoever lists
them lists them before and after that time.

Not followed: users and roles, which are in no change stream; `system.js`, which is carried anew at
the end; time series and capped collections, which are refused.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pymongo import MongoClient

from executors.batches import TOLERANT
from executors.boundaries import to_text
from executors.compare import fields
from executors.increments.carry import Carrier
from executors.increments.ddl import is_carried
from executors.increments.mirror import Mirror, must_be_followable
from executors.increments.model import position_of
from executors.increments.stream import BATCH_EVENTS, KEYED, Batch, Change, Stream, now, watched
from executors.protocol import Stopped, StopToken
from executors.survey import catalogue
from statemachine.effects import Effect
from statemachine.events import JobSpec, MetadataDifference
from statemachine.stimuli import Followed, Settled


class Follower:
    """Carries changes from source to target; its cursor stays open from round to round.

    One round at a time.
    """

    def __init__(self, source: MongoClient[Any], target: MongoClient[Any], spec: JobSpec) -> None:
        self._source = source
        self._target = target
        self._spec = spec
        self._stream: Stream | None = None
        self._token = ""
        self._ahead: Batch | None = None
        """What was read and belongs to the next round."""

    def round(self, effect: Effect, stop: StopToken) -> Followed:
        """Carry what changed since the effect's token, for about `follow_ms`; idle, it waits as
        long and writes nothing. What it returns is acknowledged on the target.

        It writes what each read brought, so the target is not behind by the length of a round. At
        a cutover it ends when what was the source's newest change as it began is there: `drained`.
        It may always end early, behind a rename or drop.

        `lag_ms`, by the source's own clock: how long before the end of the round the time lies up
        to which the target has every change: when the last read began that brought all there was,
        or else the last change's cluster time, whose fractions of a second nobody knows.

        Raises `OperatorError`, `PyMongoError`, `Stopped`.
        """
        stream, ahead = self._taken(effect)
        read = effect.read_preference
        carrier = Carrier(self._source, self._target, self._spec, stop, read_preference=read)
        try:
            a_round = _Round(self._source, self._target, self._spec, stream, carrier, stop)
            followed, ahead = a_round.run(effect, ahead)
        except BaseException:
            stream.close()  # it stands behind what is on the target
            raise
        self._stream, self._ahead, self._token = stream, ahead, followed.token
        return followed

    def _taken(self, effect: Effect) -> tuple[Stream, Batch | None]:
        """The open cursor, if it stands where the round is to begin. It is nobody else's then: an
        attempt that was given up may still be at work with its own."""
        stream, ahead, self._stream, self._ahead = self._stream, self._ahead, None, None
        if stream is not None and effect.token == self._token:
            return stream, ahead
        if stream is not None:
            stream.close()
        database, read = watched(self._spec), effect.read_preference
        since, token = effect.since, effect.token
        return Stream(self._source, since, token, database=database, read_preference=read), None


class _Round:
    def __init__(
        self,
        source: MongoClient[Any],
        target: MongoClient[Any],
        spec: JobSpec,
        stream: Stream,
        carrier: Carrier,
        stop: StopToken,
    ) -> None:
        self._source = source
        self._spec = spec
        self._stream = stream
        self._stop = stop
        self._carrier = carrier
        self._mirror = Mirror(source, target, spec, carrier)

    def run(self, effect: Effect, ahead: Batch | None) -> tuple[Followed, Batch | None]:
        """The round, and what of its last batch comes behind it."""
        goal = position_of(now(self._source)) if effect.cutover else None
        clock = self._clock()
        end_ms = clock + effect.follow_ms
        while True:
            batch = ahead or self._stream.read(self._stop)
            done, left = self._carry(batch)
            whole = ahead is None and left is None and len(batch.changes) < BATCH_EVENTS
            complete_ms = clock if whole else 1000 * position_of(done.cluster_time)[0]
            ahead, clock = None, self._clock()
            if whole and not batch.changes:
                complete_ms = clock
            drained = goal is not None and not left and position_of(done.cluster_time) >= goal
            if left is not None or drained or (goal is None and clock >= end_ms):
                lag_ms = max(0, clock - complete_ms)
                return self._followed(done, lag_ms, drained=drained), left

    def _carry(self, batch: Batch) -> tuple[Batch, Batch | None]:
        """What of the batch is on the target now, and what comes behind the end of the round;
        None: the round may go on."""
        begin, renaming = 0, _first_move(batch.changes)
        for index, change in enumerate(batch.changes):
            if change.kind in KEYED:
                continue
            self._write(batch.changes[begin:index], renaming)
            self._mirror.apply(change)
            begin = index + 1
            if _ends(batch.changes, index):
                token = to_text(bytes(fields(change.raw)["_id"].raw))
                done = replace(batch, changes=(), token=token, cluster_time=change.cluster_time)
                reached = max(batch.cluster_time, change.cluster_time, key=position_of)
                return done, replace(batch, changes=batch.changes[begin:], cluster_time=reached)
        self._write(batch.changes[begin:], renaming)
        return batch, None

    def _write(self, changes: Sequence[Change], renaming: Change | None) -> None:
        """The documents that these changes changed."""
        waiting: dict[tuple[str, str], dict[bytes, None]] = {}
        for change in changes:
            waiting.setdefault((change.uuid, change.namespace), {})[change.key] = None
        for (uuid, namespace), keys in waiting.items():
            if not is_carried(namespace, self._spec):
                continue
            if name := self._mirror.place(uuid, namespace, renaming):
                self._carrier.keys(uuid, namespace, name, keys)

    def _clock(self) -> int:
        """The source's, in milliseconds."""
        now_there = self._source.admin.command("hello", codec_options=TOLERANT)["localTime"]
        return int(now_there)

    def _followed(self, done: Batch, lag_ms: int, *, drained: bool) -> Followed:
        carrier = self._carrier
        return Followed(
            token=done.token,
            cluster_time=done.cluster_time,
            lag_ms=lag_ms,
            documents=carrier.documents,
            erased=carrier.erased,
            bytes=carrier.bytes,
            changes=(*self._mirror.changes, *carrier.changes),
            drained=drained,
        )


def _first_move(changes: Sequence[Change]) -> Change | None:
    """The rename at which the round will end."""
    first = next((each for each in changes if each.kind in ("rename", "drop")), None)
    return first if first is not None and first.kind == "rename" else None


def _ends(changes: Sequence[Change], index: int) -> bool:
    """Whether the round ends behind this change."""
    following = changes[index + 1].kind if index + 1 < len(changes) else ""
    kind = changes[index].kind
    return kind == "rename" or (kind == "drop" and following != "drop")


# --- before and after ---


def refuse_unfollowable(source: MongoClient[Any], spec: JobSpec) -> None:
    """Raises `Unfollowable` for what of the selection a change stream does not tell."""
    must_be_followable(catalogue(source, spec))


def settle_followed(
    source: MongoClient[Any], target: MongoClient[Any], spec: JobSpec, stop: StopToken
) -> Settled:
    """The last round is over: what the target lacks of options and indexes is made, expiry is
    switched on, users and roles are merged, and all is compared if the job asks for that.

    An index that cannot be built is told as a difference in any case. `target` should be a patient
    client. What was done is done again and changes nothing. Raises `OperatorError`,
    `PyMongoError`, `Stopped`.
    """
    differing: list[MetadataDifference] = []
    carrier = Carrier(source, target, spec, stop)
    mirror = Mirror(source, target, spec, carrier)
    for entry in catalogue(source, spec):
        if stop.is_set():
            raise Stopped
        differing += mirror.settle(entry)
    return Settled(tuple(differing), (*mirror.changes, *carrier.changes))
