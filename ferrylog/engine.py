"""The engine: a crank. Life and the simulator turn the same one.

No clock, no thread, no chance in here: time is an argument, outcomes are arguments.
"""

from collections.abc import Sequence
from itertools import repeat

from ferrylog.past import Past
from journal.protocol import Journal, Position
from statemachine.decide import decide
from statemachine.effects import Effect, effect, wanted
from statemachine.events import AnyEvent
from statemachine.state import State
from statemachine.stimuli import Stimulus, Tick
from statemachine.words import JobId, Millis, TaskKey


class Engine:
    """One job: its past, and what is in flight.

    A turn that raises leaves the engine unusable: the state may hold what the journal does
    not. Close everything, read the journal again, decide from what is there.
    """

    def __init__(self, journal: Journal, job: JobId, past: Past | None = None) -> None:
        """Reads the job's history, from `past` on if that is given: it is consumed.

        Raises what `Journal.pages` raises.
        """
        self._journal = journal
        self.job = job
        self.past = past if past is not None else Past()
        self.news: tuple[AnyEvent, ...] = ()
        """What the last turn journaled."""
        self.wanted: dict[tuple[TaskKey, int], None] = {}
        """The attempts that were asked for and have not ended: all other work is for nothing."""
        self.past.follow(journal.pages(job, after=self.position.version))

    @property
    def state(self) -> State:
        return self.past.state

    @property
    def position(self) -> Position:
        """Where the job ends in the journal."""
        return self.past.position

    def turn(self, stimuli: Sequence[Stimulus], *, now: Millis) -> tuple[Effect, ...]:
        """News in, events journaled, effects out. Append, then believe, then act.

        All news of a turn become one commit. Returned are the effects that are wanted now and
        were not before; each is to be started once.
        """
        events = self._happenings(stimuli, now)
        while ticked := self._happen(Tick(), now):
            events += ticked
        self._record(events, now)
        return self._newly_wanted()

    def tell(self, stimuli: Sequence[Stimulus], *, now: Millis) -> None:
        """News for a job that nobody runs: journaled, and nothing starts."""
        self._record(self._happenings(stimuli, now), now)

    def _happenings(self, stimuli: Sequence[Stimulus], now: Millis) -> list[AnyEvent]:
        return [event for stimulus in stimuli for event in self._happen(stimulus, now)]

    def _record(self, events: list[AnyEvent], now: Millis) -> None:
        if events:
            self.past.position = self._journal.append(
                self.job,
                events,
                expected=self.position.version,
                epoch=self.state.epoch,
                at_ms=now,
            )
        self.news = tuple(events)

    def _happen(self, stimulus: Stimulus, now: Millis) -> list[AnyEvent]:
        """Each decision sees what the one before it decided; nobody else does before the commit."""
        events = decide(self.state, stimulus, now)
        self.past.happened(events, repeat(now))
        return events

    def _newly_wanted(self) -> tuple[Effect, ...]:
        before, self.wanted = self.wanted, dict.fromkeys(wanted(self.state))
        return tuple(effect(self.state, key) for key, n in self.wanted if (key, n) not in before)
