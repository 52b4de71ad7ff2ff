"""From a URL to its store. Credentials come from where the clouds' own tools take them."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from executors.storage.errors import BadStoreUrl, NoCredentials
from executors.storage.local import Local
from executors.storage.names import wrong
from executors.storage.objects import Objects
from executors.storage.profile import of_profile
from executors.storage.protocol import Store

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CLOUDS: Final = ("s3", "gs", "az")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_BUCKET: Final = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{1,254}")
RETRIES: Final["RetryConfig"] = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
}
"""Of one request; whatever fails longer fails the attempt, and the journal tells of it."""
CLIENT: Final["ClientConfig"] = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=60),
    "timeout": timedelta(seconds=120),
}
"""A request carries 16 MiB at most: 140 kB a second suffice."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A URL of one of `CLOUDS`, in its parts."""

    scheme: str
    bucket: str
    prefix: str

    @property
    def text(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def normal_url(text: str) -> str:
    """As `Store.url` of what it names: for the journal and for people. Raises `BadStoreUrl`."""
    parsed = _parsed(text)
    return parsed.text if isinstance(parsed, StoreUrl) else parsed.as_uri()


def local_folder(text: str) -> Path | None:
    """Of a `file:` URL or a path; `None`: it is in a cloud. Raises `BadStoreUrl`."""
    parsed = _parsed(text)
    return None if isinstance(parsed, StoreUrl) else parsed


def open_store(text: str, work_folder: Path) -> Store:
    """The store at that URL or path; nothing is asked of it yet. `work_folder`: of the job, for
    drafts on their way to an object store. Raises `BadStoreUrl`, `NoCredentials`."""
    parsed = _parsed(text)
    if isinstance(parsed, Path):
        return Local(parsed)
    try:
        return Objects(_OPENS[parsed.scheme](parsed), parsed.text, work_folder)
    except (BaseError, ValueError, FileNotFoundError) as error:
        why = str(error).partition("\n")[0]
        raise NoCredentials(parsed.text, re.sub(r"\"[^\"]*\"", "…", why)[:200]) from None


def _parsed(text: str) -> StoreUrl | Path:
    found = _split(text)
    if found is None:
        return Path(text).absolute()
    scheme, rest = found
    if scheme == "file":
        return _file(rest)
    if scheme not in CLOUDS or not rest.startswith("//"):
        raise BadStoreUrl(f"{scheme}: is no scheme of a store, or // is missing")
    bucket, _, prefix = rest[2:].partition("/")
    if "@" in bucket or ":" in bucket:
        raise BadStoreUrl(
            "it holds credentials, a host or a port",
            "credentials go into the environment, an endpoint into AWS_ENDPOINT_URL "
            "(docs/stores.md)",
        )
    if "?" in rest or "#" in rest:
        raise BadStoreUrl(
            "it holds ? or #", "signed URLs are not taken; credentials go into the environment"
        )
    if not _BUCKET.fullmatch(bucket):
        raise BadStoreUrl("it names no bucket or container")
    return StoreUrl(scheme, bucket, _prefix(prefix))


def _split(text: str) -> tuple[str, str] | None:
    found = _SCHEME.fullmatch(text)
    if found is None:
        return None
    scheme, rest = found[1].lower(), found[2]
    return (scheme, rest) if scheme in ("file", *CLOUDS) or rest.startswith("//") else None


def _file(rest: str) -> Path:
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise BadStoreUrl("a file: URL names a host", "write file:/path")
        rest = slash + path
    if not rest.startswith("/") or "\0" in unquote(rest):
        raise BadStoreUrl("a file: URL needs an absolute path", "write file:/path")
    return Path(unquote(rest))


def _prefix(text: str) -> str:
    """As it is written: a key of an object store knows no escapes."""
    prefix = text.rstrip("/")
    if prefix and (why := wrong(prefix)):
        raise BadStoreUrl(f"of what follows the bucket: {why}")
    return prefix


def _s3(url: StoreUrl) -> S3Store:
    return S3Store(
        url.bucket,
        prefix=url.prefix or None,
        client_options=_client("AWS"),
        retry_config=RETRIES,
        config=of_profile(url.text),
    )


def _gs(url: StoreUrl) -> GCSStore:
    return GCSStore(
        url.bucket,
        prefix=url.prefix or None,
        client_options=_client("GOOGLE"),
        retry_config=RETRIES,
    )


def _az(url: StoreUrl) -> AzureStore:
    """Also by the variables of Azure's own command line."""
    given = {
        name: value
        for name, variable in _OF_AZ.items()
        if (value := os.environ.get(variable)) and f"AZURE_STORAGE_{name.upper()}" not in os.environ
    }
    return AzureStore(
        url.bucket,
        prefix=url.prefix or None,
        client_options=_client("AZURE"),
        retry_config=RETRIES,
        **given,  # type: ignore[arg-type]
    )


def _client(cloud: str) -> "ClientConfig":
    """Options that are given replace all that the environment says of the client."""
    plain = os.environ.get(f"{cloud}_ALLOW_HTTP", "").lower() in ("1", "true", "yes")
    return {**CLIENT, "allow_http": plain}


_OF_AZ: Final = {"account_name": "AZURE_STORAGE_ACCOUNT", "account_key": "AZURE_STORAGE_KEY"}
_OPENS: Final[dict[str, Callable[[StoreUrl], S3Store | GCSStore | AzureStore]]] = {
    "s3": _s3,
    "gs": _gs,
    "az": _az,
}
