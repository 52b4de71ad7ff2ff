"""Blocks in write commands of the right size, and what the journal is told of it (F1, I43)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import NetworkTimeout, OperationFailure, PyMongoError

from executors.batches import Block
from executors.rawbson import documents
from executors.sizing import (
    HOLD_S,
    MAX_KEPT,
    WHOLE,
    LiveSizer,
    LiveSizers,
    Surroundings,
    whole_blocks,
)
from statemachine.batching import RULES, Size
from statemachine.stimuli import Progressed, Resized
from statemachine.words import UnitId
from tests.executors.examples import plain_unit
from tests.statemachine.examples import SETTINGS

UNIT = plain_unit()
INITIAL = RULES["adaptive"].initial


def block_of(*lengths: int) -> Block:
    """Documents of about so many bytes."""
    data = [bson.encode({"_id": n, "x": b"x" * length}) for n, length in enumerate(lengths)]
    return Block(b"".join(data), len(data))


@dataclass
class Run:
    """A run: its clock goes on by what commands take."""

    changes: dict[str, Any] = field(default_factory=dict)
    learned: dict[str, Size] = field(default_factory=dict)
    now_s: float = 0.0
    told: list[Progressed | Resized] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = SETTINGS.model_copy(update=self.changes)
        around = Surroundings(
            lambda: self.settings, lambda: self.now_s, self.said.append, self.learned
        )
        self.sizers = LiveSizers(around)

    def set(self, **changes: Any) -> None:
        self.settings = self.settings.model_copy(update=changes)

    def sizer(self, **changes: Any) -> LiveSizer:
        sizer = self.sizers(replace(UNIT, **changes), self.told.append)
        assert isinstance(sizer, LiveSizer)
        return sizer

    def send(self, block: Block, cost: Callable[[Block], float]) -> list[Block]:
        """In parts; what each command takes, in milliseconds."""
        sizer, parts = self.sizer(), []
        for part in sizer.parts(block):
            with sizer.timed(part):
                self.now_s += cost(part) / 1000
            parts.append(part)
        return parts

    def sizes(self) -> list[tuple[int, str]]:
        """Documents and causes of what was told."""
        return [(each.documents, each.cause) for each in self.told if isinstance(each, Resized)]


def at_once(_part: Block) -> float:
    return 1.0


SMALL = block_of(*[200] * 9000)


# --- parts ----------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=60),
    st.integers(1, 70),
    st.sampled_from(["adaptive", "document", "fixed"]),
)
def test_parts_are_the_block(lengths: list[int], most: int, policy: str) -> None:
    """F1: every document once, in order, never more than the limit."""
    block = block_of(*lengths)
    run = Run({"batch": policy, "batch_docs": most})
    parts = list(run.sizer().parts(block))
    assert b"".join(part.data for part in parts) == block.data
    assert all(part.documents == len(list(documents(part.data))) for part in parts)
    assert all(1 <= part.documents <= most for part in parts)


def test_what_is_small_enough_goes_whole() -> None:
    """F1: not even copied."""
    block = block_of(*[10] * 50)
    (part,) = Run().sizer().parts(block)
    assert part is block
    (part,) = WHOLE.parts(block)
    assert part is block
    with WHOLE.timed(part):
        assert whole_blocks(UNIT, print) is WHOLE


def test_nothing_is_no_part() -> None:
    """F1: an empty block is no command."""
    assert list(Run().sizer().parts(Block(b"", 0))) == []


def test_parts_by_bytes() -> None:
    """F1: equal ones, none beyond the limit but of a single document that is."""
    run = Run()
    parts = list(run.sizer().parts(block_of(*[100_000] * 5)))
    assert [part.documents for part in parts] == [2, 2, 1]
    assert all(len(part.data) <= INITIAL.bytes for part in parts)
    parts = list(run.sizer().parts(block_of(10, 400_000, 10)))
    assert [part.documents for part in parts] == [1, 1, 1]


def test_the_greatest_size_is_a_whole_block() -> None:
    """F1: a block ends with the document that fills it."""
    run = Run({"batch": "fixed"})
    block = block_of(1 << 20, (1 << 20) - 1000, 100_000)
    assert list(run.sizer().parts(block)) == [block]


def test_parts_that_lie_are_found() -> None:
    """I22: a length that does not fit is nothing to cut at."""
    with pytest.raises(ValueError, match="does not fit"):
        list(Run({"batch_docs": 1}).sizer().parts(Block(b"\xff\xff\xff\x7f" + bytes(9), 2)))


def test_parts_follow_the_size() -> None:
    """F1: a block that began in great pieces ends in small ones."""
    run = Run({"batch": "document"})
    sizer, took = run.sizer(batch_documents=1000, batch_bytes=2 << 20), []
    for part in sizer.parts(SMALL):
        took.append(part.documents)
        with sizer.timed(part):
            run.now_s += 10
    assert took[0] == 1000 and took[-1] < 150


# --- what is learned ------------------------------------------------------------------------------


def test_a_fast_target_gets_whole_blocks() -> None:
    """F1: after a few commands; the journal is told at each doubling, the log everything."""
    run = Run()
    for _ in range(3):
        parts = run.send(SMALL, at_once)
    assert parts == [SMALL]
    assert {cause for _, cause in run.sizes()} == {"faster"}
    told = [documents for documents, _ in run.sizes()]
    assert all(b >= 2 * a for a, b in pairwise(told)), told
    assert len(run.said) >= len(told)


def test_a_slow_target_gets_little_and_more_again() -> None:
    """F1: by what a document costs; recovers when the target does."""
    run = Run()
    for _ in range(3):
        run.send(SMALL, at_once)
    for _ in range(12):
        parts = run.send(SMALL, lambda part: part.documents * 5.0)
    assert max(part.documents for part in parts) * 5 <= 2 * RULES["adaptive"].target_ms
    run.told.clear()
    for _ in range(30):
        parts = run.send(SMALL, at_once)
    assert parts == [SMALL]
    assert run.sizes() and {cause for _, cause in run.sizes()} == {"faster"}


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OperationFailure("too much", 16500), "throttled"),
        (OperationFailure("Error=16, RetryAfterMs=34", 1), "throttled"),
        (OperationFailure("shed", 1, {"errorLabels": ["SystemOverloadedError"]}), "throttled"),
        (OperationFailure("time limit", 50), "slower"),
        (NetworkTimeout("timed out"), "slower"),
    ],
)
def test_what_a_target_refuses_comes_in_halves(error: PyMongoError, cause: str) -> None:
    """F1, F7: at once; the next command holds half of what was too much."""
    run = Run()
    sizer = run.sizer()
    part = block_of(*[20] * 600)
    with pytest.raises(type(error)), sizer.timed(part):
        raise error
    assert run.sizes() == [(300, cause)]


def test_other_failures_say_nothing() -> None:
    """F1: a duplicate key is no matter of size; neither is being stopped."""
    run = Run()
    sizer = run.sizer()
    for error in (OperationFailure("no", 11000), ValueError("ours")):
        for _ in range(5):
            with pytest.raises(type(error)), sizer.timed(block_of(*[20] * 900)):
                run.now_s += 100
                raise error
    assert run.told == [] and run.said == []


def test_old_news_is_none() -> None:
    """F1: what was on its way when the size changed says nothing of the new one."""
    run = Run()
    sizer = run.sizer()
    error = OperationFailure("too much", 16500)
    with suppress(OperationFailure), sizer.timed(block_of(*[20] * 900)):
        with suppress(OperationFailure), sizer.timed(block_of(*[20] * 900)):
            raise error
        told = list(run.told)
        raise error
    assert run.told == told


def test_what_is_short_presses_all() -> None:
    """F3: memory; each unit's commands, once each time it is said."""
    run = Run()
    sizer = run.sizer(batch_documents=50_000, batch_bytes=2 << 20)
    other = run.sizer(id=UnitId("shop.other"), batch_documents=50_000, batch_bytes=2 << 20)
    run.sizers.pressed("memory")
    assert run.sizes() == [(25_000, "memory")] * 2
    assert len(list(sizer.parts(SMALL))) == len(list(other.parts(SMALL))) == 2


def test_nothing_grows_while_less_is_asked_for() -> None:
    """F3, F7: quick commands are what was wanted, and no reason for bigger ones."""
    run = Run()
    run.sizer(batch_documents=4000, batch_bytes=2 << 20)
    run.sizers.pressed("cache")
    for _ in range(20):
        run.send(SMALL, at_once)
    assert run.sizes() == [(2000, "cache")]
    run.now_s += HOLD_S
    for _ in range(20):
        run.send(SMALL, at_once)
    assert {cause for _, cause in run.sizes()[1:]} == {"faster"}
    with suppress(OperationFailure), run.sizer().timed(SMALL):
        raise OperationFailure("too much", 16500)
    told = list(run.told)
    run.send(SMALL, at_once)
    assert run.told == told


# --- where it begins ------------------------------------------------------------------------------


def test_a_resumed_job_begins_as_its_journal_says() -> None:
    """F1: nothing new is told."""
    run = Run(learned={UNIT.target: Size(77, 70_000)})
    sizer = run.sizer(batch_documents=20, batch_bytes=100_000)
    assert max(part.documents for part in sizer.parts(SMALL)) == 20
    assert run.told == []


def test_a_job_begins_as_the_one_before_it_ended() -> None:
    """F1: with the same target; the journal is told why."""
    run = Run(learned={UNIT.target: Size(77, 70_000), "other.c": Size(10, 70_000)})
    sizer = run.sizer()
    assert max(part.documents for part in sizer.parts(SMALL)) == 77
    assert run.sizes() == [(77, "learned")]


def test_what_was_learned_is_kept_within_the_rule() -> None:
    """I43: of another policy's, nothing that this one does not allow."""
    run = Run({"batch": "document"}, learned={UNIT.target: Size(50_000, 2 << 20)})
    run.sizer()
    assert run.sizes() == [(1000, "learned")]
    fixed = Run({"batch": "fixed", "batch_docs": 5}, learned={UNIT.target: Size(900, 2 << 20)})
    fixed.sizer()
    assert fixed.told == []


def test_an_operator_changes_it_while_it_runs() -> None:
    """F1, B5: with the next block; another limit that changes nothing is not told."""
    run = Run({"batch": "fixed", "batch_docs": 500})
    assert {part.documents for part in run.send(SMALL, at_once)} == {500}
    run.set(batch_docs=300)
    assert {part.documents for part in run.send(SMALL, at_once)} == {300}
    run.set(tick_ms=1)
    run.send(SMALL, at_once)
    assert run.sizes() == [(300, "set")]


def test_the_same_sizer_for_all_workers() -> None:
    """F1: of one unit; no more of them are kept than a limit."""
    run = Run()
    assert run.sizer() is run.sizer()
    first = run.sizer()
    for number in range(MAX_KEPT):
        run.sizer(id=UnitId(f"shop.c{number}"))
    assert run.sizer() is not first


def test_many_threads() -> None:
    """F1, I43: shared, and within its limits whatever they say at once."""
    run = Run()
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda number: [*_sent(run, number)], [*range(4)] * 20)
        assert all(1 <= part.documents <= 50_000 for parts in found for part in parts)


def _sent(run: Run, number: int) -> Iterator[Block]:
    sizer = run.sizer()
    for part in sizer.parts(SMALL):
        with sizer.timed(part):
            run.now_s += number
        yield part
