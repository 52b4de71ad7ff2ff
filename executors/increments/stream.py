"""What changes on a source, in the order of its cluster time: a change stream, raw.

A cursor that is cut (failover, network) goes on behind the last event that arrived.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from bson import Int64, Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from executors.batches import CUTS_WITHOUT_PROGRESS, RAW
from executors.boundaries import from_text, to_text
from executors.classify import cursor_was_cut
from executors.increments.change import (
    CATALOGUE,
    INVALIDATE,
    KEYED,
    Change,
    changes_of,
    told,
)
from executors.increments.errors import (
    ChangeTooLarge,
    ClockStill,
    HistoryLost,
    NoChangeStreams,
    PositionUnknown,
)
from executors.increments.model import position_of
from executors.members import choose
from executors.protocol import Stopped, StopToken
from executors.rawbson import MALFORMED, elements, int64
from executors.select import NEVER, is_literal, split
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.words import BsonText

__all__ = ["CATALOGUE", "KEYED", "Batch", "Change", "Stream", "data_of", "now", "told", "watched"]

BATCH_EVENTS: Final = 10_000
"""In one reply: bounds memory, and what a restart reads again."""
AWAIT_MS: Final = 500
"""How long the server waits for the next change: the stop token is looked at between."""
UNASKED: Final = dict.fromkeys(
    ("fullDocument", "updateDescription", "wallTime", "lsid", "txnNumber"), 0
)
"""What an event holds beside what a `Change` does: up to the size of a document."""
_TOKEN: Final = re.compile(rb"82([0-9A-F]{8})([0-9A-F]{8})", re.IGNORECASE)
"""How a resume token's text begins: the type of a timestamp, its seconds, its increment."""

CURSOR: Final = "$cmd.aggregate"
"""Where the cursor of an aggregation over no collection lives."""
HISTORY_LOST: Final = (136, 286)
NO_SUCH_TOKEN: Final = (15, 260, 280, 40647, 50796)
"""Of a token that was read, and not found or understood."""
TOO_LARGE: Final = 10334
NO_STREAMS: Final = (20, 40573)
NOT_YET: Final = 72
"""A time that the deployment has not come to."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that arrived together, in order; none when there were none for a while."""

    changes: Sequence[Change]
    token: BsonText
    """Behind it comes what comes after these changes, and nothing else."""
    cluster_time: str
    """Every change up to and with it has been seen. Changes of one transaction have one time: when
    the last change of a batch could be in the midst of them, this is just before their time."""
    behind: BsonText
    """A token behind which comes every change after `cluster_time`, and nothing else: another
    stream may begin there. Empty as long as no such place was seen: in a first batch, or where a
    stream began with a transaction of many batches."""


class Stream:
    """The changes of a deployment or of one database from a place on. For one thread."""

    def __init__(
        self,
        client: MongoClient[Any],
        since: str,
        token: str = "",
        *,
        database: str = "",
        whole: bool = False,
        read_preference: str = "primary",
    ) -> None:
        """Begins behind `token`, or where that is empty at the cluster time `since`, and with it.

        `database`: nothing but what happens there. `whole`: events with documents and raw
        descriptions of updates. Raises `PositionUnknown` for what is no token.
        """
        self._client = client
        self._token = from_text(token) if token else b""
        self._since = _time_of(self._token) if token else since
        if not self._since:
            raise PositionUnknown(since)
        self._database = client.get_database(database or "admin")
        self._cluster = not database
        self._whole = whole
        self._preference = read_preference
        self._member: Any = None
        self._session: ClientSession | None = None
        self._cursor = 0
        self._behind = b""

    def read(self, stop: StopToken) -> Batch:
        """What comes next; waits about `AWAIT_MS` for a change.

        Raises `HistoryLost`, `PositionUnknown`, `NoChangeStreams`, `UnknownChange`,
        `ChangeTooLarge`, `ClockStill`, `PyMongoError`, `Stopped`.
        """
        cuts = 0
        while True:
            if stop.is_set():
                raise Stopped
            try:
                return self._batch(self._ask())
            except PyMongoError as error:
                self.close()
                self._refuse(error)
                cuts += 1
                if not cursor_was_cut(error) or cuts > CUTS_WITHOUT_PROGRESS:
                    raise
            except (OperatorError, *MALFORMED):
                self.close()  # the server is further on than we are
                raise

    def close(self) -> None:
        """The server forgets the cursor; `read` opens another one."""
        cursor, self._cursor = self._cursor, 0
        session, self._session = self._session, None
        if session is None:
            return
        if cursor:
            kill = {"killCursors": CURSOR, "cursors": [Int64(cursor)]}
            with suppress(PyMongoError):
                self._database.command(kill, session=session, read_preference=self._member)
        session.end_session()

    def _ask(self) -> bytes:
        command = self._more() if self._cursor else self._opening()
        reply: RawBSONDocument = self._database.command(
            command, codec_options=RAW, session=self._session, read_preference=self._member
        )
        return bytes(reply.raw)

    def _more(self) -> dict[str, Any]:
        return {
            "getMore": Int64(self._cursor),
            "collection": CURSOR,
            "batchSize": BATCH_EVENTS,
            "maxTimeMS": AWAIT_MS,
        }

    def _opening(self) -> dict[str, Any]:
        """The time of the beginning is waited for: what a first reply does not hold has not
        happened by then. `startAfter` also goes on behind the drop of a watched database."""
        self.close()
        self._session = self._client.start_session(causal_consistency=False)
        self._member, concern = choose(self._client, self._preference)
        since = Timestamp(*position_of(self._since))
        stage: dict[str, Any] = {"showExpandedEvents": True}
        if self._whole:
            stage["showRawUpdateDescription"] = True
        if self._cluster:
            stage["allChangesForCluster"] = True
        if self._token:
            stage["startAfter"] = RawBSONDocument(self._token)
        else:
            stage["startAtOperationTime"] = since
        return {
            "aggregate": 1,
            "pipeline": [
                {"$changeStream": stage},
                *([] if self._whole else [{"$project": UNASKED}]),
            ],
            "cursor": {"batchSize": BATCH_EVENTS},
            "readConcern": {"afterClusterTime": since, **concern},
        }

    def _batch(self, reply: bytes) -> Batch:
        begin, end, token, cursor = _cut_reply(reply)
        changes: list[Change] = []
        here, behind = self._token, self._behind
        time = _time_of(here)
        for change, at, after in changes_of(reply, begin, end, whole=self._whole):
            if change.cluster_time != time:  # whatever comes before it is over
                time, behind = change.cluster_time, here
            here = reply[at:after]
            changes.append(change)
        self._since = reached = _time_of(token)
        if changes and time == reached:
            reached = _before(time)
        else:
            behind = token
        self._cursor, self._token, self._behind = cursor, token, behind
        told_of = [each for each in changes if each.kind != INVALIDATE]
        place = to_text(behind) if behind else BsonText("")
        return Batch(told_of, to_text(token), reached, place)

    def _refuse(self, error: PyMongoError) -> None:
        """Say what it means where it means something of its own."""
        code = error.code if isinstance(error, OperationFailure) else None
        if code in HISTORY_LOST:
            raise HistoryLost(self._since) from error
        if code in NO_SUCH_TOKEN:
            raise PositionUnknown(self._since) from error
        if code in NO_STREAMS:
            raise NoChangeStreams from error
        if code == TOO_LARGE and self._whole:
            raise ChangeTooLarge(self._since) from error
        if code == NOT_YET and "afterClusterTime" in str(error):
            raise ClockStill(self._since, now(self._client)) from error


def now(client: MongoClient[Any]) -> str:
    """A cluster time at which all that can be seen now exists."""
    time = client.admin.command("ping")["operationTime"]
    return f"{time.time}.{time.inc}"


def watched(spec: JobSpec, added: Sequence[str] = ()) -> str:
    """The one database that a job carries; empty: more, or one that no stream can be of."""
    named = {split(glob)[0] for glob in (*spec.include, *added)} if spec.include else set()
    database = next(iter(named)) if len(named) == 1 else ""
    return database if is_literal(database) and database not in ("admin", *NEVER) else ""


def data_of(token: str) -> str:
    """The hexadecimal text by which tokens are in the order of what they stand for; empty where
    that is no token."""
    return _data_of(from_text(token)).decode() if token else ""


def _data_of(token: bytes) -> bytes:
    found = (raw for _, name, *raw in elements(token) if name == b"_data") if token else ()
    return next((token[begin + 4 : end - 1] for begin, end in found), b"")


def _time_of(token: bytes) -> str:
    """Empty where that is no token."""
    found = _TOKEN.match(_data_of(token))
    return f"{int(found[1], 16)}.{int(found[2], 16)}" if found else ""


def _before(time: str) -> str:
    """The last cluster time before it."""
    seconds, increment = position_of(time)
    return f"{seconds}.{increment - 1}" if increment else f"{seconds - 1}.{0xFFFFFFFF}"


def _cut_reply(reply: bytes) -> tuple[int, int, bytes, int]:
    """Where its array of events begins and ends, the token behind them, the cursor's id (0: it has
    ended)."""
    begin = end = cursor = 0
    token = b""
    for _, name, at, after in elements(reply):
        if name != b"cursor":
            continue
        for _, inner, value, behind in elements(reply, at, after):
            if inner in (b"firstBatch", b"nextBatch"):
                begin, end = value, behind
            elif inner == b"postBatchResumeToken":
                token = reply[value:behind]
            elif inner == b"id":
                (cursor,) = int64(reply, value)
    if not begin or not _time_of(token):
        raise ValueError("a reply of a change stream without events or without their place")
    return begin, end, token, cursor
