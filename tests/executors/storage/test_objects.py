"""Object stores that fail: what it means, who can help, that nothing is lost or shown half.

Faults are answers of `xmlstore`, which we wrote; the wire itself: `test_wire.py`.
"""

import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from executors.classify import classify
from executors.protocol import Stopped
from executors.storage import urls
from executors.storage.answers import meant
from executors.storage.checking import check_store
from executors.storage.errors import (
    BadEndpoint,
    CredentialsExpired,
    IgnoresConditions,
    NoBucket,
    NoCredentials,
    ObjectExists,
    OddObject,
    StoreError,
    StoreUnavailable,
    TransferBroken,
)
from executors.storage.objects import AT_ONCE
from executors.storage.protocol import Found, Store
from executors.storage.urls import open_store
from statemachine.words import Cause
from tests.executors.storage.xmlstore import Answer, XmlStore
from tests.objectstores import NOT_SECRET, S3, speak_az_to, speak_gs_to, speak_to

NEVER = threading.Event()
LARGE = AT_ONCE + 5
"""Three parts."""
MEANT = [
    (403, "AccessDenied", "ESTORE006", Cause.FATAL),
    (403, "", "ESTORE006", Cause.FATAL),
    (401, "", "ESTORE006", Cause.FATAL),
    (400, "", "ESTORE006", Cause.FATAL),
    (403, "InvalidAccessKeyId", "ESTORE006", Cause.FATAL),
    (403, "RequestTimeTooSkewed", "ESTORE006", Cause.FATAL),
    (400, "ExpiredToken", "ESTORE007", Cause.FATAL),
    (403, "ExpiredToken", "ESTORE007", Cause.FATAL),
    (404, "NoSuchBucket", "ESTORE005", Cause.FATAL),
    (404, "", "ESTORE005", Cause.FATAL),
    (507, "XMinioStorageFull", "ESTORE009", Cause.FATAL),
    (403, "QuotaExceeded", "ESTORE009", Cause.FATAL),
    (301, "PermanentRedirect", "ESTORE013", Cause.FATAL),
    (400, "AuthorizationHeaderMalformed", "ESTORE013", Cause.FATAL),
    (405, "MethodNotAllowed", "ESTORE011", Cause.FATAL),
    (503, "SlowDown", "ESTORE010", Cause.UNAVAILABLE),
    (429, "TooManyRequests", "ESTORE010", Cause.UNAVAILABLE),
    (500, "InternalError", "ESTORE010", Cause.UNAVAILABLE),
    (502, "", "ESTORE010", Cause.UNAVAILABLE),
    (400, "RequestTimeout", "ESTORE012", Cause.TRANSIENT),
]


@pytest.fixture
def store(xml: XmlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Of S3's dialect; requests are repeated without much delay."""
    hurry(monkeypatch)
    speak_to(xml.endpoint, monkeypatch)
    return open_store("s3://bucket/out", tmp_path)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=9)}
    monkeypatch.setitem(urls.RETRIES, "backoff", short)


def put_large(store: Store, name: str = "big", data: bytes = bytes(LARGE)) -> Found:
    draft = store.draft(name)
    draft.write_bytes(data)
    return store.put_file(name, draft, NEVER)


@pytest.mark.parametrize(("status", "code", "ours", "cause"), MEANT)
def test_what_an_answer_means(
    store: Store, xml: XmlStore, status: int, code: str, ours: str, cause: Cause
) -> None:
    """I24: told by code, place and cause, and never with a secret."""
    xml.fault = lambda method, path: (status, code)
    for ask in (lambda: store.put("one", b"1"), lambda: list(store.list("x/"))):
        with pytest.raises(StoreError) as told:
            ask()
        error = told.value
        assert classify(error)[:2] == (cause, ours) == (error.cause, error.code)
        assert "s3://bucket/out" in str(error)
        assert code in str(error) or ours in ("ESTORE005", "ESTORE013")
        assert NOT_SECRET not in f"{error}{error.remedy}" and "AKIA" not in str(error)
        assert error.remedy or cause is not Cause.FATAL
        assert "http" not in str(error), "an address may be a signed one"


@pytest.mark.parametrize("answer", [(503, "SlowDown"), (500, ""), (429, "")])
def test_what_passes_at_once_is_no_failure(store: Store, xml: XmlStore, answer: Answer) -> None:
    left = [answer, answer]
    xml.fault = lambda method, path: left.pop() if left and method == "PUT" else None
    store.put("one", b"1")
    assert store.get("one") == b"1" and not left


def test_a_name_is_no_answer(xml: XmlStore, store: Store, tmp_path: Path) -> None:
    """Errors repeat it: it must not be read as what a keeper of credentials says."""
    xml.fault = lambda method, path: (503, "SlowDown")
    for name in ("sts.x/oauth2/1", "169.254.169.254/latest/meta-data", "latest/api/token"):
        with pytest.raises(StoreUnavailable):
            store.put(name, b"1")


def test_requests_are_repeated_twice_at_most(store: Store, xml: XmlStore) -> None:
    """More is the journal's affair."""
    xml.fault = lambda method, path: (503, "SlowDown")
    with pytest.raises(StoreUnavailable):
        store.get("one")
    assert len(xml.asked) == 3


def test_a_lost_answer_is_no_other_object(store: Store, xml: XmlStore) -> None:
    """The object was put, the answer came as an error: what is there is what was asked for."""

    def lose(method: str, path: str) -> Answer | None:
        if method == "PUT" and len(xml.asked) == 1:
            xml.objects["bucket/out/one"] = b"mine"
            return 500, "InternalError"
        return None

    xml.fault = lose
    assert store.put("one", b"mine").size == 4
    xml.asked.clear()
    with pytest.raises(ObjectExists):
        store.put("one", b"other")


def test_one_that_was_there_and_is_gone(store: Store, xml: XmlStore) -> None:
    """Another one put and removed it at the same time: a new attempt may do."""
    xml.fault = lambda method, path: (412, "PreconditionFailed") if method == "PUT" else None
    with pytest.raises(TransferBroken):
        store.put("one", b"1")


def test_a_key_that_expires_in_the_middle(store: Store, xml: XmlStore) -> None:
    """The third part meets it: nothing of the object shows, the draft is gone, and with a
    new key the same put succeeds."""
    xml.fault = lambda method, path: (
        (400, "ExpiredToken") if method in ("PUT", "POST") and len(xml.asked) > 3 else None
    )
    with pytest.raises(CredentialsExpired) as told:
        put_large(store)
    assert told.value.cause is Cause.FATAL and "resume" in told.value.remedy
    xml.fault = lambda method, path: None
    assert store.head("big") is None and list(store.list()) == []
    assert xml.uploads == {}, "aborted"
    assert put_large(store).size == LARGE


@pytest.mark.parametrize("cloud", ["s3", "gs"])
def test_an_upload_that_fails_is_aborted(
    store: Store, xml: XmlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: str
) -> None:
    speak_gs_to(xml.endpoint, monkeypatch)
    store = open_store(f"{cloud}://bucket/out", tmp_path)
    xml.fault = lambda method, path: (503, "SlowDown") if "partNumber=2" in path else None
    with pytest.raises(StoreUnavailable):
        put_large(store)
    assert xml.uploads == {} and xml.objects == {}


def test_a_stopped_upload_is_aborted(store: Store, xml: XmlStore) -> None:
    class Soon:
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 2

    draft = store.draft("big")
    draft.write_bytes(bytes(LARGE))
    with pytest.raises(Stopped):
        store.put_file("big", draft, Soon())
    assert xml.uploads == {} and xml.objects == {} and not draft.exists()


def test_an_object_that_came_shorter_than_it_was_sent(store: Store, xml: XmlStore) -> None:
    """A gateway that loses a part is not believed."""

    def shorten(method: str, path: str) -> Answer | None:
        for parts in xml.uploads.values():
            if method == "POST" and "uploadId" in path:
                parts.pop("2")
        return None

    xml.fault = shorten
    with pytest.raises(TransferBroken):
        put_large(store)


def test_an_object_that_shrinks_while_it_is_fetched(
    store: Store, xml: XmlStore, tmp_path: Path
) -> None:
    store.put("one", b"whole")

    def shrink(method: str, path: str) -> None:
        if method == "GET":
            xml.objects["bucket/out/one"] = b""

    xml.fault = shrink
    with pytest.raises(TransferBroken):
        store.fetch("one", tmp_path / "into", NEVER)


def test_a_store_that_ignores_conditions_is_told_of(gs: str, tmp_path: Path) -> None:
    """G6: moto as Google's API; everything else of it works."""
    store = open_store(f"{gs}/out", tmp_path)
    assert [type(each) for each in check_store(store)] == [IgnoresConditions]
    assert list(store.list()) == []
    data = os.urandom(LARGE)
    assert put_large(store, data=data).size == LARGE
    assert store.read("big", LARGE - 3, 9) == data[-3:]
    store.remove(["big"])
    assert store.head("big") is None


def test_checks_tell_what_is_wrong(store: Store, xml: XmlStore, tmp_path: Path) -> None:
    """G6: bucket, permission."""
    assert [type(each) for each in check_store(open_store("s3://none/out", tmp_path))] == [NoBucket]
    xml.fault = lambda method, path: (403, "AccessDenied") if "list-type" in path else None
    (found,) = check_store(store)
    assert found.code == "ESTORE006" and "403 AccessDenied" in str(found)
    assert xml.objects == {}, "the probe is gone all the same"


def test_no_such_bucket(s3: S3, tmp_path: Path) -> None:
    store = open_store(f"s3://not-{s3.bucket}", tmp_path)
    for ask in (
        lambda: store.put("one", b"1"),
        lambda: put_large(store),
        lambda: list(store.list()),
    ):
        with pytest.raises(NoBucket):
            ask()
    assert store.head("one") is None, "HEAD tells no more"


def test_what_others_put_there(store: Store, xml: XmlStore) -> None:
    """A folder that a console made is none of its objects; a key that no path can be is told of."""
    xml.objects |= {"bucket/out/": b"", "bucket/out/sub/": b"", "bucket/out/theirs": b"t"}
    assert sorted(each.name for each in store.list()) == ["sub", "theirs"]
    xml.objects["bucket/out/a//b"] = b"t"
    with pytest.raises(OddObject, match="empty path segment"):
        list(store.list())


def test_nobody_listens(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    speak_to("http://127.0.0.1:1", monkeypatch)
    with pytest.raises(StoreUnavailable, match="Connection refused"):
        open_store(s3.url, tmp_path).get("one")


def test_http_is_not_spoken_unasked(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(BadEndpoint) as told:
        open_store(s3.url, tmp_path).get("one")
    assert "AWS_ALLOW_HTTP" in told.value.remedy


def test_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xml: XmlStore) -> None:
    """The machine's own are asked for where the environment has none."""
    hurry(monkeypatch)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", xml.endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    for status, cause in ((404, Cause.FATAL), (503, Cause.UNAVAILABLE)):
        xml.fault = lambda method, path, status=status: (status, "")  # type: ignore[misc]
        with pytest.raises(NoCredentials) as told:
            open_store("s3://bucket", tmp_path).get("one")
        assert told.value.cause is cause
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "none.json"))
    with pytest.raises(NoCredentials):
        open_store("gs://bucket", tmp_path)
    with pytest.raises(NoCredentials):
        open_store("az://container", tmp_path)


def test_a_signed_address_is_not_told(
    azure: XmlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I24: Azure's signature stands in the address of each request, which errors repeat."""
    hurry(monkeypatch)
    speak_az_to(azure.endpoint, monkeypatch)
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"sv=2024-01-01&sig={NOT_SECRET}")
    store = open_store("az://bucket/out", tmp_path)
    store.put("one", b"1")
    assert NOT_SECRET in azure.asked[-1]
    speak_az_to("http://127.0.0.1:1", monkeypatch)
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    nobody = open_store("az://bucket/out", tmp_path)
    for status in (403, 404, 409, 418, 503):
        azure.fault = lambda method, path, status=status: (status, "")  # type: ignore[misc]
        for asked in (store, nobody):
            (found,) = check_store(asked)
            assert NOT_SECRET not in f"{found}{found.remedy}" and found.__suppress_context__


def test_an_address_within_what_the_network_says() -> None:
    """Versions of the client differ in whether they repeat it there."""
    said = f"HTTP error: error sending request for url (https://x/y?sig={NOT_SECRET}): refused"
    error = meant(GenericError(f"Generic Azure error: {said}"), "az://x/y", "z")
    assert isinstance(error, StoreUnavailable)
    assert NOT_SECRET not in str(error) and "refused" in str(error)


def test_a_store_that_never_answers(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xml: XmlStore
) -> None:
    """I24: every wait has an end."""
    hurry(monkeypatch)
    assert urls.CLIENT["timeout"] <= timedelta(minutes=2)  # type: ignore[operator]
    monkeypatch.setitem(urls.CLIENT, "timeout", timedelta(milliseconds=100))
    xml.fault = lambda method, path: time.sleep(1)  # type: ignore[func-returns-value]
    speak_to(xml.endpoint, monkeypatch)
    with pytest.raises(StoreUnavailable):
        open_store("s3://bucket", tmp_path).put("one", b"1")
