"""The processes that convert: in order, none missing, whatever becomes of a process."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bson
import psutil
import pytest
import zstandard

from executors.batches import Block
from executors.export.errors import NoConverter
from executors.export.model import Recipe
from executors.export.processes import AHEAD, COMMAND, Processes
from executors.protocol import Stopped
from tests.executors.examples import Looks

LINES = Recipe("jsonl", compression="zstd")


def block(number: int) -> Block:
    return Block(b"".join(bson.encode({"_id": number, "n": n}) for n in range(3)), 3)


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [each for each in found if COMMAND[-1] in each.cmdline()]


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes(2) as made:
        yield made
    assert not children()


def text_of(processes: Processes, count: int, recipe: Recipe = LINES) -> list[str]:
    found = []
    for sent, converted in processes.converted(recipe, map(block, range(count)), Looks()):
        (piece,) = converted.pieces
        assert sent.documents == piece.documents
        found.append(zstandard.decompress(piece.data).decode())
    return found


def test_blocks_come_back_in_order(processes: Processes) -> None:
    """G2: several at a time, by not more processes than there are chunks."""
    found = text_of(processes, 20)
    assert [f'{{"$numberInt":"{n}"}}' in each.split(",")[0] for n, each in enumerate(found)]
    assert len(children()) <= 2


def test_a_process_that_dies_costs_nothing(processes: Processes) -> None:
    """G8: the kernel ends what takes too much memory; its block is tried again."""
    seen = 0
    for _ in processes.converted(LINES, map(block, range(20)), Looks()):
        seen += 1
        if seen in (3, 9):
            for each in children():
                each.send_signal(signal.SIGKILL)
    assert seen == 20


def test_a_block_that_ends_its_process_twice(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt fails with how it ended, and others go on."""
    with monkeypatch.context() as patched:
        end = ("/bin/sh", "-c", "head -c 9 >/dev/null; exit 7")
        patched.setattr("executors.export.processes.COMMAND", end)
        with pytest.raises(NoConverter, match="exit code 7"):
            text_of(processes, 1)
    assert len(text_of(processes, 4)) == 4


def test_what_is_wrong_in_a_process_is_raised_here(processes: Processes) -> None:
    """Bytes that are no document: an error of its own kind, and the process goes on."""
    bad = iter([Block(b"\x09\0\0\0", 1)])
    with pytest.raises(ValueError, match="does not fit"):
        list(processes.converted(LINES, bad, Looks()))
    assert len(text_of(processes, 1)) == 1


def test_no_more_is_read_than_is_wanted(processes: Processes) -> None:
    """G8: a few blocks ahead, however slow whoever takes them."""
    read = 0

    def blocks() -> Iterator[Block]:
        nonlocal read
        while True:
            read += 1
            yield block(read)

    converted = processes.converted(LINES, blocks(), Looks())
    for taken in range(1, 4):
        next(converted)
        assert read <= taken + AHEAD
    converted.close()  # type: ignore[attr-defined]


def test_a_process_that_is_silent_is_ended(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its block is tried again in a new one; the others wait no longer."""
    delays = iter((60, 0.1, 60, 0.1, 0.1))

    def timer(_: float, then: Callable[[], None]) -> threading.Timer:
        return threading.Timer(next(delays), then)

    monkeypatch.setattr("executors.export.processes.Timer", timer)
    assert len(text_of(processes, 1)) == 1
    (silent,) = children()
    silent.suspend()
    assert len(text_of(processes, 1)) == 1
    assert not silent.is_running()
    children()[0].suspend()
    monkeypatch.setattr("executors.export.processes.COMMAND", ("/bin/sleep", "60"))
    with pytest.raises(NoConverter, match=r"gave no answer for 300 s.*signal 9"):
        text_of(processes, 1)
    assert next(delays, None) is None


def test_whoever_waits_looks_at_the_token(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that hangs holds nobody up who is to stop."""
    monkeypatch.setattr("executors.export.processes.COMMAND", ("/bin/sleep", "60"))
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Stopped):
        list(processes.converted(LINES, iter([block(1)]), stop))


def test_nothing_is_begun_after_the_end() -> None:
    with Processes(1) as processes:
        assert len(text_of(processes, 1)) == 1
    with pytest.raises(Stopped):
        text_of(processes, 1)


def test_a_ctrl_c_at_the_terminal_is_for_us_alone(processes: Processes) -> None:
    """A6: what is under way goes on to its end."""
    assert len(text_of(processes, 1)) == 1
    for each in children():
        assert os.getpgid(each.pid) != os.getpgid(0)
        each.send_signal(signal.SIGINT)
    time.sleep(0.05)
    assert len(text_of(processes, 1)) == 1


def test_they_end_with_whoever_began_them(tmp_path: Path) -> None:
    """I12: after a SIGKILL nothing of it goes on."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:  # pragma: no cover — another process
        processes = Processes(1)
        text_of(processes, 1)
        os.write(write, b"%d" % children()[0].pid)
        signal.pause()
    child = psutil.Process(int(os.read(read, 20)))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    child.wait(10)
