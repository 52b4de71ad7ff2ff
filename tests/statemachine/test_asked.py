"""What operators ask for: done and told, or refused and told; asked twice is no news."""

from collections.abc import Callable

import pytest

from statemachine.decide import decide
from statemachine.decide.asked import refusal
from statemachine.effects import wanted_effects
from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import IndexSpec, RunSettings, SettingChanged
from statemachine.evolve import evolve, fold
from statemachine.limits import AT_MOST, LIVE
from statemachine.state import State, digest
from statemachine.stimuli import (
    AddAsked,
    Asked,
    Created,
    DropAsked,
    ExcludeAsked,
    ExportAsked,
    FoundUnit,
    JobAsked,
    PauseAsked,
    Planned,
    PriorityAsked,
    Released,
    RequeueAsked,
    SetAsked,
    SplitAsked,
    StopAsked,
    Surveyed,
)
from statemachine.words import (
    BsonText,
    Cause,
    ChunkId,
    JobStatus,
    Key,
    Millis,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    UnitStatus,
)
from tests.statemachine.examples import SETTINGS, SPEC
from tests.statemachine.story import (
    CHUNK,
    DUMP,
    DUMPED,
    EQUAL,
    RESTORE,
    RESTORED,
    UNIT,
    VERIFY,
    Story,
)

SURVEY = TaskKey(TaskKind.SURVEY, "job")
INDEX = TaskKey(TaskKind.INDEX, f"{UNIT}@i0")
TWO = UnitId("shop.two")


def found(unit: UnitId) -> FoundUnit:
    index = IndexSpec(name="i0", unique=False, spec=BsonText("{}"))
    return FoundUnit(unit, unit, "collection", "00", BsonText("{}"), (index,), 5, 50)


def planned() -> Story:
    return Story().planned(chunks=4, indexes=1)


def completed() -> Story:
    story = Story()
    story.succeed(SURVEY, Surveyed(()))
    return story


def failed() -> Story:
    story = Story(SETTINGS.model_copy(update={"on_exhausted": "fail-job"})).planned()
    story.fail(DUMP, Cause.PERMANENT)
    return story


def excluded() -> Story:
    story = planned()
    story.tell(ExcludeAsked("me", UNIT))
    return story


def moved() -> Story:
    story = planned()
    story.tell(ExportAsked("me", "here"))
    return story


def splitting() -> Story:
    story = planned()
    story.tell(SplitAsked("me", CHUNK))
    return story


def natural() -> Story:
    story = Story()
    story.succeed(SURVEY, Surveyed((found(UNIT),)))
    story.succeed(TaskKey(TaskKind.CREATE, UNIT), Created(()))
    story.succeed(TaskKey(TaskKind.PLAN, UNIT), Planned((), 5, natural=True))
    return story


def skipped() -> Story:
    story = Story(SETTINGS.model_copy(update={"on_exhausted": "skip-unit"})).planned()
    story.fail(DUMP, Cause.PERMANENT)
    return story


def named(name: str, value: int | str) -> SetAsked:
    return SetAsked("me", name, value, 7)


REFUSALS: list[tuple[str, Callable[[], Story], Asked, str]] = [
    ("pause", completed, PauseAsked("me", "", 7), "the job is completed"),
    ("pause", moved, PauseAsked("me", "", 7), "the job has left this journal"),
    ("stop", failed, StopAsked("me", "", 7), "the job is failed"),
    ("set", completed, named("dump_workers", 3), "the job is completed"),
    ("set", planned, named("work_dir", "/x"), "work_dir is no setting of a running job: dump_w"),
    ("set", planned, named("dump_workers", 65), "dump_workers must be a whole number up to 64"),
    ("set", planned, named("dump_workers", "3"), "must be a whole number up to 64"),
    ("set", planned, named("dump_workers", 0), "dump_workers cannot be that: Input should be gre"),
    ("set", planned, named("dump_workers", True), "dump_workers cannot be that: Input should"),
    ("set", planned, named("retry", "never"), "retry cannot be that: Input should be 'none'"),
    ("set", planned, named("dump_workers", 2), "dump_workers is 2 already"),
    ("priority", planned, PriorityAsked("me", "no.such", 1, 7), "no.such is no unit and no open c"),
    ("priority", planned, PriorityAsked("me", UNIT, 10, 7), "from -9 to 9, not 10"),
    ("priority", planned, PriorityAsked("me", UNIT, -10, 7), "from -9 to 9, not -10"),
    ("priority", planned, PriorityAsked("me", UNIT, 0, 7), f"{UNIT} has priority 0 already"),
    ("priority", failed, PriorityAsked("me", UNIT, 1, 7), "the job is failed"),
    ("exclude", planned, ExcludeAsked("me", TWO, 7), "shop.two is no unit of the job"),
    ("exclude", skipped, ExcludeAsked("me", UNIT, 7), "the job is completed"),
    ("add", planned, AddAsked("me", (), 7), "no namespace is named"),
    ("add", Story, AddAsked("me", ("a.*",), 7), "is being surveyed; ask again when that is done"),
    ("split", planned, SplitAsked("me", ChunkId(f"{UNIT}#4"), 7), "is no open chunk of the job"),
    ("split", natural, SplitAsked("me", CHUNK, 7), "is read in insertion order and stays whole"),
    ("split", splitting, SplitAsked("me", CHUNK, 7), "is being split already"),
    ("requeue", planned, RequeueAsked("me", CHUNK, 7), f"{CHUNK} has no rejected documents"),
    ("requeue", planned, RequeueAsked("me", CHUNK, 7, TaskKind.DUMP), "is processing, not a dead"),
    ("requeue", planned, RequeueAsked("me", "x", 7, TaskKind.DUMP), "dump of x is unknown or set"),
    (
        "requeue",
        failed,
        RequeueAsked("me", CHUNK, 7, TaskKind.DUMP),
        "the job is failed; `ferrylog",
    ),
    ("requeue", skipped, RequeueAsked("me", CHUNK, 7, TaskKind.DUMP), "the job went on without sh"),
    ("drop", planned, DropAsked("me", CHUNK, TaskKind.DUMP, 7), "is not a dead letter"),
    ("drop", planned, DropAsked("me", "x", TaskKind.DUMP, 7), "dump of x is not a dead letter"),
    ("drop", completed, DropAsked("me", CHUNK, TaskKind.DUMP, 7), "the job is completed"),
]


@pytest.mark.parametrize(
    ("verb", "story", "wish", "why"), REFUSALS, ids=[f"{row[0]}: {row[3]}" for row in REFUSALS]
)
def test_what_does_not_fit_is_refused(
    verb: str, story: Callable[[], Story], wish: Asked, why: str
) -> None:
    """A34, M2, P10: with its reason, to the one who asked; nothing else is done."""
    told = story()
    before, seen = told.state.request, len(told.events)
    assert why in refusal(told.state, wish)
    assert told.tell(wish) == ["request_refused"]
    assert told.tell(wish) == [], "asked twice is no news"
    event = told.events[seen]
    assert (event.by, event.request, event.verb) == ("me", 7, verb)  # type: ignore[union-attr]
    assert why in event.why  # type: ignore[union-attr]
    assert (before, told.state.request) == (0, 7)
    expected = fold(told.events[:seen])
    expected.request = 7
    assert digest(told.state) == digest(expected), "nothing but its number"


def test_nobody_waits_for_the_answer_to_a_signal() -> None:
    story = completed()
    assert story.tell(PauseAsked("signal", "SIGINT"), StopAsked("signal", "SIGINT")) == []
    assert "completed" in refusal(story.state, PauseAsked("signal", "SIGINT"))


def test_before_the_first_run_there_is_nothing_to_change() -> None:
    assert decide(State(), SetAsked("me", "dump_workers", 3, 7), Millis(0)) == []
    state = fold(decide(State(), JobAsked("me", SPEC), Millis(0)))
    assert refusal(state, SetAsked("me", "dump_workers", 3, 7)) == "the job has not begun"
    for wish in (PauseAsked("me", "", 7), StopAsked("me", "", 7)):
        assert refusal(state, wish) == "the job is pending"


ALLOWED: list[tuple[str, Asked]] = [
    ("pause_requested", PauseAsked("me", "lunch", 7)),
    ("stop_requested", StopAsked("me", "lunch", 7)),
    ("setting_changed", SetAsked("me", "tick_ms", 5, 7)),
    ("priority_changed", PriorityAsked("me", UNIT, 9, 7)),
    ("priority_changed", PriorityAsked("me", CHUNK, -9, 7)),
    ("unit_excluded", ExcludeAsked("me", UNIT, 7)),
    ("namespaces_added", AddAsked("me", ("a.*",), 7)),
    ("split_requested", SplitAsked("me", CHUNK, 7)),
]


@pytest.mark.parametrize(("kind", "wish"), ALLOWED, ids=lambda each: type(each).__name__)
def test_what_fits_is_done_once(kind: str, wish: Asked) -> None:
    """M2, I20: the answer names the request; the same or an older number is no news."""
    story = planned()
    assert refusal(story.state, wish) == ""
    assert story.tell(wish)[0] == kind
    event = next(event for event in story.events if event.kind == kind)
    assert (event.by, event.request) == ("me", 7)  # type: ignore[union-attr]
    before = digest(story.state)
    assert story.tell(wish, PauseAsked("me", "older", 6)) == []
    assert digest(story.state) == before == digest(fold(story.events))
    assert story.state.request == 7


# --- how it runs ---


def test_the_limits_of_settings() -> None:
    """A limit on everything: each number, written down a second time."""
    day = 24 * 60 * 60 * 1000
    assert {
        "dump_workers": 64,
        "restore_workers": 64,
        "max_retries": 1000,
        "files_ahead": 100_000,
        "breaker_failures": 100_000,
        "retry_base_ms": day,
        "retry_cap_ms": day,
        "patience_ms": 7 * day,
        "breaker_ms": day,
        "tick_ms": day // 24,
        "hang_ms": 7 * day,
        "shards_in_flight": 64,
        "capture_bytes": 2**40,
        "follow_ms": 60_000,
        "memory_limit": 2**50,
        "cpu_limit": 100,
        "disk_reserve": 2**60,
        "read_docs_per_s": 2**40,
        "read_bytes_per_s": 2**50,
        "write_docs_per_s": 2**40,
        "write_bytes_per_s": 2**50,
        "batch_ms": day // 24,
        "batch_docs": 50_000,
        "transform_workers": 64,
        "transform_ms": day,
        "worker_memory": 1 << 50,
    } == AT_MOST


def test_every_live_setting_may_change() -> None:
    """A5, A28, A31: within its limit; the limit itself is allowed."""
    words = {"on_exhausted": "skip-unit", "retry": "fixed", "jitter": "full"}
    words |= {"read_preference": "nearest", "batch": "document"}
    fixed = {"work_dir", "transform_sha256"}
    assert {*words, *AT_MOST} == set(LIVE) == set(RunSettings.model_fields) - fixed
    for name in LIVE:
        value = words.get(name) or AT_MOST[name]
        story = planned()
        assert "setting_changed" in story.tell(SetAsked("me", name, value, 7)), name
        changed = next(event for event in story.events if isinstance(event, SettingChanged))
        assert (changed.name, changed.value) == (name, value)
        assert changed.was == getattr(SETTINGS, name)
        assert story.state.settings == SETTINGS.model_copy(update={name: value})
        if name in AT_MOST:
            assert "whole number" in refusal(story.state, SetAsked("me", name, value + 1))  # type: ignore[operator]


def test_an_impossible_setting_is_refused_by_the_fold_too() -> None:
    """I11."""
    story = Story()
    changed = SettingChanged(by="me", request=1, name="dump_workers", value=0, was=2)
    before = digest(story.state)
    for event, error in (
        (changed, ImpossibleTransition),
        (changed.model_copy(update={"name": "mood"}), UnknownEntity),
    ):
        with pytest.raises(error):
            evolve(story.state, event)
    assert digest(story.state) == before


def test_pools_grow_and_shrink_while_they_work() -> None:
    """A17, I26: what grows starts at once; what shrinks ends none, and starts none until below."""
    story = Story().planned(chunks=8)
    assert story.tell(SetAsked("me", "dump_workers", 4, 1)) == ["setting_changed"] + 2 * [
        "dump_started"
    ]
    assert story.tell(SetAsked("me", "dump_workers", 2, 2)) == ["setting_changed"]
    assert story.state.size(TaskKind.DUMP, Status.PROCESSING) == 4
    story.tell(SetAsked("me", "restore_workers", 1, 3))
    dumps = [TaskKey(TaskKind.DUMP, f"{UNIT}#{n}") for n in range(4)]
    assert story.succeed(dumps[0], DUMPED) == ["dump_completed", "restore_started"]
    assert story.succeed(dumps[1], DUMPED) == ["dump_completed"], "two of two at work"
    assert story.succeed(dumps[2], DUMPED) == ["dump_completed", "dump_started"]
    assert story.state.size(TaskKind.RESTORE, Status.PROCESSING) == 1


def test_where_the_source_is_read_changes_with_the_next_effect() -> None:
    story = planned()
    assert {each.read_preference for each in wanted_effects(story.state)} == {"primary"}
    story.tell(SetAsked("me", "read_preference", "secondary", 1))
    assert {each.read_preference for each in wanted_effects(story.state)} == {"secondary"}
    story.state.settings = None
    assert {each.read_preference for each in wanted_effects(story.state)} == {"primary"}


# --- what it carries ---


def test_an_excluded_unit_leaves_with_its_work() -> None:
    """Its files are released, its dead letters forgotten, late news ignored; others go on."""
    story = Story(SETTINGS.model_copy(update={"dump_workers": 4}))
    story.succeed(SURVEY, Surveyed((found(UNIT), found(TWO))))
    for unit in (UNIT, TWO):
        story.succeed(TaskKey(TaskKind.CREATE, unit), Created(()))
        story.succeed(TaskKey(TaskKind.PLAN, unit), Planned((Key("1"),), 5, natural=False))
    story.succeed(DUMP, DUMPED)
    story.fail(TaskKey(TaskKind.DUMP, f"{UNIT}#1"), Cause.PERMANENT)
    assert story.tell(ExcludeAsked("me", UNIT, 7)) == ["unit_excluded"]
    assert story.state.units[UNIT].status is UnitStatus.EXCLUDED
    assert list(story.state.open_units) == [TWO]
    assert list(story.state.chunks) == [f"{TWO}#0", f"{TWO}#1"]
    assert not any(key.entity.startswith(UNIT) for key in story.state.tasks)
    assert story.state.releasing == {CHUNK: "f"}
    assert story.succeed(RESTORE, RESTORED) == ["result_ignored"]
    assert refusal(story.state, ExcludeAsked("me", UNIT)) == f"{UNIT} is excluded"


def test_an_excluded_unit_does_not_keep_the_job_from_its_end() -> None:
    """I29, I30."""
    story = planned()
    assert story.tell(ExcludeAsked("me", UNIT, 7)) == ["unit_excluded", "job_completed"]


def test_a_unit_that_has_ended_is_not_excluded() -> None:
    story = Story().planned()
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    assert refusal(story.state, ExcludeAsked("me", UNIT)) == f"{UNIT} is completed"


def test_more_of_the_source_is_carried() -> None:
    """I29: the registration gate opens again; what is known stays as it was found first."""
    story = Story().planned()
    assert story.tell(AddAsked("me", ("shop.two", "a.*"), 7)) == [
        "namespaces_added",
        "survey_invalidated",
        "survey_started",
    ]
    assert story.state.added == ("shop.two", "a.*")
    assert not story.state.closed
    survey = next(each for each in wanted_effects(story.state) if each.task == SURVEY)
    assert (survey.include, survey.attempt) == (("shop.two", "a.*"), 2)
    for key, result in ((DUMP, DUMPED), (RESTORE, RESTORED), (VERIFY, EQUAL)):
        story.succeed(key, result)
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    assert story.state.status is JobStatus.RUNNING, "the end waits for the gate"
    units = (found(UNIT), found(TWO))
    assert story.succeed(SURVEY, Surveyed(units)) == [
        "unit_registered",
        "survey_completed",
        "create_started",
    ]
    surveyed = [event for event in story.events if event.kind == "survey_completed"]
    assert [event.units for event in surveyed] == [1, 1]  # type: ignore[union-attr]
    assert story.state.closed
    assert story.state.units[UNIT].status is UnitStatus.COMPLETED


def test_an_excluded_unit_is_not_found_again() -> None:
    story = excluded()
    assert story.state.status is JobStatus.COMPLETED
    story = planned()
    story.tell(PauseAsked("me", ""), AddAsked("me", ("*",), 1), ExcludeAsked("me", UNIT, 2))
    story.state.tasks[SURVEY].status = Status.PROCESSING
    story.state.queues[TaskKind.SURVEY, Status.PROCESSING, 0] = {SURVEY: None}
    kinds = story.succeed(SURVEY, Surveyed((found(UNIT),)))
    assert kinds[:2] == ["request_refused", "survey_completed"], "it brought nothing"
    assert story.state.added == () and story.state.adding == 0
    assert story.state.units[UNIT].status is UnitStatus.EXCLUDED


def test_what_cannot_be_surveyed_is_not_added() -> None:
    """I30: nor does it keep the job from its end."""
    story = planned()
    story.tell(AddAsked("me", ("metrics.*",), 1))
    for key in list(story.state.queue(TaskKind.DUMP, Status.PROCESSING)):
        story.succeed(key, DUMPED)
        if story.status(SURVEY) is Status.PROCESSING:
            break
    kinds = story.fail(SURVEY, Cause.PERMANENT, code="ESOURCE002")
    assert kinds[:2] == ["request_refused", "survey_completed"]
    assert story.state.added == () and story.state.closed


def test_no_connection_string_is_a_namespace() -> None:
    """I45: nothing that may hold a secret is journaled."""
    story = planned()
    assert story.tell(AddAsked("me", ("mongodb://u:p@h/",), 1)) == ["request_refused"]
    assert story.tell(AddAsked("me", (UNIT,), 2)) == ["request_refused"]
    assert "u:p" not in str(story.events)


def test_haste_makes_a_stop_immediate_too() -> None:
    """M2, A18: a second signal while the job stops."""
    story = Story(undo=True).planned()
    story.tell(StopAsked("me", "", 1, rollback=True))
    kinds = story.tell(PauseAsked("signal", "SIGINT", immediate=True))
    assert kinds[0] == "stop_requested" and kinds[-1] == "job_stopped"
    assert story.state.rollback
