"""The story of an entity, told from the journal alone."""

import re
import tempfile
from pathlib import Path

import pytest

from ferrylog.cli.inspect.explain import stories
from ferrylog.cli.inspect.names import an_entity
from ferrylog.engine import Engine
from ferrylog.errors import Usage
from ferrylog.views import logged
from ferrylog.views.notes import note_on
from ferrylog.views.story import Attempt, Note, StoryReport
from ferrylog.views.telling import stories_text, story_text
from journal.sqlite import SqliteJournal
from statemachine.events import AnyEvent, TaskEvent
from statemachine.stimuli import (
    Copied,
    ExcludeAsked,
    PriorityAsked,
    Progressed,
    RequeueAsked,
    SetAsked,
    Split,
    SplitAsked,
    StopAsked,
    Succeeded,
)
from statemachine.words import Cause, ChunkId, JobId, Key, Millis, TaskKey, TaskKind, UnitId
from tests.ferrylog.histories import (
    BEGIN,
    CHUNK,
    JOB,
    KILLED,
    Play,
    differing,
    failed,
    progressed,
    rejecting,
    two_failures_and_a_kill,
)
from tests.statemachine.examples import SETTINGS, SPEC, examples

GOLDEN = Path(__file__).parent.parent / "golden" / "explain"
TOLD = (CHUNK, "shop.orders", "shop.orders@when_1", "job")
HASH = re.compile(r"hash [0-9a-f]{64}")


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain") / "ferrylog.db"
    two_failures_and_a_kill(path)
    return path


def report(path: Path, entity: str) -> StoryReport:
    with SqliteJournal.read_only(path) as journal:
        [told] = stories(journal, JOB, entity)
    return told


def text(path: Path, entity: str) -> str:
    """Without the hashes: they change whenever any event gets a new field."""
    return HASH.sub("hash …", story_text(report(path, entity))) + "\n"


def golden(entity: str) -> Path:
    return GOLDEN / f"{entity.replace('#', '-').replace('@', '-')}.txt"


@pytest.mark.parametrize("entity", TOLD)
def test_failed_twice_killed_once_then_succeeded(eventful: Path, entity: str) -> None:
    """I45: who, when, why; every attempt, its cause, what was decided; checksums and proof."""
    expected = golden(entity).read_text()
    assert text(eventful, entity) == expected, "python -m tests.ferrylog.test_explain writes anew"


def test_the_proof_is_the_journals(eventful: Path) -> None:
    """I45: the first and the last event about the entity, with the hashes of their rows."""
    with SqliteJournal.read_only(eventful) as journal:
        records = [r for r in journal.read(JOB) if r.event.about == CHUNK]
    proof = report(eventful, CHUNK).proof
    assert proof.events == len(records)
    assert (proof.first.seq, proof.first.hash) == (records[0].seq, records[0].hash.hex())
    assert (proof.last.seq, proof.last.hash) == (records[-1].seq, records[-1].hash.hex())


def attempts(path: Path, entity: str, stage: str) -> list[Attempt]:
    found = [each for each in report(path, entity).history if isinstance(each, Attempt)]
    return [each for each in found if each.stage == stage]


def test_the_model_says_what_the_words_say(eventful: Path) -> None:
    """I45: outcome, cause, decision, by attempt; whose process it was."""
    found = attempts(eventful, CHUNK, "restore")
    assert [each.outcome for each in found] == ["failed", "failed", "lost", "completed"]
    assert [each.decision for each in found] == ["retry", "retry", "continue", ""]
    assert [each.duration_ms for each in found] == [40, 1200, None, 100]
    assert [each.run.pid for each in found if each.run] == [4711, 4711, 4711, 4712]
    assert found[2].decided_in_run == 2
    assert found[2].progress is not None
    assert (found[2].progress.documents, found[2].position) == (5, 500)
    assert found[3].result["documents"] == 10


def test_a_clock_that_went_back(tmp_path: Path) -> None:
    """I45: durations are never negative; the order is that of the journal, and it is said."""
    path = tmp_path / "ferrylog.db"
    play = Play(path, {(TaskKind.DUMP, CHUNK, 1): [(100, KILLED)]}, leaps={2: -3_600_000})
    play.run()
    told = report(path, CHUNK)
    assert told.clock_went_back
    assert "The clock went back" in story_text(told)
    assert [each.seq for each in told.history] == sorted(each.seq for each in told.history)
    for each in told.history:
        if isinstance(each, Attempt):
            assert each.duration_ms is None or each.duration_ms >= 0


def test_every_way_to_end(tmp_path: Path) -> None:
    """I45: permanent and fatal failures, damaged files, differences; each with words of its own."""
    path = tmp_path / "ferrylog.db"
    bad = failed(Cause.PERMANENT, "ESOURCE001", "the collection is gone.")
    full = failed(Cause.FATAL, "EDISK001", "no space left")
    Play(
        path,
        {
            (TaskKind.DUMP, CHUNK, 1): [(10, full)],
            (TaskKind.DUMP, CHUNK, 2): [(10, bad)],
            (TaskKind.RESTORE, CHUNK, 1): [(10, progressed(2)), (10, KILLED)],
            (TaskKind.VERIFY, CHUNK, 1): [(10, differing())],
        },
    ).run()  # fmt: skip
    told = story_text(report(path, CHUNK))
    words = " ".join(told.split())
    for said in (
        "It was called off after 10 ms, and is not to blame: EDISK001: no space left.",
        "because of a failure that would come back every time: ESOURCE001: the collection is "
        "gone. Decided: give it up (a dead letter) until somebody requeues it.",
        "ann@office asked for the dump to be tried again",
        "go on after byte 200 of the chunk file",
        'differ: _id {"$numberInt":"12"} is missing',
        "It is finished (dumped, restored and verified), and source and target differ.",
    ):
        assert said in words, told
    job = " ".join(story_text(report(path, "job")).split())
    assert "ferrylog paused the job by itself: EDISK001: no space left." in job


def words_of(path: Path, entity: str) -> str:
    return " ".join(story_text(report(path, entity)).split())


def test_a_chunk_that_was_cut_in_two(tmp_path: Path) -> None:
    """I45: asked for by whom; which chunks took its place, and whose place they took."""
    path = tmp_path / "ferrylog.db"
    Play(path, {}, wishes=[(310, SplitAsked("ben@desk", ChunkId(CHUNK), 1))]).run()
    whole = report(path, CHUNK)
    assert whole.replaced_by == ("shop.orders#3", "shop.orders#4")
    assert whole.standing.startswith(
        "It is no more: shop.orders#3 and shop.orders#4 took its place."
    )
    words = words_of(path, CHUNK)
    for said in (
        "ben@desk asked for it to be cut in two.",
        "It was called off after 100 ms, and is not to blame: the chunk is to be cut in two.",
        "split (find where to cut it in two), attempt 1",
        "It succeeded after 100 ms: its range was cut into 2 parts.",
        "It was cut, and its parts took its place.",
    ):
        assert said in words, words
    for part in whole.replaced_by:
        told = report(path, part)
        assert told.replaces == CHUNK
        assert f"It took the place of {CHUNK}." in words_of(path, part)
        assert told.standing.startswith("It is finished")
    assert report(path, "shop.orders#2").replaces == ""
    parts = report(path, "shop.orders").parts
    assert parts is not None
    assert (parts.chunks, parts.restored) == (4, 4)


def test_a_chunk_with_a_document_that_spoils_it(tmp_path: Path) -> None:
    """I45: cut until the document is found, which is left out; each part says by whom and why."""
    path = tmp_path / "ferrylog.db"
    bad = failed(Cause.PERMANENT, "EBSON001", "a document cannot be read")
    cut = Split((Key('{"$numberInt":"11"}'),), (1, 9))
    script = {(TaskKind.DUMP, CHUNK, 1): [(10, bad)]}
    script |= {(TaskKind.DUMP, "shop.orders#3", attempt): [(10, bad)] for attempt in (1, 2, 3)}
    script[TaskKind.SPLIT, CHUNK, 1] = [(10, Succeeded(TaskKey(TaskKind.SPLIT, CHUNK), 1, 1, cut))]
    Play(path, script).run()
    assert "Something in it fails, so it is to be cut in two: EBSON001" in words_of(path, CHUNK)
    with SqliteJournal.read_only(path) as journal:
        dropped = [r.event.about for r in journal.read(JOB) if r.event.kind == "chunk_dropped"]
    assert dropped == ["shop.orders#3"]
    said = words_of(path, dropped[0])
    assert "ferrylog left it out: the job goes on without about" in said
    assert "The job goes on without it: EBSON001" in said


def test_what_was_carried_again(tmp_path: Path) -> None:
    """I45, A34: a chunk with rejected documents that somebody requeued, and its heir."""
    path = tmp_path / "ferrylog.db"
    play = Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(10, rejecting(12, 13))]})
    play.run()
    with SqliteJournal.create(path) as journal:
        Engine(journal, JOB).turn([RequeueAsked("ben@desk", CHUNK)], now=Millis(play.now))
    assert "It was finished, and a part of it is carried again." in words_of(path, "shop.orders")
    assert "ben@desk requeued a dead letter after its end" in words_of(path, "job")
    play.run()
    told = report(path, CHUNK)
    assert told.replaced_by == ("shop.orders#3",)
    assert "the same range once more" in told.standing
    assert report(path, "shop.orders#3").replaces == CHUNK
    assert "ben@desk had it carried again" in words_of(path, CHUNK)
    assert "It is finished." in report(path, "shop.orders").standing


def test_how_a_job_was_run(tmp_path: Path) -> None:
    """I45: every setting and priority with what it was, what was refused, stops, breakers."""
    path = tmp_path / "ferrylog.db"
    down = failed(Cause.UNAVAILABLE, "ECONN001", "nobody answers")
    settings = SETTINGS.model_copy(update={"breaker_failures": 1})
    wishes = [
        (120, SetAsked("ben@desk", "dump_workers", 1, 1)),
        (130, PriorityAsked("ben@desk", "shop.orders", 5, 2)),
        (140, SplitAsked("ben@desk", ChunkId("shop.orders#9"), 3)),
        (150, ExcludeAsked("ben@desk", UnitId("shop.customers"), 4)),
        (1250, StopAsked("ben@desk", "enough", 5, immediate=True)),
    ]
    script = {(TaskKind.CREATE, "shop.orders", 1): [(10, down)]}
    play = Play(path, script, settings=settings, wishes=wishes)  # type: ignore[arg-type]
    play.once()
    words = words_of(path, "job")
    for said in (
        "ben@desk set dump_workers from 2 to 1.",
        "ben@desk asked for a split, which was refused: shop.orders#9 is no open chunk",
        "After 1 failure in a row nothing of the restore pool starts before",
        "Something of the restore pool succeeded",
        "ben@desk asked for a stop, at once: what runs is cancelled: enough.",
        "The job is stopped: enough.",
    ):
        assert said in words, words
    assert "the priority 5 instead of 0" in words_of(path, "shop.orders")
    assert "ben@desk took it out of the job" in words_of(path, "shop.customers")
    assert "an outage: the deployment served nobody then: ECONN001" in words_of(path, "shop.orders")
    assert "nothing of the restore pool starts before" in words_of(path, "restore pool")
    assert "It was cut off: somebody wanted a rest at once." in words_of(path, "shop.orders")


def test_a_copied_chunk_is_told_like_the_others(tmp_path: Path) -> None:
    """A1, I45: without a file, and it goes on after the documents that were read."""
    path = tmp_path / "ferrylog.db"
    half = Copied(5, Key('{"$numberInt":"14"}'), 5, 500, 0, 0)
    news = Progressed(TaskKey(TaskKind.COPY, CHUNK), 1, 1, half)
    direct = SPEC.model_copy(update={"mode": "direct"})
    Play(path, {(TaskKind.COPY, CHUNK, 1): [(10, news), (20, KILLED)]}, spec=direct).run()
    words = words_of(path, CHUNK)
    for said in (
        "copy (source to target), attempt 1",
        "the target had acknowledged 5 documents of the chunk",
        "go on after the 5 documents that were read.",
        "of this chunk 10 documents (1.0 kB) lie on the target",
        "It is finished: copied and verified.",
    ):
        assert said in words, words
    assert "Of its 3 chunks 3 were copied and 3 verified" in words_of(path, "shop.orders")


@pytest.mark.parametrize("event", examples(), ids=lambda event: str(event.kind))
def test_every_event_has_words(event: AnyEvent) -> None:
    """I45, A23: a sentence for what is no attempt, a log line for all."""
    said = note_on(event)
    assert said.endswith((".", "!", "?"))
    told_elsewhere = isinstance(event, TaskEvent)
    assert told_elsewhere or said != f"{event.kind}."
    logged.log(event)


def test_a_pause_is_told(tmp_path: Path) -> None:
    """I45: by whom and why."""
    path = tmp_path / "ferrylog.db"
    Play(path, {}).run(pause_at_ms=450)
    notes = [each.text for each in report(path, "job").history if isinstance(each, Note)]
    assert "ben@desk asked for a pause: lunch." in notes
    assert "ann@office asked to go on." in notes


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("orders", "shop.orders"),
        ("shop.order", "shop.orders"),
        ("shop.orders#9", "shop.orders#0, shop.orders#2"),
        ("orders#1", "shop.orders#1"),
        ("shop.orders@wen_1", "shop.orders@when_1"),
        ("jobs", "job"),
        ("\x1b[2Jnothing like it", "inspect timeline"),
    ],
)
def test_near_names(eventful: Path, typed: str, near: str) -> None:
    """A name that is nearly right is answered with the right one."""
    with SqliteJournal.read_only(eventful) as journal, pytest.raises(Usage) as caught:
        an_entity(journal, JOB, typed)
    assert near in caught.value.remedy


def test_another_job_knows_it(tmp_path: Path) -> None:
    """The newest job is asked by default: the one meant is named."""
    from statemachine.events import JobRequested
    from statemachine.words import Millis
    from tests.statemachine.examples import SPEC

    path, newer = tmp_path / "ferrylog.db", JobId("newer")
    Play(path, {}).run()
    with SqliteJournal.create(path) as journal:
        asked = JobRequested(by="me", spec=SPEC)
        journal.append(newer, [asked], expected=0, epoch=0, at_ms=Millis(BEGIN))
    with SqliteJournal.read_only(path) as journal:
        with pytest.raises(Usage, match=f"job {JOB} does"):
            an_entity(journal, newer, CHUNK)
        assert "no event tells of an end" in stories_text(stories(journal, newer, "job"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        journal_path = Path(folder) / "ferrylog.db"
        two_failures_and_a_kill(journal_path)
        GOLDEN.mkdir(exist_ok=True)
        for name in TOLD:
            golden(name).write_text(text(journal_path, name))
