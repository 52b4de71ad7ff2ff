"""The n-th operation on the disk fails, for every n, in one run after another.

After the failure the process dies or closes; then the power is cut, or the next process finds the
same kernel and goes on, and the power is cut later.

A lot is named `seed/plan/end/n`, and `python -m tests.faults io_errors 1/2/0/40` repeats it.
"""

from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Final

from journal.errors import DamagedJournal, JournalUnknown, JournalUnreachable, NotAJournal
from tests.faults.disk import Build, Faults, ModelDisk, Promise
from tests.faults.images import Cut
from tests.faults.workload import Writer, quietly, recover, repeatable, small_checkpoints

APPENDS: Final = 5
PLANS: Final = (
    ("io", False, False),
    ("io", True, False),
    ("io", False, True),
    ("full", False, False),
    ("full", True, False),
)
"""The error; whether it stays; whether a failed sync makes the kernel forget what to write."""


@dataclass
class Sweep:
    """Counts what it did. Raises what a judgement raises."""

    fired: int = 0
    unknown: int = 0
    refused: int = 0
    disks: int = 0
    unmade: int = 0
    """Disks with a journal that was never made: its first opening never returned."""
    forgotten: int = 0
    """Disks that are refused because the power failed while a log was drained whose failed sync
    the kernel had forgotten."""

    def run(self, seed: int, plan: int) -> None:
        for end in range(2):
            for n in count(1):
                lot = f"{seed}/{plan}/{end}/{n}"
                with repeatable("io_errors", lot), quietly():
                    if not self.one(seed, plan, end, n):
                        break

    def one(self, seed: int, plan: int, end: int, n: int) -> bool:
        """Whether there was an n-th operation to fail. `end`: 0 the process dies, 1 it closes."""
        error, persistent, forgetful = PLANS[plan]
        faults = Faults(n, error, persistent=persistent, forgetful=forgetful, seed=seed)
        disk = ModelDisk(build=Build(), faults=faults)
        writer = Writer(disk, Random(seed), Promise())
        with small_checkpoints():
            self._fail(writer, disk, orderly=end == 1)
            if not faults.fired:
                return False
            self.fired += 1
            disk.faults = None
            failed = len(disk.trace)
            writer.run(APPENDS, most=3, killed=True)
        self._cut(disk, failed, f"{seed}/{plan}/{end}/{n}", forgetful=forgetful)
        return True

    def _fail(self, writer: Writer, disk: ModelDisk, *, orderly: bool) -> None:
        try:
            writer.run(APPENDS, most=8, orderly=orderly)
            writer.run(APPENDS, most=8, orderly=orderly)
        except JournalUnknown:
            self.unknown += 1
        except JournalUnreachable:
            self.refused += 1
        finally:
            disk.die()

    def _cut(self, disk: ModelDisk, failed: int, lot: str, *, forgetful: bool) -> None:
        """Cut the power right after the failure, somewhere in the run after it, and at its end."""
        nothing_yet = Promise()
        cut = Cut({}, disk.build, nothing_yet)
        places = {failed, Random(lot).randint(failed, len(disk.trace)), len(disk.trace)}
        for place, op in enumerate(disk.trace, 1):
            cut.move(op)
            if place in places:
                for n in (0, 2):
                    self.disks += 1
                    image = cut.image(f"{lot}/{place}/{n}")
                    try:
                        recover(ModelDisk(image), cut.promise, lot)
                    except (NotAJournal, DamagedJournal):
                        # The limits of docs/durability.md: refused, never silent.
                        if cut.promise is nothing_yet:
                            self.unmade += 1
                        elif forgetful and failed < place < len(disk.trace):
                            self.forgotten += 1
                        else:
                            raise


def repeat(lot: str) -> str:
    sweep = Sweep()
    sweep.one(*map(int, lot.split("/")))
    return str(sweep)
