"""A job's history, folded: the one fold that every command and the engine share."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from ferrylog.rates import Rates
from journal.protocol import Position, Recorded
from statemachine.events import AnyEvent
from statemachine.evolve import evolve
from statemachine.state import State


@dataclass(slots=True)
class Past:
    """The state for decisions, the rates for people, and where the history ends."""

    state: State = field(default_factory=State)
    rates: Rates = field(default_factory=Rates)
    position: Position = field(default_factory=Position)
    at_ms: int = 0
    """When the last event was recorded."""

    def happened(self, event: AnyEvent, at_ms: int) -> None:
        """Fold one event. Raises what `evolve` raises."""
        state, rates = self.state, self.rates
        evolve(state, event)
        if event.kind == "run_started":
            rates.began(at_ms)
        elif at_ms != self.at_ms or state.done_documents != rates.documents:
            rates.seen(state, at_ms)
        self.at_ms = at_ms

    def follow(self, records: Iterable[Recorded]) -> Self:
        """Fold what the journal holds after here."""
        with collector_at_rest():
            last, happened = None, self.happened
            for last in records:
                happened(last.event, last.recorded_at_ms)
            if last is not None:
                self.position = Position(last.version, last.seq, last.hash)
        return self


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Folding makes many objects and no cycles: looking for some takes half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
