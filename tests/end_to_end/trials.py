"""The two processes of a trial of chains: the writer, and the program under fire."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests import program
from tests.end_to_end.kills import Watch

POLL_S = 0.01
PATIENCE_S = 900.0
"""A process that lives longer hangs (I30)."""


class Lost(Exception):
    """What was tried did not succeed."""


# --- the writer -------------------------------------------------------------------------------


class Load:
    """The writer's process, and its diary."""

    def __init__(self, uri: str, folder: Path, *more: str) -> None:
        self._diary = folder / "diary.jsonl"
        self._log = (folder / "workload.log").open("wb")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.end_to_end.workload", "--control"),
                *("--uri", uri, "--seconds", "1e6", "--diary", str(self._diary), *more),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        self.say("counts")

    def say(self, word: str) -> dict[str, int]:
        """Returns when it is so. Raises `Lost` with the writer's last words."""
        pipe = self._process
        assert pipe.stdin
        assert pipe.stdout
        try:
            pipe.stdin.write(f"{word}\n")
            pipe.stdin.flush()
            return dict(json.loads(pipe.stdout.readline()))
        except (OSError, ValueError):
            words = Path(self._log.name).read_text(errors="replace")[-1500:]
            raise Lost(f"the writer ended: {words}") from None

    def diary(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._diary.read_text().splitlines()]

    def await_changes(self, count: int) -> None:
        goal = self.say("counts").get("changes", 0) + count
        while self.say("counts").get("changes", 0) < goal:
            time.sleep(0.2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


# --- the program ------------------------------------------------------------------------------


@dataclass
class Program:
    """ferrylog beside one journal, killed and resumed."""

    folder: Path
    kills: int = 0
    """That hit."""
    runs: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.journal = self.folder / "ferrylog.db"
        self.watch = Watch(self.journal)

    def __call__(self, *words: str | Path) -> str:
        """Its output. Raises `Lost` where it does not end with 0."""
        done = self.ended(*words)
        if done.returncode:
            raise Lost(f"{words[0]}: exit {done.returncode}: {done.stderr[-1500:]}")
        return done.stdout

    def ended(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        return program.ferrylog(*words, "--journal", self.journal, timeout_s=PATIENCE_S)

    def begin(self, *words: str | Path) -> "subprocess.Popen[bytes]":
        self.runs += 1
        with (self.folder / f"stderr-{self.runs}.log").open("wb") as log:
            return program.begin(*words, "--journal", self.journal, "-v", stderr=log)

    def _is_in_its_own_way(self, words: Sequence[str | Path]) -> bool:
        """A dump that was killed between taking its folder and the journal's first event: the
        folder, with nothing in it, has to be removed first, as it says."""
        if "EDUMP003" not in self.last_words():
            return False
        folder = Path(words[words.index("--out") + 1])
        assert not list(folder.rglob("*.flb")), folder
        shutil.rmtree(folder)
        return True

    def last_words(self) -> str:
        text = (self.folder / f"stderr-{self.runs}.log").read_text(errors="replace")
        return text[-2500:].strip()

    def last_seq(self) -> int:
        last = self.watch._select("AND seq = (SELECT max(seq) FROM events)", 0)
        return int(last[0][0]) if last else 0

    def saw(self, kind: str, behind: int) -> int:
        """How many events of a kind came behind that one."""
        return len(self.watch._select(f"AND kind = '{kind}'", behind))

    def to_its_end(
        self,
        words: Sequence[str | Path],
        shots: "Sequence[Shot]",
        look: Callable[[], object] = lambda: None,
        forgiven: Sequence[int] = (),
    ) -> None:
        """Begin, and resume behind each shot; `look` is called all the time.

        `forgiven`: exits behind which a resume is right. Raises `Lost`.
        """
        known, left = self.last_seq(), list(shots)
        while True:
            asked = ("resume",) if self.last_seq() > known else words
            process = self.begin(*asked)
            if self._shot(process, left, look):
                continue
            code = _wait(process, look)
            if code == 0:
                return
            if self.last_seq() == known and self._is_in_its_own_way(words):
                continue
            if code not in forgiven:
                raise Lost(f"{asked[0]}: exit {code}: {self.last_words()}")

    def _shot(
        self, process: "subprocess.Popen[bytes]", left: "list[Shot]", look: Callable[[], object]
    ) -> bool:
        while left and process.poll() is None:
            if left.pop(0).hits(process, look):
                self.kills += 1
                return True
        return False


def _wait(process: "subprocess.Popen[bytes]", look: Callable[[], object]) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        look()
        time.sleep(POLL_S)
        if time.monotonic() > deadline:
            process.kill()
            raise Lost(f"still running after {PATIENCE_S:.0f} s (I30)")
    return process.returncode


@dataclass
class Shot:
    """A kill: once `reached` says so, and a little later."""

    reached: Callable[[float], bool]
    """Of the seconds since the process began."""
    after_s: float = 0.0
    how: "Callable[[subprocess.Popen[bytes]], bool]" = field(
        default_factory=lambda: lambda process: process.kill() is None
    )
    """Whether the process is gone."""

    def hits(self, process: "subprocess.Popen[bytes]", look: Callable[[], object]) -> bool:
        began = time.monotonic()
        while process.poll() is None:
            look()
            if self.reached(time.monotonic() - began):
                time.sleep(self.after_s)
                if process.poll() is None and self.how(process):
                    process.wait()
                    return True
                return False
            time.sleep(POLL_S)
        return False


def at_second(seconds: float) -> Shot:
    return Shot(lambda passed: passed >= seconds)
