"""A job's history, folded: the one fold that every command and the engine share."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from ferrylog.rates import Rates
from journal.protocol import Page, Position
from statemachine.events import AnyEvent, RunStarted
from statemachine.evolve import ARMS
from statemachine.state import State


@dataclass(slots=True)
class Past:
    """The state for decisions, the rates for people, and where the history ends."""

    state: State = field(default_factory=State)
    rates: Rates = field(default_factory=Rates)
    position: Position = field(default_factory=Position)
    at_ms: int = 0
    """When the last event was recorded."""

    def happened(self, events: Iterable[AnyEvent], times: Iterable[int]) -> None:
        """Fold events and when each was recorded. Raises what `evolve` raises."""
        state, rates, now = self.state, self.rates, self.at_ms
        for event, at_ms in zip(events, times, strict=False):
            if at_ms != now:
                rates.seen(state, now)
                now = at_ms
            kind = type(event)
            ARMS[kind](state, event)  # as `evolve` does
            if kind is RunStarted:
                rates.began(now)
        rates.seen(state, now)
        self.at_ms = now

    def follow(self, pages: Iterable[Page]) -> Self:
        """Fold what the journal holds after here."""
        with collector_at_rest():
            for page in pages:
                self.happened(page.events, page.times)
                self.position = page.end
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
