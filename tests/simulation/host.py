"""One machine: the real engine on the real journal file, and hands that carry out effects.

What can go wrong is decided outside: by a seed (`simulate`), by Hypothesis, or by a plan that
goes through every point of a run.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ferrylog.engine import Engine
from ferrylog.past import Past
from journal.errors import EpochFenced, JournalUnknown, StalePosition
from journal.protocol import Position
from statemachine.decide import decide
from statemachine.decide.schedule import next_wake_ms
from statemachine.effects import Effect, wanted_effects
from statemachine.events import JobPaused, JobSpec, RunSettings
from statemachine.snapshot import freeze, thaw
from statemachine.state import RESTING, Shard, State
from statemachine.stimuli import (
    Applying,
    Asked,
    ExportAsked,
    Failed,
    GroupAsked,
    ImportAsked,
    JobAsked,
    Progressed,
    RunBegan,
    Stimulus,
    Succeeded,
)
from statemachine.words import Cause, JobId, JobStatus, Millis, ShardId, TaskKey, TaskKind, Verb
from tests.simulation import laws
from tests.simulation.chronicle import Chronicle
from tests.simulation.faulty import Fate, FaultyJournal
from tests.simulation.hands import carry_out
from tests.simulation.news import BLOCK, DOCUMENT, News
from tests.simulation.shell import How, is_due, taken_back
from tests.simulation.world import Crash, World

JOB = JobId("simulated")
ON_A_STREAM = (TaskKind.CAPTURE, TaskKind.FOLLOW, TaskKind.MANIFEST)
PATIENCE = 40
"""Steps without news after which the operator kills the process."""


@dataclass
class Flight:
    """An effect under way, and for how many steps there was no news of it."""

    work: Iterator[News | None]
    silent: int = 0


@dataclass
class Stray:
    """What a dead process had under way and what goes on without it."""

    work: Iterator[News | None]
    heard: bool
    """Its news reaches a later process."""


class Host:
    """At most one process at a time; its journal and its world outlive it."""

    def __init__(
        self,
        path: Path,
        world: World,
        spec: JobSpec,
        settings: RunSettings,
        fate: Callable[[], Fate],
    ) -> None:
        self.world, self.spec = world, spec
        self.journal = FaultyJournal(path, fate)
        self._first: JobAsked | GroupAsked = JobAsked("me", spec)
        if spec.kind == "group":
            self._first = GroupAsked("me", spec, world.group)
        self.chronicle = Chronicle(world, spec, settings)
        self.engine: Engine | None = None
        self.now = 1_000_000
        self.deaths = 0
        self.turns = 0
        self.flying: dict[tuple[TaskKey, int], Flight] = {}
        self.strays: list[Stray] = []
        self.hears = True
        """What hands tell reaches the engine, unless the process dies first."""
        self._applied: dict[ShardId, int] = {}
        """How far the target has a shard, whether or not the journal knows of it."""
        self._snapshot: tuple[Position, str] | None = None
        self._launched: set[tuple[TaskKey, int, int]] = set()
        self._told: set[tuple[TaskKey, int, int]] = set()

    # --- the life of a process ---

    def begin(self, settings: RunSettings, taking_back: How | None = None) -> None:
        """A new process; it may die in its first turn (a crash in recovery). What somebody asked
        to be taken back is."""
        self.engine = None
        self.flying.clear()
        self.journal.open()
        engine = Engine(self.journal, JOB, self._remembered())
        self.look()
        assert engine.position.version == self.journal.version, "I3, I4"
        first: list[Stimulus] = [] if engine.state.spec else [self._first]
        if engine.state.status is JobStatus.MOVED:
            first.append(ImportAsked("you", "there"))
        if taking_back is not None or is_due(engine.state):
            self.strays.clear()  # nobody is at work
            records = self.chronicle.records
            first += taken_back(records, engine.state, taking_back or How())
        self.engine = engine
        self.turn([*first, RunBegan("me", "host", 1, "0", settings)])

    def _remembered(self) -> Past | None:
        """Every other process begins with the state that was last looked at closely (I9)."""
        if self._snapshot is None or self.deaths % 2:
            return None
        position, text = self._snapshot
        return Past(state=thaw(json.loads(text)), position=position)

    def turn(self, stimuli: Sequence[Stimulus]) -> None:
        """One turn of the engine, then the laws, then what it wants done."""
        assert self.engine is not None
        self._old_news_is_no_news(self.engine, stimuli)
        try:
            effects = self.engine.turn(stimuli, now=Millis(self.now))
        except (Crash, JournalUnknown):
            self.die()
            return
        self.turns += 1
        self.look()
        laws.same(self.engine.state, self.chronicle.state)
        laws.counters(self.engine.state)
        laws.files(self.engine.state)
        self._let_go()
        for effect in effects:
            self._launch(effect)

    def tell(self, draw: Callable[[State], Asked | None]) -> None:
        """Somebody asks for something while no process runs the job, by its state: it is
        journaled, and nothing starts."""
        if self.engine is None:
            self.journal.open()
            self.engine = Engine(self.journal, JOB)
            self.look()
        wish = draw(self.engine.state)
        try:
            if wish is not None and self.engine.state.spec is not None:
                self.engine.tell([wish], now=Millis(self.now))
        except (Crash, JournalUnknown):
            self.die()
            return
        self.look()
        laws.same(self.engine.state, self.chronicle.state)
        laws.counters(self.engine.state)
        self.leave()

    def _let_go(self) -> None:
        """What the engine does not want any more is told to stop; it may not hear it at once."""
        assert self.engine is not None
        wanted = {(each.task, each.attempt) for each in wanted_effects(self.engine.state)}
        for key in [key for key in self.flying if key not in wanted]:
            self.strays.append(Stray(self.flying.pop(key).work, heard=True))

    def give_up_the_hung(self) -> list[News]:
        """News of those that show no life, as the drive tells it; they may go on all the same."""
        assert self.engine is not None
        hung = [key for key, flight in self.flying.items() if flight.silent > PATIENCE]
        epoch = self.engine.state.epoch
        for key in hung:
            self.strays.append(Stray(self.flying.pop(key).work, heard=True))
        return [
            Failed(task, attempt, epoch, Cause.TRANSIENT, "ETASK002", "no sign of life")
            for task, attempt in hung
        ]

    def die(self) -> None:
        self.deaths += 1
        self.engine = None
        self.journal.kill()
        for flight in self.flying.values():
            if self.world.lots.strikes("late"):
                self.strays.append(Stray(flight.work, heard=True))
            elif self.world.lots.strikes("zombie"):
                self.strays.append(Stray(flight.work, heard=False))
        self.flying.clear()

    def move(self) -> None:
        """The job is exported as it stands; the next process imports it."""
        self.turn([ExportAsked("me", "here")])
        if self.engine is not None:
            self.leave()

    def leave(self) -> None:
        """The process ends in good order, with work under way."""
        self.engine = None
        self.flying.clear()
        self.journal.close()

    # --- effects ---

    def _launch(self, effect: Effect) -> None:
        """P2, I15, I23: only what the journal says was started, and each start once."""
        assert self.engine is not None
        who = (effect.task, effect.attempt, effect.epoch)
        assert who not in self._launched, "I15: carried out twice"
        assert effect.epoch == self.engine.state.epoch, "I5"
        self._launched.add(who)
        if effect.task.kind is not TaskKind.RELEASE:
            assert self.chronicle.last[effect.task] is Verb.STARTED, "P2"
            assert self.chronicle.attempts[effect.task] == effect.attempt, "P2"
        if effect.task.kind in ON_A_STREAM:
            assert effect.token == self.chronicle.token, "I1: it goes on elsewhere"
        if effect.shard is not None:
            self._goes_on(effect.shard)
        self.flying[effect.task, effect.attempt] = Flight(carry_out(self.world, effect))

    def _goes_on(self, shard: Shard) -> None:
        """I31: strictly above the last key that the journal holds; at most one batch is applied
        again, if whoever was there before was heard."""
        assert shard.done.last_key == self.chronicle.last_keys.get(shard.id), "I31: elsewhere"
        again = self._applied.get(shard.id, 0) - shard.done.position
        assert again <= BLOCK * DOCUMENT or not self.hears, "I31: more than one batch again"

    def step(self, key: tuple[TaskKey, int]) -> News | None:
        """One step of an effect under way. Raises `Crash` if it takes the process with it."""
        flight = self.flying[key]
        news = next(flight.work, None)
        flight.silent = 0 if news else flight.silent + 1
        done = news.result if isinstance(news, Progressed | Succeeded) else None
        if isinstance(done, Applying):
            self._applied[ShardId(key[0].entity)] = done.position
        if news is not None and not isinstance(news, Progressed):
            del self.flying[key]
        return news

    def stray(self, which: int) -> News | None:
        """One step of what goes on without its process."""
        stray = self.strays[which]
        with suppress(Crash, StopIteration):
            news = next(stray.work)
            return news if stray.heard else None
        del self.strays[which]
        return None

    # --- what the operator sees ---

    @property
    def stuck(self) -> bool:
        return any(flight.silent > PATIENCE for flight in self.flying.values())

    @property
    def ended(self) -> bool:
        return self.engine is not None and self.engine.state.terminal

    @property
    def waits_for_operator(self) -> bool:
        return self.engine is None or self.engine.state.status in RESTING

    def pass_time(self, ms: int) -> None:
        """At least to the next retry when there is nothing else to wait for."""
        self.now += ms
        due = (
            next_wake_ms(self.engine.state, Millis(self.now))
            if self.engine and not self.flying
            else None
        )
        if due is not None and due > self.now:
            self.now = due

    # --- the laws ---

    def look(self) -> None:
        """Read what is new in the journal."""
        records = self.chronicle.records
        self.chronicle.read(list(self.journal.read(JOB, after=len(records))))

    def look_closely(self, at: int) -> None:
        """I1, I8, I9: all of it again, from the first event."""
        records = self.chronicle.records
        assert list(self.journal.read(JOB)) == records, "I1: the past has changed"
        laws.pieces_compose(records, at % (len(records) + 1), self.chronicle.state)
        if records:
            last = records[-1]
            text = json.dumps(freeze(self.chronicle.state))
            self._snapshot = (Position(last.version, last.seq, last.hash), text)

    def _old_news_is_no_news(self, engine: Engine, stimuli: Sequence[Stimulus]) -> None:
        """I20: what is of an older epoch, or was told before, changes nothing."""
        for news in stimuli:
            if not isinstance(news, News):
                continue
            who = (news.task, news.attempt, news.epoch)
            if news.epoch < engine.state.epoch or who in self._told:
                events = decide(engine.state, news, Millis(self.now))
                assert all(event.kind == "result_ignored" for event in events), "I20"
        self._told |= {
            (news.task, news.attempt, news.epoch)
            for news in stimuli
            if isinstance(news, News) and not isinstance(news, Progressed)
        }

    def check_end(self, settings: RunSettings) -> None:
        """I13, and the laws of ends: two more runs add nothing but that they ran."""
        assert self.engine is not None
        laws.ended(self.world, self.engine.state, self.chronicle.records)
        for _ in range(2):
            before = len(self.chronicle.records)
            launched = len(self._launched)
            self.begin(settings)
            added = [recorded.event.kind for recorded in self.chronicle.records[before:]]
            assert added == ["run_started"] and len(self._launched) == launched, "I13"
        self._older_epochs_are_fenced()
        self.look_closely(len(self.chronicle.records) // 2)

    def _older_epochs_are_fenced(self) -> None:
        """I5: a process that was left behind cannot append, and neither can one that is late."""
        last = self.chronicle.records[-1]
        for expected, epoch, refusal in (
            (last.version, last.epoch - 1, EpochFenced),
            (last.version - 1, last.epoch, StalePosition),
        ):
            with pytest.raises(refusal):
                self.journal.inner.append(
                    JOB, [JobPaused()], expected=expected, epoch=epoch, at_ms=Millis(self.now)
                )
