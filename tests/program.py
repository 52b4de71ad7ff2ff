"""The program, as a shell would run it and without the half second in which it starts."""

import atexit
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.end_to_end.zygote import HUNG, Ended, Zygote


def ferrylog(
    *words: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, in a process of its own. Raises `TimeoutExpired`."""
    named = [str(word) for word in words]
    ended = forked(*words, env=env, timeout_s=timeout_s)
    if ended.code == HUNG:
        raise subprocess.TimeoutExpired(named, timeout_s, ended.out, ended.err)
    return subprocess.CompletedProcess(named, ended.code, ended.out, ended.err)


def forked(
    *words: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 120
) -> Ended:
    """The same, with the memory that it took, and with `HUNG` for one that had to be ended."""
    named = [str(word) for word in words]
    return _zygote()(named, env if env is not None else os.environ, timeout_s=timeout_s)


def begin(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    **how: Any,
) -> "subprocess.Popen[Any]":
    """Begin it, in a process of its own, a child of this one. `how`: as of `Popen`, but that what
    is not said is nowhere."""
    named = [str(word) for word in words]
    files = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    return _Forked(named, env=dict(env if env is not None else os.environ), cwd=cwd, **files | how)


class _Forked(subprocess.Popen[Any]):
    """Of a process that has imported it all already, instead of one that begins with nothing."""

    def _execute_child(self, args: list[str], *more: Any) -> None:
        cwd, env, pipes = more[4], more[5], more[9:15]
        ends = (pipes[0], pipes[3], pipes[5])
        files = [f"/proc/{os.getpid()}/fd/{end}" for end in ends]
        self.pid = _zygote().begin(args, env, files, str(cwd or Path.cwd()))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


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
