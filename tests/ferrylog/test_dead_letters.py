"""What was given up or left out: found, looked at, asked for again, let go."""

import subprocess
import sys
from pathlib import Path

import bson
import pytest
from bson import json_util

from executors.folder import inside
from executors.rejected import Rejects, rejected_path
from ferrylog.asking import Answer
from ferrylog.cli import dead_letters
from ferrylog.engine import Engine
from ferrylog.errors import Refused
from ferrylog.letters import letters
from ferrylog.recall import recall
from ferrylog.views.model import exit_code
from journal.opening import work_path
from journal.sqlite import SqliteJournal
from statemachine.stimuli import FileDamaged, JobAsked, RequeueAsked, RunBegan
from statemachine.words import Cause, ChunkId, JobId, TaskKind, UnitId
from tests.ferrylog import histories
from tests.ferrylog.histories import CHUNK, JOB, Play, failed, rejecting
from tests.ferrylog.saying import Say, say_with
from tests.statemachine.examples import SETTINGS, SPEC

GONE = failed(Cause.PERMANENT, "ESOURCE001", "the collection is gone.")
BAD = failed(Cause.PERMANENT, "EMONGO067", "cannot create index")
ROOT = Path(__file__).parent.parent.parent
INDEX = "shop.orders@when_1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ferrylog.db"


@pytest.fixture
def say(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    program = say_with(path, monkeypatch, capsys)
    return lambda *words: program("dead-letters", *words)


def listed(say: Say) -> list[dict[str, object]]:
    found: list[dict[str, object]] = say("list", "--json").document()["letters"]
    return found


def keep(path: Path, *numbers: int) -> None:
    """What a restore leaves behind of the documents that the target refused."""
    folder = inside(work_path(path), JOB)
    folder.mkdir(parents=True)
    with Rejects(rejected_path(folder, UnitId("shop.orders"), ChunkId(CHUNK))) as rejects:
        for number in numbers:
            rejects.add(bson.encode({"_id": number, "name": "\x1b[2J"}))
        rejects.sync()


def test_nothing_is_dead(path: Path, say: Say) -> None:
    Play(path, {}).run()
    assert listed(say) == []
    assert say("list").out == f"job {JOB} has no dead letters\n"
    assert say("requeue", "--all").err == "nothing to do\n"


def test_a_task_that_was_given_up(path: Path, say: Say) -> None:
    """A34, I19: named by the event that gave it up; requeued by that number, and carried then."""
    play = Play(path, {(TaskKind.DUMP, CHUNK, 1): [(10, GONE)]})
    play.once()
    (letter,) = listed(say)
    with SqliteJournal.read_only(path) as journal:
        (event,) = [r for r in journal.read(JOB) if r.event.kind == "dump_dead_lettered"]
    assert letter["id"] == event.seq
    known = {"level": "chunk", "state": "failed", "task": "dump", "chunk": CHUNK, "_id": None,
             "code": "ESOURCE001", "attempts": 1, "namespace": "shop.orders"}  # fmt: skip
    assert known.items() <= letter.items()
    assert letter["requeue"] == f"ferrylog dead-letters requeue {event.seq} --journal {path}"
    shown = say("show", str(event.seq))
    assert 'range of shop.orders#1: {"$numberInt":"10"} to {"$numberInt":"20"}' in shown.out
    assert "Decided: give it up" in shown.out
    report = say("show", str(event.seq), "--json").document()
    assert [(each["stage"], each["outcome"]) for each in report["history"]] == [("dump", "failed")]
    answer = say("requeue", str(event.seq), "--json").document()
    assert [each["kind"] for each in answer["answers"][0]["events"]] == ["dump_requeued"]
    assert listed(say) == []
    again = say("requeue", str(event.seq))
    assert (again.code, "EDEAD002" in again.err) == (2, True)
    assert exit_code(play.once()) == 0


def test_ids_that_are_none(path: Path, say: Say) -> None:
    """The error names the range; nothing is asked for when one of several is wrong."""
    Play(path, {(TaskKind.DUMP, CHUNK, 1): [(10, GONE)]}).once()
    (letter,) = listed(say)
    with SqliteJournal.read_only(path) as journal:
        last = journal.last_seq()
    for number, why in ((last + 7, f"from 1 to {last}"), (1, "it is job_requested of job")):
        for verb in ("show", "requeue", "drop"):
            said = say(verb, str(number))
            assert (said.code, "EDEAD001" in said.err, why in said.err) == (2, True, True)
    assert say("requeue", str(letter["id"]), "1").code == 2
    assert len(listed(say)) == 1
    assert say("requeue").code == 2
    assert say("requeue", "7", "--all").code == 2
    assert say("show", str(10**30)).code == 2


def test_rejected_documents(path: Path, say: Say) -> None:
    """Decision 7: each by its _id, whole; once more with its chunk, after the job's end too."""
    play = Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(10, rejecting(12, 13))]})
    assert exit_code(play.once()) == 3
    keep(path, 12, 13)
    first, second = listed(say)
    assert (first["level"], first["state"], first["task"]) == ("document", "rejected", None)
    assert [each["_id"] for each in (first, second)] == [
        '{"$numberInt":"12"}',
        '{"$numberInt":"13"}',
    ]
    report = say("show", str(second["id"]), "--json").document()
    assert json_util.loads(report["document"]) == {"_id": 13, "name": "\x1b[2J"}
    assert Path(report["file"]).is_file()
    assert [each["stage"] for each in report["history"]] == ["dump", "restore", "verify"]
    text = say("show", str(second["id"])).out
    assert "\x1b" not in text + say("list").out
    dropping = say("drop", str(first["id"]))
    assert (dropping.code, "EDEAD003" in dropping.err) == (2, True)
    answer = say("requeue", str(first["id"]), str(second["id"]))
    assert answer.code == 0
    assert answer.err.count("is to be carried once more") == 1, "one chunk, one wish"
    assert f"`ferrylog resume {JOB}` goes on" in answer.err
    assert listed(say) == []
    assert exit_code(play.once()) == 0


def test_a_document_as_it_is(path: Path, say: Say) -> None:
    """--raw: the bytes, and nothing else; an error where they are not kept."""
    Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(10, rejecting(12))]}).once()
    (letter,) = listed(say)
    lost = say("show", str(letter["id"]), "--raw")
    assert (lost.code, lost.out, "EDEAD004" in lost.err) == (2, "", True)
    assert "is not in the work folder" in say("show", str(letter["id"])).out
    keep(path, 11, 12)
    words = ["-m", "ferrylog", "dead-letters", "show", str(letter["id"]), "--raw"]
    program = [sys.executable, *words, "--journal", str(path)]
    done = subprocess.run(program, capture_output=True, check=True, cwd=ROOT)
    assert bson.decode(done.stdout) == {"_id": 12, "name": "\x1b[2J"}


def test_only_the_last_life_of_a_chunk_counts(path: Path, say: Say) -> None:
    """I24: what was rejected before the chunk was carried anew from nothing is rejected again, or
    not at all; and nothing is named twice."""
    nobody = ("", 0, 0)
    first = histories.rejected_so_far(11, 12)
    damaged = FileDamaged(*nobody, "cut short")  # type: ignore[arg-type]
    script = {
        (TaskKind.RESTORE, CHUNK, 1): [(10, first), (20, damaged)],
        (TaskKind.RESTORE, CHUNK, 2): [(10, rejecting(12))],
    }
    Play(path, script).run()
    with SqliteJournal.read_only(path) as journal:
        kinds = [recorded.event.kind for recorded in journal.read(JOB)]
    assert kinds.count("document_rejected") == 3
    (letter,) = listed(say)
    assert (letter["_id"], letter["attempts"]) == ('{"$numberInt":"12"}', 2)


def test_a_verification_in_doubt_hides_nothing(path: Path, say: Say) -> None:
    """I18: what becomes of it says nothing of what the target refused."""
    script = {
        (TaskKind.RESTORE, CHUNK, 1): [(10, rejecting(12))],
        (TaskKind.VERIFY, CHUNK, 1): [(10, histories.KILLED)],
    }
    Play(path, script).run()
    with SqliteJournal.read_only(path) as journal:
        kinds = [recorded.event.kind for recorded in journal.read(JOB)]
    assert kinds.count("verify_resolved") >= 1
    (letter,) = listed(say)
    assert letter["_id"] == '{"$numberInt":"12"}'


def test_an_index_and_a_chunk_are_let_go(path: Path, say: Say) -> None:
    """A34: the job goes on without them, and ends with rejects."""
    play = Play(
        path,
        {
            (TaskKind.DUMP, CHUNK, 1): [(10, GONE)],
            (TaskKind.INDEX, INDEX, 1): [(10, failed(Cause.TRANSIENT, "EMONGO050", "slow"))],
        },
        settings=SETTINGS.model_copy(update={"max_retries": 1}),
    )
    play.once()
    (letter,) = listed(say)
    assert "the job goes on without shop.orders#1" in say("drop", str(letter["id"])).err
    (dropped,) = listed(say)
    assert (dropped["level"], dropped["state"], dropped["code"]) == (
        "chunk", "dropped", "ESOURCE001",
    )  # fmt: skip
    assert say("drop", str(dropped["id"])).code == 2
    play.once()
    (_, index) = listed(say)
    assert (index["level"], index["entity"], index["task"]) == ("index", INDEX, "index")
    assert "without the index shop.orders@when_1" in say("drop", "--all").err
    state = play.once()
    assert exit_code(state) == 3
    assert say("requeue", "--all").code == 0, "a chunk that was let go can be asked for again"
    assert exit_code(play.once()) == 3, "but for the index"


def test_letters_are_those_of_the_newest_migration(path: Path, say: Say) -> None:
    """A later dry run or verification does not hide them."""
    Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(10, rejecting(12))]}).once()
    with SqliteJournal.create(path) as journal:
        asked = JobAsked("ann", SPEC.model_copy(update={"kind": "plan"}))
        began = RunBegan("ann", "office", 4711, "0.1.0", SETTINGS)
        Engine(journal, JobId("20261122-150000-bbbb")).turn([asked, began], now=histories.BEGIN)
    assert len(listed(say)) == 1
    assert say("requeue", "--all").code == 0
    assert listed(say) == []


def test_one_refusal_stops_none_of_the_others(
    path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A34: all that can be done is done; what cannot is named, and the end tells of it."""
    script = {(TaskKind.RESTORE, f"shop.orders#{n}", 1): [(10, rejecting(n))] for n in range(3)}
    Play(path, script).once()
    asked = list[str]()

    def ask(journal: Path, job: JobId, wish: RequeueAsked) -> Answer:
        asked.append(wish.entity)
        if wish.entity == CHUNK:
            raise Refused("requeue", "not this one")
        return real(journal, job, wish)

    real = dead_letters.ask
    monkeypatch.setattr(dead_letters, "ask", ask)
    said = say("requeue", "--all", "--json")
    assert len(asked) == 3
    assert said.code == 2
    report = said.document()
    assert [each["refused"] for each in report["answers"]].count("requeue: not this one") == 1
    assert [each["answered"] for each in report["answers"]].count(True) == 2
    assert said.err == "error [EJOB006]: requeue: not this one\n1 of 3 refused\n"
    (left,) = listed(say)
    assert left["chunk"] == CHUNK
    alone = say("requeue", "--all", "--json")
    assert (alone.code, alone.document()["code"]) == (2, "EJOB006")


def test_a_unit_that_cannot_be_let_go(path: Path, say: Say) -> None:
    """It can be excluded, or tried again."""
    Play(path, {(TaskKind.PLAN, "shop.orders", 1): [(10, GONE)]}).once()
    (letter,) = listed(say)
    assert (letter["level"], letter["namespace"], letter["chunk"]) == ("unit", "shop.orders", None)
    said = say("drop", str(letter["id"]))
    assert (said.code, "exclude" in said.err) == (2, True)


def test_names_do_not_command_a_terminal(
    path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names come from servers: shown, never obeyed."""
    name = "a\x1b[2J.b\n\u202e\x9bc"
    monkeypatch.setattr(histories, "UNITS", (name,))
    Play(path, {(TaskKind.DUMP, f"{name}#0", 1): [(10, GONE)]}).once()
    (letter,) = listed(say)
    number = str(letter["id"])
    for words in (("list",), ("list", "--json"), ("show", number), ("show", number, "--json"),
                  ("requeue", number), ("requeue", number)):  # fmt: skip
        said = say(*words)
        assert not set(said.out + said.err) & {"\x1b", "\x9b", "\u202e"}, words


def test_every_letter_answers_to_its_own_wish(path: Path) -> None:
    """A34: what is listed as dead can be requeued, whatever it is."""
    script = {
        (TaskKind.DUMP, CHUNK, 1): [(10, GONE)],
        (TaskKind.RESTORE, "shop.orders#0", 1): [(10, rejecting(3))],
    }
    Play(path, script).once()
    with SqliteJournal.read_only(path) as journal:
        found = letters(journal, JOB, recall(journal, JOB).state)
    wishes = [letter.requeue("ann") for letter in found]
    assert {wish.task for wish in wishes} <= {None, TaskKind.DUMP}
    assert all(isinstance(wish, RequeueAsked) for wish in wishes)
    assert dead_letters.app.info.help
