"""The one table of driver errors: who can make it go away (time, nobody, the operator)."""

import errno
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

from statemachine.words import Cause

TRANSIENT_CODES: Final = {
    6: "host unreachable",
    7: "host not found",
    24: "lock timeout",
    43: "cursor not found",
    50: "time limit",
    64: "write concern timeout",
    89: "network timeout",
    91: "shutdown in progress",
    112: "write conflict",
    133: "no such primary",
    134: "read concern not available yet",
    175: "query plan killed",
    189: "primary stepped down",
    202: "network interface limit",
    237: "cursor killed",
    246: "snapshot unavailable",
    251: "no such transaction",
    262: "time limit in a failover",
    278: "conflicting operation",
    290: "transaction too large for the cache",
    317: "connection pool full",
    365: "temporarily unavailable",
    384: "not the time for it",
    9001: "socket error",
    10107: "not the primary",
    11600: "interrupted at shutdown",
    11602: "interrupted by a failover",
    13388: "stale configuration",
    13435: "not the primary",
    13436: "recovering",
    16500: "request rate too large",
    28799: "random cursor found no new document",
}
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
MAX_WHY: Final = 500
"""Characters of a server's message that are kept."""


def classify(error: Exception) -> tuple[Cause, str, str]:
    """The cause, a stable code and the reason of an error of the driver or of the disk."""
    if isinstance(error, OSError) and not isinstance(error, PyMongoError):
        return _of_disk(error)
    why = without_values(str(error)) or type(error).__name__
    if isinstance(error, OperationFailure) and error.code is not None:
        cause = cause_of(error.code)
        if cause is Cause.PERMANENT and error.has_error_label("RetryableWriteError"):
            cause = Cause.TRANSIENT
        return cause, f"EMONGO{error.code:03d}", why
    if isinstance(error, ServerSelectionTimeoutError):
        return Cause.TRANSIENT, "ENET001", f"no server to talk to: {why}"
    if isinstance(error, NetworkTimeout | ExecutionTimeout | WTimeoutError):
        return Cause.TRANSIENT, "ENET002", f"the server did not answer in time: {why}"
    if isinstance(error, AutoReconnect | ConnectionFailure):
        return Cause.TRANSIENT, "ENET003", f"the connection broke: {why}"
    if isinstance(error, ConfigurationError):
        return Cause.FATAL, "ECONN001", why
    return Cause.PERMANENT, "EMONGO000", f"{type(error).__name__}: {why}"


def without_values(text: str) -> str:
    """A server's message without the values of documents it quotes, and not too long."""
    return text.partition(", full error:")[0].partition(" dup key:")[0][:MAX_WHY]


def cause_of(code: int) -> Cause:
    """Of a server's error code."""
    if code in FATAL_CODES:
        return Cause.FATAL
    return Cause.TRANSIENT if code in TRANSIENT_CODES else Cause.PERMANENT


def cursor_was_cut(error: PyMongoError) -> bool:
    """Whether a read may go on at its last key."""
    return isinstance(error, CursorNotFound) or classify(error)[0] is Cause.TRANSIENT


def _of_disk(error: OSError) -> tuple[Cause, str, str]:
    where = f" ({error.filename})" if error.filename else ""
    why = f"{error.strerror or error}{where}"
    if error.errno in FATAL_ERRNOS:
        return Cause.FATAL, FATAL_ERRNOS[error.errno], why
    return Cause.TRANSIENT, "EDISK000", why
