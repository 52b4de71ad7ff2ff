"""Which documents changed since a link of a chain, and what the catalogue is then.

The stream is read until a time that is later than a look at the whole catalogue and before which
nothing of the catalogue changed since the look began: the catalogue is that of this time, and every
document that changed until then has its key on disk. Keys of later changes are there too, which is
harmless: their documents are dumped as of this time all the same, and changed again afterwards, for
the next link begins at `Batch.behind`, behind which every later change comes again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

import bson
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import RAW
from executors.increments.errors import (
    CappedCollection,
    CatalogueMoves,
    ClockStill,
    DamagedKeys,
)
from executors.increments.keys import ChangedKeys, discard
from executors.increments.log import LogWriter
from executors.increments.model import Making, position_of
from executors.increments.stream import (
    CATALOGUE,
    Batch,
    Change,
    Stream,
    data_of,
    now,
    told,
    watched,
)
from executors.protocol import StopToken
from executors.select import carried
from executors.survey import Namespace, catalogue, described, survey
from statemachine.effects import Effect
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.stimuli import Captured, Capturing, Surveyed
from statemachine.words import BsonText

TELL_S: Final = 5.0
TELL_CHANGES: Final = 200_000
"""What a restart reads again at the most, in time and in changes."""
PAUSES_S: Final = (0.0, 0.2, 1.0, 3.0, 10.0, 30.0)
"""Behind each look at a catalogue that changed meanwhile."""
STILL: Final = 120
"""Reads in a row that bring nothing, each about half a second. An idle source writes nothing but a
sign of life to its oplog: ten to twenty seconds behind its last change, and then every ten."""
GONE: Final = 26
"""What a server says of a collection that is not there."""
USERS_NOTE: Final = "users and roles are those of the full dump: no change stream tells of them"


def capture(
    client: MongoClient[Any],
    spec: JobSpec,
    making: Making,
    effect: Effect,
    stop: StopToken,
    tell: Callable[[Capturing], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Captured:
    """Follow the parent to a cluster time. A capture that was cut goes on where its keys end.

    Raises what `Stream.read` and `survey` raise, `CatalogueMoves`, `DamagedKeys`, `OSError`.
    """
    with ExitStack() as held:
        keys = held.enter_context(_keys(making, effect))
        token = keys.token() or making.parent.token
        stream = Stream(
            client,
            making.parent.until,
            token,
            database=watched(spec, effect.include),
            whole=spec.keep_log,
            read_preference=effect.read_preference,
        )
        held.enter_context(closing(stream))
        log = held.enter_context(_log(making, effect, token)) if spec.keep_log else None
        return _Capture(client, spec, making, effect, stream, keys, log, stop, tell, clock).run()


class _Capture:
    """One attempt."""

    def __init__(
        self,
        client: MongoClient[Any],
        spec: JobSpec,
        making: Making,
        effect: Effect,
        stream: Stream,
        keys: ChangedKeys,
        log: LogWriter | None,
        stop: StopToken,
        tell: Callable[[Capturing], None],
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._spec = spec.model_copy(update={"consistency": "snapshot", "users": False})
        self._parent = making.parent
        self._added = effect.include
        self._stream = stream
        self._keys = keys
        self._log = log
        self._stop = stop
        self._tell = tell
        self._clock = clock
        self._changes = effect.changes if keys.token() else 0
        self._notes = (USERS_NOTE,) if spec.users else ()
        self._batch = Batch((), BsonText(""), "0.0", BsonText(""))
        self._told = (clock(), self._changes)
        self._moves = 0
        """Changes of the catalogue so far."""
        self._last_move = ""

    def run(self) -> Captured:
        later = _after(self._parent.until)
        self._read_to(max(now(self._client), later, key=position_of))
        for pause in PAUSES_S:
            self._rest(pause)
            if found := self._look():
                break
        else:
            raise CatalogueMoves(len(PAUSES_S), self._last_move)
        self._flush(self._batch.behind)
        batch, notes = self._batch, (*found.notes, *self._notes)
        return Captured(found.units, batch.behind, batch.cluster_time, self._changes, notes)

    def _look(self) -> Surveyed | None:
        """The catalogue as of the last batch's time; `None` if it changed meanwhile."""
        moves = self._moves
        try:
            before = self._untold()
            found = survey(self._client, self._spec, added=self._added, stop=self._stop)
        except (OperationFailure, OperatorError):  # maybe something was gone since it was listed
            self._read_to(now(self._client))
            if self._moves == moves:
                raise
            return None
        self._read_to(now(self._client))
        if self._moves == moves and before != self._untold():
            self._last_move = f"one of {', '.join(before)}, of which no change stream tells"
            return None
        return found if self._moves == moves else None

    def _untold(self) -> dict[str, object]:
        """What stands there of which no stream tells: it is looked at on both sides of the time."""
        found = catalogue(self._client, self._spec, added=self._added)
        for entry in found:
            if bson.decode(entry.options, RAW).get("capped"):
                raise CappedCollection(entry.name)
        return {
            each.name: self._described(each) for each in found if not told(each.name, each.type)
        }

    def _described(self, entry: Namespace) -> object:
        try:
            return entry, described(self._client, entry)
        except OperationFailure as error:
            if error.code != GONE:
                raise
            return None

    # --- the stream ---

    def _read_to(self, goal: str) -> None:
        """Up to and with a cluster time."""
        still = 0
        while self._position() < position_of(goal) or not self._batch.behind:
            self._read()
            still = 0 if self._batch.changes else still + 1
            if still > STILL:
                raise ClockStill(goal, self._batch.cluster_time)

    def _position(self) -> tuple[int, int]:
        return position_of(self._batch.cluster_time)

    def _rest(self, seconds: float) -> None:
        """The stream is read on meanwhile: what changed until now is no news to the next look."""
        end = self._clock() + seconds
        while self._clock() < end:
            self._read()

    def _read(self) -> None:
        batch = self._batch = self._stream.read(self._stop)
        uuids = self._parent.uuids
        self._keys.add(
            (each.uuid, each.key) for each in batch.changes if each.uuid in uuids and each.key
        )
        for each in batch.changes:
            if self._log is not None:
                self._log.add(each.raw)
            if each.kind == "drop" and each.uuid in uuids:
                self._keys.dropped(each.uuid)
            if each.kind in CATALOGUE and self._concerns(each):
                self._moves += 1
                self._last_move = f"{each.kind} {each.namespace}"
        self._changes += len(batch.changes)
        at, changes = self._told
        if self._clock() - at >= TELL_S or self._changes - changes >= TELL_CHANGES:
            self._flush(batch.token)
            self._tell(Capturing(batch.token, batch.cluster_time, self._changes))
            self._told = (self._clock(), self._changes)

    def _concerns(self, change: Change) -> bool:
        """Whether it may be of what the job carries."""
        names = (change.namespace, change.renamed)
        return change.kind == "dropDatabase" or any(
            carried(name, self._spec, self._added) for name in names if name
        )

    def _flush(self, token: str) -> None:
        """The keys last: they hold the place at which both go on."""
        if self._log is not None:
            self._log.flush()
        self._keys.flush(token)


@contextmanager
def _keys(making: Making, effect: Effect) -> Iterator[ChangedKeys]:
    """Those of earlier attempts, or none where they were lost: then all is read again."""
    making.keys.parent.mkdir(parents=True, exist_ok=True)
    try:
        keys = ChangedKeys(making.keys, effect.capture_bytes)
        keys.token()
    except DamagedKeys:
        discard(making.keys)
        keys = ChangedKeys(making.keys, effect.capture_bytes)
    with keys:
        yield keys


def _log(making: Making, effect: Effect, token: str) -> LogWriter:
    making.folder.mkdir(parents=True, exist_ok=True)
    return LogWriter(making.folder, effect.attempt, data_of(token), making.parent.until)


def _after(time: str) -> str:
    seconds, increment = position_of(time)
    return f"{seconds}.{increment + 1}"
