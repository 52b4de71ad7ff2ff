"""How much one write command holds: shared by the workers that fill one collection."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

from pymongo.errors import PyMongoError

from executors.batches import Block
from executors.classify import is_throttled, ran_out_of_time
from executors.protocol import Report
from executors.rawbson import int32
from statemachine import batching
from statemachine.batching import Course, Sample, Size
from statemachine.events import RunSettings
from statemachine.state import Unit
from statemachine.stimuli import Resized
from statemachine.words import BatchCause, UnitId

MAX_KEPT: Final = 1000
"""Units whose sizes are remembered in a run; one that is forgotten begins as the journal says."""
HOLD_S: Final = 10.0
"""After somebody asked for less, nothing grows for so long: twice as long as a shortage that lasts
is silent (`ferrylog.governing`)."""


class Sizer(Protocol):
    """Of one unit; called from the threads of all workers that fill it."""

    def parts(self, block: Block) -> Iterator[Block]:
        """The block in pieces, each small enough for one command by what is known when it is taken;
        whole where that is small enough."""
        ...

    def timed(self, part: Block, /) -> AbstractContextManager[None]:
        """Around the command that sends it: what that takes, and what it raises, tells how big the
        next ones may be."""
        ...


class WholeBlocks:
    """Every block as it comes."""

    def parts(self, block: Block) -> Iterator[Block]:
        yield block

    def timed(self, _part: Block) -> AbstractContextManager[None]:
        return nullcontext()


WHOLE: Final = WholeBlocks()
Sizers = Callable[[Unit, Report], Sizer]
"""That of a unit, and whom it tells when its size changes."""


def whole_blocks(_unit: Unit, _report: Report) -> Sizer:
    return WHOLE


@dataclass(frozen=True)
class Surroundings:
    """What sizers need to know of the run."""

    settings: Callable[[], RunSettings]
    """As they are now; another object once they changed."""
    monotonic_s: Callable[[], float]
    say: Callable[[str], None]
    """Takes a line for every change, also for those that the journal is not told."""
    learned: Mapping[str, Size]
    """What earlier jobs ended with, by namespaces of the target."""


class LiveSizer:
    """As `statemachine.batching` has it, by the settings as they are now."""

    def __init__(self, unit: Unit, report: Report, around: Surroundings) -> None:
        """It begins as the journal says of the unit, or as a job before ended."""
        self.report = report
        self._unit = unit.id
        self._around = around
        self._lock = threading.Lock()
        self._seen = around.settings()
        self._rule = batching.rule_of(self._seen)
        self._last_ms = 0.0
        self._grows_s = 0.0
        """From when on it may."""
        known = Size(unit.batch_documents, unit.batch_bytes)
        learned = self._rule.within(around.learned.get(unit.target, self._rule.initial))
        self._course = Course(self._rule.initial)
        self._told = known if known.documents else self._course.size
        if known.documents:
            self._move(*batching.ruled(self._rule, Course(known, quick=False)))
        elif learned != self._course.size:
            self._move(Course(learned, quick=False), "learned")

    def pressed(self, cause: BatchCause) -> None:
        """As of `LiveSizers`."""
        with self._lock:
            self._hold()
            self._move(*batching.pressed(self._rule, self._course, cause))

    def _hold(self) -> None:
        self._grows_s = self._around.monotonic_s() + HOLD_S

    def parts(self, block: Block) -> Iterator[Block]:
        """Equal parts of what is left, as the size is when each is taken."""
        self._look()
        at, left = 0, block.documents
        while (count := self._pieces(len(block.data) - at, left)) > 1:
            after, held = _cut(block.data, at, -(-left // count), self._course.size.bytes)
            yield Block(block.data[at:after], held)
            at, left = after, left - held
        if left:
            yield Block(block.data[at:], left) if at else block

    def _pieces(self, size: int, documents: int) -> int:
        """A block is no bigger than the greatest size, but for its last document."""
        now = self._course.size
        fits = size <= now.bytes or now.bytes >= self._rule.most.bytes
        return max(-(-documents // now.documents), 1 if fits else -(-size // now.bytes))

    @contextmanager
    def timed(self, part: Block) -> Iterator[None]:
        size, began_s = self._course.size, self._around.monotonic_s()
        try:
            yield
        except PyMongoError as error:
            self._learn(size, began_s, part, error)
            raise
        self._learn(size, began_s, part)

    def _learn(
        self, size: Size, began_s: float, part: Block, failed: PyMongoError | None = None
    ) -> None:
        held = Size(part.documents, len(part.data))
        now_s = self._around.monotonic_s()
        took_ms = (now_s - began_s) * 1000
        with self._lock:
            if size != self._course.size:  # what was sent before it changed is old news
                return
            self._last_ms = took_ms
            if failed is None:
                sample, may = Sample(*held, took_ms), now_s >= self._grows_s
                self._move(*batching.timed(self._rule, self._course, sample, may_grow=may))
            elif is_throttled(failed):
                self._hold()
                self._move(*batching.failed(self._rule, self._course, held, "throttled"))
            elif ran_out_of_time(failed):
                self._move(*batching.failed(self._rule, self._course, held, "slower"))

    def _look(self) -> None:
        """Whether an operator wants it otherwise: once per block."""
        settings = self._around.settings()
        if settings is self._seen:
            return
        with self._lock:
            self._seen, self._rule = settings, batching.rule_of(settings)
            self._move(*batching.ruled(self._rule, self._course))

    def _move(self, course: Course, cause: BatchCause | None) -> None:
        """With the lock held. The journal is told of what doubled or halved since it was told last,
        and of what no command's time changed."""
        self._course = course
        if cause is None:
            return
        size, took_ms = course.size, round(self._last_ms)
        self._around.say(
            f"write commands of {self._unit} hold {size.documents} documents, {size.bytes} bytes "
            f"at most: {cause}; the last took {took_ms} ms"
        )
        if cause in ("learned", "set") or batching.is_far(size, self._told):
            self._told = size
            self.report(Resized(self._unit, *size, cause, took_ms))


class LiveSizers:
    """Those of a run; called from the threads of all its workers."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._lock = threading.Lock()
        self._sizers: dict[UnitId, LiveSizer] = {}

    def __call__(self, unit: Unit, report: Report) -> Sizer:
        with self._lock:
            sizer = self._sizers.get(unit.id)
            if sizer is None:
                sizer = self._sizers[unit.id] = LiveSizer(unit, report, self._around)
                if len(self._sizers) > MAX_KEPT:
                    del self._sizers[next(iter(self._sizers))]
            sizer.report = report
        return sizer

    def pressed(self, cause: BatchCause) -> None:
        """Smaller from now on, everywhere: memory is short, or the server's cache is full. To be
        said again while that lasts."""
        with self._lock:
            sizers = [*self._sizers.values()]
        for sizer in sizers:
            sizer.pressed(cause)


def _cut(data: bytes, at: int, documents: int, size: int) -> tuple[int, int]:
    """Where the first so many documents from `at` on end, or those that fit into the size; and
    how many that are, one at least."""
    held, after, until = 0, at, at + size
    while held < documents:
        end = after + int32(data, after)[0]
        if not after < end <= len(data):
            raise ValueError(f"document at byte {after} does not fit its block")
        if held and end > until:
            break
        after, held = end, held + 1
    return after, held
