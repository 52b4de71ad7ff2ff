"""The program, as a shell would run it and without the half second in which it starts."""

import atexit
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.end_to_end.zygote import HUNG, Zygote


def ferrylog(
    *words: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, in a process of its own. Raises `TimeoutExpired`."""
    named = [str(word) for word in words]
    ended = _zygote()(named, env if env is not None else os.environ, timeout_s=timeout_s)
    if ended.code == HUNG:
        raise subprocess.TimeoutExpired(named, timeout_s, ended.out, ended.err)
    return subprocess.CompletedProcess(named, ended.code, ended.out, ended.err)


class _Own(threading.local):
    """One for each thread of the tests, and gone with their process."""

    def __init__(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="ferrylog-zygote-")
        self.zygote = Zygote(Path(folder.name))
        atexit.register(folder.cleanup)
        atexit.register(self.zygote.__exit__)


_OWN: list[_Own] = []


def _zygote() -> Zygote:
    if not _OWN:
        _OWN.append(_Own())
    return _OWN[0].zygote
