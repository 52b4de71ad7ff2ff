"""Throw-away mongods, each a replica set of one: for the quickstart, the tests, the benchmarks.

The binary comes from the `server` extra, or is the `mongod` on PATH.
"""

import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from executors.admin import initiate, wait_for_primary
from statemachine.errors import OperatorError

HINTS = {
    "libcurl": "libcurl4",
    "libssl": "libssl3",
    "libcrypto": "libssl3",
    "libldap": "libldap-2.5-0",
    "liblber": "libldap-2.5-0",
    "libsasl": "libsasl2-2",
}
"""Shared libraries that mongod needs, and the Debian packages that hold them."""


class NoServer(OperatorError):
    code = "ESERVER001"


def binary() -> Path:
    """The mongod to use. Raises `NoServer` with what to install."""
    if spec := importlib.util.find_spec("fiftyone"):
        for place in spec.submodule_search_locations or ():
            candidate = Path(place, "db", "bin", "mongod")
            if candidate.exists():
                return candidate
    if found := shutil.which("mongod"):
        return Path(found)
    raise NoServer(
        "there is no mongod", remedy="pip install 'ferrylog[server]', or put one on PATH"
    )


def missing_libraries(mongod: Path) -> list[str]:
    """Packages to install before this mongod can start."""
    listing = subprocess.run(
        ["/usr/bin/ldd", str(mongod)], capture_output=True, text=True, check=False
    )
    lost = [line.split()[0] for line in listing.stdout.splitlines() if "not found" in line]
    return sorted(
        {next((p for n, p in HINTS.items() if name.startswith(n)), name) for name in lost}
    )


class Mongod:
    """One mongod on loopback, its data in `folder`; a context manager that stops it."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "rs0",
        port: int = 0,
        cache_gb: float = 0.25,
        options: tuple[str, ...] = (),
        replica_set: bool = True,
        program: Path | None = None,
    ) -> None:
        """`program`: another mongod than that of the extra or of PATH."""
        self.folder = folder
        self.port = port or free_port()
        self.name = name
        self._options = options
        self._cache_gb = cache_gb
        self._replica_set = replica_set
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Returns when the server is a primary that takes writes. Raises `NoServer`."""
        mongod = self._program or binary()
        if lost := missing_libraries(mongod):
            raise NoServer(
                f"{mongod.name} lacks shared libraries",
                remedy=f"apt-get install {' '.join(lost)}",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        first = not any(self.folder.glob("WiredTiger*"))
        arguments = ["--replSet", self.name] if self._replica_set else []
        self._process = subprocess.Popen(
            [
                str(mongod),
                *("--dbpath", str(self.folder)),
                *("--port", str(self.port)),
                *("--bind_ip", "127.0.0.1"),
                "--nounixsocket",
                *("--wiredTigerCacheSizeGB", str(self._cache_gb)),
                *("--setParameter", "diagnosticDataCollectionEnabled=false"),
                *("--journalCommitInterval", "10"),  # index builds and drops wait for it, 100 ms
                *("--logpath", str(self.folder / "mongod.log"), "--logappend"),
                *arguments,
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C of the terminal is not for it
        )
        self._wait_for_port()
        if self._replica_set:
            if first:
                initiate(self.uri, self.name, f"127.0.0.1:{self.port}")
            wait_for_primary(self.uri)
        return self

    def kill(self) -> None:
        """SIGKILL: as a crash would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()

    def _wait_for_port(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                log = (self.folder / "mongod.log").read_text(errors="replace")[-500:]
                raise NoServer(f"mongod ended at once: {log}", remedy="see its log")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise NoServer("mongod did not open its port in 30 s", remedy="see its log")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
