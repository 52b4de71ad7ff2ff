"""What the threads of one task do beside each other: each waits for a disk or a server, or leaves
the interpreter to the others while it hashes and unpacks."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import Generic, NoReturn, TypeVar

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def beside(
    work: Callable[[Thing], Result], things: Iterable[Thing], threads: int
) -> Iterator[Result]:
    """What `work` makes of each thing, in their order; so many threads are at it.

    What it raises is raised in its turn, and nothing is begun after that. The threads are
    daemons: one that hangs does not keep the program from its end.
    """
    row = _Row(work, things)
    try:
        for _ in range(threads):
            Thread(target=row.run, daemon=True).start()
        yield from row.results()
    finally:
        row.ended = True


def ahead(things: Iterator[Thing]) -> Iterator[Thing]:
    """The same things: a thread makes the next one while the caller is at the one before.

    What making one raises is raised here, in its turn. The thread is a daemon.
    """
    row = _Ahead(things)
    Thread(target=row.run, daemon=True).start()
    try:
        yield from row.made()
    finally:
        row.end()


class _Ahead(Generic[Thing]):
    def __init__(self, things: Iterator[Thing]) -> None:
        self._things = things
        self._wanted = Semaphore()
        self._made: SimpleQueue[Callable[[], Thing]] = SimpleQueue()
        self._ended = False

    def run(self) -> None:
        while True:
            self._wanted.acquire()
            if self._ended:
                return
            self._made.put(_outcome(next, self._things))

    def made(self) -> Iterator[Thing]:
        while True:
            outcome = self._made.get()
            self._wanted.release()
            try:
                thing = outcome()
            except StopIteration:
                return
            del outcome
            yield thing
            del thing  # before the next one is waited for

    def end(self) -> None:
        self._ended = True
        self._wanted.release()


class _Row(Generic[Thing, Result]):
    def __init__(self, work: Callable[[Thing], Result], things: Iterable[Thing]) -> None:
        self._work = work
        self._things = list(things)
        self._numbers = iter(range(len(self._things)))
        self._lock = Lock()
        self._done: SimpleQueue[tuple[int, Callable[[], Result]]] = SimpleQueue()
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            self._done.put((number, _outcome(self._work, self._things[number])))

    def results(self) -> Iterator[Result]:
        early: dict[int, Callable[[], Result]] = {}
        for number in range(len(self._things)):
            while number not in early:
                done, outcome = self._done.get()
                early[done] = outcome
            yield early.pop(number)()


def _outcome(work: Callable[[Thing], Result], thing: Thing) -> Callable[[], Result]:
    """To be had by the thread that waits for it."""
    try:
        result = work(thing)
    except BaseException as error:  # noqa: BLE001 — raised in its turn
        return partial(_raise, error)
    return lambda: result


def _raise(error: BaseException) -> NoReturn:
    raise error
