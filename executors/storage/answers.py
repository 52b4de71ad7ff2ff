"""The one table of what object stores answer, and what it means for whoever asked.

Only the status, the code and the message of an answer are repeated, and what the network said:
never a URL, which may be signed, nor a header.
"""

import re
from typing import Final

from executors.storage.errors import (
    BadEndpoint,
    CredentialsExpired,
    KeeperSilent,
    NoBucket,
    NoCredentials,
    NoObject,
    OddObject,
    OtherRegion,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    TransferBroken,
)

NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "ContainerDisabled")
EXPIRED: Final = (
    "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "AccessTokenExpired",
)  # fmt: skip
FULL: Final = (
    "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded",
    "AccountLimitExceeded",
)  # fmt: skip
BROKEN: Final = (
    "NoSuchUpload", "RequestTimeout", "ConditionalRequestConflict", "OperationAborted",
    "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch",
)  # fmt: skip
"""The upload is gone, cut, garbled, or met another one: a new one may do."""
ELSEWHERE: Final = ("PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect")
DENIED: Final = (
    "AccessDenied", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
    "RequestTimeTooSkewed", "AuthorizationFailure", "AuthenticationFailed", "AllAccessDisabled",
    "AccountProblem",
)  # fmt: skip
SLOW: Final = (
    "SlowDown", "ServerBusy", "TooManyRequests", "RequestLimitExceeded", "OperationTimedOut",
)  # fmt: skip
_KEEPER: Final = re.compile(
    r"https?://(?:169\.254\.|metadata\.google\.|oauth2\.|accounts\.google\.|sts\.|login\.microsoft"
    r"|[^/\s]+/latest/(?:api/token|meta-data))"
)
"""Who is asked for credentials when the environment holds none, or a role."""
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,80})</Code>|\"error\": ?\"(\w{1,80})\"")
_MESSAGE: Final = re.compile(r"<Message>([^<]{1,300})")
_DEEPEST: Final = re.compile(r"(?:message|error): \"([^\"]{1,200})\"")
_URL: Final = re.compile(r"\bhttps?://[^\s,)\"]+")


def meant(error: Exception, url: str, name: str) -> StoreError:
    """What an error of obstore means that came while `name` beneath `url` was asked for."""
    text = str(error)
    told = text.partition("\n\nDebug source:")[0]
    status, code = _first(_STATUS, told), _first(_CODE, told)
    why = _why(text, told, status, code)
    where = f"{url}/{name}" if name else url
    if "builder error" in told:
        return BadEndpoint(url, why)
    if "object with invalid path" in told:
        return OddObject(url, why)
    if "Received redirect" in told:
        return OtherRegion(url, why)
    if _KEEPER.search(told):
        silent = not status or status == "429" or status >= "500"
        return KeeperSilent(url, why) if silent else NoCredentials(url, why)
    if (by_code := _by_code(code, url, where, why)) is not None:
        return by_code
    if isinstance(error, FileNotFoundError):
        return NoObject(where)
    if not status and "HTTP error" in told:  # the network's, not the store's
        return StoreUnavailable(where, why)
    return _by_status(int(status or 0), url, where, why)


def _by_code(code: str, url: str, where: str, why: str) -> StoreError | None:
    if code in NO_BUCKET:
        return NoBucket(url)
    if code in ELSEWHERE:
        return OtherRegion(url, why)
    for codes, kind in (
        (EXPIRED, CredentialsExpired),
        (DENIED, StoreDenied),
        (FULL, StoreFull),
        (BROKEN, TransferBroken),
        (SLOW, StoreUnavailable),
    ):
        if code in codes:
            return kind(where, why)
    return None


def _by_status(status: int, url: str, where: str, why: str) -> StoreError:
    match status:
        case 400 if why == "400":
            return StoreDenied(where, "400, all that HEAD tells of wrong or expired credentials")
        case 401 | 403:
            return StoreDenied(where, why)
        case 404:
            return NoBucket(url)
        case 507:
            return StoreFull(where, why)
        case 408 | 409:
            return TransferBroken(where, why)
        case 429 | 500 | 502 | 503 | 504:
            return StoreUnavailable(where, why)
        case _:
            return StoreRefused(where, why)


def _why(text: str, told: str, status: str, code: str) -> str:
    """In the store's words, or the network's."""
    if status:
        message = _first(_MESSAGE, told)
        return " ".join(each for each in (status, code, message) if each)
    deepest = _first(_DEEPEST, text.replace("error: Request", ""))
    last = told.strip().rpartition(" - ")[2].splitlines() or [""]
    said = " ".join(each for each in (_URL.sub("…", last[0])[:200], deepest) if each)
    return said or "no answer"


def _first(pattern: "re.Pattern[str]", text: str) -> str:
    found = pattern.search(text)
    return next((each for each in found.groups() if each), "") if found else ""
