"""Dead letters on real servers: one document that is refused, and what becomes of all others."""

import json
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection

from tests.conftest import Pair
from tests.end_to_end.forwarder import Forwarder
from tests.end_to_end.test_main_job import FERRYLOG, Terminal

pytestmark = pytest.mark.server

Documents = dict[Any, bytes]
DOCUMENTS = 100_000
POISON = (31_000, 87_654)
"""Two documents with one e-mail address."""
MARKER = "what-kills"
MAX_DEATHS = 60
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Terminal:
    return Terminal(tmp_path, pair)


def people(client: MongoClient[dict[str, Any]]) -> Collection[dict[str, Any]]:
    return client.shop.people


def documents(client: MongoClient[dict[str, Any]]) -> Documents:
    """All people by `_id`, to the byte."""
    found = people(client).with_options(codec_options=RAW).find()
    return {each["_id"]: bytes(each.raw) for each in found}


def letters(terminal: Terminal, job: str) -> list[dict[str, Any]]:
    report = terminal.json("dead-letters", "list", job)
    assert report["schema"] == "ferrylog.dead-letters/1"
    assert report["unnamed"] == 0
    return list(report["letters"])


def spools(terminal: Terminal) -> list[Path]:
    return sorted(Path(f"{terminal.journal}.d").rglob("*.bson"))


def the_job(terminal: Terminal) -> str:
    (job,) = terminal.json("jobs")["jobs"]
    return str(job["job"])


@pytest.mark.deep
def test_one_refused_among_a_hundred_thousand(terminal: Terminal, pair: Pair) -> None:
    """A8, A34, P10, I22: all others are carried, the one is named, shown whole, kept whole; when
    its cause is gone it is carried too, and no copy of it stays behind."""
    for start in range(0, DOCUMENTS, 20_000):
        people(pair.source_client).insert_many(
            {"_id": n, "mail": f"{n}@example.org", "text": "x" * (n % 50)}
            for n in range(start, start + 20_000)
        )
    people(pair.source_client).update_one(
        {"_id": POISON[1]}, {"$set": {"mail": f"{POISON[0]}@example.org"}}
    )
    people(pair.target_client).create_index("mail", unique=True)

    done = terminal("start", "--chunk-docs", "10000")
    assert done.returncode == 3, done.stderr
    job = the_job(terminal)
    source, target = documents(pair.source_client), documents(pair.target_client)
    (missing,) = source.keys() - target.keys()
    assert missing in POISON
    assert {key: raw for key, raw in source.items() if key != missing} == target

    (letter,) = letters(terminal, job)
    assert letter["level"] == "document"
    assert letter["state"] == "rejected"
    assert json_util.loads(letter["_id"]) == missing
    assert (letter["code"], letter["attempts"]) == ("EMONGO11000", 1)
    assert letter["namespace"] == "shop.people"
    assert "@example.org" not in json.dumps(letter), "I45: values are nobody's business"
    _must_show(terminal, letter, source[missing])

    # Before the cause is removed: the same once more.
    assert terminal(*_words(letter["requeue"])).returncode == 0
    again = terminal("resume", job)
    assert again.returncode == 3, again.stderr
    (second,) = letters(terminal, job)
    assert second["_id"] == letter["_id"]
    assert second["id"] > letter["id"]
    gone = terminal("dead-letters", "requeue", str(letter["id"]))
    assert (gone.returncode, "EDEAD002" in gone.stderr) == (2, True)
    _must_show(terminal, second, source[missing])
    assert [path.stem for path in spools(terminal)] == [second["chunk"].partition("#")[2]]

    people(pair.target_client).drop_index("mail_1")
    assert terminal(*_words(second["requeue"])).returncode == 0
    done = terminal("resume", job)
    assert done.returncode == 0, done.stderr
    assert documents(pair.target_client) == source
    assert letters(terminal, job) == []
    assert not Path(f"{terminal.journal}.d").exists(), "no copy of it stays behind"
    assert terminal("verify").returncode == 0
    _must_be_told(terminal, job, letter, second)


def _must_show(terminal: Terminal, letter: dict[str, Any], raw: bytes) -> None:
    """As Extended JSON, as raw BSON to the byte, and to people."""
    number = str(letter["id"])
    shown = terminal.json("dead-letters", "show", number)
    assert shown["letter"] == letter
    assert bson.encode(json_util.loads(shown["document"])) == raw
    assert Path(shown["file"]).read_bytes() == raw
    assert [each["stage"] for each in shown["history"]][:2] == ["dump", "restore"]
    printed = subprocess.run(
        [*FERRYLOG, "dead-letters", "show", number, "--raw"],
        env=terminal.environment,
        capture_output=True,
        check=True,
    )
    assert printed.stdout == raw
    assert str(letter["_id"]) in terminal("dead-letters", "show", number).stdout


def _must_be_told(terminal: Terminal, job: str, *letters: dict[str, Any]) -> None:
    """The whole story, from the journal alone."""
    for letter in letters:
        told = terminal("inspect", "explain", letter["chunk"], "--job", job).stdout
        assert "requeued" in told
        assert str(letter["_id"]) in told


def _words(command: str) -> list[str]:
    """What `list` says is to be typed."""
    program, *words = shlex.split(command)
    assert program == "ferrylog"
    return words


# --- one that kills -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["coordinated", pytest.param("direct", marks=pytest.mark.deep)])
def test_the_one_that_kills_is_found(terminal: Terminal, pair: Pair, mode: str) -> None:
    """A34, P10, I12: whenever one document is on its way the process is killed. It is halved down
    to; the job ends without it, names what it left out, and carries it once it is harmless."""
    _one_kills(pair, 177, among=500)
    with _in_front(terminal, pair) as killer:
        code = killer.run("start", "--chunk-docs", "125", "--mode", mode)
        assert code == 3
        source, target = documents(pair.source_client), documents(pair.target_client)
        assert source[177] not in target.values()
        assert all(source[key] == raw for key, raw in target.items())
        named = _named(terminal, source)
        assert 177 in named
        assert source.keys() - target.keys() <= named, "nothing is left out without a word"

        killer.forwarder.armed = False
        assert terminal("dead-letters", "requeue", "--all").returncode == 0
        done = terminal("resume")
        assert done.returncode == 0, done.stderr
    assert documents(pair.target_client) == source
    assert letters(terminal, the_job(terminal)) == []


@pytest.mark.deep
def test_who_travels_alone_is_blamed_alone(terminal: Terminal, pair: Pair) -> None:
    """Two deaths per halving, and not a document too many is left out."""
    _one_kills(pair, 37, among=64)
    with _in_front(terminal, pair) as killer:
        words = ("--mode", "direct", "--restore-workers", "1", "--chunk-docs", "16")
        assert killer.run("start", *words) == 3
    source, target = documents(pair.source_client), documents(pair.target_client)
    assert {key: raw for key, raw in source.items() if key != 37} == target
    assert _named(terminal, source) == {37}
    (letter,) = letters(terminal, the_job(terminal))
    assert (letter["level"], letter["state"], letter["code"]) == ("chunk", "dropped", "ETASK001")
    splits = terminal.kinds().count("split_completed")
    assert terminal.kinds().count("run_started") == 2 * (splits + 1) + 1


class Killer:
    """Kills ferrylog, again and again, as often as the marker is on its way to the target."""

    def __init__(self, terminal: Terminal, port: int) -> None:
        self._terminal = terminal
        self._running: subprocess.Popen[str] | None = None
        self.forwarder = Forwarder(port, MARKER.encode(), self._kill)

    def _kill(self) -> None:
        assert self._running is not None
        self._running.kill()

    def run(self, *words: str) -> int:
        """Start, resume, resume, to an end of its own; the exit code."""
        for _ in range(MAX_DEATHS):
            self._running = self._terminal.begin(*words)
            self._running.communicate(timeout=60)
            if self._running.returncode != -signal.SIGKILL:
                return self._running.returncode
            words = ("resume",)
        raise AssertionError(f"it died {MAX_DEATHS} times: {self._terminal.kinds()}")


@contextmanager
def _in_front(terminal: Terminal, pair: Pair) -> Iterator[Killer]:
    killer = Killer(terminal, pair.target.port)
    with killer.forwarder as forwarder:
        terminal.environment["FERRYLOG_TARGET"] = forwarder.uri
        yield killer


def _one_kills(pair: Pair, which: int, *, among: int) -> None:
    people(pair.source_client).insert_many(
        {"_id": n, "text": MARKER if n == which else f"x{n}"} for n in range(among)
    )


def _named(terminal: Terminal, source: Documents) -> set[int]:
    """Documents within the ranges of what was left out."""
    found = set[int]()
    for letter in letters(terminal, the_job(terminal)):
        assert letter["state"] == "dropped"
        shown = terminal.json("dead-letters", "show", str(letter["id"]))
        lower, upper = (json_util.loads(shown[end] or "null") for end in ("lower", "upper"))
        found |= {
            n for n in source if (lower is None or n >= lower) and (upper is None or n < upper)
        }
    return found


# --- the commands ---------------------------------------------------------------------------------


def test_a_chunk_is_dropped_and_fetched_back(terminal: Terminal, pair: Pair) -> None:
    """A8, P10: a conflict on the way; the operator lets the chunk go, and thinks better of it."""
    _one_kills(pair, 250, among=400)
    theirs = {"_id": 250, "theirs": True}
    forwarder = Forwarder(
        pair.target.port, MARKER.encode(), lambda: _somebody_else(forwarder, pair, theirs)
    )
    with forwarder:
        terminal.environment["FERRYLOG_TARGET"] = forwarder.uri
        done = terminal("start", "--chunk-docs", "100")
        assert done.returncode == 5, done.stderr
        job = the_job(terminal)
        (letter,) = letters(terminal, job)
        assert (letter["level"], letter["state"], letter["task"]) == ("chunk", "failed", "restore")
        assert letter["code"] == "ECONFLICT001"

        assert terminal("dead-letters", "drop", str(letter["id"])).returncode == 0
        done = terminal("resume")
        assert done.returncode == 3, done.stderr
        source, target = documents(pair.source_client), documents(pair.target_client)
        assert target == {**source, 250: bson.encode(theirs)}
        (dropped,) = letters(terminal, job)
        assert (dropped["state"], dropped["chunk"]) == ("dropped", letter["chunk"])
        _must_refuse(terminal, "drop", dropped["id"], "EDEAD003")
        _must_refuse(terminal, "show", dropped["id"], "EDEAD004", "--raw")
        _must_refuse(terminal, "drop", letter["id"], "EDEAD002")
        assert "nothing to do" in terminal("dead-letters", "drop", "--all").stderr

        people(pair.target_client).delete_one({"_id": 250})
        assert terminal(*_words(dropped["requeue"])).returncode == 0
        done = terminal("resume")
        assert done.returncode == 0, done.stderr
    assert documents(pair.target_client) == source
    assert letters(terminal, job) == []


def _somebody_else(forwarder: Forwarder, pair: Pair, theirs: dict[str, Any]) -> None:
    """Writes under the same `_id`, a moment before."""
    forwarder.armed = False
    people(pair.target_client).insert_one(theirs)


@pytest.mark.deep
def test_all_at_once(terminal: Terminal, pair: Pair) -> None:
    """A8, A34: an index that cannot be, and documents that another index keeps out: as long as
    the cause is there, and not longer."""
    mine, target = people(pair.source_client), people(pair.target_client)
    mine.insert_many({"_id": n, "mail": n, "phone": n % 299} for n in range(301))
    mine.create_index("mail", unique=True)
    target.create_index("phone", unique=True)
    theirs = [{"_id": name, "mail": "the same", "phone": name} for name in ("a", "b")]
    target.insert_many(theirs)

    done = terminal("start", "--chunk-docs", "100", "--on-conflict", "skip")
    assert done.returncode == 3, done.stderr
    job = the_job(terminal)
    before = letters(terminal, job)
    assert sorted(each["level"] for each in before) == ["document", "document", "index"]
    index = next(each for each in before if each["level"] == "index")
    assert (index["state"], index["task"], index["code"]) == ("failed", "index", "EMONGO11000")
    _must_refuse(terminal, "drop", next(e["id"] for e in before if e != index), "EDEAD003")

    assert terminal("dead-letters", "requeue", "--all").returncode == 0
    done = terminal("resume")
    assert done.returncode == 3, done.stderr
    again = letters(terminal, job)
    assert {(each["level"], each["_id"]) for each in again} == {
        (each["level"], each["_id"]) for each in before
    }
    for each in before:
        _must_refuse(terminal, "requeue", each["id"], "EDEAD002")

    target.drop_index("phone_1")
    target.delete_many({"_id": {"$in": ["a", "b"]}})
    assert terminal("dead-letters", "requeue", "--all", "--job", job).returncode == 0
    done = terminal("resume")
    assert done.returncode == 0, done.stderr
    assert documents(pair.target_client) == documents(pair.source_client)
    assert target.index_information() == mine.index_information()
    assert letters(terminal, job) == []
    assert "nothing to do" in terminal("dead-letters", "requeue", "--all").stderr


def test_what_is_no_dead_letter(terminal: Terminal, pair: Pair) -> None:
    """Exit 2, and why."""
    people(pair.source_client).insert_one({"_id": 1})
    assert terminal("start").returncode == 0
    before = terminal.kinds()
    for verb in ("requeue", "drop"):
        _must_refuse(terminal, verb, 1, "EDEAD001")
        _must_refuse(terminal, verb, 10**9, "EDEAD001")
        assert terminal("dead-letters", verb).returncode == 2
        assert terminal("dead-letters", verb, "1", "--all").returncode == 2
        assert terminal("dead-letters", verb, "0").returncode == 2
    _must_refuse(terminal, "show", 1, "EDEAD001")
    assert terminal.kinds() == before


def _must_refuse(terminal: Terminal, verb: str, number: int, code: str, *words: str) -> None:
    refused = terminal("dead-letters", verb, str(number), *words)
    assert (refused.returncode, code in refused.stderr) == (2, True), refused.stderr
