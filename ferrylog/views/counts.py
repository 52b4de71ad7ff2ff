"""A state in numbers, counted in one pass over its chunks and tasks."""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Self

from ferrylog.views.shapes import ChunkCounts, SideCounts
from statemachine.state import State, Unit
from statemachine.words import Status, TaskKind, UnitStatus

SIDES: Final = (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.VERIFY)
MOVED: Final = tuple(status for status in Status if status is not Status.PENDING)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the open chunks of a state, by unit."""

    sides: Counter[tuple[str, TaskKind, Status]]
    """Tasks that are not pending: all others of the open chunks are, there or still to come."""
    unsplit: Counter[str]
    """Chunks that could not be cut: no side of them goes on."""
    stages: tuple[TaskKind, ...]

    @classmethod
    def of(cls, state: State) -> Self:
        sides, unsplit = Counter[tuple[str, TaskKind, Status]](), Counter[str]()
        chunks, stages, pending = state.chunks, state.stages, Status.PENDING
        for (kind, entity), task in state.tasks.items():
            if task.status is pending:
                continue  # by far the most of a big job
            chunk = chunks.get(entity)  # type: ignore[call-overload]
            if chunk is not None and kind in stages:
                sides[chunk.unit, kind, task.status] += 1
            elif chunk is not None and kind is TaskKind.SPLIT and task.status is Status.FAILED:
                unsplit[chunk.unit] += 1
        return cls(sides, unsplit, stages)

    def total(self, unit: Unit) -> int:
        """What was taken out of the job is not counted."""
        if unit.status is UnitStatus.EXCLUDED:
            return unit.settled + unit.dropped
        return unit.planned

    def chunks(self, unit: Unit) -> ChunkCounts:
        copies = TaskKind.COPY in self.stages
        dump, restore, verify = (
            self._side(unit, TaskKind.COPY if copies and kind is not TaskKind.VERIFY else kind)
            for kind in SIDES
        )
        return ChunkCounts(total=self.total(unit), dump=dump, restore=restore, verify=verify)

    def _side(self, unit: Unit, kind: TaskKind) -> SideCounts:
        """A chunk whose turn for this side has not come counts as pending; none, if the job has
        no such side."""
        if kind not in self.stages:
            return SideCounts()
        rest = self.total(unit) - unit.settled - unit.dropped
        unsplit = self.unsplit[unit.id]
        gone = unsplit + unit.dropped
        if unit.status is UnitStatus.FAILED:  # the job went on without what was left of it
            return SideCounts(completed=unit.settled, failed=gone + rest)
        found = {status: self.sides[unit.id, kind, status] for status in MOVED}
        return SideCounts(
            pending=rest - sum(found.values()) - unsplit,
            waiting=found[Status.WAITING],
            processing=found[Status.PROCESSING],
            in_doubt=found[Status.IN_DOUBT],
            completed=found[Status.COMPLETED] + unit.settled,
            failed=found[Status.FAILED] + gone,
        )
