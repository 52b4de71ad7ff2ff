"""How much work a server has in front of it: a look at `serverStatus` now and then."""

from dataclasses import dataclass
from typing import Any, Final

from pymongo import MongoClient, ReadPreference
from pymongo.errors import OperationFailure, PyMongoError

from executors.clients import NOT_AUTHORISED

DIRTY_TRIGGER: Final = 0.20
USED_TRIGGER: Final = 0.95
"""Of the cache: from here on WiredTiger has the threads of its clients write out what is in it
(`eviction_dirty_trigger`, `eviction_trigger`)."""
LEFT_OUT: Final = (
    "asserts", "connections", "electionMetrics", "extra_info", "locks", "logicalSessionRecordCache",
    "metrics", "mirroredReads", "network", "opLatencies", "opcounters", "opcountersRepl",
    "oplogTruncation", "repl", "scramCache", "security", "shardingStatistics", "storageEngine",
    "tcmalloc", "trafficRecording", "transactions", "transportSecurity",
    "twoPhaseCommitCoordinator",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Load:
    """Of a server, at one moment."""

    dirty: float
    """Share of the cache that is not written out; of what is used below."""
    used: float
    queued: int
    """Operations that wait for their turn."""
    lagged: bool
    """Flow control holds writers back, for members that are behind."""


class NotAllowed(Exception):
    """The user may not ask for `serverStatus`."""


def load_of(client: MongoClient[Any]) -> Load | None:
    """Of the primary; `None` when it does not answer, or does not say. Raises `NotAllowed`."""
    command = {"serverStatus": 1, **dict.fromkeys(LEFT_OUT, 0)}
    try:
        said = client.admin.command(command, read_preference=ReadPreference.PRIMARY)
    except OperationFailure as error:
        if error.code == NOT_AUTHORISED:
            raise NotAllowed(
                str(error.details.get("errmsg", "") if error.details else "")
            ) from None
        return None
    except PyMongoError:
        return None
    cache = said.get("wiredTiger", {}).get("cache", {})
    most = float(cache.get("maximum bytes configured", 0)) or float("inf")
    return Load(
        dirty=cache.get("tracked dirty bytes in the cache", 0) / most,
        used=cache.get("bytes currently in the cache", 0) / most,
        queued=int(said.get("globalLock", {}).get("currentQueue", {}).get("total", 0)),
        lagged=bool(said.get("flowControl", {}).get("isLagged", False)),
    )
