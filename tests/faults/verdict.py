"""What the product says of a disk that is not as it should be."""

from collections import Counter
from typing import Literal

from journal.sqlite import SqliteJournal
from statemachine.errors import OperatorError
from tests.faults.disk import PATH, Image, ModelDisk, Promise, Row
from tests.faults.images import Cut, digest
from tests.faults.workload import JOBS

Verdict = Literal["whole", "refused", "silent"]


def verdict(image: Image, promise: Promise, *, checked: bool = False) -> Verdict:
    """Open to append and fold every job, as a resume does; `checked`: run the full check, too.

    `whole`: the promised history. `refused`: an operator's error, whatever it says. `silent`:
    another history, or a shorter one, without a word.
    """
    try:
        with SqliteJournal.create(PATH, ModelDisk(image)) as journal:
            if checked:
                journal.check()
            found = {job: tuple(recorded.hash for recorded in journal.read(job)) for job in JOBS}
    except OperatorError:
        return "refused"
    return (
        "whole"
        if found in (_chains(promise.kept), _chains(promise.kept + promise.batch))
        else "silent"
    )


def _chains(rows: tuple[Row, ...]) -> dict[str, tuple[bytes, ...]]:
    return {job: tuple(row[7] for row in rows if row[1] == job) for job in JOBS}


def verdicts(run: ModelDisk, draws: int, seed: object) -> Counter[Verdict]:
    """Of the distinct disks that power cuts during a run may leave."""
    cut, seen, counts = Cut({}, run.build, Promise()), set[tuple[bytes, int]](), Counter[Verdict]()
    for place, op in enumerate(run.trace):
        cut.move(op)
        for n in range(draws):
            image = cut.image(f"{seed}/{place}/{n}")
            key = digest(image, run.build), len(cut.promise.kept)
            if key not in seen:
                seen.add(key)
                counts[verdict(image, cut.promise)] += 1
    return counts
