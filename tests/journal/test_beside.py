"""The files beside the journal: lease and inbox."""

import multiprocessing
import os
from pathlib import Path

import pytest

from journal.errors import JournalHeld
from journal.inbox import Inbox
from journal.lease import Lease, held


def _hold(
    path: str, ready: "multiprocessing.Queue[int]", stop: "multiprocessing.Queue[int]"
) -> None:
    with Lease(Path(path), host="host", since="noon"):
        ready.put(os.getpid())
        stop.get()


def test_one_process_per_journal(tmp_path: Path) -> None:
    """I5: the second is refused and told who holds it; death frees it."""
    path = tmp_path / "j.db"
    spawn = multiprocessing.get_context("spawn")
    ready, stop = spawn.Queue(), spawn.Queue()
    child = spawn.Process(target=_hold, args=(str(path), ready, stop))
    assert not held(path)
    child.start()
    pid = ready.get(timeout=20)
    assert held(path)
    with pytest.raises(JournalHeld, match=f"process {pid} on host since noon") as refused:
        Lease(path, host="other", since="later")
    assert refused.value.exit_code == 7
    child.kill()
    child.join()
    assert not held(path)
    Lease(path, host="other", since="later").release()


def test_requests_wait_in_order_and_count_once(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "j.db")
    assert inbox.waiting("j1") == []
    first = inbox.leave("j1", "pause", by="ann", why="lunch")
    inbox.leave("j2", "pause", by="bob")
    second = inbox.leave("j1", "pause", by="cid")
    waiting = inbox.waiting("j1")
    assert [request.id for request in waiting] == [first, second]
    assert waiting[0].details == {"why": "lunch"}
    inbox.remove(waiting)
    inbox.remove([])
    assert inbox.waiting("j1") == []
    assert inbox.leave("j1", "pause", by="ann") > second, "a number is never given twice"
    assert (tmp_path / "j.db.inbox").stat().st_mode & 0o777 == 0o600
