"""The laws of histories: the journal is read event by event, folded, and held against them.

A broken law raises `AssertionError` with its number.
"""

from collections.abc import Sequence

from journal.protocol import Recorded
from statemachine.events import (
    AnyEvent,
    Started,
    TaskEvent,
)
from statemachine.evolve import evolve
from statemachine.words import unit_of
from tests.simulation import laws
from tests.simulation.task_laws import TaskLaws
from tests.simulation.unit_laws import UnitLaws
from tests.simulation.valves import POOLS


class Chronicle(UnitLaws, TaskLaws):
    """Every law, event by event."""

    def read(self, new: Sequence[Recorded]) -> None:
        """All of this module's laws, for each of these events."""
        for recorded in new:
            self._envelope(recorded)
            self._about_increments(recorded, recorded.event)
            self._about_operations(recorded.event)
            self._about_the_job(recorded.event)
            self._about_units(recorded.event)
            self._about_chunks(recorded.event)
            self._about_breakers(recorded.event)
            self._about_requests(recorded.event)
            if isinstance(recorded.event, TaskEvent):
                self._about_a_task(recorded, recorded.event)
            self.records.append(recorded)
            self._fold(recorded.event)
            self._after(recorded.event)

    def _fold(self, event: AnyEvent) -> None:
        """I11, I25, I26: legal at every prefix; done work only shrinks where a file was lost."""
        unit = unit_of(event.task) if isinstance(event, TaskEvent) else None
        before = self.state.units[unit].weight_done if unit else 0
        evolve(self.state, event)
        if isinstance(event, Started):
            laws.pool(self.state, POOLS[event.task.kind])
        if unit and event.kind not in ("dump_invalidated", "split_completed"):
            assert self.state.units[unit].weight_done >= before, "I25"

    def _envelope(self, recorded: Recorded) -> None:
        """I2, I5: seq increases, versions have no gap, epochs never go back."""
        assert recorded.version == len(self.records) + 1, "I2"
        if self.records:
            assert recorded.seq > self.records[-1].seq, "I2"
            assert recorded.epoch >= self.records[-1].epoch, "I5"
