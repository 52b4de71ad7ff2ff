"""How much one write command holds: policies as pure functions of what the last ones took (F1).

A command that takes long holds up its connection, is repeated whole after a doubt, and keeps other
users of the server waiting; one that holds little costs a round trip for little. So each policy has
a target: commands that took less than half of it may hold twice as much, those that took less a
step more, those that took more are halved.

A command's time is `fixed_ms`, which it takes whatever it holds (the network, a majority, a server
that makes everybody wait), and a part that grows with its documents. Smaller commands save nothing
of the first. The adaptive policy finds it out by what a change of size changed, and never makes
commands so small that it is more than half of their time.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from statemachine.events import RunSettings
from statemachine.words import BatchCause

SAMPLES: Final = 3
"""Commands of one size whose median is believed: one that is slow by chance changes nothing."""
SLOWER: Final = 1.25
"""Times the target above which commands are too slow."""
FASTER: Final = 0.8
"""The same below which they may hold more. Halved from above 1.25 times the target, or grown by a
half from below 0.8, a command stays within both."""
STEPS: Final = 16
"""Additive steps from nothing to the most a command may hold."""
FAR: Final = 1.5
"""How many times as much a command must hold as another to tell what both take for nothing."""


class Size(NamedTuple):
    """Of one write command at most; of a single document that is bigger, that document."""

    documents: int
    bytes: int

    def halved(self) -> "Size":
        return Size(self.documents // 2, self.bytes // 2)

    def least_of(self, other: "Size") -> "Size":
        return Size(min(self.documents, other.documents), min(self.bytes, other.bytes))

    def most_of(self, other: "Size") -> "Size":
        return Size(max(self.documents, other.documents), max(self.bytes, other.bytes))


class Rule(NamedTuple):
    """A policy: what no size leaves, and what it is after."""

    least: Size
    initial: Size
    most: Size
    """A block that comes to this many bytes goes whole: no size is greater than a block."""
    target_ms: int
    patient: bool
    """What commands take whatever they hold is no reason to make them smaller."""

    def within(self, size: Size) -> Size:
        return size.most_of(self.least).least_of(self.most)


WHOLE: Final = Size(50_000, 2 << 20)
"""A block of the data plane; far below a message's 48,000,000 bytes and 100,000 operations."""
RULES: Final[Mapping[str, Rule]] = {
    "adaptive": Rule(Size(10, 64 << 10), Size(1000, 256 << 10), WHOLE, 500, patient=True),
    "document": Rule(
        Size(10, WHOLE.bytes), Size(100, WHOLE.bytes), Size(1000, WHOLE.bytes), 2000, patient=False
    ),
    "fixed": Rule(WHOLE, WHOLE, WHOLE, 500, patient=False),
}
"""By their name in settings. `document` is the rule of requirement F1, to the letter. The target
of `adaptive` is justified in docs/batches.md."""


class Sample(NamedTuple):
    """One command: what it held, and how long it took."""

    documents: int
    bytes: int
    ms: float


class Course(NamedTuple):
    """Where the size of one unit's commands stands, and why it may change next."""

    size: Size
    quick: bool = True
    """Nothing is known yet, and nothing was too slow: it doubles until something is."""
    samples: tuple[Sample, ...] = ()
    """Of this size."""
    before: Sample | None = None
    """The median that was believed last."""
    fixed_ms: float = 0.0
    """What a command takes whatever it holds, as far as it showed."""


def rule_of(settings: RunSettings) -> Rule:
    """The policy with what the operator wants otherwise."""
    rule = RULES[settings.batch]
    if settings.batch_docs:
        most = Size(min(settings.batch_docs, rule.most.documents), rule.most.bytes)
        least, initial = rule.least.least_of(most), rule.initial.least_of(most)
        rule = rule._replace(least=least, initial=initial, most=most)
    return rule._replace(target_ms=settings.batch_ms or rule.target_ms)


def timed(
    rule: Rule, course: Course, sample: Sample, *, may_grow: bool = True
) -> tuple[Course, BatchCause | None]:
    """What follows from a command of the present size that was answered; with the cause where
    the next ones have another size.

    A command that held less than half of what it might says nothing: the end of a chunk, a small
    collection. `may_grow`: nobody asked for less lately.
    """
    if 2 * sample.documents < course.size.documents and 2 * sample.bytes < course.size.bytes:
        return course, None
    if may_grow and 2 * sample.ms < rule.target_ms:  # one that is so fast is no accident
        return _changed(rule, _believed(course, sample), _doubled(course.size), "faster")
    samples = (*course.samples, sample)
    if len(samples) < SAMPLES:
        return course._replace(samples=samples), None
    median = sorted(samples, key=lambda each: each.ms)[SAMPLES // 2]
    course = _believed(course, median)
    fixed_ms = course.fixed_ms if rule.patient else 0.0
    target_ms = max(rule.target_ms, 2 * fixed_ms)
    if median.ms > SLOWER * target_ms:
        return _changed(rule, course._replace(quick=False), course.size.halved(), "slower")
    if not may_grow:
        return course, None
    if course.quick or 2 * median.ms - fixed_ms < target_ms:
        return _changed(rule, course, _doubled(course.size), "faster")
    if median.ms < FASTER * target_ms:
        return _changed(rule, course, _grown(rule, course.size), "faster")
    return course, None


def pressed(rule: Rule, course: Course, cause: BatchCause) -> tuple[Course, BatchCause | None]:
    """Half at once, whatever commands took: memory is short, or the server's cache is full. Not
    below the initial size: less would save nothing any more."""
    least = course.size.least_of(rule.initial)
    size = course.size.halved().most_of(least)
    return _changed(rule, course._replace(quick=False), size, cause)


def failed(
    rule: Rule, course: Course, held: Size, cause: BatchCause
) -> tuple[Course, BatchCause | None]:
    """Half at once of what a command held that was too much: the server asked for less, or did not
    answer in time."""
    return _changed(rule, course._replace(quick=False), course.size.least_of(held).halved(), cause)


def ruled(rule: Rule, course: Course) -> tuple[Course, BatchCause | None]:
    """The rule is another now."""
    return _changed(rule, course, course.size, "set")


def is_far(size: Size, told: Size) -> bool:
    """Whether it is at least twice or at most half of what was told last."""
    return any(
        new >= 2 * old or 2 * new <= old for new, old in zip(size, told, strict=True) if new != old
    )


def _changed(
    rule: Rule, course: Course, size: Size, cause: BatchCause
) -> tuple[Course, BatchCause | None]:
    within = rule.within(size)
    if within == course.size:
        return course, None
    return course._replace(size=within, samples=()), cause


def _believed(course: Course, median: Sample) -> Course:
    fixed_ms = min(course.fixed_ms, median.ms)
    if course.before is not None:
        less, more = sorted((course.before, median), key=lambda each: each.bytes)
        if more.bytes >= FAR * less.bytes:
            per_byte = (more.ms - less.ms) / (more.bytes - less.bytes)
            fixed_ms = min(max(0.0, less.ms - per_byte * less.bytes), median.ms)
    return course._replace(samples=(), before=median, fixed_ms=fixed_ms)


def _doubled(size: Size) -> Size:
    return Size(size.documents * 2, size.bytes * 2)


def _grown(rule: Rule, size: Size) -> Size:
    """By one step, and never by more than a half: what is small stays near what was tried."""
    documents, held = (
        now + max(1, min(most // STEPS, now // 2))
        for now, most in zip(size, rule.most, strict=True)
    )
    return Size(documents, held)
