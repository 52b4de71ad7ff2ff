"""A dry run beside a job: each thing that was foreseen, and each that was not."""

from typing import Any

import pytest

from executors.conflicts import KINDS
from ferrylog.estimate import Duration
from ferrylog.views.foretold import Forecast, Outcome, judged, mishap
from ferrylog.views.plan import kind_of
from statemachine.events import (
    AnyEvent,
    Cancelled,
    ConflictForeseen,
    DeadLettered,
    DocumentRejected,
    VerifyCompleted,
)
from statemachine.words import Cause, ChunkId, Key, TaskKey, TaskKind, UnitId

TIME = Duration(2.0, 1.0, 4.0, "a guess")
UNIT = UnitId("shop.orders")


def compared(codes: tuple[str, ...], mishaps: dict[tuple[str, str], int]) -> list[Any]:
    """Section, code, what came, whether it differs; without the time."""
    conflicts = tuple(ConflictForeseen(unit=UNIT, code=code, why="so") for code in codes)
    rows = list(judged(Forecast(TIME, conflicts), Outcome(2000, mishaps)))
    return [(row.section, row.name.split()[-1], row.came, row.differs) for row in rows[1:]]


def test_a_conflict_that_came_true() -> None:
    """Whichever of its codes it came under; that is no surprise."""
    mishaps = {(UNIT, "EMONGO085"): 1, (UNIT, "EMONGO086"): 2}
    assert compared(("EPLAN010",), mishaps) == [
        ("foreseen", "EPLAN010", "came: EMONGO085 once, EMONGO086 2 times", False)
    ]


def test_a_conflict_that_did_not_come() -> None:
    """And one of which no journal tells: neither right nor wrong."""
    assert compared(("EPLAN008", "EPLAN007"), {}) == [
        ("foreseen", "EPLAN008", "did not come", True),
        ("foreseen", "EPLAN007", "no journal can tell", False),
    ]


def test_a_surprise() -> None:
    """What was foreseen of another collection is one here."""
    mishaps = {("shop.other", "EMONGO11000"): 1200}
    assert compared(("EPLAN008",), mishaps) == [
        ("foreseen", "EPLAN008", "did not come", True),
        ("surprises", "EMONGO11000", "1,200 times", True),
    ]


def test_a_code_of_another_version() -> None:
    assert compared(("EPLAN999",), {}) == [("foreseen", "EPLAN999", "no journal can tell", False)]
    assert kind_of("EPLAN999").what


@pytest.mark.parametrize(
    ("taken_ms", "outside"), [(999, True), (1000, False), (4000, False), (4001, True)]
)
def test_the_time(taken_ms: int, outside: bool) -> None:
    """Within the interval it was foreseen."""
    (row,) = judged(Forecast(TIME, ()), Outcome(taken_ms, {}))
    assert (row.section, row.name, row.differs) == ("foreseen", "time", outside)
    assert row.foreseen == "2.0 s (1.0 s to 4.0 s)"


def verified(*, equal: bool) -> VerifyCompleted:
    return VerifyCompleted(
        entity=f"{UNIT}#0",
        equal=equal,
        source_documents=1,
        target_documents=1,
        source_digest="d1" * 16,
        target_digest="d1" * 16,
        rejected=0,
        differing=(),
    )


def test_what_is_a_mishap() -> None:
    dump = TaskKey(TaskKind.DUMP, f"{UNIT}#0")
    survey = TaskKey(TaskKind.SURVEY, "job")
    why: dict[str, Any] = {"attempt": 1, "code": "EMONGO1", "why": "so"}
    events: list[tuple[AnyEvent, tuple[str, str] | None]] = [
        (DeadLettered.of(dump, cause=Cause.PERMANENT, **why), (UNIT, "EMONGO1")),
        (DeadLettered.of(survey, cause=Cause.PERMANENT, **why), ("job", "EMONGO1")),
        (Cancelled.of(dump, **why), (UNIT, "EMONGO1")),
        (
            DocumentRejected(chunk=ChunkId(f"{UNIT}#7"), key=Key("1"), code="ECONFLICT001", why=""),
            (UNIT, "ECONFLICT001"),
        ),
        (verified(equal=False), (UNIT, "mismatch")),
        (verified(equal=True), None),
    ]
    assert [mishap(event) for event, _ in events] == [expected for _, expected in events]


def test_every_kind_of_conflict_is_told_in_words() -> None:
    """Codes are stable and without a gap; each says what to do about it."""
    assert list(KINDS) == [f"EPLAN{number:03d}" for number in range(1, len(KINDS) + 1)]
    assert all(kind.what and kind.remedy for kind in KINDS.values())
    assert all(kind.comes_as for kind in KINDS.values() if kind.certain)
