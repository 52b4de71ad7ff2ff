"""`ferrylog inspect` as it is typed: what it prints, how it ends, what a terminal is spared."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

from ferrylog import clock
from ferrylog.cli import main
from ferrylog.engine import Engine
from journal.sqlite import SqliteJournal
from statemachine.stimuli import PauseAsked, RequeueAsked, StopAsked
from statemachine.words import Cause, Millis, TaskKind
from tests.ferrylog import histories
from tests.ferrylog.histories import (
    BEGIN,
    CHUNK,
    JOB,
    KILLED,
    Play,
    failed,
    rejecting,
    two_failures_and_a_kill,
)
from tests.journal.test_forensics import alter

OTHER = "shop.customers#0"


@dataclass
class Said:
    code: int
    out: str
    err: str

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def document(self) -> Any:
        return json.loads(self.out)


Ask = Callable[..., Said]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inspect") / "ferrylog.db"
    two_failures_and_a_kill(path)
    with apsw.Connection(str(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "ferrylog.db"
    for end in ("", ".tip"):
        shutil.copy(f"{whole}{end}", f"{copy}{end}")
    return copy


@pytest.fixture
def ask(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    monkeypatch.setattr(clock, "now_ms", lambda: Millis(BEGIN + 60_000))
    monkeypatch.setenv("FERRYLOG_JOURNAL", str(path))

    def ask(*words: str) -> Said:
        monkeypatch.setattr("sys.argv", ["ferrylog", "inspect", *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capsys.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        assert code != 70, said.err
        return Said(code, said.out, said.err)

    return ask


# --- events ---


def test_events_in_the_order_of_seq(ask: Ask, path: Path) -> None:
    """I45: every event once, with every field that checks rely on."""
    lines = ask("events", "--json").lines()
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    fields = {"seq", "job", "epoch", "recorded_at", "kind", "entity", "data", "hash"}
    assert all(set(line) == fields for line in lines)
    with SqliteJournal.read_only(path) as journal:
        for line, recorded in zip(lines, journal.read(JOB), strict=True):
            assert line["hash"] == recorded.hash.hex()
            line["data"].pop("shape", None)  # of the fields, where there were others once
            assert line["data"] == recorded.event.model_dump(mode="json", exclude={"kind"})
    assert len(ask("events").out.splitlines()) == len(lines)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--entity", CHUNK), lambda e: e["entity"] == CHUNK),
        (("--entity", "shop.orders"), lambda e: e["entity"].startswith("shop.orders")),
        (("--kind", "*_retry_scheduled"), lambda e: e["kind"].endswith("_retry_scheduled")),
        (("--epoch", "2"), lambda e: e["epoch"] == 2),
        (("--after", "20", "--until-seq", "30"), lambda e: 20 < e["seq"] <= 30),
        (("--since", "-55s"), lambda e: e["recorded_at"] >= "2026-11-22T14:30:05"),
        (("--until", "2026-11-22T16:30:05+02:00"),
         lambda e: e["recorded_at"] < "2026-11-22T14:30:05"),
        (("--entity", CHUNK, "--kind", "restore_*", "--epoch", "1", "--since", "2026-11-22"),
         lambda e: e["entity"] == CHUNK and e["kind"].startswith("restore") and e["epoch"] == 1),
    ],
)  # fmt: skip
def test_filters(ask: Ask, words: tuple[str, ...], expected: Callable[[Any], bool]) -> None:
    """I45: alone and together; `--tail` is the end of the same answer, `--limit` its beginning."""
    chosen = [line for line in ask("events", "--json").lines() if expected(line)]
    assert chosen
    assert ask("events", "--json", *words).lines() == chosen
    assert ask("events", "--json", *words, "--tail", "3").lines() == chosen[-3:]
    assert ask("events", "--json", *words, "--limit", "2").lines() == chosen[:2]
    assert ask("events", "--json", "--forensic", *words).code == 0
    forensic = ask("events", "--json", "--forensic", *words, "--tail", "3").lines()
    assert [line["hash"] for line in forensic] == [line["hash"] for line in chosen[-3:]]
    assert all(line["intact"] for line in forensic)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--entity", "shop.order"), "did you mean shop.orders"),
        (("--kind", "dump_complete"), "did you mean dump_completed"),
        (("--since", "yesterday"), "2026-11-22T14:30:00Z"),
        (("nobody",), "ferrylog jobs"),
    ],
)
def test_what_is_not_there_is_a_mistake(ask: Ask, words: tuple[str, ...], said: str) -> None:
    """Exit 2, with the way out."""
    answer = ask("events", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


# --- damage ---

DAMAGE = (
    ("UPDATE events SET epoch = 9 WHERE seq = 40", "does not match its hash", 40, 39),
    ("DELETE FROM events WHERE seq = 40", "seq 40 is missing", 41, 39),
    ("UPDATE events SET kind = 'x' || char(27) || '[2J' WHERE seq = 40", "no event", 40, 39),
)


@pytest.mark.parametrize(("sql", "fault", "bad", "good"), DAMAGE)
def test_a_damaged_row(ask: Ask, path: Path, sql: str, fault: str, bad: int, good: int) -> None:
    """I3, bad input 37: refused by every look but the forensic one, which marks it; `check` names
    the first bad event and the last good one, in the document too."""
    alter(path, sql)
    assert ask("events", "--json").code == 4
    shown = ask("events", "--forensic", "--json")
    lines = shown.lines()
    assert shown.code == 4
    assert lines[-1]["schema"] == "ferrylog.error/1"
    marked = [line for line in lines[:-1] if not line["intact"]]
    assert marked[0]["seq"] == bad
    assert any(fault in each for line in marked for each in line["faults"])
    assert ask("events", "--forensic", "--limit", "1", "--quiet").code == 4, "it is over all"
    text = ask("events", "--forensic")
    assert text.code == 4
    assert text.out.count("DAMAGED") == len(marked)
    assert "\x1b" not in text.out + text.err
    assert f"seq {bad}" in text.err
    checked = ask("check", "--json")
    report = checked.document()
    assert checked.code == 4
    assert (report["schema"], report["intact"]) == ("ferrylog.check-journal/1", False)
    assert report["first_bad"]["event"]["seq"] == bad
    assert set(report["first_bad"]["event"]) >= {"seq", "job", "version", "kind", "entity"}
    assert report["last_good"]["seq"] == good
    assert report["findings"][0]["code"] == "EJOURNAL004"
    human = ask("check")
    assert human.code == 4
    assert f"first bad event: seq {bad}" in human.out
    assert f"last good event: seq {good}" in human.out
    assert "error [EJOURNAL004]" in human.err
    assert "\x1b" not in human.out + human.err


@pytest.mark.parametrize("lost", ["end", "tip"])
def test_an_old_copy_or_no_tip(ask: Ask, path: Path, lost: str) -> None:
    """I4, bad input 38: refused; forensics shows all that is there, then says why not."""
    if lost == "end":
        alter(path, "DELETE FROM events WHERE seq > 60")
    else:
        Path(f"{path}.tip").unlink()
    code = "EJOURNAL005" if lost == "end" else "EJOURNAL006"
    for words in (("events",), ("timeline",), ("explain", CHUNK)):
        refused = ask(*words)
        assert (refused.code, refused.out) == (4, "")
        assert code in refused.err
    shown = ask("events", "--forensic", "--json")
    assert shown.code == 4
    assert shown.lines()[-1]["code"] == code
    assert all(line["intact"] for line in shown.lines()[:-1])
    assert len(shown.lines()) == (61 if lost == "end" else 80)
    report = ask("check", "--json").document()
    assert (report["tip"], report["order"]) == ("damaged", "intact")
    assert report["findings"][0]["code"] == code


def test_a_whole_journal_is_checked_aloud(ask: Ask) -> None:
    """I2: what was verified, with the hash that stands for all of it."""
    report = ask("check", "--json").document()
    assert report["intact"]
    assert (report["pages"], report["order"], report["tip"]) == ("intact", "intact", "intact")
    assert report["chains"] == [
        {"job": JOB, "events": 79, "last_seq": 79, "hash": report["chains"][0]["hash"]}
    ]
    said = ask("check")
    assert said.code == 0
    assert "79 events of 1 jobs, no damage" in said.out


def test_hostile_names_do_not_command_a_terminal(ask: Ask, path: Path) -> None:
    """Names come from servers: shown, never obeyed, in every view, damaged or not."""
    alter(
        path,
        "UPDATE events SET entity = 'a' || char(27, 8238, 10, 7) || 'b#0' WHERE seq = 30",
        "UPDATE events SET data = CAST('{\"x\":\"' || char(27, 8238) || '\"}' AS BLOB) "
        "WHERE seq = 31",
        "UPDATE events SET data = x'ff1b5b324a' WHERE seq = 32",
    )
    for words in (("events", "--forensic"), ("events", "--forensic", "--json"), ("check",)):
        said = ask(*words)
        assert said.code == 4
        assert not set(said.out + said.err) & {"\x1b", "\x07", "\u202e"}
    lines = ask("events", "--forensic", "--json").lines()
    assert lines[31]["data_hex"] == "ff1b5b324a"
    assert "hex ff1b5b324a" in ask("events", "--forensic").out


def test_hostile_collections_do_not_command_a_terminal(
    ask: Ask, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that a server really has, in a journal that nothing is wrong with."""
    name = "a\x1b[2J.b\n\u202e\x9bc"
    for file in path.parent.iterdir():
        file.unlink()
    monkeypatch.setattr(histories, "UNITS", (name,))
    Play(path, {}).run()
    looks = (
        ("events",), ("events", "--json"), ("timeline",), ("timeline", "--json"), ("check",),
        ("explain", f"{name}#0"), ("explain", f"{name}#0", "--json"), ("explain", name),
        ("explain", f"{name}@when_1"), ("explain", f"{name}#9"), ("diff", JOB, JOB),
        ("diff", JOB, JOB, "--json"), ("events", "--forensic"), ("events", "--entity", name),
    )  # fmt: skip
    for words in looks:
        said = ask(*words)
        assert said.code == (2 if f"{name}#9" in words else 0), said.err
        assert not set(said.out + said.err) & {"\x1b", "\x9b", "\u202e"}, words


# --- timeline ---


def test_a_timeline(ask: Ask) -> None:
    """A killed run and one that came to the end; each unit, stage by stage."""
    report = ask("timeline", "--json").document()
    assert report["schema"] == "ferrylog.timeline/1"
    assert [(run["epoch"], run["pid"], run["end"]) for run in report["runs"]] == [
        (1, 4711, "gone"),
        (2, 4712, "completed"),
    ]
    orders, customers = report["units"]
    assert (orders["namespace"], orders["status"]) == ("shop.orders", "completed")
    stages = {stage["stage"]: stage for stage in orders["stages"]}
    assert list(stages) == ["create", "plan", "dump", "restore", "index", "verify"]
    assert (stages["dump"]["completed"], stages["restore"]["started"]) == (3, 6)
    assert (stages["restore"]["retries"], stages["restore"]["lost"]) == (2, 1)
    assert customers["status"] == "completed"
    assert report["events"] == 79
    silences = ask("timeline", "--silence", "1", "--json").document()["silences"]
    assert [each["duration_ms"] for each in silences] == [1000, 1170, 2000]
    assert ask("timeline", "--silence", "3", "--json").document()["silences_total"] == 0, (
        "nobody was there between two runs"
    )
    text = ask("timeline", "--silence", "1").out
    assert "gone without a word" in text
    assert "silence: no event for 2.0 s after seq" in text
    assert max(map(len, text.splitlines())) <= 160
    assert text.splitlines()[4].isascii()


def test_pauses_and_a_clock_that_goes_back(ask: Ask, path: Path) -> None:
    """Bad input 47: order by seq, a warning where the clock went back, no duration below 0."""
    for file in path.parent.iterdir():
        file.unlink()
    full = failed(Cause.FATAL, "EDISK001", "no space left")
    script = {(TaskKind.DUMP, CHUNK, 1): [(10, full)], (TaskKind.DUMP, OTHER, 1): [(900, KILLED)]}
    Play(path, script, leaps={2: -3_600_000}).run()
    report = ask("timeline", "--json").document()
    assert [run["end"] for run in report["runs"]] == ["paused", "gone", "completed"]
    assert report["pauses"][0]["by"] == "ferrylog"
    assert "no space left" in report["pauses"][0]["why"]
    (back,) = report["steps_back"]
    assert 3_500_000 < back["by_ms"] < 3_600_000
    durations = [run["duration_ms"] for run in report["runs"]]
    durations += [stage["duration_ms"] for unit in report["units"] for stage in unit["stages"]]
    assert min(durations) >= 0
    assert "warning: the clock went back by" in ask("timeline").out


def test_stops_and_what_was_opened_again(ask: Ask, path: Path) -> None:
    """M2, A34: a stop is a rest by another word; a run after a requeue has something to do."""
    for file in path.parent.iterdir():
        file.unlink()
    wishes = [
        (350, PauseAsked("ben@desk", "lunch", 1)),
        (360, StopAsked("ben@desk", "enough", 2, immediate=True)),
    ]
    script = {(TaskKind.RESTORE, CHUNK, 2): [(10, rejecting(12))]}
    script |= {(TaskKind.RESTORE, CHUNK, 1): [(10, rejecting(12))]}
    play = Play(path, script, wishes=wishes)  # type: ignore[arg-type]
    play.run()
    with SqliteJournal.create(path) as journal:
        Engine(journal, JOB).turn([RequeueAsked("ben@desk", CHUNK)], now=Millis(play.now))
    assert ask("timeline", "--json").document()["units"][0]["status"] == "unfinished"
    play.run()
    report = ask("timeline", "--json").document()
    assert [run["end"] for run in report["runs"]] == ["stopped", "completed", "completed"]
    assert [(each["what"], each["why"]) for each in report["pauses"]] == [
        ("pause", "lunch"),
        ("stop", "enough"),
    ]
    assert report["units"][0]["status"] == "completed"
    assert "stop: asked for" in ask("timeline").out


# --- diff ---


def test_two_jobs_side_by_side(ask: Ask, tmp_path: Path) -> None:
    """What differs is marked; comparing is no judgement: exit 0."""
    other = tmp_path / "other.db"
    Play(other, {}).run()
    said = ask("diff", JOB, JOB, "--other-journal", str(other), "--json")
    report = said.document()
    assert (said.code, report["schema"]) == (0, "ferrylog.diff/1")
    rows = {(row["section"], row["name"]): row for row in report["rows"]}
    assert (rows["result", "retries"]["a"], rows["result", "retries"]["b"]) == (2, 0)
    assert (rows["result", "runs"]["a"], rows["result", "runs"]["b"]) == (2, 1)
    assert rows["result", "runs"]["differs"]
    assert not rows["spec", "source"]["differs"]
    assert rows["unit shop.orders", "restore_started"]["a"] == 6
    assert report["differing"] == sum(row["differs"] for row in report["rows"]) > 0
    text = ask("diff", JOB, JOB, "--other-journal", str(other))
    assert "* " in text.out
    same = ask("diff", JOB, JOB, "--json").document()
    assert same["differing"] == 0
    assert ask("diff", JOB, "nobody").code == 2


def test_every_view_is_json_too(ask: Ask) -> None:
    """One document each, named by its schema."""
    assert ask("explain", CHUNK, "--json").document()["schema"] == "ferrylog.explain/1"
    for words in (("timeline",), ("explain", "job"), ("diff", JOB, JOB), ("check",)):
        assert ask(*words, "--json").document()["schema"].startswith("ferrylog.")


# --- anything at all ---

COLUMNS = {
    "seq": ("seq + 500", "-3"),
    "job": ("'other'", "''", "char(27)"),
    "version": ("version + 500", "0", "-1"),
    "epoch": ("9", "-1", "0"),
    "recorded_at_ms": ("9223372036854775807", "-9223372036854775808", "0"),
    "kind": ("'job_completed'", "'run_started'", "'x'", "'plan_completed'"),
    "entity": ("'job'", "'shop.orders'", "'shop.orders#1'", "''", "'#'", "'@'"),
    "data": ("CAST('{}' AS BLOB)", "x''", "x'ff'", "CAST('[' AS BLOB)"),
    "hash": ("x''", "zeroblob(32)"),
}


@pytest.mark.parametrize("seed", range(40))
def test_one_altered_row_is_no_bug_of_ours(ask: Ask, path: Path, whole: Path, seed: int) -> None:
    """I3: each view tells what it can prove, or refuses with exit 4; never anything else."""
    lots = random.Random(seed)
    column = lots.choice(list(COLUMNS))
    row = lots.choice((1, 2, 3, *range(1, 80)))
    value = lots.choice(COLUMNS[column])
    alter(path, f"UPDATE events SET {column} = {value} WHERE seq = {row} AND {column} <> {value}")
    for words in (
        ("timeline",), ("explain", CHUNK), ("explain", "shop.orders"), ("explain", "job"),
        ("explain", "shop.orders@when_1"), ("events", "--entity", "shop.orders"),
        ("events", "--since", "-1d", "--tail", "5"), ("diff", JOB, JOB),
    ):  # fmt: skip
        said = ask(*words)
        assert said.code in (0, 2, 4), (words, said)
    with apsw.Connection(str(path)) as db, apsw.Connection(str(whole)) as before:
        everything = "SELECT * FROM events ORDER BY seq"
        altered = db.execute(everything).fetchall() != before.execute(everything).fetchall()
    assert ask("check").code == (4 if altered else 0)
    assert ask("events", "--forensic").code == (4 if altered else 0)
