"""Commands of a group, on a real server: done once and taken back once, wherever a process dies."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from executors.operation.errors import InDoubt, NoRecord, PartlyThere
from executors.operation.perform import run_operation, undo_operation
from executors.protocol import Stopped
from statemachine.stimuli import Operated, Undone
from tests.conftest import Pair
from tests.executors.examples import Client, Looks
from tests.executors.operation.cases import CASES, CHECKED, COUNTED, DATABASE, Case, orders
from tests.executors.undo.world import Died, dying, world

pytestmark = pytest.mark.server
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
DOUBT = pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
MOST = 5
"""Commands that write, of any of the cases."""


@pytest.fixture
def client(pair: Pair) -> Client:
    return pair.target_client


def run(client: Client, case: Case, folder: Path) -> Operated:
    folder.mkdir(exist_ok=True)
    return run_operation({"": client}, case.operation, Looks(), folder)


def undo(client: Client, case: Case, folder: Path) -> Undone:
    return undo_operation({"": client}, case.operation, Looks(), folder)


def killed(
    monkeypatch: pytest.MonkeyPatch, at: int, *, done: bool, work: Callable[[], Any]
) -> bool:
    """Whether the process died before the work was done."""
    try:
        with dying(monkeypatch, at, done=done):
            work()
    except Died:
        return True
    return False


@pytest.mark.parametrize("case", [*CASES, DATABASE], ids=lambda case: case.name)
def test_the_world_is_as_before(client: Client, tmp_path: Path, case: Case) -> None:
    """I40, M8: state before = state after run and undo, to the byte; both may come twice."""
    case.before(client["shop"])
    before = world(client, uuids=False)
    told = run(client, case, tmp_path)
    assert world(client, uuids=False) != before
    after = world(client)
    assert run(client, case, tmp_path).changes[0] in told.changes[0]
    assert world(client) == after
    assert undo(client, case, tmp_path).changes
    assert world(client, uuids=False) == before
    undo(client, case, tmp_path)
    assert world(client, uuids=False) == before


@EVERY
@DOUBT
def test_a_process_that_dies_runs_it_once(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case, *, done: bool
) -> None:
    """A24, I40: killed before or behind its command, an operation is applied once all the same."""
    case.before(client["shop"])
    run(client, case, tmp_path / "never killed")
    wanted = world(client, uuids=False)
    client.drop_database("shop")
    case.before(client["shop"])
    before = world(client, uuids=False)
    assert killed(monkeypatch, 0, done=done, work=lambda: run(client, case, tmp_path / "killed"))
    run(client, case, tmp_path / "killed")
    assert world(client, uuids=False) == wanted
    undo(client, case, tmp_path / "killed")
    assert world(client, uuids=False) == before


@EVERY
@DOUBT
def test_what_is_in_doubt_is_taken_back(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case, *, done: bool
) -> None:
    """I37: undone when it was applied, left alone when it was not; a dying undo goes on (I39)."""
    case.before(client["shop"])
    before = world(client, uuids=False)
    assert killed(monkeypatch, 0, done=done, work=lambda: run(client, case, tmp_path))
    for at in range(MOST):
        killed(monkeypatch, at, done=done, work=lambda: undo(client, case, tmp_path))
    undo(client, case, tmp_path)
    assert world(client, uuids=False) == before


@EVERY
@DOUBT
@pytest.mark.parametrize("at", range(3))
def test_an_undo_that_dies_goes_on(
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    at: int,
    *,
    done: bool,
) -> None:
    """P9, I39: killed anywhere in a compensation of several commands, each is done once."""
    case.before(client["shop"])
    before = world(client, uuids=False)
    run(client, case, tmp_path)
    killed(monkeypatch, at, done=done, work=lambda: undo(client, case, tmp_path))
    undo(client, case, tmp_path)
    assert world(client, uuids=False) == before


@EVERY
def test_what_was_so_before_stays(client: Client, tmp_path: Path, case: Case) -> None:
    """I40: an operation that finds itself applied is nothing to take back."""
    case.before(client["shop"])
    run(client, case, tmp_path / "somebody else")
    before = world(client)
    told = run(client, case, tmp_path / "ours")
    if case.name == "an update":  # nothing tells: it is done again, which changes nothing
        return
    assert "so before" in told.changes[0]
    assert "so before" in undo(client, case, tmp_path / "ours").changes[0]
    assert world(client) == before


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "another collection",
            {"create": "orders", "capped": True, "size": 9},
            [{"drop": "orders"}],
        ),
        Case(
            "another index",
            {"createIndexes": "orders", "indexes": [{"key": {"n": 1}, "name": "other"}]},
            [{"dropIndexes": "orders", "index": "other"}, {"drop": "orders"}],
        ),
        Case("no such command", {"nonsense": 1}, [{"drop": "orders"}]),
        Case(
            "documents that are there",
            {"insert": "orders", "documents": [{"_id": 1, "n": 99}]},
            [{"delete": "orders", "deletes": [{"q": {"_id": 1}, "limit": 1}]}],
        ),
    ],
    ids=lambda case: case.name,
)
def test_what_was_refused_is_not_undone(client: Client, tmp_path: Path, case: Case) -> None:
    """I37, I40: a compensation for what never was would destroy what others have."""
    orders(client["shop"])
    before = world(client)
    with pytest.raises(OperationFailure):
        run(client, case, tmp_path)
    assert "refused" in undo(client, case, tmp_path).changes[0]
    assert world(client) == before


def test_what_came_half_way_is_undone(client: Client, tmp_path: Path) -> None:
    """I37: partly applied is started too. Errors of single writes are failures."""
    orders(client["shop"])
    before = world(client)
    case = Case(
        "",
        {"insert": "orders", "documents": [{"_id": "a", "n": 1}, {"_id": "b", "n": "x"}]},
        [{"delete": "orders", "deletes": [{"q": {"_id": {"$in": ["a", "b"]}}, "limit": 0}]}],
    )
    with pytest.raises(OperationFailure) as refused:
        run(client, case, tmp_path)
    assert refused.value.code == 121
    assert client["shop"]["orders"].count_documents({}) == 21
    assert undo(client, case, tmp_path).changes == ("delete shop.orders: 1 documents",)
    assert world(client) == before


@DOUBT
def test_what_must_not_be_done_twice(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, done: bool
) -> None:
    """I20, M13: where nothing tells whether it was done, a person has to; with a check, nobody."""
    orders(client["shop"])
    assert killed(monkeypatch, 0, done=done, work=lambda: run(client, COUNTED, tmp_path))
    found = world(client)
    with pytest.raises(InDoubt, match="nobody knows"):
        run(client, COUNTED, tmp_path)
    with pytest.raises(InDoubt):
        undo(client, COUNTED, tmp_path)
    assert world(client) == found


@DOUBT
def test_an_undo_must_not_come_twice(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, done: bool
) -> None:
    orders(client["shop"])
    run(client, COUNTED, tmp_path)
    assert killed(monkeypatch, 0, done=done, work=lambda: undo(client, COUNTED, tmp_path))
    with pytest.raises(InDoubt):
        undo(client, COUNTED, tmp_path)


@pytest.mark.parametrize("second", [{"key": {"a": 1}, "name": "a"}, None], ids=["one", "another"])
def test_some_of_the_indexes_are_there(
    client: Client, tmp_path: Path, second: dict[str, Any] | None
) -> None:
    """I40: the compensation would drop an index that somebody else made, or one of that name."""
    orders(client["shop"])
    before = world(client)
    case = Case(
        "",
        {
            "createIndexes": "orders",
            "indexes": [
                {"key": {"n": 1}, "name": "n_1", "expireAfterSeconds": 3600 if second else 60},
                *([second] if second else []),
            ],
        },
        [{"dropIndexes": "orders", "index": ["n_1", "a"]}],
    )
    with pytest.raises(PartlyThere, match="n_1 is there already"):
        run(client, case, tmp_path)
    assert undo(client, case, tmp_path).changes
    assert world(client) == before


def test_a_record_that_is_gone(client: Client, tmp_path: Path) -> None:
    """A rollback far from its work folder does not say that there was nothing to do."""
    case = CASES[0]
    run(client, case, tmp_path)
    shutil.rmtree(tmp_path / "undo")
    with pytest.raises(NoRecord, match="applied"):
        undo(client, case, tmp_path)
    client["shop"].drop_collection("new")
    assert "never applied" in undo(client, case, tmp_path).changes[0]


def test_what_was_never_sent(client: Client, tmp_path: Path) -> None:
    orders(client["shop"])
    before = world(client)
    assert "never sent" in undo(client, COUNTED, tmp_path).changes[0]
    assert world(client) == before


def test_a_token_that_is_set(client: Client, tmp_path: Path) -> None:
    """M2: nothing is sent any more, forward or back."""
    orders(client["shop"])
    with pytest.raises(Stopped):
        run_operation({"": client}, CHECKED.operation, Looks(0), tmp_path)
    run(client, CHECKED, tmp_path)
    found = world(client)
    with pytest.raises(Stopped):
        undo_operation({"": client}, CHECKED.operation, Looks(0), tmp_path)
    assert world(client) == found


def test_codes_that_mean_undone(client: Client, tmp_path: Path) -> None:
    """Of a command that no look knows, its own codes may say that it is undone."""
    case = Case("", {"create": "new"}, [{"convertToCapped": "gone", "size": 9}], more={"ok": [26]})
    run(client, case, tmp_path)
    assert undo(client, case, tmp_path).changes[0].endswith("it is so already")


def test_an_unknown_action(client: Client, tmp_path: Path) -> None:
    operation = CASES[0].operation
    operation.forward = operation.forward.replace('"do":"command"', '"do":"magic"')  # type: ignore[assignment]
    with pytest.raises(ValueError, match="magic"):
        run_operation({"": client}, operation, Looks(), tmp_path)
