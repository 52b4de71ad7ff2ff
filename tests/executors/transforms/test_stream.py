"""Blocks through processes that die: every document comes through once, or is rejected once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest

from executors.batches import Block
from executors.protocol import Stopped
from executors.rawbson import documents
from executors.transforms.code import Names, load
from executors.transforms.errors import CannotLoad, NoModel, NoProcess, NoTransform
from executors.transforms.feasibility import _lots
from executors.transforms.pool import Died, Piece, Pool
from executors.transforms.stream import transformed

HERE = Path(__file__).with_name("owncode.py")


class Token:
    def __init__(self) -> None:
        self.set = False

    def is_set(self) -> bool:
        return self.set


@contextmanager
def pool(
    function: str, model: str = "", *, workers: int = 1, limit_ms: int = 20_000
) -> Iterator[Pool]:
    own = Pool(_names(function, model), workers, limit_ms, time.monotonic)
    try:
        yield own
    finally:
        own.close()


def _names(function: str, model: str = "") -> Names:
    return Names(f"{HERE}:{function}", f"{HERE}:{model}" if model else "")


def blocks(count: int, at: int = 500, **more: Any) -> Iterator[Block]:
    """Documents from 0 on; what `more` names of them by `_<number>` does what it says."""
    every = [{"_id": number, "do": more.get(f"_{number}", "")} for number in range(count)]
    for begin in range(0, count, at):
        part = every[begin : begin + at]
        yield Block(b"".join(map(bson.encode, part)), len(part))


class Seen:
    """What came through, and what did not."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.rejected: dict[int, tuple[str, str]] = {}

    def reject(self, document: bytes, code: str, why: str) -> None:
        number = bson.decode(document)["_id"]
        assert number not in self.rejected
        self.rejected[number] = (code, why)

    def run(self, own: Pool, found: Iterator[Block], stop: Any = None) -> "Seen":
        for block in transformed(own, found, self.reject, stop or Token()):
            each = [bson.decode(document) for document in documents(block.data)]
            assert len(each) == block.documents
            self.ids += [one["_id"] for one in each]
        return self


def processes() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [each for each in found if "spawn_main" in " ".join(each.cmdline())]


def test_order_is_kept() -> None:
    """I21: what comes out comes in the order in which it was read, from several processes."""
    with pool("same", workers=2) as own:
        seen = Seen().run(own, blocks(3000))
        assert seen.ids == list(range(3000))
        assert seen.rejected == {}
        assert len(own.check(Token())) == 64
        assert len(processes()) == 2
    assert processes() == []


def test_a_process_that_ends_costs_its_document_only() -> None:
    """A15, F8: by a signal, by its own word, without a word: all others come through once."""
    with pool("as_told", workers=2) as own:
        seen = Seen().run(own, blocks(300, _7="exit", _70="crash", _71="none", _290="vanish"))
    assert seen.ids == [n for n in range(300) if n not in seen.rejected]
    assert seen.rejected == {
        7: ("ETRANSFORM017", "its process ended with exit code 3"),
        70: ("ETRANSFORM017", "its process ended with signal 11 (Segmentation fault)"),
        71: ("ETRANSFORM012", "the function gave NoneType instead of a dict"),
        290: ("ETRANSFORM017", "its process ended with exit code 0"),
    }


def test_a_document_that_takes_too_long_is_found() -> None:
    """A15: its process is ended, and those beside it come through."""
    with pool("as_told", limit_ms=300) as own:
        seen = Seen().run(own, blocks(100, _50="hang"))
    assert seen.ids == [n for n in range(100) if n != 50]
    assert seen.rejected == {50: ("ETRANSFORM018", "took longer than 0.3 s")}


@pytest.mark.deep
def test_a_process_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A15: also one that no alarm ends."""
    monkeypatch.setattr("executors.transforms.pool.GRACE_S", 1.0)
    with pool("as_told", limit_ms=300) as own:
        seen = Seen().run(own, blocks(20, _5="deaf"))
    assert seen.ids == [n for n in range(20) if n != 5]
    assert seen.rejected[5][0] == "ETRANSFORM018"


def test_a_killed_process_costs_nothing() -> None:
    """F8: nobody's fault, nobody is rejected, nothing comes twice."""
    with pool("slow", workers=2) as own:
        own.check(Token())
        killer = threading.Timer(0.3, processes()[0].kill)
        killer.start()
        seen = Seen().run(own, blocks(400))
        killer.join()
    assert seen.ids == list(range(400))
    assert seen.rejected == {}


def one_by_one(count: int) -> Iterator[Block]:
    """As documents come that are as large as a piece."""
    return blocks(count, at=1)


def test_a_killed_process_costs_no_large_document() -> None:
    """F8: a document that came alone is tried once more like any other."""
    with pool("slow") as own:
        own.check(Token())
        killer = threading.Timer(0.3, processes()[0].kill)
        killer.start()
        seen = Seen().run(own, one_by_one(150))
        killer.join()
    assert seen.ids == list(range(150))
    assert seen.rejected == {}


def test_processes_that_are_ended_for_others_cost_nothing() -> None:
    """F8: as often as that happens."""
    with pool("slow", workers=2) as own:
        found = transformed(own, one_by_one(200), Seen().reject, Token())
        ids = []
        for block in found:
            ids += [bson.decode(each)["_id"] for each in documents(block.data)]
            if len(ids) in (50, 51, 100):
                own.replace(own.begin(bson.encode({})))
    assert ids == list(range(200))


def test_a_pool_that_breaks_is_told_once() -> None:
    """F8: whatever is under way in it, one that breaks is one false start."""
    with pool("as_told", workers=2) as own:
        sent = [own.begin(bson.encode({"_id": n, "do": "hang"})) for n in range(8)]
        sent[0].of._executor._pool_manager.handle_broken_pool(BrokenProcessPool())
        told = [_died(piece) for piece in sent]
        assert [each.at for each in told if not each.by_us] == [None]


def _died(piece: Piece) -> Died:
    with pytest.raises(Died) as told:
        piece.wait(Token())
    if not told.value.by_us:
        piece.of.pool.replace(piece)
    return told.value


def test_a_pool_that_is_closed_begins_nothing() -> None:
    """F2: whoever still asks is left behind."""
    with pool("same") as own:
        pass
    with pytest.raises(Stopped):
        Seen().run(own, blocks(1))
    assert processes() == []


def test_what_is_built_in_stands_in_no_file() -> None:
    """A14: it is code like any other."""
    assert load(Names("builtins:dict", "")).sha256 == ""


def test_what_swells_comes_in_several_answers() -> None:
    """F3: a document may become much larger; blocks stay what a file takes."""
    with pool("as_told") as own:
        seen = Seen().run(own, blocks(6, _1="swell", _2="swell", _3="swell"))
    assert seen.ids == list(range(6))


def test_a_stop_is_heard_at_once() -> None:
    """A18: whatever the processes are at."""
    stop = Token()
    with pool("as_told", limit_ms=60_000) as own:
        own.check(Token())
        threading.Timer(0.3, lambda: setattr(stop, "set", True)).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            Seen().run(own, blocks(5, _2="hang"), stop)
        assert time.monotonic() - began < 5
    assert processes() == []


def test_another_number_of_processes_while_it_runs() -> None:
    """A18: what is under way goes on."""
    with pool("same") as own:
        found = transformed(own, blocks(2000, at=100), Seen().reject, Token())
        first = next(found)
        own.set(2, 500)
        own.set(2, 500)
        assert first.documents + sum(each.documents for each in found) == 2000
        assert own.limit_s == 0.5


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (Names("nothing", ""), CannotLoad, "it has no form module:name"),
        (Names("no_such_module:f", ""), CannotLoad, "ModuleNotFoundError: No module named"),
        (_names("no_such"), CannotLoad, "AttributeError: module 'owncode' has no attribute"),
        (_names("awaited"), NoTransform, "is a coroutine function"),
        (_names("pair"), NoTransform, "cannot be called with one document"),
        (_names("BECOMES"), NoTransform, "is dict, no function"),
        (Names("", f"{HERE}:same"), NoModel, "is no pydantic model"),
    ],
)
def test_code_that_is_none_is_refused(names: Names, error: type[Exception], said: str) -> None:
    """A14: before anything is begun, with the last line of what Python says."""
    from executors.transforms.worker import check

    found = check(names)
    assert isinstance(found, error)
    assert said in str(found)


def test_a_first_look_waits_for_few_documents() -> None:
    """F8: of code that takes long: one at a time; in lots when it was seen to be fast."""
    sizes = [len(lot) for lot in _lots(iter([b""] * 75))]
    assert sizes == [1] * 50 + [10, 10, 5]


def test_a_module_that_kills_is_given_up(tmp_path: Path) -> None:
    """A14: what ends each process as it is imported is no code to run."""
    (tmp_path / "deadly.py").write_text("import os\nos._exit(9)\n")
    own = Pool(Names(f"{tmp_path}/deadly.py:f", ""), 1, 1000, time.monotonic)
    try:
        with pytest.raises(NoProcess, match="exit code 9"):
            own.check(Token())
    finally:
        own.close()


@pytest.mark.deep
def test_a_module_that_kills_later_is_given_up(tmp_path: Path) -> None:
    """A14: the same, when only the dumps meet it."""
    (tmp_path / "deadly2.py").write_text("import os\nos._exit(9)\n")
    own = Pool(Names(f"{tmp_path}/deadly2.py:f", ""), 1, 1000, time.monotonic)
    try:
        with pytest.raises(NoProcess, match="exit code 9"):
            Seen().run(own, blocks(3))
    finally:
        own.close()


PARENT = """
import sys, time
sys.path.insert(0, {root!r})
from tests.executors.transforms import test_stream as t
own = t.Pool(t._names("as_told"), 2, 600_000, time.monotonic)
if __name__ == "__main__":
    own.check(t.Token())
    print(*[p.pid for p in t.processes()], flush=True)
    t.Seen().run(own, t.blocks(200, _3="hang", _100="hang"))
"""


def test_no_orphans(tmp_path: Path) -> None:
    """F2: processes of the code end with a ferrylog that is killed, whatever they are at."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(root=str(HERE.parents[3])))
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.3)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 10
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    """A process whose parent does not collect it is gone all the same."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_number_of_processes() -> None:
    """F2: one per core, at most 8, where nobody said."""
    own = Pool(Names("a:b", ""), 0, 1000, time.monotonic)
    assert own.workers == min(len(os.sched_getaffinity(0)), 8)
    own.close()
