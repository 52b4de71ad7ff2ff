"""A job as it goes, from another terminal: only looked at, and only what is new is read."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest

from ferrylog import clock
from ferrylog.cli import watch as module
from ferrylog.past import Past
from ferrylog.views.model import status_report
from ferrylog.views.told import told
from ferrylog.views.watch import Active, Pace, dashboard, unicode_bar
from journal.lease import Lease
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.stimuli import PauseAsked
from statemachine.words import Cause, TaskKind
from tests.ferrylog.histories import CHUNK, JOB, Play, failed, rejecting
from tests.ferrylog.saying import Say, say_with

ROOT = Path(__file__).parent.parent.parent
CUT = failed(Cause.TRANSIENT, "ECONN003", "connection to the target was cut")
STEP = 9
"""Events that arrive between two looks."""


class Growing:
    """A journal into which another process writes while somebody sleeps."""

    def __init__(self, path: Path, records: list[Recorded]) -> None:
        self.path = path
        self._records = iter(records)
        self.now_s = 0.0
        self.killed_s = float("inf")
        self._lease: Lease | None = Lease(path, host="h", since="now")
        self.more(STEP)

    def more(self, count: int) -> None:
        with SqliteJournal.create(self.path) as journal:
            for recorded in islice(self._records, count):
                journal.append(
                    JOB,
                    [recorded.event],
                    expected=recorded.version - 1,
                    epoch=recorded.epoch,
                    at_ms=recorded.recorded_at_ms,
                )

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s
        if self.now_s < self.killed_s:
            self.more(STEP)
        else:
            self.end()

    def end(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None


Grow = Callable[..., Growing]


@pytest.fixture
def grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Grow]:
    begun: list[Growing] = []

    def grown(play: Play) -> Growing:
        play.once()
        with SqliteJournal.read_only(play.path) as journal:
            growing = Growing(tmp_path / "ferrylog.db", list(journal.read(JOB)))
        begun.append(growing)
        monkeypatch.setattr(clock, "sleep_s", growing.sleep)
        monkeypatch.setattr(clock, "monotonic_s", lambda: growing.now_s)
        return growing

    yield grown
    for growing in begun:
        growing.end()


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_with(tmp_path / "ferrylog.db", monkeypatch, capsys)


def test_documents_as_it_goes(
    grow: Grow, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F5: one status for each change, a second apart at least; the whole past is folded once."""
    grow(Play(tmp_path / "play.db", {(TaskKind.RESTORE, CHUNK, 1): [(10, CUT)]}))
    read: list[int] = []
    pages = SqliteJournal.pages

    def watched(self: SqliteJournal, job: str, **words: int) -> object:
        read.append(words["after"])
        return pages(self, job, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteJournal, "pages", watched)
    said = say("watch", "--json")
    assert said.code == 0
    lines = said.lines()
    assert all(line["schema"] == "ferrylog.status/1" for line in lines)
    seqs = [line["last_seq"] for line in lines]
    assert seqs == sorted(set(seqs))
    assert all(later - seq >= 4 * STEP for seq, later in pairwise(seqs[:-1]))
    assert lines[-1]["status"] == "completed"
    assert read == sorted(read)
    assert read.count(0) == 1


def test_lines_where_nothing_can_be_drawn(grow: Grow, say: Say, tmp_path: Path) -> None:
    """Not a terminal: a line now and then; it ends with the job's exit code."""
    grow(Play(tmp_path / "play.db", {(TaskKind.RESTORE, CHUNK, 1): [(10, rejecting(12))]}))
    said = say("watch")
    assert said.code == 3
    first, *_, last = said.out.splitlines()
    assert "running  plan" in first
    assert "completed  done  100.0 %" in last
    assert "\x1b" not in said.out


def test_a_job_that_comes_to_rest(grow: Grow, say: Say, tmp_path: Path) -> None:
    """A18: ends with 5 and says how to go on."""
    wishes = [(450, PauseAsked("ben@desk", "lunch", 1))]
    grow(Play(tmp_path / "play.db", {}, wishes=wishes))  # type: ignore[arg-type]
    said = say("watch", JOB)
    assert said.code == 5
    path = tmp_path / "ferrylog.db"
    assert f"resume with: ferrylog resume {JOB} --journal {path}" in said.err


def test_a_job_that_is_killed(grow: Grow, say: Say, tmp_path: Path) -> None:
    """Nothing more will come: that is said, and how to go on."""
    grow(Play(tmp_path / "play.db", {})).killed_s = 1.5
    said = say("watch", "--json")
    assert said.code == 5
    assert [line["running"] for line in said.lines()][-2:] == [True, False]
    assert "the job is running, and no process runs it" in said.err
    assert f"resume with: ferrylog resume {JOB}" in said.err


def test_leaving_touches_nothing(
    grow: Grow, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the looking with 0; the journal is as it was."""
    growing = grow(Play(tmp_path / "play.db", {}))
    before = growing.path.read_bytes()

    def leave(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep_s", leave)
    assert say("watch").code == 0
    assert growing.path.read_bytes() == before
    assert not Path(f"{growing.path}.inbox").exists()


# --- one screen ---


def looks(path: Path) -> Iterator[tuple[Past, list[Active], list[str]]]:
    pace = Pace()
    with SqliteJournal.read_only(path) as journal:
        for at_s, recorded in enumerate(journal.read(JOB)):
            past = Past().follow(journal.pages(JOB, to_seq=recorded.seq))
            report = status_report(JOB, past, running=True, told=told(journal, JOB, past))
            percents = {unit.namespace: unit.percent for unit in report.units}
            active = pace.look(past.state, percents, float(at_s))
            yield past, active, dashboard(report, active, width=90, height=16)


def test_it_fits_the_screen(tmp_path: Path) -> None:
    """F5: overall and by phase, rates, workers, retries, and the units at work."""
    path = tmp_path / "ferrylog.db"
    Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(10, CUT)]}).run()
    everything = ""
    for _, active, lines in looks(path):
        assert len(lines) <= 16
        assert max(map(len, lines)) <= 90
        assert [unit.at_work for unit in active] == sorted(
            (unit.at_work for unit in active), reverse=True
        )
        everything += "\n".join(lines)
    for part in (
        "dump ", "restore ", "index ", "verify ", "weighs 33 %", "docs/s now", "at best",
        "1 retry", "dump pool: 2 of 2 busy", "shop.orders", "2 at work", "100.0 %",
    ):  # fmt: skip
        assert part in everything, part


def test_many_units_share_what_room_is_left(tmp_path: Path) -> None:
    path = tmp_path / "ferrylog.db"
    Play(path, {}).run()
    with SqliteJournal.read_only(path) as journal:
        report = status_report(JOB, Past().follow(journal.pages(JOB)), running=False)
    active = [Active(f"a\x1b[2J.{n}", 50.0, 1, 9.0) for n in range(1000)]
    for height in range(1, 40):
        lines = dashboard(report, active, width=60, height=height)
        assert len(lines) <= height
        assert "\x1b" not in "".join(lines)
        shown = sum(
            "1 at work" in line for line in dashboard(report, active, width=120, height=height)
        )
        assert height < 14 or shown >= height - 13


def test_a_bar_to_the_eighth() -> None:
    assert unicode_bar(0, 4) == "│    │"
    assert unicode_bar(50, 4) == "│██  │"
    assert unicode_bar(53.2, 4) == "│██▏ │"
    assert unicode_bar(100, 4) == "│████│"
    assert unicode_bar(250, 4) == "│████│"


@pytest.mark.parametrize("colour", [True, False])
def test_on_a_terminal(tmp_path: Path, *, colour: bool) -> None:
    """A screen that is drawn anew and left with the cursor back; NO_COLOR is honoured."""
    path = tmp_path / "ferrylog.db"
    Play(path, {}).run()
    main_end, end = pty.openpty()
    words = [sys.executable, "-m", "ferrylog", "watch", "--journal", str(path)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    environment |= {} if colour else {"NO_COLOR": "1"}
    with subprocess.Popen(words, stdout=end, cwd=ROOT, env=environment) as program:
        os.close(end)
        shown = b""
        while True:
            try:
                shown += os.read(main_end, 65536)
            except OSError:
                break
    os.close(main_end)
    assert program.returncode == 0
    text = shown.decode()
    assert f"job {JOB}" in text
    assert "█" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", text), "nothing needs a colour"
    assert module.watch.__doc__
