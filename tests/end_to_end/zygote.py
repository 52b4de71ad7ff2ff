"""ferrylog many times over, without the half second in which it starts.

A process that has imported it all forks for each command: the child has arguments, environment
and files of its own, runs `main` and ends, as if it had been started from a shell.
"""

import atexit
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

TIMEOUT_S = 20


@dataclass(frozen=True)
class Ended:
    code: int
    """Negative: by a signal; `HUNG` when it had to be killed."""
    out: str
    err: str
    most_kib: int
    """Of memory it held, what it shares with others included."""


HUNG = -1000
_SET_CHILD_SUBREAPER = 36
"""Of prctl: whose descendants lose their parent, gets them as children."""


class Zygote:
    """One command at a time; a context manager that ends the process."""

    def __init__(self, folder: Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def __call__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        stdin: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> Ended:
        files = [stdin or os.devnull, str(self._out), str(self._err)]
        code, most_kib = self._ask(words, dict(environment), files, str(Path.cwd()), timeout_s)
        return Ended(code, _text(self._out), _text(self._err), most_kib)

    def begin(
        self, words: Sequence[str], environment: Mapping[str, str], files: Sequence[str], cwd: str
    ) -> int:
        """A child of this very process, that runs; its id. `files`: what 0, 1 and 2 are to be."""
        prctl = ctypes.CDLL(None).prctl
        prctl(_SET_CHILD_SUBREAPER, 1)
        try:
            pid, _ = self._ask(words, dict(environment), files, cwd, None)
        finally:
            prctl(_SET_CHILD_SUBREAPER, 0)
        return pid

    def _ask(self, *asked: object) -> tuple[int, int]:
        pipe = self._process
        assert pipe.stdin
        assert pipe.stdout
        pipe.stdin.write(json.dumps(asked) + "\n")
        pipe.stdin.flush()
        one, other = json.loads(pipe.stdout.readline())
        return one, other


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def main() -> None:
    import ferrylog.cli.main as cli

    cli.learn_commands("")
    cli.learn_commands = lambda _: None  # once is enough
    for line in sys.stdin:
        words, environment, files, folder, timeout_s = json.loads(line)
        fds = _opened(files)
        forks = 1 if timeout_s is not None else 2
        child = _forked(forks)
        if not child:
            os.chdir(folder)
            _be(cli.main, words, environment, fds)
        for fd in fds:
            os.close(fd)
        answer = _awaited(child, timeout_s) if forks == 1 else (child, 0)
        print(json.dumps(answer), flush=True)


def _opened(files: Sequence[str]) -> list[int]:
    out = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return [os.open(path, out if fd else os.O_RDONLY, 0o600) for fd, path in enumerate(files)]


def _forked(times: int) -> int:
    """0 in the child. Of two forks the one between is gone when this returns, and whoever takes
    orphans has the child."""
    if times == 1:
        return os.fork()
    read, write = os.pipe()
    if not (between := os.fork()):
        if child := os.fork():
            os.write(write, str(child).encode())
            os._exit(0)
        os.close(read)
        os.close(write)
        return 0
    os.waitpid(between, 0)
    child = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    return child


def _be(run: Any, words: list[str], environment: dict[str, str], fds: list[int]) -> NoReturn:
    code = 70
    try:
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        sys.stdin = os.fdopen(0)
        sys.argv = ["ferrylog", *words]
        os.environ.clear()
        os.environ.update(environment)
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # as at the end of any process
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _awaited(child: int, timeout_s: float) -> tuple[int, int]:
    """How the child ended, and how much memory it took."""
    pidfd = os.pidfd_open(child)
    hung = not select.select([pidfd], [], [], timeout_s)[0]
    if hung:
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    os.close(pidfd)
    return HUNG if hung else os.waitstatus_to_exitcode(status), used.ru_maxrss


if __name__ == "__main__":
    main()
