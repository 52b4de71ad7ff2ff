"""F1, I43: write commands hold what their policy allows, and change by its rule alone."""

from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.batching import (
    FASTER,
    RULES,
    SAMPLES,
    SLOWER,
    WHOLE,
    Course,
    Rule,
    Sample,
    Size,
    failed,
    is_far,
    pressed,
    rule_of,
    ruled,
    timed,
)
from statemachine.words import BatchCause
from tests.statemachine.examples import SETTINGS

ADAPTIVE, DOCUMENT = RULES["adaptive"], RULES["document"]
DOCUMENT_BYTES = 230
Cost = Callable[[int], float]
"""Milliseconds that a command of so many documents takes."""

sizes = st.builds(Size, st.integers(1, 60_000), st.integers(1, 3 << 20))
samples = st.builds(Sample, st.integers(1, 60_000), st.integers(1, 3 << 20), st.floats(0, 100_000))
rules = st.sampled_from(list(RULES)).flatmap(
    lambda name: st.builds(
        lambda docs, ms: rule_of(
            SETTINGS.model_copy(update={"batch": name, "batch_docs": docs, "batch_ms": ms})
        ),
        st.sampled_from([0, 1, 7, 500, 50_000]),
        st.sampled_from([0, 1, 100, 3_600_000]),
    )
)


def sent(size: Size, cost: Cost, document_bytes: int = DOCUMENT_BYTES) -> Sample:
    """A command that holds all that the size allows."""
    documents = max(1, min(size.documents, size.bytes // document_bytes))
    return Sample(documents, documents * document_bytes, cost(documents))


def run(rule: Rule, course: Course, cost: Cost, commands: int) -> Course:
    for _ in range(commands):
        course, _ = timed(rule, course, sent(course.size, cost))
    return course


def linear(fixed_ms: float, document_us: float) -> Cost:
    return lambda documents: fixed_ms + documents * document_us / 1000


def is_within(rule: Rule, size: Size) -> bool:
    return rule.within(size) == size


# --- I43 ------------------------------------------------------------------------------------------


@given(rules, st.lists(st.one_of(samples, sizes, st.sampled_from(get_args(BatchCause)))))
def test_always_within_the_limits(rule: Rule, news: list[Sample | Size | BatchCause]) -> None:
    """I43: whatever commands took, failed at, or pressed them."""
    course = Course(rule.initial)
    for each in news:
        before = course.size
        if isinstance(each, Sample):
            course, cause = timed(rule, course, each)
        elif isinstance(each, Size):
            course, cause = failed(rule, course, each, "throttled")
        else:
            course, cause = pressed(rule, course, each)
        assert is_within(rule, course.size)
        assert (cause is not None) == (course.size != before)
        assert len(course.samples) < SAMPLES


@given(rules, sizes, st.lists(samples))
def test_changes_by_the_rule_alone(rule: Rule, size: Size, news: list[Sample]) -> None:
    """I43: what was slow is halved, what was fast at most doubled."""
    course = Course(rule.within(size))
    for sample in news:
        before = course.size
        course, cause = timed(rule, course, sample)
        if cause == "slower":
            assert course.size == rule.within(before.halved())
            assert sample.ms >= 0
        elif cause == "faster":
            grown = [new / old for new, old in zip(course.size, before, strict=True)]
            assert all(1 <= by <= 2 for by in grown)
        else:
            assert cause is None and course.size == before


@given(rules, sizes)
def test_a_rule_that_changes_is_kept_at_once(rule: Rule, size: Size) -> None:
    """I43: an operator sets other limits."""
    course, cause = ruled(rule, Course(size))
    assert is_within(rule, course.size)
    assert cause == ("set" if course.size != size else None)


def test_the_named_limits() -> None:
    """F1: 10 to 1000, from 100 on, 2,000 ms; no command is bigger than a block."""
    assert (DOCUMENT.least.documents, DOCUMENT.most.documents) == (10, 1000)
    assert (DOCUMENT.initial.documents, DOCUMENT.target_ms) == (100, 2000)
    assert WHOLE.bytes < 48_000_000 and WHOLE.documents < 100_000
    for rule in RULES.values():
        assert is_within(rule, rule.initial)
        assert rule.most.least_of(WHOLE) == rule.most


def test_what_an_operator_wants() -> None:
    """F1: documents at most, of a fixed size exactly; another target."""
    wanted = SETTINGS.model_copy(update={"batch": "fixed", "batch_docs": 70, "batch_ms": 9})
    rule = rule_of(wanted)
    assert rule.least.documents == rule.initial.documents == rule.most.documents == 70
    assert rule.target_ms == 9
    few = rule_of(SETTINGS.model_copy(update={"batch_docs": 5}))
    assert few.least.documents == few.initial.documents == few.most.documents == 5
    assert rule_of(SETTINGS) == ADAPTIVE


# --- where it ends --------------------------------------------------------------------------------


@given(
    st.sampled_from([ADAPTIVE, DOCUMENT]),
    st.integers(1, 60_000),
    st.floats(0, 100),
    st.floats(1, 100_000),
)
def test_converges_to_the_target(
    rule: Rule, documents: int, fixed_ms: float, document_us: float
) -> None:
    """I43: on a server whose time grows with the documents."""
    cost = linear(fixed_ms, document_us)
    begin = Course(rule.within(Size(documents, documents * DOCUMENT_BYTES)))
    course = run(rule, begin, cost, 400)
    ms, size = sent(course.size, cost).ms, course.size
    assert ms >= FASTER * rule.target_ms or size == rule.most or _full(rule, size)
    least = sent(rule.least, cost).ms
    assert ms <= SLOWER * rule.target_ms or ms <= 2 * least


def _full(rule: Rule, size: Size) -> bool:
    """By what limits small documents."""
    return sent(size, linear(0, 1)).documents == sent(rule.most, linear(0, 1)).documents


@given(st.sampled_from([ADAPTIVE, DOCUMENT]), st.floats(1, 50))
def test_recovers_when_the_server_does(rule: Rule, document_us: float) -> None:
    """I43: as big as before, however slow it was and however long."""
    quiet = linear(2, document_us)
    slow = linear(2, 50_000)
    before = run(rule, Course(rule.initial), quiet, 200)
    under = run(rule, before, slow, 200)
    assert under.size.documents < before.size.documents / 4
    after = run(rule, under, quiet, 300)
    assert sent(after.size, quiet).ms >= 0.5 * sent(before.size, quiet).ms


def test_it_is_quick_at_the_start() -> None:
    """F1: a fast server gets whole blocks after a few commands."""
    course = run(ADAPTIVE, Course(ADAPTIVE.initial), linear(1, 12), 6)
    assert sent(course.size, linear(0, 1)).bytes > 0.9 * WHOLE.bytes


def test_what_no_size_helps_is_no_reason_to_be_small() -> None:
    """F1: where every command waits a second, small ones would make it the whole of the time."""
    far_away = linear(1000, 12)
    course = run(ADAPTIVE, Course(ADAPTIVE.most), far_away, 200)
    assert sent(course.size, far_away).bytes > 0.9 * WHOLE.bytes
    plain = run(ADAPTIVE._replace(patient=False), Course(ADAPTIVE.most), far_away, 200)
    assert plain.size == ADAPTIVE.least


@pytest.mark.parametrize("fixed_ms", [100, 450, 700, 5000])
def test_a_far_away_target_gets_whole_blocks_soon(fixed_ms: int) -> None:
    """F1: also where a command takes longer than it should whatever it holds."""
    far_away = linear(fixed_ms, 1)
    course = run(ADAPTIVE, Course(ADAPTIVE.initial), far_away, 20)
    assert sent(course.size, far_away).bytes > 0.9 * WHOLE.bytes


def test_what_was_learned_is_not_exceeded_to_see_what_happens() -> None:
    """F1: what is in its target's time stays so."""
    learned = Course(Size(4000, 1 << 20), quick=False)
    assert run(ADAPTIVE, learned, linear(0, 500 / 4), 30).size == learned.size


def test_the_document_s_rule_knows_no_patience() -> None:
    """F1: to the letter."""
    course = run(DOCUMENT, Course(DOCUMENT.initial), linear(3000, 12), 100)
    assert course.size.documents == 10


# --- what says something, and what does not -------------------------------------------------------


def test_one_slow_command_changes_nothing() -> None:
    """F1: smoothed."""
    course = Course(ADAPTIVE.most, quick=False)
    for ms in (300, 60_000, 300):
        course, cause = timed(ADAPTIVE, course, Sample(9000, WHOLE.bytes, ms))
    assert cause is None or course.size == ADAPTIVE.most


def test_a_command_that_is_nearly_empty_says_nothing() -> None:
    """F1: the end of a chunk, a small collection."""
    course = Course(ADAPTIVE.initial)
    for ms in (1, 10_000, 10_000, 10_000, 10_000):
        assert timed(ADAPTIVE, course, Sample(3, 690, ms)) == (course, None)


def test_a_throttled_command_is_halved_at_once() -> None:
    """F1: of what it held, not of what it might have held."""
    course, cause = failed(ADAPTIVE, Course(ADAPTIVE.most), Size(600, 150_000), "throttled")
    assert (course.size, cause) == (Size(300, 75_000), "throttled")
    assert not course.quick


@pytest.mark.parametrize("cause", ["memory", "cache"])
def test_what_is_short_presses_to_the_initial_size(cause: BatchCause) -> None:
    """F3: no further, for less would free nothing."""
    course, told = pressed(ADAPTIVE, Course(ADAPTIVE.most), cause)
    assert (course.size, told) == (ADAPTIVE.most.halved(), cause)
    for _ in range(20):
        course, _ = pressed(ADAPTIVE, course, cause)
    assert course.size == ADAPTIVE.initial
    small = Course(ADAPTIVE.least)
    assert pressed(ADAPTIVE, small, cause)[0].size == ADAPTIVE.least


def test_while_less_is_asked_for_it_may_only_shrink() -> None:
    """F3, F7: fast commands change nothing, slow ones do."""
    course = Course(ADAPTIVE.initial)
    for _ in range(SAMPLES):
        course, cause = timed(ADAPTIVE, course, sent(course.size, linear(1, 1)), may_grow=False)
        assert (course.size, cause) == (ADAPTIVE.initial, None)
    for _ in range(SAMPLES):
        course, cause = timed(ADAPTIVE, course, sent(course.size, linear(9000, 1)), may_grow=False)
    assert (course.size, cause) == (ADAPTIVE.initial.halved(), "slower")


def test_what_the_journal_is_told() -> None:
    """I43: what doubled or halved."""
    told = Size(100, 1000)
    for near in (told, Size(199, 1000), Size(51, 1000), Size(100, 501)):
        assert not is_far(near, told)
    for far in (Size(200, 1000), Size(50, 1000), Size(100, 500), Size(100, 2000)):
        assert is_far(far, told)
