"""Laws of increments: what is captured, what a chain brings to its target, what is followed.

The phase of a chain and what stands on its target are told here from the events and the world
alone (I31-I35).
"""

from itertools import pairwise

from journal.protocol import Recorded
from statemachine.events import (
    AnyEvent,
    ApplyCompleted,
    ApplyProgressed,
    Cancelled,
    CaptureCompleted,
    CaptureInvalidated,
    CaptureProgressed,
    ChainAccepted,
    CutoverRequested,
    DeadLettered,
    FollowCompleted,
    IncrementCompleted,
    IncrementStarted,
    JobCompleted,
    JobFailed,
    JobRequested,
    MomentPassed,
    RunStarted,
    ShapeCompleted,
    ShardPlanned,
    Started,
    TaskEvent,
)
from statemachine.words import Cause, TaskKey, TaskKind, Verb
from tests.simulation import laws
from tests.simulation.history import AT_WORK, History
from tests.simulation.link_hands import shards_of, time_of
from tests.simulation.past import Past

MOST_MOMENTS = 20
CHAIN = (TaskKind.SHAPE, TaskKind.APPLY, TaskKind.SETTLE)
WAITS = ("EFILE001", "ETASK001")
"""Codes of dead letters that wait for an operator: a file is brought back, a killer looked for."""
GRAPH = {
    "": {"invalid"},
    "invalid": {"allocating", "failed"},
    "allocating": {"proposing", "failed"},
    "proposing": {"proposing", "waiting", "failed"},
    "waiting": {"allocating", "applying", "failed"},
    "applying": {"done", "failed"},
    "done": {"done"},  # an index was asked for again
    "failed": set(),
}
"""I35. From one increment to the next it goes the way of a recovery."""


class LinkLaws(History):
    """I20, I31-I35, Y3, Y17."""

    def _about_increments(self, recorded: Recorded, event: AnyEvent) -> None:
        """Before the event is folded."""
        self._about_the_capture(event)
        self._about_following(event)
        if self.links_wanted:
            self._about_the_phase(event)
            self._about_the_chain(recorded, event)
            self._about_failures(event)
        self._in_time(recorded, event)

    @property
    def links_wanted(self) -> int:
        return self.spec.links if self.spec.kind == "restore" else 0

    @property
    def past(self) -> Past:
        assert self.world.past is not None
        return self.world.past

    # --- I35 ---

    def _about_the_phase(self, event: AnyEvent) -> None:
        before, now = self.phase, self._phase_after(event)
        if now is None:
            return
        assert now in GRAPH[before], f"I35: {before} to {now}"
        self.phase = now

    def _phase_after(self, event: AnyEvent) -> str | None:
        """`None`: it says nothing of it."""
        match event:
            case JobRequested():
                return "invalid"
            case ChainAccepted():
                return "allocating"
            case Started() if event.task.kind is TaskKind.SHAPE:
                return "proposing"
            case ShapeCompleted():
                return "waiting"
            case RunStarted() if self.phase == "waiting":
                return "allocating"
            case IncrementCompleted():
                last = event.increment == self.links_wanted
                return "applying" if last else "allocating"
            case JobCompleted():
                return "done"
            case JobFailed():
                return "failed"
            case _:
                return None

    # --- I31, I32, I33 ---

    def _about_the_chain(self, recorded: Recorded, event: AnyEvent) -> None:
        match event:
            case ChainAccepted():
                assert [each.number for each in event.links] == self._numbers(), "I32: not all"
                assert all(a.until == b.since for a, b in pairwise(event.links)), (
                    "I32: not in order"
                )
            case IncrementStarted():
                self._increment_started(recorded, event)
            case ShardPlanned():
                assert event.increment == self.increment and event.shard not in self.shards, "I32"
                self.shards[event.shard] = event
            case ShapeCompleted():
                self._shape_completed(event)
            case ApplyProgressed() | ApplyCompleted():
                self._applied(event)
            case IncrementCompleted():
                self._increment_completed(event)
            case _ if isinstance(event, TaskEvent) and event.task.kind in CHAIN:
                assert event.entity.split("#")[0] == f"link:{self.increment}", "I32: out of turn"
            case _:
                pass

    def _numbers(self) -> list[int]:
        return list(range(1, self.links_wanted + 1))

    def _increment_started(self, recorded: Recorded, event: IncrementStarted) -> None:
        assert event.increment == self.increment + 1, "I32: the index grows by one"
        assert self.increment == self.completed, "I32: before the end of the one before"
        assert self._surveyed and "open" not in self._units.values(), "I32: before the full dump"
        assert event.digest == f"{event.increment:02d}", "I32: another link"
        allowed = self.spec.increment_ms
        assert event.deadline_ms == (recorded.recorded_at_ms + allowed if allowed else 0), "Y10"
        self.increment, self.increment_due = event.increment, event.deadline_ms
        self.shards.clear()

    def _shape_completed(self, event: ShapeCompleted) -> None:
        wanted = shards_of(self.past, self.increment, self.world.per_chunk)
        planned = [
            (each.namespace, each.lower, each.upper, each.file) for each in self.shards.values()
        ]
        assert planned == [(e.namespace, e.lower, e.upper, e.file.name) for e in wanted], "I32"
        assert event.shards == len(wanted), "I32: other shards"
        goal = self.past.moments[self.increment]
        missing = set(goal.by_name) - set(self.world.target)
        assert not missing, "I17: shaped, and a collection is missing"

    def _applied(self, event: ApplyProgressed | ApplyCompleted) -> None:
        """I31: forward only, within the range, and true on the target."""
        shard, last = self.shards[event.entity], self.last_keys.get(event.entity)
        assert event.entity not in self.applied, "I20: applied twice"
        assert event.last_key is not None, "I31"
        key = int(event.last_key)
        assert last is None or key > int(last), "I31: last keys go forward"
        assert shard.lower is None or key >= int(shard.lower), "I31: below its range"
        assert shard.upper is None or key < int(shard.upper), "I31: above its range"
        self.last_keys[event.entity] = event.last_key
        if isinstance(event, ApplyCompleted):
            self.applied.add(event.entity)
            assert (event.documents, event.erased) == (shard.documents, shard.erased), "I25"
        there = self.world.target[shard.target]  # type: ignore[index]
        goal = self.past.moments[self.increment].by_name[shard.namespace]  # type: ignore[index]
        low = int(shard.lower or 0)
        wrong = {k for k in there.keys() | goal.keys() if there.get(k) != goal.get(k)}
        assert not {k for k in wrong if low <= k <= key}, "I33: told, and not there"

    def _increment_completed(self, event: IncrementCompleted) -> None:
        assert event.increment == self.increment == self.completed + 1, "I32"
        assert self.applied >= set(self.shards), "I32: the barrier"
        standing = [self.last.get(TaskKey(TaskKind.APPLY, each)) for each in self.shards]
        assert all(verb is Verb.COMPLETED for verb in standing), "I32, I34: a shard failed"
        assert event.last == (event.increment == self.links_wanted), "I32"
        self.completed = event.increment
        laws.same_documents(self.world, self.past.moments[event.increment], {})

    # --- I34, deadlines ---

    def _about_failures(self, event: AnyEvent) -> None:
        """I34: what is given up for good is the end; nothing that time heals is."""
        if self.lost is not None:
            assert isinstance(event, JobFailed), "I34: the failure of a shard is not the job's"
            assert event.code == self.lost.code, "I34: another failure"
        self.lost = None
        if isinstance(event, DeadLettered) and event.task.kind in CHAIN:
            final = event.cause is Cause.PERMANENT and event.code not in WAITS
            self.lost = event if final else None

    def _in_time(self, recorded: Recorded, event: AnyEvent) -> None:
        """A deadline is an instant; whoever begins again does not begin anew."""
        now = recorded.recorded_at_ms
        due = [each for each in (self.spec.deadline_ms, self.increment_due) if each]
        if isinstance(event, Started) and event.task.kind is not TaskKind.UNDO:
            assert all(now <= each for each in due), "Y10: a start after the deadline"
        if isinstance(event, JobFailed) and event.code == "EDEADLINE001":
            assert any(now > each for each in due), "Y10: before the deadline"
        if isinstance(event, IncrementCompleted):
            self.increment_due = 0

    def may_fail(self, event: JobFailed) -> bool:
        """Whatever the policy."""
        letter = self.records[-1].event
        chain = isinstance(letter, DeadLettered) and letter.task.kind in CHAIN
        moment = event.code == "ESNAP001" and self.moments + 1 == MOST_MOMENTS
        final = chain and letter.cause is Cause.PERMANENT  # type: ignore[union-attr]
        return event.code == "EDEADLINE001" or moment or final

    # --- a capture ---

    def _about_the_capture(self, event: AnyEvent) -> None:
        match event:
            case Started():
                assert not self.outdated, "a start, and its moment has passed"
            case CaptureProgressed() | CaptureCompleted():
                assert time_of(event.cluster_time) >= self.captured, "a capture that goes back"
                assert event.token == str(time_of(event.cluster_time)), "another place"
                assert self.past.read >= set(range(1, self.captured + 1)), "I17: not durable"
                self.captured, self.token = time_of(event.cluster_time), event.token
                if isinstance(event, CaptureCompleted):
                    self.world.source = self.past.rows_by_name(0, self.captured)
            case MomentPassed():
                last = self.records[-1].event
                assert isinstance(last, Cancelled) and last.code == "ESNAP001", "for nothing"
                assert last.task.kind in (TaskKind.PLAN, TaskKind.DUMP), "it reads nothing"
                assert not self.outdated
                self.outdated = True
            case CaptureInvalidated():
                self._begin_anew()
            case _:
                pass

    def _begin_anew(self) -> None:
        """I12: nothing of the old moment is at work, and nothing of it is known any more."""
        assert self.outdated, "I16: a capture begins anew for nothing"
        standing = list(self._standing().values())
        assert not [v for v in standing if v in (*AT_WORK, Verb.IN_DOUBT)], "I16: still at work"
        self.moments += 1
        assert self.moments < MOST_MOMENTS, "a limit on everything"
        self.outdated = self._surveyed = False
        for key in list(self.last):
            del self.last[key]
            if key.kind is not TaskKind.CAPTURE:  # which goes on
                self._forget(key)
                self._not_before.pop(key, None)
        kept: tuple[dict[str, object] | set[str], ...]
        for kept in (self._units, self._chunks, self._files, self._gone, self._changed):  # type: ignore[assignment]
            kept.clear()
        self._owed.clear()
        self._heirs = None
        self.world.source = {}

    # --- following ---

    def _about_following(self, event: AnyEvent) -> None:
        match event:
            case CutoverRequested():
                assert self.spec.follow and not self.cutover, "I20: cut over twice"
                self.cutover = True
            case Started() if event.task.kind is TaskKind.FOLLOW:
                assert self._surveyed and "open" not in self._units.values(), "I29: too early"
                assert not self.drained, "it has ended"
                self.told_of_it = self.cutover
            case FollowCompleted():
                reached = time_of(event.cluster_time)
                assert reached >= self.captured, "a round that goes back"
                self.captured, self.token = reached, event.token
                if reached >= self.past.furthest:
                    lost = laws.dropped_of(self.world, self.records)
                    laws.same_documents(self.world, self.past.moments[reached], lost)
                assert self.told_of_it or not event.drained, "drained before it was asked"
                self.drained = event.drained
            case Started() if event.task == TaskKey(TaskKind.SETTLE, "job"):
                assert self.drained, "settled before its end"
            case _:
                pass

    def _after(self, event: AnyEvent) -> None:
        """When it is folded: what is done once more, and what the state says of it all."""
        if isinstance(event, RunStarted) and self.increment > self.completed:
            self._once_more(TaskKey(TaskKind.SHAPE, f"link:{self.increment}"))
        if isinstance(event, FollowCompleted) and not self.drained:
            self._once_more(event.task)
        if self.links_wanted:
            assert (self.state.phase or "") == self.phase, "I35"
            where = (self.state.increment, self.state.applied, self.state.deadline_ms)
            assert where == (self.increment, self.completed, self.increment_due), "I32"
