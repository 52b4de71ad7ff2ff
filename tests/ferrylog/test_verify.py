"""What a verification may say: equal is only what was compared."""

from pathlib import Path

import pytest

from ferrylog.cli.verify import _gone, _report, _selection, _units
from ferrylog.engine import Engine
from journal.sqlite import SqliteJournal
from statemachine.events import Difference, MetadataDifference
from statemachine.state import State, Task, Unit
from statemachine.words import (
    BsonText,
    Cause,
    JobStatus,
    Key,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
)
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


def test_what_lies_beside_a_dump_is_told_with_the_documents() -> None:
    """Counts are those of the two sides; what is no document is metadata."""
    short, more = unit("a.short"), unit("a.more")
    for each, (source, target) in ((short, (20, 20)), (more, (19, 19))):
        each.source_documents, each.target_documents = source, target
        each.differing = 2
    option = MetadataDifference(what="option capped", source="true", target="")
    told = {
        "a.short": [beside("documents", "20", "21"), beside('extra: _id "x: _id y"')],
        "a.more": [beside("documents", "20", "19"), beside("missing: _id 1"), option],
    }
    one, other = _units(state_with(short, more), {}, told)
    assert not one.equal and not other.equal
    assert (one.source_count, one.target_count, one.metadata) == (20, 21, ())
    assert one.differing == (Difference(key=Key('"x: _id y"'), what="extra"),)
    assert (other.source_count, other.target_count, other.metadata) == (20, 19, (option,))
    assert other.differing == (Difference(key=Key("1"), what="missing"),)


def beside(what: str, source: str = "", target: str = "") -> MetadataDifference:
    return MetadataDifference(what=what, source=source, target=target)


def test_without_its_last_touch_a_unit_is_not_equal() -> None:
    """What lies beside it was not counted."""
    one = unit("a.a")
    state = state_with(one)
    for status in (Status.COMPLETED, Status.FAILED):
        state.tasks[TaskKey(TaskKind.FINISH, one.id)] = Task(status=status)
        (report,) = _units(state, {}, {})
        assert report.equal == (status is Status.COMPLETED)


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
