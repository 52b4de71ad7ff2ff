"""The workers: a thread for each effect, a token to stop it by, and an end to waiting for it.

No pool of `concurrent.futures`: that joins its threads when the program ends, and one that hangs
would keep the program, and the job's lease, for ever.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from loguru import logger

from executors.protocol import Executor
from ferrylog import clock
from statemachine.effects import Effect
from statemachine.stimuli import Failed, Outcome, Progressed, Resized
from statemachine.words import Cause, TaskKey, TaskKind

SILENT: Final = (TaskKind.INDEX, TaskKind.CREATE)
"""Tasks that do not look at their token: they wait for the server for hours, with a client that
has no time limit."""
MAX_LET_GO: Final = 64
"""Threads that were let go and have not ended: as many connections are lost. One more, and the
world is in a state that no attempt heals."""

Attempt = tuple[TaskKey, int]


class Token:
    """Tells one worker to stop; looked at once per batch, which is a sign of life."""

    def __init__(self) -> None:
        self._stop = False
        self.seen_s = clock.monotonic_s()
        """When it was last looked at."""

    def is_set(self) -> bool:
        self.seen_s = clock.monotonic_s()
        return self._stop

    def set(self) -> None:
        self._stop = True


@dataclass(frozen=True)
class Bug:
    """An executor raised: to be raised again in the engine's thread."""

    error: BaseException


News = Outcome | Progressed | Resized | Bug


@dataclass(eq=False)
class _Worker:
    effect: Effect
    run: Callable[["_Worker"], None]
    token: Token = field(default_factory=Token)
    answered: bool = False

    def __post_init__(self) -> None:
        name = f"{self.effect.task.kind} of {self.effect.task.entity}"
        self.thread = threading.Thread(target=self.run, args=(self,), name=name, daemon=True)

    @property
    def silent_s(self) -> float:
        return clock.monotonic_s() - self.token.seen_s


class Workers:
    """Used by the engine's thread; what workers have to say goes to `put`, from theirs."""

    def __init__(self, executor: Executor, put: Callable[[News], None]) -> None:
        self._executor = executor
        self._put = put
        self._at_work: dict[Attempt, _Worker] = {}
        self._let_go: list[_Worker] = []
        self._left: list[_Worker] = []
        """At the end."""

    def start(self, effect: Effect) -> None:
        worker = _Worker(effect, self._carry_out)
        self._at_work[effect.task, effect.attempt] = worker
        logger.debug("worker started: {} (attempt {})", worker.thread.name, effect.attempt)
        worker.thread.start()

    def _carry_out(self, worker: _Worker) -> None:
        news: News
        try:
            news = self._executor.run(worker.effect, worker.token, self._put)
        except BaseException as error:  # ours: it must not die with a thread
            news = Bug(error)
        worker.answered = True
        self._put(news)

    def keep(self, wanted: Collection[Attempt]) -> None:
        """Stop those whose work nobody wants any more; what they still say is late news."""
        for attempt, worker in [*self._at_work.items()]:
            if worker.answered:
                del self._at_work[attempt]
            elif attempt not in wanted:
                logger.debug("worker stopped: {}", worker.thread.name)
                self._part_with(attempt)

    def give_up(self, hang_ms: int) -> list[Failed]:
        """Let go of those that showed no life for so long, and say so in their place."""
        hung = [
            (attempt, worker)
            for attempt, worker in self._at_work.items()
            if not worker.answered
            and worker.effect.task.kind not in SILENT
            and worker.silent_s * 1000 > hang_ms
        ]
        return [self._failed(attempt, worker) for attempt, worker in hung]

    def _failed(self, attempt: Attempt, worker: _Worker) -> Failed:
        self._part_with(attempt)
        cause = Cause.TRANSIENT if len(self._let_go) <= MAX_LET_GO else Cause.FATAL
        why = f"no sign of life for {worker.silent_s:.0f} s"
        return Failed(*attempt, worker.effect.epoch, cause, "ETASK002", why, clock.jitter())

    def _part_with(self, attempt: Attempt) -> None:
        worker = self._at_work.pop(attempt)
        worker.token.set()
        self._let_go = [each for each in (*self._let_go, worker) if each.thread.is_alive()]

    def silences(self) -> Iterator[tuple[Effect, float]]:
        """What is at work, and for how many seconds it has shown no life."""
        for worker in self._at_work.values():
            if not worker.answered:
                yield worker.effect, worker.silent_s

    def end(self, wait_s: float) -> None:
        """Stop all and wait so long, all in all; who has not ended then is left behind."""
        workers = [*self._at_work.values(), *self._let_go]
        for worker in workers:
            worker.token.set()
        until_s = clock.monotonic_s() + wait_s
        for worker in workers:
            worker.thread.join(max(0.0, until_s - clock.monotonic_s()))
        self._left = [worker for worker in workers if worker.thread.is_alive()]
        if self._left:
            names = ", ".join(worker.thread.name for worker in self._left)
            logger.warning("left behind, still waiting for an answer: {}", names)

    def join(self) -> None:
        """Wait for those that were left behind: what they still write is written then. Their
        clients wait for no answer for ever; an index that is being built is ended by its undo."""
        for worker in self._left:
            if worker.effect.task.kind is not TaskKind.INDEX:
                worker.thread.join()
