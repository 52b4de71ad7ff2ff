"""What a verification may say: equal is only what was compared."""

from pathlib import Path

import pytest

from ferrylog.cli.verify import _gone, _report, _selection, _units
from ferrylog.engine import Engine
from journal.sqlite import SqliteJournal
from statemachine.state import State, Unit
from statemachine.words import BsonText, Cause, JobStatus, TaskKind, UnitId, UnitStatus
from tests.ferrylog.histories import CHUNK, JOB, Play, differing, failed
from tests.statemachine.examples import SETTINGS, SPEC

VERIFY = SPEC.model_copy(update={"kind": "verify", "of": JOB})
GONE = failed(Cause.PERMANENT, "ESOURCE001", "the collection is gone.")


def unit(name: str, status: UnitStatus = UnitStatus.COMPLETED) -> Unit:
    return Unit(UnitId(name), name, "collection", "", BsonText("{}"), (), 20, 2000, status=status)


def state_with(*units: Unit, added: tuple[str, ...] = ()) -> State:
    return State(units={each.id: each for each in units}, added=added)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ferrylog.db"


def verdict(path: Path) -> tuple[JobStatus, bool, dict[str, bool]]:
    with SqliteJournal.create(path) as journal:
        engine = Engine(journal, JOB)
        report = _report(journal, engine, JOB)
    return (
        engine.state.status,
        report.equal,
        {each.namespace: each.equal for each in report.units},
    )


def test_all_is_equal(path: Path) -> None:
    Play(path, {}, spec=VERIFY).run()
    assert verdict(path) == (
        JobStatus.COMPLETED,
        True,
        {"shop.orders": True, "shop.customers": True},
    )


def test_one_chunk_differs(path: Path) -> None:
    Play(path, {(TaskKind.VERIFY, CHUNK, 1): [(10, differing())]}, spec=VERIFY).run()
    assert verdict(path)[1:] == (False, {"shop.orders": False, "shop.customers": True})


@pytest.mark.parametrize("policy", ["pause", "skip-unit", "fail-job"])
def test_what_could_not_be_read_is_not_equal(path: Path, policy: str) -> None:
    """Nobody compared it, whatever became of the job."""
    settings = SETTINGS.model_copy(update={"on_exhausted": policy})
    script = {(TaskKind.VERIFY, CHUNK, 1): [(10, GONE)]}
    Play(path, script, spec=VERIFY, settings=settings).once()
    _, equal, units = verdict(path)
    assert (equal, units["shop.orders"]) == (False, False)


def test_what_nobody_compared_is_not_equal() -> None:
    """A unit that was left out, one that was begun, and one that lost a chunk."""
    short = unit("a.short")
    short.dropped = 1
    out, begun = unit("a.out", UnitStatus.EXCLUDED), unit("a.begun", UnitStatus.PROCESSING)
    report = _units(state_with(short, out, begun, unit("a.whole")), {}, {})
    assert [each.namespace for each in report if each.equal] == ["a.whole"]


# --- what is compared ---


def test_the_selection_as_it_is_now() -> None:
    """What was added is compared too, what was left out is not."""
    out = unit("shop.a*", UnitStatus.EXCLUDED)
    state = state_with(unit("shop.b"), out, added=("blog.*",))
    assert _selection(SPEC, state) == (("shop.*", "blog.*"), ("*.tmp", "shop.a[*]"))
    everything = SPEC.model_copy(update={"include": ()})
    assert _selection(everything, state) == ((), ("*.tmp", "shop.a[*]"))
    assert _selection(SPEC, State()) == (("shop.*",), ("*.tmp",))


def test_a_name_that_was_added_in_spite_of_an_exclude() -> None:
    out = unit("shop.a", UnitStatus.EXCLUDED)
    state = state_with(unit("shop.b"), out, unit("blog.tmp"), added=("blog.tmp",))
    assert _selection(SPEC, state) == (("shop.b", "blog.tmp"), ())
    assert _selection(SPEC, state_with(added=("blog.tmp",))) == ((), ("*",))


def test_what_was_left_out_is_not_missed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Play(path, {}).run()
    with SqliteJournal.create(path) as journal:
        engine = Engine(journal, JOB)
        engine.state.units[UnitId("shop.orders")].status = UnitStatus.EXCLUDED
        monkeypatch.setattr("ferrylog.cli.verify.recall", lambda *_: engine.past)
        assert [each.namespace for each in _gone(journal, State(), JOB)] == ["shop.customers"]
