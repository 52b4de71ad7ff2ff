"""Journals that are cut, flipped, swapped, foreign or hostile, as every command meets them: a
refusal with a code and a remedy, or the very same answer; never a wrong state, no file changed."""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from ferrylog.cli import main
from journal.codec import link
from journal.lease import Lease
from journal.sqlite import SqliteJournal
from tests.ferrylog.histories import JOB, two_failures_and_a_kill
from tests.journal.test_forensics import alter
from tests.journal.test_sqlite import closed

LOOKS = (
    ("status",),
    ("jobs",),
    ("replay", "--check"),
    ("inspect", "events"),
    ("inspect", "timeline"),
    ("inspect", "explain", "shop.orders#1"),
    ("inspect", "check"),
    ("inspect", "export", "--out", "evidence"),
    ("jobs", "backup", "backup"),
    ("pause",),
)
RUNS = (("resume", "--source", "mongodb://127.0.0.1:1", "--target", "mongodb://127.0.0.1:2"),)
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "ferrylog.db"
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
def cli(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    monkeypatch.setenv("FERRYLOG_JOURNAL", str(path))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        for made in ("evidence", "backup", "backup.tip"):
            Path(made).unlink(missing_ok=True)
        monkeypatch.setattr("sys.argv", ["ferrylog", *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, said.out, said.err

    return run


def files(path: Path, *, tip: bool = True) -> dict[str, bytes]:
    """The journal's own files; SQLite's -shm holds nothing, the lease is a lock."""
    others = ("-shm", ".lease") if tip else ("-shm", ".lease", ".tip")
    return {
        file.name: file.read_bytes()
        for file in path.parent.glob("ferrylog.db*")
        if file.is_file() and not file.name.endswith(others)
    }


def nothing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("hello, this is no database at all\n" * 200)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def anothers(path: Path) -> None:
    path.unlink()
    with apsw.Connection(str(path)) as db:
        db.execute("CREATE TABLE events (x); PRAGMA user_version = 1")
    path.chmod(0o600)


def later_format(path: Path) -> None:
    with apsw.Connection(str(path)) as db:
        db.execute("PRAGMA user_version = 99")


def open_to_others(path: Path) -> None:
    path.chmod(0o644)


def no_tip(path: Path) -> None:
    Path(f"{path}.tip").unlink()


def anothers_tip(path: Path) -> None:
    other = path.parent / "other.db"
    closed(other, 1000)
    shutil.copy(f"{other}.tip", f"{path}.tip")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def end_removed(path: Path) -> None:
    alter(path, "DELETE FROM events WHERE seq > (SELECT max(seq) - 3 FROM events)")


def middle_removed(path: Path) -> None:
    alter(path, "DELETE FROM events WHERE seq = 20")


def swapped(path: Path) -> None:
    alter(
        path,
        "UPDATE events SET version = -version WHERE version IN (20, 21)",
        "UPDATE events SET version = 41 + version WHERE version < 0",
    )


def changed(path: Path) -> None:
    alter(path, "UPDATE events SET data = CAST(replace(data, '1', '2') AS BLOB) WHERE seq = 20")


def retold(path: Path) -> None:
    """Every hash after the change made anew, but the tip knows the old last one."""
    with apsw.Connection(str(path)) as db:
        rows = db.execute("SELECT * FROM events ORDER BY seq").fetchall()
    before, statements = bytes(32), []
    for seq, job, version, epoch, at_ms, kind, entity, data, _ in rows:
        told = data.replace(b"ann", b"eve") if seq == 1 else data
        before = link(before, job.encode(), version, epoch, at_ms, kind, entity, told)
        statements.append(
            f"UPDATE events SET data = x'{told.hex()}', hash = x'{before.hex()}' WHERE seq = {seq}"
        )
    alter(path, *statements)


def hostile(path: Path, kind: str, data: bytes, entity: str = "job") -> None:
    """Appended by somebody who knows the format, with a right hash and tip."""
    with apsw.Connection(str(path)) as db:
        seq, version, epoch, at_ms, before = db.execute(
            "SELECT seq, version, epoch, recorded_at_ms, hash FROM events ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        new = link(before, JOB.encode(), version + 1, epoch, at_ms, kind, entity, data)
        db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (seq + 1, JOB, version + 1, epoch, at_ms, kind, entity, data, new),
        )
    SqliteJournal.renew_tip(path)


def unknown_kind(path: Path) -> None:
    hostile(path, "job_teleported", b"{}")


def later_shape(path: Path) -> None:
    hostile(path, "job_paused", b'{"shape":7}')


def no_json(path: Path) -> None:
    hostile(path, "job_paused", b"\xff\x00\x1b[31m")


def deep(path: Path) -> None:
    hostile(path, "job_failed", b'{"code":' + b"[" * 100_000)


def impossible(path: Path) -> None:
    """A whole event that the tables do not allow: a resume of a job that has ended."""
    hostile(path, "job_resumed", b'{"by":"\\u001b[31mme"}')


REFUSED = (
    (nothing, "EJOURNAL007"),
    (empty, "EJOURNAL007"),
    (text, "EJOURNAL001"),
    (folder, "EJOURNAL001"),
    (pipe, "EJOURNAL001"),
    (anothers, "EJOURNAL001"),
    (later_format, "EJOURNAL002"),
    (open_to_others, "EJOURNAL007"),
    (no_tip, "EJOURNAL006"),
    (anothers_tip, "EJOURNAL005"),
    (cut, "EJOURNAL004"),
    (end_removed, "EJOURNAL005"),
    (retold, "EJOURNAL004"),
)
"""Found at opening: every command refuses, with this code."""
FOUND = (
    (middle_removed, "EJOURNAL004"),
    (swapped, "EJOURNAL004"),
    (changed, "EJOURNAL004"),
    (unknown_kind, "EJOURNAL011"),
    (later_shape, "EJOURNAL011"),
    (no_json, "EJOURNAL011"),
    (deep, "EJOURNAL011"),
    (impossible, "EBUG001"),
)
"""Found by who reads that event: refused by what needs it, checked by `inspect check`."""


@pytest.mark.parametrize(
    ("ruin", "code"), REFUSED, ids=lambda each: getattr(each, "__name__", each)
)
def test_refused_at_opening(cli: Cli, path: Path, ruin: Callable[[Path], None], code: str) -> None:
    """P10, §5 36-38: the same refusal by every command, and nothing is touched."""
    ruin(path)
    before = files(path)
    for words in (*LOOKS, *RUNS):
        exit_code, out, err = cli(*words)
        assert exit_code in (1, 2, 4), (words, err)
        assert f"[{code}]" in err, (words, err)
        assert "→" in err, words
        assert "Traceback" not in err
        if words != ("inspect", "check"):
            assert not out, words
        assert files(path) == before, words
        assert not Path("evidence").exists()


@pytest.mark.parametrize(("ruin", "code"), FOUND, ids=lambda each: getattr(each, "__name__", each))
def test_found_by_who_reads_it(
    cli: Cli, path: Path, ruin: Callable[[Path], None], code: str
) -> None:
    """P10, I2, I11, §5 37: no command makes a state of it."""
    ruin(path)
    before = files(path, tip=False)  # opening to append writes what it says once more
    for words in (("status",), ("jobs",), ("replay",), ("replay", "--check"), *RUNS):
        exit_code, out, err = cli(*words)
        assert exit_code in (4, 70, 1), (words, err)
        assert f"[{code}]" in err, (words, err)
        assert not out
        assert "\x1b" not in err
    exit_code, out, err = cli("inspect", "check", "--json")
    assert exit_code == 4, (out, err)
    assert json.loads(out.splitlines()[0])["intact"] is False
    exit_code, out, err = cli("inspect", "events", "--forensic")
    assert exit_code == (0 if ruin is impossible else 4)  # each row by itself is whole
    assert out
    assert "\x1b" not in out + err
    assert files(path, tip=False) == before


def test_no_flipped_bit_gives_a_wrong_state(cli: Cli, path: Path) -> None:
    """I2, §5 37: refused, or the very same answer."""
    good = cli("replay", "--json")
    whole, draw = path.read_bytes(), random.Random(7)
    tally = {"refused": 0, "same": 0}
    for _ in range(120):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        answer = cli("replay", "--json")
        if answer == good:
            tally["same"] += 1
        else:
            assert answer[0] in (1, 2, 4), answer[2]
            tally["refused"] += 1
    print(tally)
    assert tally["refused"] > 20


def test_held_by_another_run(cli: Cli, path: Path) -> None:
    """§5 39: looking goes on, running does not; the holder is named."""
    with Lease(path, host="elsewhere", since="noon"):
        for words in LOOKS[:-1]:
            assert cli(*words)[0] == 0, words
        for words in (*RUNS, ("jobs", "export", JOB)):
            exit_code, _, err = cli(*words)
            assert exit_code == 7
            assert "[EJOURNAL003]" in err
            assert "elsewhere since noon" in err


def test_sizes_that_lie(cli: Cli, path: Path) -> None:
    """§5 36: a header that promises more pages than the file has."""
    raw = bytearray(path.read_bytes())
    raw[28:32] = struct.pack(">I", 10_000)
    path.write_bytes(raw)
    for words in (("status",), ("inspect", "check")):
        exit_code, _, err = cli(*words)
        assert exit_code in (0, 4), err
        assert "Traceback" not in err
