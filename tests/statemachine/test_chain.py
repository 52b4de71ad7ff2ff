"""The restore of a chain: increment after increment, shard by shard (I31-I35, Y1-Y11)."""

import pytest

from statemachine.decide.asked import refusal
from statemachine.effects import wanted_effects
from statemachine.errors import ImpossibleTransition, UnknownEntity
from statemachine.events import (
    ApplyProgressed,
    IncrementCompleted,
    IncrementStarted,
    JobCompleted,
    JobFailed,
    MetadataDifference,
    ResultIgnored,
    ShapeCompleted,
    ShardPlanned,
)
from statemachine.evolve import evolve, fold
from statemachine.policy import MAX_INTERRUPTIONS, PASSING
from statemachine.state import State, digest
from statemachine.stimuli import (
    AddAsked,
    Created,
    CutoverAsked,
    DropAsked,
    ExcludeAsked,
    Failed,
    PauseAsked,
    Progressed,
    Rejection,
    RequeueAsked,
    Restored,
    Settled,
    Shaped,
    Succeeded,
    Surveyed,
    Tick,
)
from statemachine.transitions import PHASES, next_phase
from statemachine.words import Cause, JobStatus, Key, Phase, ShardId, Status, TaskKind
from tests.statemachine.chain import WHOLE, Chain, link, part, settle, shape, shard, shards
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    CREATE,
    PLAN,
    RESTORE,
    SURVEY,
    UNIT,
    Story,
    began,
    found,
    parts,
)


def processing(story: Story, kind: TaskKind) -> list[str]:
    return [key.entity for key in story.state.queue(kind, Status.PROCESSING)]


def test_the_whole_way() -> None:
    """I32, I35, Y3: a request, a chain that is accepted, a full dump, increments, an end."""
    story, phases = Chain(), list[Phase | None]()
    phases.append(story.state.phase)
    story.accepted()
    phases.append(story.state.phase)
    story = Chain().full()
    assert processing(story, TaskKind.SHAPE) == ["link:1"]
    phases.append(story.state.phase)
    story.shaped()
    phases.append(story.state.phase)
    assert processing(story, TaskKind.APPLY) == ["link:1#0", "link:1#1"]
    story.succeed(shard(1), WHOLE)
    assert story.state.tasks[settle(1)].status is Status.PENDING
    story.succeed(shard(1, 1), WHOLE)
    assert processing(story, TaskKind.SETTLE) == ["link:1"]
    kinds = story.succeed(settle(1), Settled(changes=("index n_1",)))
    assert kinds[:2] == ["settle_completed", "increment_completed"]
    assert kinds[2:] == ["increment_started", "shape_started"]
    phases.append(story.state.phase)
    story.applied(2)
    assert story.state.status is JobStatus.COMPLETED
    phases.append(story.state.phase)
    assert phases == ["invalid", "allocating", "proposing", "waiting", "proposing", "done"]
    assert (story.state.upserted, story.state.erased) == (40, 8)
    assert story.state.done_documents == 10 + 40 + 8
    assert story.state.done_bytes == 100 + 4000
    assert fold(story.events) == story.state


def test_every_phase_of_the_end_stays() -> None:
    """I35: done and failed are absorbing."""
    for phase in (Phase.DONE, Phase.FAILED):
        assert set(PHASES[phase].values()) == {phase}


def test_a_full_dump_alone_is_no_chain() -> None:
    story = Chain(0)
    assert story.state.phase is None
    story = Chain(0, at="150.0")
    assert story.state.phase is Phase.INVALID
    story.succeed(SURVEY, Surveyed((found(),), links=(link(1, log=True),)))
    assert story.state.links[0].log
    effects = list(wanted_effects(story.state))
    assert [effect.link for effect in effects] == [None]


def test_nothing_of_an_increment_before_the_full_dump_is_restored() -> None:
    """I32."""
    story = Chain().accepted()
    story.succeed(PLAN, parts(1))
    assert story.state.increment == 0
    assert not any(key.kind is TaskKind.SHAPE for key in story.state.tasks)


def test_an_increment_out_of_turn_is_impossible() -> None:
    """I32: the index only grows by one, and never beyond the chain."""
    story = Chain().full()
    before = digest(story.state)
    for number in (1, 2, 3):
        with pytest.raises(ImpossibleTransition):
            evolve(story.state, IncrementStarted(increment=number, digest="", deadline_ms=0))  # type: ignore[arg-type]
    story.applied(1)
    story.applied(2)
    with pytest.raises(UnknownEntity):
        evolve(story.state, IncrementStarted(increment=3, digest="", deadline_ms=0))  # type: ignore[arg-type]
    story = Chain().full()
    with pytest.raises(ImpossibleTransition):
        evolve(story.state, IncrementCompleted(increment=2, last=False))
    story.shaped()
    with pytest.raises(ImpossibleTransition):
        evolve(story.state, IncrementCompleted(increment=1, last=False))
    again = next(event for event in story.events if isinstance(event, ShardPlanned))
    with pytest.raises(ImpossibleTransition):
        evolve(story.state, again)
    assert before != digest(story.state)


def test_no_phase_without_a_chain() -> None:
    story = Story()
    with pytest.raises(ImpossibleTransition):
        evolve(story.state, IncrementCompleted.model_construct(increment=0, last=True))
    assert State().phase is None


def test_what_the_table_does_not_hold_is_impossible() -> None:
    """I35."""
    with pytest.raises(ImpossibleTransition, match="invalid"):
        next_phase(Phase.INVALID, "shape_completed")


def test_an_empty_increment() -> None:
    """I32: without shards it is settled at once, and told."""
    story = Chain(1).full()
    kinds = story.succeed(shape(1), Shaped(()))
    assert kinds == ["shape_completed", "settle_started"]
    story.succeed(settle(1), Settled())
    assert story.state.status is JobStatus.COMPLETED


def test_so_many_shards_at_once() -> None:
    """Y17: ten in flight by default; whoever wants others says so."""
    story = Chain(1).full().shaped(1, 25)
    assert len(processing(story, TaskKind.APPLY)) == 10
    told = SETTINGS.model_copy(update={"shards_in_flight": 3})
    story = Chain(1, told).full().shaped(1, 25)
    assert len(processing(story, TaskKind.APPLY)) == 3


def test_last_keys_move_on_and_old_news_is_none() -> None:
    """I20, I31: a position that comes twice, or is behind, changes nothing."""
    story = Chain(1).full().shaped()
    key, epoch = shard(1), story.state.epoch
    assert story.tell(Progressed(key, 1, epoch, part(100))) == ["apply_progressed"]
    before = digest(story.state)
    for position in (100, 50):
        assert story.tell(Progressed(key, 1, epoch, part(position))) == ["result_ignored"]
    assert digest(story.state) == before
    story.tell(Progressed(key, 1, epoch, part(200, 8)))
    done = story.state.shards[ShardId("link:1#0")].done
    assert (done.position, done.last_key, done.documents) == (200, "200", 8)
    assert story.state.upserted == 8
    kept = [event.position for event in story.events if isinstance(event, ApplyProgressed)]
    assert kept == [100, 200]


def test_a_restart_goes_on_behind_the_last_key() -> None:
    """I31, I35, Y7: the new process proposes again, then the shard goes on where it was."""
    story = Chain(1).full().shaped()
    story.tell(Progressed(shard(1), 1, story.state.epoch, part(100)))
    kinds = story.tell(began())
    assert story.state.phase is Phase.PROPOSING
    assert kinds[-1] == "shape_started"
    assert processing(story, TaskKind.APPLY) == []
    kinds = story.succeed(shape(1), Shaped(shards(), ()))
    assert "shard_planned" not in kinds
    told = [event for event in story.events if isinstance(event, ShapeCompleted)]
    assert [event.shards for event in told] == [2, 2]
    effects = {each.task: each for each in wanted_effects(story.state)}
    effect = effects[shard(1)]
    assert effect.shard is not None and effect.shard.done.position == 100
    assert effect.link is not None and effect.link.number == 1 and effect.last
    assert story.state.phase is Phase.WAITING


def test_a_restart_while_proposing_proposes_on() -> None:
    """I35."""
    story = Chain(1).full()
    story.tell(began())
    assert story.state.phase is Phase.PROPOSING
    assert story.state.tasks[shape(1)].attempt == 2
    story.applied(1)
    assert story.state.status is JobStatus.COMPLETED


def test_a_restart_between_increments() -> None:
    story = Chain().full()
    story.applied(1)
    story.tell(began())
    assert story.state.increment == 2
    story.applied(2)
    assert story.state.status is JobStatus.COMPLETED


def test_a_restart_while_an_increment_settles() -> None:
    story = Chain(1).full().shaped()
    for index in range(2):
        story.succeed(shard(1, index), WHOLE)
    story.tell(began())
    assert story.state.tasks[settle(1)].status is Status.PENDING
    story.succeed(shape(1), Shaped(shards()))
    story.succeed(settle(1), Settled())
    assert story.state.status is JobStatus.COMPLETED


@pytest.mark.parametrize("kind", ["shape", "apply", "settle"])
def test_a_permanent_failure_is_final(kind: str) -> None:
    """I34: late success after failure; the founding system masked the one with the other."""
    story = Chain(1).full()
    if kind != "shape":
        story.shaped()
    if kind == "settle":
        for index in range(2):
            story.succeed(shard(1, index), WHOLE)
    key = {"shape": shape(1), "apply": shard(1, 1), "settle": settle(1)}[kind]
    late = Succeeded(shard(1), 1, story.state.epoch, WHOLE)
    story.fail(key, Cause.PERMANENT, code="EAPPLY001")
    assert (story.state.status, story.state.phase) == (JobStatus.FAILED, Phase.FAILED)
    assert story.state.code == "EAPPLY001"
    assert story.state.tasks[key].code == "EAPPLY001"
    if kind == "apply":
        assert story.tell(late) == ["result_ignored"]
    story.tell(Succeeded(key, 1, story.state.epoch, WHOLE), began())
    assert (story.state.status, story.state.phase) == (JobStatus.FAILED, Phase.FAILED)


def test_transient_failures_within_the_budget_fail_nothing() -> None:
    """I34."""
    story = Chain(1).full().shaped()
    story.fail(shard(1), Cause.TRANSIENT)
    assert story.status(shard(1)) is Status.WAITING
    story.now += 10**6
    story.tell(Tick())
    story.succeed(shard(1), WHOLE)
    story.succeed(shard(1, 1), WHOLE)
    story.succeed(settle(1), Settled())
    assert story.state.status is JobStatus.COMPLETED


def test_a_budget_that_is_spent_pauses_whatever_is_wanted_of_units() -> None:
    """I34, A8: no shard can be left out."""
    told = SETTINGS.model_copy(update={"on_exhausted": "skip-unit", "max_retries": 1})
    story = Chain(1, told).full().shaped()
    story.fail(shard(1), Cause.TRANSIENT)
    assert story.state.status is JobStatus.PAUSING
    story = Chain(1, told).accepted()
    story.succeed(PLAN, parts(1))
    story.fail(CREATE, Cause.TRANSIENT)
    assert story.state.status is JobStatus.PAUSED


def test_shards_that_failed_are_there_after_a_restart() -> None:
    """The founding system forgot failed shards with the process, and called the rest success."""
    told = SETTINGS.model_copy(update={"max_retries": 1})
    story = Chain(1, told).full().shaped()
    story.fail(shard(1), Cause.TRANSIENT)
    story.succeed(shard(1, 1), WHOLE)
    assert story.state.status is JobStatus.PAUSED
    story.tell(began(told))
    story.succeed(shape(1), Shaped(shards()))
    assert processing(story, TaskKind.APPLY) == ["link:1#0"]
    assert story.state.applied == 0


def test_news_of_an_older_epoch_and_of_unknown_shards() -> None:
    """I20: ignored, and recorded."""
    story = Chain(1).full().shaped()
    old = story.state.epoch
    story.tell(began())
    before = digest(story.state)
    for news in (
        Succeeded(shard(1), 1, old, WHOLE),
        Progressed(shard(1), 1, old, part(100)),
        Failed(shard(1), 1, old, Cause.PERMANENT, "E", "bad"),
        Succeeded(shard(1, 9), 1, story.state.epoch, WHOLE),
    ):
        assert story.tell(news) == ["result_ignored"]
    assert digest(story.state) == before
    assert isinstance(story.events[-1], ResultIgnored)


def test_a_shard_is_done_once() -> None:
    """I20: the first terminal result wins."""
    story = Chain(1).full().shaped()
    done = Succeeded(shard(1), 1, story.state.epoch, WHOLE)
    assert story.tell(done) == ["apply_completed"]
    assert story.tell(done) == ["result_ignored"]
    assert story.state.upserted == 10


def test_a_deadline_is_an_instant_that_no_reboot_moves() -> None:
    """A reboot loop against the deadline."""
    story = Chain(1, deadline_ms=5000).full().shaped()
    for _ in range(4):
        story.now += 1000
        story.tell(began())
        assert story.state.status is JobStatus.RUNNING
    story.now = 5000
    story.tell(Tick())
    assert story.state.status is JobStatus.RUNNING
    story.now = 5001
    story.tell(began())
    assert (story.state.status, story.state.code) == (JobStatus.FAILED, "EDEADLINE001")
    failed = next(event for event in story.events if isinstance(event, JobFailed))
    assert failed.why == "the job was to be done 1 ms ago"


def test_the_deadline_of_an_increment_begins_with_it() -> None:
    story = Chain(increment_ms=1000)
    story.now = 7000
    story.full()
    assert story.state.deadline_ms == 8000
    story.now = 8000
    story.tell(began())
    story.applied(1)
    assert story.state.deadline_ms == 9000
    story.now = 9001
    story.tell(Tick())
    assert story.state.code == "EDEADLINE001"
    assert "increment 2 was to be done 1 ms ago" in story.state.why
    assert Chain(1).full().state.deadline_ms == 0


def test_a_process_that_dies_with_a_shard() -> None:
    """Twenty kills while applying are none too many."""
    story = Chain(1).full().shaped()
    for _ in range(20):
        story.tell(began())
        story.succeed(shape(1), Shaped(shards()))
    assert story.status(shard(1)) is Status.PROCESSING
    assert story.state.tasks[shard(1)].interruptions == 20 < MAX_INTERRUPTIONS
    story.tell(Progressed(shard(1), story.attempt(shard(1)), story.state.epoch, part(100)))
    assert story.state.tasks[shard(1)].interruptions == 0


def test_a_pause_lets_shards_end() -> None:
    """I28."""
    story = Chain(1).full().shaped(1, 12)
    story.tell(PauseAsked("me", "lunch"))
    for index in range(10):
        story.succeed(shard(1, index), WHOLE)
    assert story.state.status is JobStatus.PAUSED
    assert len(story.state.shards) == 2
    story.tell(began())
    story.succeed(shape(1), Shaped(shards(12)))
    for index in (10, 11):
        story.succeed(shard(1, index), WHOLE)
    story.succeed(settle(1), Settled())
    assert story.state.status is JobStatus.COMPLETED


def test_a_selection_stays_what_it_was() -> None:
    story = Chain(1).full().shaped()
    state = story.state
    assert "stays as it was selected" in refusal(state, ExcludeAsked("me", UNIT))
    assert "stays as it was selected" in refusal(state, AddAsked("me", ("b.*",)))
    assert "does not follow" in refusal(state, CutoverAsked("me"))
    told = SETTINGS.model_copy(update={"max_retries": 1})
    story = Chain(1, told).accepted()
    story.succeed(PLAN, parts(1))
    story.succeed(CREATE, Created(()))
    story.fail(RESTORE, Cause.TRANSIENT)
    wish = DropAsked("me", CHUNK, TaskKind.RESTORE)
    assert "stays as it was selected" in refusal(story.state, wish)


def test_what_differs_at_the_end_is_counted() -> None:
    story = Chain(1).full().shaped()
    for index in range(2):
        story.succeed(shard(1, index), WHOLE)
    differing = (MetadataDifference(what="index n_1", source="there", target=""),)
    story.succeed(settle(1), Settled(differing))
    assert story.state.differing == 1
    ended = story.events[-1]
    assert isinstance(ended, JobCompleted) and ended.mismatched == 1


def test_a_unit_that_is_to_expire_is_left_to_the_last_touch_of_the_chain() -> None:
    """Expiry would delete what increments are to change."""
    story = Chain(1)
    story.succeed(SURVEY, Surveyed((found(expires=True),), links=(link(1),)))
    story.succeed(PLAN, parts(1))
    story.succeed(CREATE, Created(()))
    story.succeed(RESTORE, Restored(50, 10, 100, 0, 0))
    assert not any(key.kind is TaskKind.FINISH for key in story.state.tasks)
    assert story.state.increment == 1


def test_a_shard_nobody_knows() -> None:
    story = Chain(1).full().shaped()
    story.succeed(shard(1), WHOLE)
    gone = next(e for e in story.events if e.kind == "apply_completed")
    with pytest.raises(UnknownEntity):
        evolve(story.state, gone)
    progress = ApplyProgressed(
        entity="link:1#1", attempt=1, position=5, last_key=None, documents=1, erased=0, bytes=1
    )
    del story.state.shards[ShardId("link:1#1")]
    with pytest.raises(UnknownEntity):
        evolve(story.state, progress)


def test_what_the_first_increment_brings_is_no_reject_any_more() -> None:
    """A fuzzy full dump may hold two documents with one unique value."""
    story = Chain(1).accepted()
    story.succeed(PLAN, parts(1))
    story.succeed(CREATE, Created(()))
    bad = (Rejection(Key("1"), PASSING, ""), Rejection(Key("2"), "EMONGO014", ""))
    story.succeed(RESTORE, Restored(50, 8, 80, 0, 2, bad))
    unit = story.state.units[UNIT]
    assert (unit.rejected, unit.passing) == (2, 1)
    story.applied(1)
    assert (unit.rejected, unit.passing) == (1, 0)
    ended = story.events[-1]
    assert isinstance(ended, JobCompleted) and ended.rejected == 1


def test_nothing_beneath_increments_is_carried_again() -> None:
    """A chunk of the full dump would bring back what a link has deleted."""
    story = Chain(1).full()
    wish = RequeueAsked("me", CHUNK, 7)
    assert "increments lie on top of it" in refusal(story.state, wish)
    story.fail(shape(1), Cause.TRANSIENT)
    told = SETTINGS.model_copy(update={"max_retries": 1})
    story.tell(began(told))
    story.now += 10**6
    story.tell(Tick())
    story.fail(shape(1), Cause.TRANSIENT)
    assert story.state.status is JobStatus.PAUSED
    assert refusal(story.state, RequeueAsked("me", "link:1", 8, TaskKind.SHAPE)) == ""


@pytest.mark.parametrize("wrong", [{"parent": "ff" * 32}, {"until": "200.0"}, {"until": "7.9"}])
def test_links_that_do_not_follow_one_another_end_the_job(wrong: dict[str, str]) -> None:
    """I32: order by time, parents by digest."""
    story = Chain(2)
    links = (link(1), link(2).model_copy(update=wrong))
    story.succeed(SURVEY, Surveyed((found(),), links=links))
    assert (story.state.status, story.state.code) == (JobStatus.FAILED, "ECHAIN002")
    assert story.state.units == {}
