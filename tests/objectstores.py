"""Object stores on loopback, each a process of its own: moto's S3 server."""

import base64
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import pytest

from ferrylog.embedded import free_port

STARTS_S: Final = 60
NOT_SECRET: Final = "SECRETsecretSECRET"
"""Looked for in whatever must not hold it."""
OF_THE_CLOUDS: Final = ("AWS_", "AZURE_", "GOOGLE_", "GCP_", "GCS_", "MONGO_")
_ENDS_WITH_US: Final = "import ctypes; ctypes.CDLL(None).prctl(1, 9); "


@dataclass(frozen=True, slots=True)
class S3:
    """A bucket of its own, empty; credentials and endpoint are in the environment of the test and
    of what it starts."""

    endpoint: str
    bucket: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])


@contextmanager
def s3_server() -> Iterator[str]:
    """Its endpoint; it keeps objects in memory and ends with the process that asked for it."""
    port = free_port()
    run = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    process = subprocess.Popen(
        [sys.executable, "-c", _ENDS_WITH_US + run],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _wait_for(endpoint)
        yield endpoint
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def make_bucket(endpoint: str, bucket: str) -> None:
    request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
    with urllib.request.urlopen(request, timeout=30):
        pass


def bucket_of_its_own(endpoint: str, environment: pytest.MonkeyPatch) -> S3:
    made = S3(endpoint, f"bucket{uuid4().hex[:12]}")  # obstore escapes a dash for Google, moto not
    make_bucket(endpoint, made.bucket)
    speak_to(endpoint, environment)
    return made


def speak_gs_to(endpoint: str, environment: pytest.MonkeyPatch) -> None:
    """The same for `gs://`. moto's S3 server takes what Google's XML API shares with S3; it does
    not know Google's conditions, so that nothing put to it is refused."""
    environment.setenv("GOOGLE_BASE_URL", endpoint)
    environment.setenv("GOOGLE_ALLOW_HTTP", "true")
    environment.setenv("GOOGLE_BEARER_TOKEN", NOT_SECRET)


def speak_az_to(endpoint: str, environment: pytest.MonkeyPatch) -> None:
    """The same for `az://`."""
    environment.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
    environment.setenv("AZURE_ALLOW_HTTP", "true")
    environment.setenv("AZURE_STORAGE_ACCOUNT", "account")
    environment.setenv("AZURE_STORAGE_KEY", base64.b64encode(NOT_SECRET.encode()).decode())


def speak_to(endpoint: str, environment: pytest.MonkeyPatch) -> None:
    """What the cloud's own conventions ask of the environment for that endpoint."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "AKIAferrylogtest",
        "AWS_SECRET_ACCESS_KEY": NOT_SECRET,
        "AWS_REGION": "us-east-1",
    }.items():
        environment.setenv(name, value)


def _wait_for(endpoint: str) -> None:
    end = time.monotonic() + STARTS_S
    while True:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
            return
        if time.monotonic() > end:
            raise RuntimeError(f"no moto server at {endpoint} after {STARTS_S} s")
        time.sleep(0.05)
