"""Rollbacks of a part, and such that are asked for where they cannot be."""

import pytest

from statemachine.effects import wanted_effects
from statemachine.stimuli import ExportAsked, ImportAsked, PauseAsked, StopAsked
from statemachine.undoing import undo_plan
from statemachine.words import JobStatus, TaskKey, TaskKind
from tests.statemachine.groups import at_work, take_all_back, take_back
from tests.statemachine.story import (
    CREATE,
    DUMP,
    DUMPED,
    EQUAL,
    RESTORE,
    RESTORED,
    UNIT,
    VERIFY,
    Story,
)
from tests.statemachine.test_rollback import done


@pytest.mark.parametrize("rollback", [True, False])
def test_what_cannot_be_taken_back_is_not_stopped_for_it(*, rollback: bool) -> None:
    """M2, A18: nor does it rest for ever before a rollback that never comes."""
    for story in (Story().planned(), Story(kind="dump", undo=True)):
        stop = StopAsked("me", "enough", 1, immediate=False, rollback=rollback)
        assert story.tell(stop)[0] == ("request_refused" if rollback else "stop_requested")


def test_a_wish_for_a_rollback_does_not_pause_it() -> None:
    """M2: it is under way already."""
    group = done()
    take_back(group)
    asked = StopAsked("me", "enough", 3, immediate=True, rollback=True)
    assert group.tell(asked) == ["request_refused"]
    assert group.state.status is JobStatus.ROLLING_BACK
    assert len(at_work(group)) == 1


def carried() -> Story:
    story = Story(undo=True).planned(chunks=2)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    story.tell(PauseAsked("me", "lunch", 1, immediate=True))
    return story


def test_a_chunk_is_told_where_its_collection_stays() -> None:
    """I42: there its documents do not go with it; and a later rollback need not prove them."""
    story = carried()
    take_back(story, to=f"create {CREATE.entity}")
    (effect,) = wanted_effects(story.state)
    assert effect.undo is not None
    assert effect.chunks == (effect.undo,)
    take_all_back(story)
    take_back(story)
    (effect,) = wanted_effects(story.state)
    assert effect.undo is not None
    assert (effect.undo.task, effect.undo.unit) == (TaskKind.CREATE, UNIT)
    assert effect.chunks == ()


def test_a_chunk_goes_with_its_collection() -> None:
    story = carried()
    take_back(story)
    (effect,) = wanted_effects(story.state)
    assert effect.undo is not None
    assert effect.undo.chunk is not None
    assert effect.chunks == ()


def test_what_ran_elsewhere_may_have_done_something() -> None:
    """I37, I41: that its log is not on this host does not mean that it did nothing."""
    story = Story(undo=True).planned(chunks=1)
    story.succeed(DUMP, DUMPED)
    assert not by_task(story)[RESTORE]
    story.tell(ExportAsked("me", "there"), ImportAsked("me", "here"))
    assert by_task(story)[RESTORE]
    assert by_task(story)[CREATE]


def by_task(story: Story) -> dict[TaskKey, bool]:
    plan = undo_plan(story.events)
    return {TaskKey(each.task, each.entity): each.acknowledged for each in plan}
