"""One seed, one history: the real engine on the real journal, driven by one random generator."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ferrylog.engine import Engine
from journal.protocol import Journal, Position, Recorded
from journal.sqlite import SqliteJournal
from statemachine.effects import Effect
from statemachine.events import AnyEvent, JobSpec, RunSettings
from statemachine.stimuli import JobAsked, Outcome, PauseAsked, Progressed, RunBegan, Stimulus
from statemachine.words import JobId, JobStatus, Millis, TaskKey
from tests.simulation import laws
from tests.simulation.world import Odds, World, carry_out

JOB = JobId("simulated")
SPEC = JobSpec(
    kind="migrate",
    source="mongodb://a/",
    target="mongodb://b/",
    source_id="a:1",
    target_id="b:2",
    chunk_docs=5,
    chunk_bytes=1000,
    compression="none",
    write_concern="majority",
    drop=False,
    on_conflict="stop",
    verify=True,
)
MAX_STEPS = 3000
CALM_AFTER = 200


class Crash(Exception):
    """The process dies here."""


@dataclass
class CrashingJournal:
    """The real journal; the process may die just before or just after a commit."""

    inner: SqliteJournal
    world: World

    def append(
        self, job: JobId, events: Sequence[AnyEvent], *, expected: int, epoch: int, at_ms: Millis
    ) -> Position:
        if self.world.random.random() < self.world.odds.crash_before_commit:
            raise Crash
        position = self.inner.append(job, events, expected=expected, epoch=epoch, at_ms=at_ms)
        if self.world.random.random() < self.world.odds.crash_after_commit:
            raise Crash
        return position

    def read(self, job: JobId, *, after: int = 0) -> Iterator[Recorded]:
        return self.inner.read(job, after=after)


@dataclass
class Simulation:
    """Turns the engine until the job is complete; crashes, pauses and resumes on the way."""

    seed: int
    path: Path
    check_every: int = 1
    now: int = 1_000_000
    crashes: int = 0
    pauses: int = 0
    steps: int = 0
    flying: dict[tuple[TaskKey, int], Iterator[Progressed | Outcome]] = field(default_factory=dict)
    late: list[Progressed | Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.checker = Random(self.seed)  # looking must not change the history
        self.odds = Odds.draw(self.random)
        self.world = World.draw(self.random, self.odds)
        self.settings = RunSettings(
            dump_workers=self.random.randint(1, 3),
            restore_workers=self.random.randint(1, 3),
            max_retries=self.random.randint(1, 4),
            on_exhausted="pause",
            retry_base_ms=100,
            retry_cap_ms=1000,
            files_ahead=self.random.randint(1, 6),
            work_dir="",
        )
        self.seen: list[Recorded] = []

    def run(self) -> None:
        journal = SqliteJournal.create(self.path)
        try:
            engine = self._begin(journal, [JobAsked("me", SPEC)])
            while engine is None or not engine.state.terminal:
                engine = self._step(journal, engine)
                self.steps += 1
                if self.steps == CALM_AFTER:
                    self.world.calm()
                assert self.steps < MAX_STEPS, "I30: no end in sight"
            laws.finished(self.world, engine.state)
            self._resume_of_the_finished(journal)
        finally:
            journal.close()

    # --- the life of a process ---

    def _begin(self, journal: SqliteJournal, first: list[Stimulus]) -> Engine | None:
        """A process starts; it may die in its first turn (a crash in recovery)."""
        engine = Engine(self._faulty(journal), JOB)
        if not engine.state.spec:
            first = [JobAsked("me", SPEC)]
        began = RunBegan("me", "host", 1, "0", self.settings)
        return self._turn(journal, engine, [*first, began])

    def _faulty(self, journal: SqliteJournal) -> Journal:
        return CrashingJournal(journal, self.world)

    def _turn(
        self, journal: SqliteJournal, engine: Engine, stimuli: Sequence[Stimulus]
    ) -> Engine | None:
        try:
            effects = engine.turn(stimuli, now=Millis(self.now))
        except Crash:
            self._die()
            return None
        for effect in effects:
            self._launch(effect)
        if self.steps % self.check_every == 0:
            self._check(journal, engine)
        return engine

    def _launch(self, effect: Effect) -> None:
        self.flying[effect.task, effect.attempt] = carry_out(self.world, effect)

    def _die(self) -> None:
        """Work in flight ends where it is; some of its news may still arrive, far too late."""
        self.crashes += 1
        for work in self.flying.values():
            for news in work:
                if self.random.random() < self.world.odds.late:
                    self.late.append(news)
                if self.random.random() < 0.7:
                    break
        self.flying.clear()

    # --- one step ---

    def _step(self, journal: SqliteJournal, engine: Engine | None) -> Engine | None:
        if engine is None or engine.state.status is JobStatus.PAUSED:
            self.now += self.random.randint(0, 500)
            return self._begin(journal, [])
        if self.random.random() < self.world.odds.crash:
            self._die()
            return None
        self.now += self.random.randint(0, 60)
        return self._turn(journal, engine, list(self._news()))

    def _news(self) -> Iterator[Stimulus]:
        if self.random.random() < self.world.odds.pause:
            self.pauses += 1
            yield PauseAsked("me", "simulated")
        if self.late and self.random.random() < 0.5:
            yield self.late.pop()
        for key in self.random.sample(list(self.flying), k=min(len(self.flying), 2)):
            try:
                news = next(self.flying[key])
            except StopIteration:
                del self.flying[key]
                continue
            yield news
            if self.random.random() < self.world.odds.duplicate:
                yield news

    # --- the laws ---

    def _check(self, journal: SqliteJournal, engine: Engine) -> None:
        records = list(journal.read(JOB))
        assert records[: len(self.seen)] == self.seen, "I1: the past has changed"
        self.seen = records
        laws.live_is_replay(engine.state, records)
        laws.envelopes(records)
        laws.counters(engine.state)
        laws.pools(engine.state)
        laws.effects_before_outcomes(self.world, records)
        laws.story(records, self.settings)
        laws.partition(self.world, records)
        laws.pieces_compose(records, self.checker.randint(0, len(records)))

    def _resume_of_the_finished(self, journal: SqliteJournal) -> None:
        """I13: nothing but `run_*` events, no effects."""
        self.world.calm()
        engine = Engine(journal, JOB)
        before = engine.position.version
        effects = engine.turn([RunBegan("me", "host", 1, "0", self.settings)], now=Millis(self.now))
        after = [recorded.event.kind for recorded in journal.read(JOB, after=before)]
        assert not effects, "I13"
        assert after == ["run_started"], "I13"


def main() -> None:
    """`--seed N [--seeds M]`: run seeds N … N+M-1, print what they saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    totals: Counter[str] = Counter()
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            simulation = Simulation(seed, Path(folder) / "journal.db")
            try:
                simulation.run()
            except BaseException:
                print(f"repeat with: scripts/simulate --seed {seed}", file=sys.stderr)
                raise
            totals.update(
                seeds=1,
                steps=simulation.steps,
                crashes=simulation.crashes,
                faults=simulation.world.faults,
                pauses=simulation.pauses,
                events=simulation.seen[-1].seq,
            )
    print(", ".join(f"{count} {what}" for what, count in totals.items()) + ", 0 laws broken")


if __name__ == "__main__":
    main()
