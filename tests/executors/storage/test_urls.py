"""URLs of stores: what is taken, what is refused, and that no secret is ever told."""

from pathlib import Path

import pytest

from executors.storage.errors import BadStoreUrl, NoCredentials
from executors.storage.local import Local
from executors.storage.objects import Objects
from executors.storage.profile import of_profile
from executors.storage.urls import local_folder, normal_url, open_store
from tests.objectstores import NOT_SECRET, S3, speak_gs_to

TAKEN = [
    ("file:/a/b", "file:///a/b"),
    ("file:///a/b%20c/", "file:///a/b%20c"),
    ("file://localhost/a", "file:///a"),
    ("FILE:/a", "file:///a"),
    ("/a/b c", "file:///a/b%20c"),
    ("s3://bucket", "s3://bucket"),
    ("s3://bucket/", "s3://bucket"),
    ("S3://bucket/a/b/", "s3://bucket/a/b"),
    ("s3://bucket/a b/%41/ü", "s3://bucket/a b/%41/ü"),
    ("gs://my_bucket.of-mine/x", "gs://my_bucket.of-mine/x"),
    ("az://container/x", "az://container/x"),
    ("az://$web/x", "az://$web/x"),
]
REFUSED = [
    f"s3://AKIA:{NOT_SECRET}@bucket/x",
    f"s3://{NOT_SECRET}@bucket",
    f"az://container/x?sig={NOT_SECRET}",
    f"s3://bucket/x?X-Amz-Signature={NOT_SECRET}",
    f"gs://bucket/x#{NOT_SECRET}",
    f"https://user:{NOT_SECRET}@host/bucket",
    f"mongodb://user:{NOT_SECRET}@host",
    "s3://host:9000/bucket",
    "s3:bucket/x",
    "s3:/bucket/x",
    "s3://",
    "s3:///x",
    "s3://b",
    "s3://bucket/a//b",
    "s3://bucket/../other",
    "s3://bucket/a\nb",
    f"s3://bucket/{'n' * 300}",
    "gcs://bucket",
    "abfss://container@account.dfs.core.windows.net/x",
    "http://bucket/x",
    "file:relative",
    "file://host/share",
    "file:",
    "file:/a%00b",
]


@pytest.mark.parametrize(("text", "normal"), TAKEN)
def test_taken(text: str, normal: str) -> None:
    assert normal_url(text) == normal == normal_url(normal)
    folder = local_folder(text)
    assert (folder is not None) == normal.startswith("file:")
    assert folder is None or folder.as_uri() == normal


@pytest.mark.parametrize("text", REFUSED)
def test_refused_and_not_repeated(text: str, tmp_path: Path) -> None:
    """I45: credentials in a wrong URL are not echoed."""
    for ask in (lambda: normal_url(text), lambda: open_store(text, tmp_path)):
        with pytest.raises(BadStoreUrl) as told:
            ask()
        assert told.value.remedy and told.value.exit_code == 2
        assert NOT_SECRET not in f"{told.value}{told.value.remedy}"


def test_a_path_is_no_url() -> None:
    """A colon alone makes none; what begins as one of ours does."""
    for path in ("dump", "./s3", "/a:b", "a/b:c", "-", "x:y", "dump:1"):
        assert local_folder(path) == Path.cwd() / path


def test_opened(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked yet, and none of them shows a key."""
    speak_gs_to(s3.endpoint, monkeypatch)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    monkeypatch.setenv("AZURE_STORAGE_KEY", "c2VjcmV0c2VjcmV0")
    kinds = {
        "file:/a": Local,
        "s3://bucket/x": Objects,
        "gs://bucket": Objects,
        "az://con": Objects,
    }
    for url, kind in kinds.items():
        store = open_store(url, tmp_path)
        assert isinstance(store, kind) and store.url == normal_url(url)
        assert NOT_SECRET not in repr(store) and "c2Vj" not in repr(store)


PROFILES = f"""
[default]
aws_access_key_id = AKIAferrylogtest
aws_secret_access_key = {NOT_SECRET}

[sso]
sso_start_url = https://example.invalid
"""


def test_keys_of_a_profile(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Amazon's own tools find them; what the environment holds comes first."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    keys, settings = tmp_path / "credentials", tmp_path / "config"
    keys.write_text(PROFILES)
    settings.write_text("[default]\nregion = eu-north-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    assert of_profile(s3.url) == {
        "access_key_id": "AKIAferrylogtest",
        "secret_access_key": NOT_SECRET,
        "region": "eu-north-1",
    }
    assert open_store(s3.url, tmp_path).put("one", b"1").size == 1
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert of_profile(s3.url) == {}
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for profile in ("sso", "none"):
        monkeypatch.setenv("AWS_PROFILE", profile)
        with pytest.raises(NoCredentials, match=profile):
            open_store(s3.url, tmp_path)
    keys.write_text(f"aws_secret_access_key {NOT_SECRET}")
    with pytest.raises(NoCredentials) as told:
        open_store(s3.url, tmp_path)
    assert NOT_SECRET not in str(told.value)
