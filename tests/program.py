"""The program, as a shell would run it and without the half second in which it starts."""

import atexit
import os
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
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


@cache
def _zygote() -> Zygote:
    """One for each process of the tests, and gone with it."""
    folder = tempfile.TemporaryDirectory(prefix="ferrylog-zygote-")
    zygote = Zygote(Path(folder.name))

    def end() -> None:
        zygote.__exit__()
        folder.cleanup()

    atexit.register(end)
    return zygote
