"""Every event says what it is about; what nobody gave has a value that means nothing."""

import pytest

from statemachine.events import (
    AnyEvent,
    JobSpec,
)
from statemachine.stimuli import (
    Failed,
    PauseAsked,
    Restored,
)
from statemachine.words import (
    Cause,
    TaskKey,
    TaskKind,
    index_task,
    unit_of,
)
from tests.statemachine.examples import SPEC, classes, example, examples, kinds
from tests.statemachine.story import UNIT

UNITS = (
    "unit_",
    "batch_resized",
    "conflict_foreseen",
    "create_",
    "census_",
    "plan_",
    "finish_",
    "damage_found",
)
CHUNKS = (
    "chunk_",
    "document_rejected",
    "documents_repaired",
    "file_found",
    "result_ignored",
    "dump_",
    "restore_",
    "copy_",
    "split_",
    "verify_",
    "priority_changed",
    "alert_",
)


@pytest.mark.parametrize("event", examples(), ids=lambda event: event.kind)
def test_about(event: AnyEvent) -> None:
    """A45, I45: filters and reports find every event by its entity."""
    if event.kind.startswith(UNITS):
        assert event.about == "shop.orders"
    elif event.kind.startswith(CHUNKS):
        assert event.about == "shop.orders#0"
    elif event.kind.startswith("index_"):
        assert event.about == "shop.orders@n_1"
    elif event.kind.startswith(("shape_", "settle_", "increment_")):
        assert event.about == "link:1"
    elif event.kind.startswith(("apply_", "shard_planned")):
        assert event.about == "link:1#0"
    elif event.kind.startswith("operation_"):
        assert event.about == "shard"
    elif event.kind.startswith("undo_"):
        assert event.about == "restore shop.orders#0"
    elif event.kind.startswith("breaker_"):
        assert event.about == "dump pool"
    else:
        assert event.about == "job"


def test_what_nobody_gave() -> None:
    asked = PauseAsked("me", "lunch")
    assert (asked.request, asked.immediate) == (0, False)
    assert Restored(0, 0, 0, 0, 0).rejections == ()
    assert Failed(TaskKey(TaskKind.DUMP, "a#0"), 1, 1, Cause.FATAL, "E", "").jitter == 0.5
    given = SPEC.model_dump(exclude={"include", "exclude", "of"})
    spec = JobSpec.model_validate(given)
    assert (spec.include, spec.exclude, spec.of) == ((), (), "")


@pytest.mark.parametrize(
    "cls", [cls for cls in classes() if len(kinds(cls)) == 1], ids=lambda cls: cls.__name__
)
def test_an_only_kind_need_not_be_said(cls: type[AnyEvent]) -> None:
    whole = example(cls, kinds(cls)[0])
    assert cls.model_validate(whole.model_dump(exclude={"kind"})) == whole


def test_tasks_know_their_unit() -> None:
    assert unit_of(TaskKey(TaskKind.SURVEY, "job")) is None
    assert unit_of(TaskKey(TaskKind.INDEX, "a.b@c@d%40e")) == "a.b@c@d%40e".rpartition("@")[0]
    assert unit_of(TaskKey(TaskKind.DUMP, "a.b#c#12")) == "a.b#c"


def test_what_is_shown_of_events() -> None:
    """Every event names what it is about."""
    about = {event.kind: event.about for event in examples()}
    assert about["job_requested"] == "job"
    assert about["unit_registered"] == "shop.orders"
    assert about["chunk_planned"] == about["dump_started"] == "shop.orders#0"
    assert about["index_started"] == "shop.orders@n_1"
    assert index_task(UNIT, "a@b%c").entity == "shop.orders@a%40b%25c"
