"""One table of errors: who makes a failure go away."""

import errno

import pytest
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    CursorNotFound,
    DocumentTooLarge,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from executors.classify import (
    FATAL_CODES,
    TRANSIENT_CODES,
    UNAVAILABLE_CODES,
    classify,
    cursor_was_cut,
    retry_after_ms,
)
from executors.write import _said
from statemachine.words import Cause

THROTTLED = (
    "Error=16500, RetryAfterMs=34, Details='Response status code does not indicate success: "
    "TooManyRequests (429); Substatus: 3200; Reason: (Request rate is large. More Request Units "
    "may be needed, so no changes were made.)'"
)
"""As Azure Cosmos DB says it, in replies and in the errors of single documents."""

CODES = {
    Cause.UNAVAILABLE: (
        6, 7, 89, 91, 133, 134, 189, 202, 216, 317, 365, 384, 402, 407, 429, 433, 449, 450, 462,
        463, 9001, 10058, 10107, 11600, 11602, 13435, 13436, 16500,
    ),
    Cause.TRANSIENT: (
        24, 43, 50, 64, 112, 117, 136, 175, 237, 246, 251, 262, 278, 290, 11601, 13388, 28799,
        46841,
    ),
    Cause.FATAL: (13, 18, 100, 371, 14031),
    Cause.PERMANENT: (0, 1, 2, 26, 48, 52, 73, 121, 10334, 11000),
}  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "code"), [(cause, code) for cause, codes in CODES.items() for code in codes]
)
def test_codes_of_servers(cause: Cause, code: int) -> None:
    for kind in (OperationFailure, WriteConcernError):
        assert classify(kind("no", code))[:2] == (cause, f"EMONGO{code:03d}")


def test_no_code_has_two_causes_and_none_is_left_out_above() -> None:
    tables = (UNAVAILABLE_CODES, TRANSIENT_CODES, FATAL_CODES)
    every = [code for table in tables for code in table]
    assert len(every) == len(set(every))
    told = {
        code for cause, codes in CODES.items() if cause is not Cause.PERMANENT for code in codes
    }
    assert set(every) == told


@pytest.mark.parametrize(
    ("error", "cause", "code"),
    [
        (ServerSelectionTimeoutError("x"), Cause.UNAVAILABLE, "ENET001"),
        (NetworkTimeout("x"), Cause.UNAVAILABLE, "ENET002"),
        (AutoReconnect("x"), Cause.UNAVAILABLE, "ENET003"),
        (ConnectionFailure("x"), Cause.UNAVAILABLE, "ENET003"),
        (NotPrimaryError("x"), Cause.UNAVAILABLE, "ENET003"),
        (WaitQueueTimeoutError("x"), Cause.UNAVAILABLE, "ENET003"),
        (ExecutionTimeout("x"), Cause.TRANSIENT, "ENET002"),
        (WTimeoutError("x", 64), Cause.TRANSIENT, "EMONGO064"),
        (CursorNotFound("x", 43), Cause.TRANSIENT, "EMONGO043"),
        (ConfigurationError("x"), Cause.FATAL, "ECONN001"),
        (DocumentTooLarge("x"), Cause.PERMANENT, "EMONGO000"),
        (OSError(errno.ENOSPC, "full", "f"), Cause.FATAL, "EDISK001"),
        (OSError(errno.EIO, "broken", "f"), Cause.TRANSIENT, "EDISK000"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
)
def test_errors_of_the_driver_and_the_disk(error: Exception, cause: Cause, code: str) -> None:
    assert classify(error)[:2] == (cause, code)


@pytest.mark.parametrize(
    ("label", "cause"),
    [
        ("SystemOverloadedError", Cause.UNAVAILABLE),
        ("RetryableWriteError", Cause.TRANSIENT),
        ("NoWritesPerformed", Cause.PERMANENT),
    ],
)
def test_labels_speak_for_codes_nobody_knows(label: str, cause: Cause) -> None:
    error = OperationFailure("x", 999_999, {"errorLabels": [label]})
    assert classify(error)[0] is cause


@pytest.mark.parametrize("code", [1, 2, 16500])
def test_a_throttling_server_says_when_to_come_again(code: int) -> None:
    error = OperationFailure(THROTTLED, code, {"errmsg": THROTTLED, "code": code})
    assert classify(error)[0] is Cause.UNAVAILABLE
    assert retry_after_ms(error) == 34


@pytest.mark.parametrize(
    "text", ["E11000 dup key: { e: 'RetryAfterMs=99' }", "no, full error: {'e': 'RetryAfterMs=9'}"]
)
def test_what_a_document_says_is_not_what_the_server_says(text: str) -> None:
    error = OperationFailure(text, 11000)
    assert classify(error)[0] is Cause.PERMANENT
    assert retry_after_ms(error) == 0


def test_other_errors_ask_for_no_delay() -> None:
    assert retry_after_ms(AutoReconnect("x")) == retry_after_ms(OSError(errno.EIO, "x")) == 0


@pytest.mark.parametrize(
    ("error", "goes_on"),
    [
        (CursorNotFound("x", 43), True),
        (CursorNotFound("x"), True),
        (OperationFailure("x", 11602), True),
        (OperationFailure(THROTTLED, 16500), True),
        (NetworkTimeout("x"), True),
        (OperationFailure("x", 13), False),
        (OperationFailure("x", 2), False),
    ],
)
def test_a_read_goes_on_at_its_last_key(error: PyMongoError, *, goes_on: bool) -> None:
    assert cursor_was_cut(error) is goes_on


@pytest.mark.parametrize("code", [*CODES[Cause.UNAVAILABLE], *CODES[Cause.FATAL], 112])
def test_no_document_is_to_blame_for_the_deployment(code: int) -> None:
    """P10: throttling comes as the error of single documents, too; they are not rejected."""
    with pytest.raises(OperationFailure) as caught:
        _said({"index": 0, "code": code, "errmsg": THROTTLED})
    assert caught.value.code == code
    assert retry_after_ms(caught.value) == 34


def test_a_document_is_to_blame_for_itself() -> None:
    why = "E11000 duplicate key error collection: shop.c index: e_1 dup key: { e: 5 }"
    assert _said({"index": 0, "code": 11000, "errmsg": why}) == (
        11000,
        why.partition(" dup key")[0],
    )
