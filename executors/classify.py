"""The one table of driver errors: who can make it go away (time, nobody, the operator)."""

import errno
import re
from typing import Final

from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    CursorNotFound,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from executors.storage.errors import StoreError
from statemachine.words import Cause

UNAVAILABLE_CODES: Final = {
    6: "host unreachable",
    7: "host not found",
    89: "network timeout",
    91: "shutdown in progress",
    133: "no such primary",
    134: "read concern not available yet",
    189: "primary stepped down",
    202: "network interface limit",
    216: "election in progress",
    317: "connection pool expired",
    365: "temporarily unavailable",
    384: "connection error",
    402: "resource exhausted",
    407: "connection pool full",
    429: "too many requests",
    433: "admission queue overflow",
    449: "rate limit exceeded",
    450: "connection pool refuses",
    462: "ingress rate limit exceeded",
    463: "ingress rate limit exceeded",
    9001: "socket error",
    10058: "not the primary",
    10107: "not the primary",
    11600: "interrupted at shutdown",
    11602: "interrupted by a failover",
    13435: "not the primary",
    13436: "recovering",
    16500: "request rate too large",
}
"""The deployment serves nobody now, or nobody at this rate."""
THROTTLED: Final = (429, 433, 449, 462, 463, 16500)
"""Of these, the ones that say it of the rate."""
OUT_OF_TIME: Final = (50, 262)
TRANSIENT_CODES: Final = {
    24: "lock timeout",
    43: "cursor not found",
    50: "time limit",
    64: "write concern timeout",
    112: "write conflict",
    117: "conflicting operation",
    136: "cursor of a capped collection overtaken",
    175: "query plan killed",
    237: "cursor killed",
    246: "snapshot unavailable",
    251: "no such transaction",
    262: "time limit in a failover",
    278: "commit quorum cannot be satisfied",
    290: "transaction took too long",
    11601: "interrupted",
    13388: "stale configuration",
    28799: "random cursor found no new document",
    46841: "session killed",
}
"""This one operation did not succeed."""
FATAL_CODES: Final = {
    13: "not authorised",
    18: "authentication failed",
    100: "write concern cannot be satisfied",
    371: "writes are blocked",
    14031: "out of disk space",
}
FATAL_ERRNOS: Final = {
    errno.ENOSPC: "EDISK001",
    errno.EDQUOT: "EDISK001",
    errno.EROFS: "EDISK002",
    errno.EACCES: "EDISK002",
    errno.EMFILE: "EDISK003",
    errno.ENFILE: "EDISK003",
    errno.EFBIG: "EDISK004",
}
SNAPSHOT_TOO_OLD: Final = 239
"""The history of the time asked for is gone: no attempt brings it back."""
OVERLOADED: Final = "SystemOverloadedError"
"""The label under which servers from 8.2 on shed load."""
_RETRY_AFTER: Final = re.compile(r"\bRetryAfterMs=(\d{1,9})\b")
"""How Azure Cosmos DB says when to come again, in the message of error 16500."""
MAX_WHY: Final = 500
"""Characters of a server's message that are kept."""


def classify(error: Exception) -> tuple[Cause, str, str]:
    """The cause, a stable code and the reason of an error of the driver, of the disk or of a store
    of files."""
    if isinstance(error, StoreError):
        return error.cause, error.code, f"{error} → {error.remedy}" if error.remedy else str(error)
    if isinstance(error, OSError) and not isinstance(error, PyMongoError):
        return _of_disk(error)
    why = without_values(str(error)) or type(error).__name__
    if isinstance(error, OperationFailure) and error.code == SNAPSHOT_TOO_OLD:
        return Cause.PERMANENT, "ESNAP001", why
    if isinstance(error, OperationFailure) and error.code is not None:
        return _of_server(error, error.code), f"EMONGO{error.code:03d}", why
    if isinstance(error, ServerSelectionTimeoutError):
        return Cause.UNAVAILABLE, "ENET001", f"no server to talk to: {why}"
    if isinstance(error, ExecutionTimeout | WTimeoutError):
        return Cause.TRANSIENT, "ENET002", f"the server did not answer in time: {why}"
    if isinstance(error, NetworkTimeout):
        return Cause.UNAVAILABLE, "ENET002", f"the server did not answer in time: {why}"
    if isinstance(error, AutoReconnect | ConnectionFailure):
        return Cause.UNAVAILABLE, "ENET003", f"the connection broke: {why}"
    if isinstance(error, ConfigurationError):
        return Cause.FATAL, "ECONN001", why
    return Cause.PERMANENT, "EMONGO000", f"{type(error).__name__}: {why}"


def _of_server(error: OperationFailure, code: int) -> Cause:
    if error.has_error_label(OVERLOADED):
        return Cause.UNAVAILABLE
    cause = cause_of(code, str(error))
    if cause is Cause.PERMANENT and error.has_error_label("RetryableWriteError"):
        return Cause.TRANSIENT
    return cause


def without_values(text: str) -> str:
    """A server's message without the values of documents it quotes, and not too long."""
    return text.partition(", full error:")[0].partition(" dup key:")[0][:MAX_WHY]


def cause_of(code: int, why: str = "") -> Cause:
    """Of a server's error code; of its message, where that asks for patience."""
    if code in FATAL_CODES:
        return Cause.FATAL
    if code in UNAVAILABLE_CODES or _RETRY_AFTER.search(without_values(why)):
        return Cause.UNAVAILABLE
    return Cause.TRANSIENT if code in TRANSIENT_CODES else Cause.PERMANENT


def retry_after_ms(error: Exception) -> int:
    """How long a throttling server asks to be left alone; 0 when it does not say."""
    found = _RETRY_AFTER.search(without_values(str(error)))
    return int(found[1]) if found else 0


def is_throttled(error: PyMongoError) -> bool:
    """Whether the server asks for less, or for less at once."""
    if not isinstance(error, OperationFailure):
        return False
    asks = error.code in THROTTLED or error.has_error_label(OVERLOADED)
    return asks or retry_after_ms(error) > 0


def ran_out_of_time(error: PyMongoError) -> bool:
    """Whether a smaller request might have been answered in time."""
    late = isinstance(error, NetworkTimeout | ExecutionTimeout)
    return late or (isinstance(error, OperationFailure) and error.code in OUT_OF_TIME)


def cursor_was_cut(error: PyMongoError) -> bool:
    """Whether a read may go on at its last key."""
    cause, _, _ = classify(error)
    return isinstance(error, CursorNotFound) or cause in (Cause.TRANSIENT, Cause.UNAVAILABLE)


def _of_disk(error: OSError) -> tuple[Cause, str, str]:
    where = f" ({error.filename})" if error.filename else ""
    why = f"{error.strerror or error}{where}"
    if error.errno in FATAL_ERRNOS:
        return Cause.FATAL, FATAL_ERRNOS[error.errno], why
    return Cause.TRANSIENT, "EDISK000", why
