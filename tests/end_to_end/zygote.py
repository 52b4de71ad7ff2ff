"""ferrylog many times over, without the half second in which it starts.

A process that has imported it all forks for each command: the child has arguments, environment
and files of its own, runs `main` and ends, as if it had been started from a shell.
"""

import json
import os
import select
import signal
import subprocess
import sys
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
        pipe = self._process
        assert pipe.stdin
        assert pipe.stdout
        files = [stdin or os.devnull, str(self._out), str(self._err)]
        asked = [words, dict(environment), files, str(Path.cwd()), timeout_s]
        pipe.stdin.write(json.dumps(asked) + "\n")
        pipe.stdin.flush()
        code, most_kib = json.loads(pipe.stdout.readline())
        return Ended(code, _text(self._out), _text(self._err), most_kib)


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def main() -> None:
    import ferrylog.cli.main as cli

    cli.learn_commands("")
    cli.learn_commands = lambda _: None  # once is enough
    for line in sys.stdin:
        words, environment, files, folder, timeout_s = json.loads(line)
        if not (child := os.fork()):
            os.chdir(folder)
            _be(cli.main, words, environment, files)
        print(json.dumps(_awaited(child, timeout_s)), flush=True)


def _be(run: Any, words: list[str], environment: dict[str, str], files: list[str]) -> NoReturn:
    code = 70
    try:
        for fd, path in enumerate(files):
            how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if fd else os.O_RDONLY
            os.dup2(os.open(path, how, 0o600), fd)
        sys.stdin = os.fdopen(0)
        sys.argv = ["ferrylog", *words]
        os.environ.clear()
        os.environ.update(environment)
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
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
