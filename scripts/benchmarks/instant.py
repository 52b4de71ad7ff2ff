"""A coordinator's work without the work: the real engine on a real journal, and hands that answer
at once, without MongoDB. What `bench_coordinator` measures."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ferrylog.engine import Engine
from ferrylog.recall import Keeper
from journal.sqlite import SqliteJournal
from statemachine.decide.schedule import next_wake_ms
from statemachine.effects import Effect
from statemachine.events import JobSpec, RunSettings
from statemachine.stimuli import (
    Copied,
    Created,
    Dumped,
    Failed,
    FoundUnit,
    JobAsked,
    Outcome,
    Planned,
    Progressed,
    Released,
    Restored,
    Result,
    RunBegan,
    Stimulus,
    Succeeded,
    Surveyed,
    Verified,
)
from statemachine.words import BsonText, Cause, JobId, Key, Millis, TaskKind, UnitId

JOB: Final = JobId("20261122-143000-7f3a")
CHUNK_DOCUMENTS: Final = 100_000
CHUNK_BYTES: Final = 64 << 20
BLOCKS: Final = CHUNK_BYTES // (2 << 20)
"""Of a chunk of 64 MiB: as many acknowledged insertions, and news of each."""


def spec(mode: str) -> JobSpec:
    return JobSpec.model_validate(
        {
            "kind": "migrate", "mode": mode, "source": "mongodb://a:27017/",
            "target": "mongodb://b:27017/", "source_id": "a", "target_id": "b",
            "chunk_docs": CHUNK_DOCUMENTS, "chunk_bytes": CHUNK_BYTES, "compression": "zstd",
            "write_concern": "majority", "drop": False, "on_conflict": "stop", "verify": True,
        }
    )  # fmt: skip


def settings(workers: int, files_ahead: int = 64) -> RunSettings:
    return RunSettings(
        dump_workers=workers, restore_workers=workers, max_retries=3, on_exhausted="pause",
        retry_base_ms=1000, retry_cap_ms=60_000, files_ahead=files_ahead, work_dir="",
        retry="exponential", jitter="equal", patience_ms=120_000, breaker_failures=10,
        breaker_ms=5_000, tick_ms=2_000, hang_ms=300_000, read_preference="primary",
    )  # fmt: skip


# --- hands that answer at once --------------------------------------------------------------------

News = Outcome | Progressed


@dataclass
class Hands:
    """The answers to effects: what an executor would say, made up; failures by lot."""

    units: int
    chunks: int
    blocks: int
    failures: float
    held: tuple[TaskKind, ...] = ()
    """Kinds that do not answer for now."""
    lots: random.Random = field(default_factory=lambda: random.Random(7))

    def answers(self, effect: Effect) -> Iterator[News | None]:
        while effect.task.kind in self.held:
            yield None
        who = (effect.task, effect.attempt, effect.epoch)
        carried = effect.task.kind in (TaskKind.RESTORE, TaskKind.COPY)
        for block in range(1, self.blocks) if carried else ():
            yield Progressed(*who, self.carried(effect, block))
        # The last attempt of a task always succeeds: a dead letter would pause the job.
        if effect.chunk and effect.attempt < 3 and self.lots.random() < self.failures:
            why = "connection reset by peer"
            yield Failed(*who, Cause.TRANSIENT, "EMONGO001", why, self.lots.random())
            return
        yield Succeeded(*who, self.result(effect))

    def result(self, effect: Effect) -> Result:
        match effect.task.kind:
            case TaskKind.SURVEY:
                return Surveyed(tuple(map(self.found, range(self.units))))
            case TaskKind.CREATE:
                return Created(built=(), uuid=f"{self.lots.getrandbits(128):032x}")
            case TaskKind.PLAN:
                return self.plan()
            case TaskKind.DUMP:
                name = f"{effect.task.entity}-{effect.attempt}.flb"
                sha256 = f"{self.lots.getrandbits(256):064x}"
                sizes = (CHUNK_DOCUMENTS, CHUNK_BYTES + 1000, CHUNK_BYTES // 5, BLOCKS)
                return Dumped(name, *sizes, sha256)
            case TaskKind.VERIFY:
                digest = f"{self.lots.getrandbits(128):032x}"
                counts = (CHUNK_DOCUMENTS, CHUNK_DOCUMENTS, digest, digest, 0)
                return Verified(True, *counts, differing=())
            case TaskKind.RELEASE:
                return Released()
            case _:
                return self.carried(effect, self.blocks)

    def found(self, number: int) -> FoundUnit:
        name = UnitId(f"shop.orders{number}")
        each = self.chunks // self.units
        return FoundUnit(
            name, name, "collection", "00" * 16, BsonText("{}"), (),
            each * CHUNK_DOCUMENTS, each * CHUNK_BYTES,
        )  # fmt: skip

    def plan(self) -> Planned:
        each = self.chunks // self.units
        keys = sorted(f'{{"$oid":"{self.lots.getrandbits(96):024x}"}}' for _ in range(each - 1))
        return Planned(tuple(map(Key, keys)), each * CHUNK_DOCUMENTS, natural=False)

    def carried(self, effect: Effect, block: int) -> Restored | Copied:
        share = CHUNK_DOCUMENTS * block // self.blocks, CHUNK_BYTES * block // self.blocks
        if effect.task.kind is TaskKind.RESTORE:
            assert effect.chunk and effect.chunk.file
            position = effect.chunk.file.file_bytes * block // self.blocks
            return Restored(position, *share, present=0, rejected=0)
        key = Key(f'{{"$oid":"{self.lots.getrandbits(96):024x}"}}')
        return Copied(share[0], key, *share, present=0, rejected=0)


# --- the loop: what `ferrylog.drive` does, without threads, a clock and an inbox ------------------


@dataclass
class Run:
    """One process that works on the job, and what its turns took."""

    engine: Engine
    hands: Hands
    keeper: Keeper
    together: int = 1
    """News that one turn gets."""
    now: int = 1_700_000_000_000
    turns_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    """Of engine, journal and snapshots; not of the hands."""
    keeping_s: float = 0.0
    news: deque[Iterator[News | None]] = field(default_factory=deque)

    def turn(self, stimuli: list[Stimulus]) -> None:
        began, used = time.perf_counter(), time.process_time()
        effects = self.engine.turn(stimuli, now=Millis(self.now))
        due = next_wake_ms(self.engine.state, Millis(self.now))
        turned = time.perf_counter()
        self.keeper(self.engine)
        self.turns_us.append((turned - began) * 1e6)
        self.keeping_s += time.perf_counter() - turned
        self.cpu_us.append((time.process_time() - used) * 1e6)
        self.news.extend(map(self.hands.answers, effects))
        self.now = max(self.now + 1, due or 0) if not self.news else self.now + 1

    def step(self) -> None:
        """A turn with the next news, of all that are at work in turn; or with none."""
        said: list[Stimulus] = []
        for _ in range(len(self.news)):
            answers = self.news.popleft()
            for each in answers:
                self.news.append(answers)
                said += [each] if each is not None else []
                break
            if len(said) == self.together:
                break
        self.turn(said)

    def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.step()


def begun(journal: SqliteJournal, mode: str, hands: Hands, workers: int, ahead: int = 64) -> Run:
    run = Run(Engine(journal, JOB), hands, Keeper(journal, JOB))
    first = RunBegan("ann@host", "host", 1, "0", settings(workers, ahead))
    run.turn([JobAsked("ann@host", spec(mode)), first])
    return run
