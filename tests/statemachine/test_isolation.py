"""One document that spoils its chunk is found by cutting; the job goes on without it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from statemachine.decide.isolation import isolates
from statemachine.events import ChunkDropped, JobCompleted, SplitRequested
from statemachine.evolve import fold
from statemachine.policy import BISECTED, MAX_INTERRUPTIONS, MAX_SUSPECTS, NO_DOCUMENTS_FAULT
from statemachine.state import Chunk, digest
from statemachine.stimuli import (
    Copied,
    Created,
    Dumped,
    Failed,
    FoundUnit,
    Planned,
    Progressed,
    Released,
    RequeueAsked,
    Restored,
    Result,
    Split,
    SplitAsked,
    Surveyed,
    Verified,
)
from statemachine.words import BsonText, Cause, JobStatus, Key, Status, TaskKey, TaskKind
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    DUMP,
    DUMPED,
    RESTORE,
    RESTORED,
    UNIT,
    VERIFY,
    Story,
    began,
)
from tests.statemachine.test_state import sums

COPY, SPLIT = TaskKey(TaskKind.COPY, CHUNK), TaskKey(TaskKind.SPLIT, CHUNK)
SIZE = 1000


@dataclass
class Hands:
    """Carry out what runs, over documents 0 to 999; `poison` spoils tasks of `kind`."""

    story: Story
    poison: Callable[[int], bool]
    kind: TaskKind
    cause: Cause = Cause.PERMANENT

    def run(self) -> Story:
        while not self.story.state.resting:
            self.story.now += 100_000
            self.story.tell()
            for key in list(self._at_work()):
                if key.kind is TaskKind.RELEASE or self.story.status(key) is Status.PROCESSING:
                    self._act(key)
        return self.story

    def _at_work(self) -> Iterator[TaskKey]:
        state = self.story.state
        yield from (k for k, task in state.tasks.items() if task.status is Status.PROCESSING)
        yield from (TaskKey(TaskKind.RELEASE, chunk) for chunk in state.releasing)

    def _act(self, key: TaskKey) -> None:
        chunk = self.story.state.chunks.get(key.entity)  # type: ignore[call-overload]
        if key.kind is self.kind and any(map(self.poison, self._range(chunk))):
            self.story.fail(key, self.cause, code="EMONGO002")
        else:
            self.story.succeed(key, self._result(key, chunk))

    def _range(self, chunk: Chunk) -> range:
        return range(int(chunk.lower or 0), int(chunk.upper or SIZE))

    def _result(self, key: TaskKey, chunk: Chunk) -> Result:
        count = len(self._range(chunk)) if chunk else 0
        match key.kind:
            case TaskKind.SURVEY:
                found = FoundUnit(UNIT, UNIT, "collection", "", BsonText("{}"), (), SIZE, SIZE)
                return Surveyed((found,))
            case TaskKind.CREATE:
                return Created(())
            case TaskKind.PLAN:
                return Planned((Key("500"),), SIZE, natural=False)
            case TaskKind.SPLIT:
                middle = self._range(chunk)[count // 2]
                below = middle - self._range(chunk)[0]
                return Split(
                    (Key(str(middle)),) if below else (), (below, count - below)[not below :]
                )
            case TaskKind.DUMP:
                return Dumped("f", count, count, 50, 1, "ab")
            case TaskKind.RESTORE:
                return Restored(50, count, count, 0, 0)
            case TaskKind.COPY:
                return Copied(count, None, count, count, 0, 0)
            case TaskKind.VERIFY:
                return Verified(True, count, count, "", "", 0, ())
            case _:
                return Released()


WAYS = [
    ("coordinated", TaskKind.DUMP, Cause.PERMANENT),
    ("coordinated", TaskKind.RESTORE, Cause.PERMANENT),
    ("direct", TaskKind.COPY, Cause.PERMANENT),
]


@pytest.mark.parametrize(("mode", "kind", "cause"), WAYS)
@pytest.mark.parametrize("bad", [0, 499, 500, 737, 999])
def test_one_document_is_found_and_given_up_alone(
    mode: str, kind: TaskKind, cause: Cause, bad: int
) -> None:
    """A8, A34, decision 7, I14, I25, I30: all others come; one letter, one reject, no pause."""
    story = Hands(Story(mode=mode), lambda document: document == bad, kind, cause).run()
    kinds = [event.kind for event in story.events]
    assert "pause_requested" not in kinds
    last = story.events[-1]
    assert isinstance(last, JobCompleted)
    assert (last.dead_letters, last.rejected, last.mismatched) == (1, 1, 0)
    dropped = [event for event in story.events if isinstance(event, ChunkDropped)]
    assert [(event.documents, event.by, event.why) for event in dropped] == [
        (1, "ferrylog", "EMONGO002: bad")
    ]
    assert kinds.count(f"{kind}_dead_lettered") == 1
    assert kinds.count("split_requested") <= 11, "half of it each time"
    [flawed] = story.state.flawed.values()
    assert (int(flawed.lower or 0), int(flawed.upper or SIZE)) == (bad, bad + 1)
    counted = sums(story)
    assert counted["restored_documents"] == SIZE - 1
    assert counted["settled"] + counted["dropped"] == counted["planned"]
    assert counted["weight_done"] == counted["weight"]
    assert story.state.files == 0
    assert digest(fold(story.events)) == digest(story.state)


def test_several_documents_are_found() -> None:
    """A34: also neighbours."""
    bad = {3, 4, 400, 801}
    story = Hands(Story(), lambda document: document in bad, TaskKind.RESTORE).run()
    last = story.events[-1]
    assert isinstance(last, JobCompleted)
    assert (last.dead_letters, last.rejected) == (4, 4)
    assert {int(chunk.lower or 0) for chunk in story.state.flawed.values()} == bad


@pytest.mark.parametrize("kind", [TaskKind.DUMP, TaskKind.RESTORE])
def test_where_all_parts_fail_the_search_ends(kind: TaskKind) -> None:
    """A8, I19, I30: a limit on everything: after 20 suspects in a row the whole is to blame."""
    story = Hands(Story(), lambda _: True, kind).run()
    kinds = [event.kind for event in story.events]
    assert kinds.count("split_requested") == MAX_SUSPECTS == story.state.suspects
    assert kinds.count("chunk_dropped") == 0
    assert story.state.status is JobStatus.PAUSED
    assert f"{kind}_dead_lettered" in kinds


def suspecting(suspects: int, *, bisected: bool, documents: int = 50) -> Story:
    story = Story().planned()
    story.state.suspects = suspects
    chunk = story.state.chunks[CHUNK]
    chunk.bisected, chunk.documents = bisected, documents
    return story


@pytest.mark.parametrize(
    ("suspects", "bisected", "documents", "failures", "isolated"),
    [
        (0, False, 50, 0, False),
        (0, False, 50, 2, True),
        (19, False, 50, 2, True),
        (20, False, 50, 2, False),
        (0, True, 50, 0, True),
        (19, True, 50, 0, True),
        (20, True, 50, 2, False),
        (0, True, 2, 0, True),
        (0, True, 1, 1, False),
        (0, True, 1, 2, False),
        (0, True, 0, 1, False),
        (0, False, 1, 1, False),
        (0, False, 1, 2, True),
        (20, True, 1, 2, False),
    ],
)
def test_who_is_a_suspect(
    suspects: int, bisected: bool, documents: int, failures: int, isolated: bool
) -> None:
    """A7, A8: a chunk at its last failure, its parts at the first, a single document not at all:
    time may heal it; as long as the search may go on."""
    story = suspecting(suspects, bisected=bisected, documents=documents)
    story.state.tasks[DUMP].failures = failures
    assert isolates(story.state, DUMP, Cause.TRANSIENT, "EDOC") is isolated


EVERY_PART = [
    "ECONFLICT001",
    "EMONGO026",
    "EMONGO073",
    "ESOURCE001",
    "ESOURCE002",
    "ETARGET001",
    "ETARGET002",
]


@pytest.mark.parametrize("code", sorted({*EVERY_PART, *NO_DOCUMENTS_FAULT}))
def test_what_is_no_documents_fault_cuts_nothing(code: str) -> None:
    """A8: every part would meet it again."""
    story = Story().planned()
    assert story.fail(DUMP, Cause.PERMANENT, code=code)[0] == "dump_dead_lettered"


def test_other_causes_and_other_tasks_cut_nothing() -> None:
    """A8: an outage says nothing of a document; a chunk in insertion order has no middle."""
    story = suspecting(0, bisected=True)
    for cause in (Cause.UNAVAILABLE, Cause.FATAL):
        assert not isolates(story.state, DUMP, cause, "EDOC")
    assert not isolates(story.state, VERIFY, Cause.PERMANENT, "EDOC")
    assert not isolates(story.state, DUMP._replace(entity="x#0"), Cause.PERMANENT, "EDOC")
    assert isolates(story.state, DUMP, Cause.PERMANENT, "EDOC")
    story.state.chunks[CHUNK].natural = True
    assert not isolates(story.state, DUMP, Cause.PERMANENT, "EDOC")
    assert set(BISECTED) == {TaskKind.DUMP, TaskKind.RESTORE, TaskKind.COPY}


def test_a_suspect_is_blamed_and_not_its_deployment() -> None:
    """I43: what is cut away counts neither for the breaker nor for the retries."""
    told = SETTINGS.model_copy(update={"breaker_failures": 1, "max_retries": 1})
    story = Story(told).planned()
    assert story.fail(DUMP, Cause.TRANSIENT, code="EDOC") == [
        "dump_cancelled",
        "split_requested",
        "split_started",
    ]
    requested = story.events[-2]
    assert isinstance(requested, SplitRequested)
    assert (requested.by, requested.request, requested.why) == ("ferrylog", 0, "EDOC: bad")
    assert story.state.retries == 0
    assert story.state.suspects == 1


def test_the_last_document_alone_counts_for_the_breaker() -> None:
    """I43: its letter says how it failed; what time may heal is a letter like any other."""
    story = suspecting(1, bisected=True, documents=1)
    story.state.settings = SETTINGS.model_copy(update={"breaker_failures": 1, "max_retries": 1})
    assert story.fail(DUMP, Cause.TRANSIENT, code="EDOC")[:3] == [
        "dump_dead_lettered",
        "breaker_opened",
        "pause_requested",
    ]


def test_an_estimate_of_one_is_no_proof() -> None:
    """A34: only a part that was looked at is given up as one document."""
    story = suspecting(0, bisected=False, documents=1)
    kinds = story.fail(DUMP, Cause.PERMANENT, code="EDOC")
    assert kinds == ["dump_cancelled", "split_requested", "split_started"]


def test_what_an_operator_cuts_is_no_suspect() -> None:
    story = Story().planned()
    story.tell(SplitAsked("me", CHUNK, 1))
    assert story.state.suspects == 0
    assert not story.state.chunks[CHUNK].bisected


def test_a_part_that_came_through_ends_the_suspicion() -> None:
    """I30: the count is of failures in a row."""
    story = suspecting(7, bisected=True)
    story.succeed(DUMP, DUMPED)
    assert story.state.suspects == 7, "it is not carried yet"
    story.succeed(RESTORE, RESTORED)
    assert story.state.suspects == 0
    story = suspecting(7, bisected=False)
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    assert story.state.suspects == 7, "no part of what failed"


# --- what kills the process ---


def test_two_deaths_cut_the_chunk() -> None:
    """I16, I18: one decision for the attempt, then the cut; the parts are looked at closely."""
    story = Story().planned()
    assert "split_requested" not in story.tell(began())
    assert story.tell(began()) == [
        "run_started",
        "dump_in_doubt",
        "dump_resolved",
        "split_requested",
        "split_started",
    ]
    assert story.state.chunks[CHUNK].bisected
    requested = story.events[-2]
    assert isinstance(requested, SplitRequested)
    assert requested.why == "the process died 2 times while this was running"
    story.succeed(SPLIT, Split((Key("m"),), (1, 49)))
    parts = list(story.state.chunks.values())
    assert all(part.bisected for part in parts)
    first, second = (TaskKey(TaskKind.DUMP, part.id) for part in parts)
    assert story.tell(began())[-2:] == ["dump_resolved", "dump_started"], "one alone"
    kinds = story.tell(began())
    assert kinds[1:] == ["dump_in_doubt", "dump_dead_lettered", "chunk_dropped", "dump_started"]
    kinds = story.tell(began())
    assert kinds[1:] == ["dump_in_doubt", "dump_resolved", "split_requested", "split_started"]
    letter = next(event for event in story.events if event.kind == "dump_dead_lettered")
    assert (letter.about, letter.code, letter.cause) == (first.entity, "ETASK001", "permanent")  # type: ignore[union-attr]
    assert (story.state.units[UNIT].rejected, story.state.units[UNIT].dropped) == (1, 1)
    assert second not in story.state.tasks
    assert story.state.status is JobStatus.RUNNING, "no pause for it"


def test_progress_is_a_sign_of_life() -> None:
    """I18: who comes further between two deaths is not what kills."""
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    for position in range(10, 60, 10):
        done = Restored(position, position, position, 0, 0)
        story.tell(Progressed(RESTORE, story.attempt(RESTORE), story.state.epoch, done))
        assert "split_requested" not in story.tell(began())
    assert story.tell(began())[1:5] == [
        "restore_in_doubt",
        "restore_resolved",
        "split_requested",
        "split_started",
    ]
    assert sums(story) == {"named": 1, "planned": 1, "weight": 300}


def test_a_copy_that_kills_is_cut_too() -> None:
    """I18."""
    story = Story(mode="direct").planned()
    story.tell(began())
    assert "split_requested" in story.tell(began())


@pytest.mark.parametrize("why", ["natural", "suspects"])
def test_what_cannot_be_cut_dies_fifty_times(why: str) -> None:
    """I18: as any other task."""
    story = Story().planned()
    if why == "natural":
        story.state.chunks[CHUNK].natural = True
    else:
        story.state.suspects = MAX_SUSPECTS
    for _ in range(MAX_INTERRUPTIONS - 1):
        kinds = story.tell(began())
        assert "dump_started" in kinds
        assert "split_requested" not in kinds
    assert story.tell(began())[1:] == [
        "dump_in_doubt",
        "dump_dead_lettered",
        "pause_requested",
        "job_paused",
    ]


def test_a_verification_is_not_cut_for_its_deaths() -> None:
    """I18."""
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    for _ in range(3):
        assert "verify_started" in story.tell(began())


def test_a_killer_and_a_letter_in_one_recovery() -> None:
    """I19: what was dropped needs no pause; what was given up does."""
    told = SETTINGS.model_copy(update={"on_exhausted": "fail-job"})
    story = Story(told).planned()
    chunk = story.state.chunks[CHUNK]
    chunk.bisected, chunk.documents = True, 1
    story.tell(began(told))
    kinds = story.tell(began(told))
    assert "chunk_dropped" in kinds
    assert "job_failed" not in kinds


def test_a_failure_of_a_fresh_chunk_waits_for_its_budget() -> None:
    """A7: only the last of its failures makes it a suspect."""
    story = Story().planned()
    for _ in range(2):
        news = Failed(DUMP, story.attempt(DUMP), 1, Cause.TRANSIENT, "EDOC", "")
        assert story.tell(news) == ["dump_retry_scheduled"]
        story.now += 10_000
        story.tell()
    assert story.fail(DUMP, Cause.TRANSIENT, code="EDOC")[:2] == [
        "dump_cancelled",
        "split_requested",
    ]


def test_what_was_refused_stays_known_when_its_unit_is_left() -> None:
    """P10: its documents are kept for whoever will look after them."""
    told = SETTINGS.model_copy(update={"on_exhausted": "skip-unit"})
    story = Story(told).planned()
    story.succeed(DUMP, DUMPED)
    done = Restored(10, 4, 40, 0, 1)
    story.tell(Progressed(RESTORE, 1, story.state.epoch, done))
    assert "unit_skipped" in story.fail(RESTORE, Cause.PERMANENT, code="ESOURCE002")
    assert story.state.flawed[CHUNK].done.rejected == 1


def test_what_is_asked_for_again_is_counted_again() -> None:
    """P10: one document when it was given up; who knows how many lie in its range by now."""
    story = suspecting(1, bisected=True, documents=1)
    assert "chunk_dropped" in story.fail(DUMP, Cause.PERMANENT, code="EDOC")
    story.tell(RequeueAsked("me", CHUNK, 1), began())
    again = TaskKey(TaskKind.DUMP, f"{UNIT}#1")
    assert story.status(again) is Status.PROCESSING
    kinds = story.fail(again, Cause.PERMANENT, code="EDOC")
    assert kinds[:2] == ["dump_cancelled", "split_requested"], "not dropped unseen"
