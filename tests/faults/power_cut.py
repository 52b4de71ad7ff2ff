"""Power cuts at every place of recorded runs, and at every place of the recoveries from them.

Each disk that a cut may leave is a *lot*, named by where its draw stands: `seed/place/n`, and
`seed/place/n/c0/place/n` for a second cut, while the first was being recovered from (`f7` instead
of `c0`: the 7th operation of the recovery failed before). A lot is the seed of its own chance, so
its name alone repeats it: `python -m tests.faults power_cut 3/120/4`.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

from journal.errors import JournalUnknown, JournalUnreachable
from tests.faults.disk import PATH, Build, Faults, Image, ModelDisk, Op, Promise
from tests.faults.images import Cut, digest
from tests.faults.workload import quietly, record, recover, repeatable

DISKS: Final = (Build(), Build(powersafe=False), Build(sector=4096, powersafe=False))
DRAWS: Final = 7
"""Disks of each place: the least, the most, and five in between."""
DRAWS_AGAIN: Final = 3
FIRST_FORMAT: Final = "DROP INDEX events_by_time; PRAGMA user_version = 1"
"""Takes a journal back to where its format began."""
COMPOUND: Final = 0.01
"""The share of disks whose recovery is cut too, whole and with a fault."""


@dataclass
class PowerCuts:
    """Counts what it judged. Raises what a judgement raises, with the command that repeats it."""

    only: str = ""
    first: int = 0
    again: int = 0
    faults: int = 0
    _found: dict[bytes, int] = field(default_factory=dict)

    def run(self, seed: int) -> None:
        build = DISKS[seed % len(DISKS)]
        cut = Cut({}, build, Promise())
        for lot, image in self._lots(f"{seed}", cut, record(seed, build).trace, DRAWS):
            recovery = self._judge(lot, image, build, cut.promise)
            if recovery is not None:
                self.first += 1
                if self.only or Random(lot).random() < COMPOUND:
                    self._compound(lot, image, build, recovery)

    def run_old_format(self) -> None:
        """Cut the opening that brings a journal to today's format."""
        made = record("old", Build(), appends=3)
        db = made.connect(PATH)
        db.execute(FIRST_FORMAT)
        db.close()
        promise = next(op for op in reversed(made.trace) if isinstance(op, Promise))
        image = made.contents()
        assert image[str(PATH)][60:64] == b"\0\0\0\1", "not the first format"
        self._compound("old/0/0", image, Build(), recover(ModelDisk(image), promise, "old"))

    def _lots(
        self, name: str, cut: Cut, trace: list[Op], draws: int
    ) -> Iterator[tuple[str, Image]]:
        for place, op in enumerate(trace):
            cut.move(op)
            for n in range(draws):
                lot = f"{name}/{place}/{n}"
                if f"{self.only}/".startswith(f"{lot}/") or not self.only:
                    yield lot, cut.image(lot)

    def _judge(self, lot: str, image: Image, build: Build, promise: Promise) -> ModelDisk | None:
        """The disk after its recovery; `None` when it was judged before, for another promise."""
        key = digest(image, build)
        with repeatable("power_cut", lot):
            if key in self._found:
                assert self._found[key] in {
                    hash(promise.kept),
                    hash(promise.kept + promise.batch),
                }
                return None
            disk = recover(ModelDisk(image, build), promise, lot)
        self._found[key] = hash(found_on(disk).kept)
        return disk

    def _compound(self, lot: str, image: Image, build: Build, recovery: ModelDisk) -> None:
        """Cut the recovery, as it went and with one of its operations failing."""
        promise = found_on(recovery)
        operations = sum(not isinstance(op, Promise) for op in recovery.trace)
        for plan in ("c0", f"f{Random(lot).randint(1, 2 * operations)}"):
            if self.only and not self.only.startswith(f"{lot}/{plan[0]}"):
                continue
            trace = recovery.trace
            if plan != "c0":
                trace = self._failing(f"{lot}/{plan}", image, build, promise, int(plan[1:]))
            cut = Cut(image, build, promise)
            for again, second in self._lots(f"{lot}/{plan}", cut, trace, DRAWS_AGAIN):
                self.again += self._judge(again, second, build, cut.promise) is not None

    def _failing(self, lot: str, image: Image, build: Build, promise: Promise, at: int) -> list[Op]:
        draw = Random(lot)
        faults = Faults(
            at,
            error=draw.choice(("io", "full")),
            persistent=draw.random() < 0.5,
            forgetful=draw.random() < 0.5,
        )
        disk = ModelDisk(image, build, faults=faults)
        with repeatable("power_cut", lot), quietly(), suppress(JournalUnknown, JournalUnreachable):
            recover(disk, promise, lot)
        self.faults += faults.fired
        return disk.trace


def found_on(recovery: ModelDisk) -> Promise:
    """What the first opening of a recovery found, and believed."""
    return next(op for op in recovery.trace if isinstance(op, Promise))


def repeat(lot: str) -> str:
    cuts = PowerCuts(only=lot)
    if lot.startswith("old/"):
        cuts.run_old_format()
    else:
        cuts.run(int(lot.partition("/")[0]))
    return f"{cuts.first} disks, {cuts.again} after a second cut, {cuts.faults} faults"
