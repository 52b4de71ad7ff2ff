"""Ranges of a collection on their way between endpoints: one group after another, one journal.

The plan stands in the first group, whole, before anything is moved. How far it came is read from
the groups and from the placement file, each time anew: nothing else remembers it.
"""

import hashlib
import re
import signal
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Literal, Self

from executors.clients import Deployment
from executors.errors import OtherDeployment
from executors.rebalance.errors import OthersThere, PlacedElsewhere, WrittenMeanwhile
from executors.rebalance.model import COPY, Move, Plan, operations, plan_of
from executors.rebalance.placement import Placement, owners, read
from ferrylog.errors import Usage
from ferrylog.recall import recall
from journal.audit import Wanted, find
from journal.inbox import Inbox
from journal.sqlite import SqliteJournal
from statemachine.events import JobSpec, PauseRequested, StopRequested
from statemachine.policy import US
from statemachine.state import State
from statemachine.stimuli import PlannedOperation
from statemachine.words import JobId, JobStatus, OperationId, Status, TaskKind

JOB: Final = re.compile(r"(rb-[0-9a-f]{8}-\d+)-(\d{4})(?:-(\d+))?")
"""Which rebalance, which range, which group for it."""
RETRIES: Final = 3
"""Times that a range is moved again after it was written meanwhile."""
OF_A_RANGE: Final = (WrittenMeanwhile.code, OthersThere.code, PlacedElsewhere.code)
"""Failures that say nothing of other ranges."""
RESTING: Final = (JobStatus.PAUSED, JobStatus.STOPPED, JobStatus.ROLLBACK_PAUSED)
Standing = Literal["pending", "running", "done", "rolled_back", "failed"]
RunGroup = Callable[[JobId, JobSpec, tuple[PlannedOperation, ...]], State]
"""Runs a group to its rest, or goes on with it where the journal has it."""


@dataclass(slots=True)
class Range:
    """One range of a plan, and what became of it."""

    number: int
    move: Move
    placed: bool
    """The placement file says that it is where it is to be."""
    groups: int = 0
    """That were begun for it."""
    job: JobId | None = None
    """The last of them."""
    state: State | None = None

    @property
    def standing(self) -> Standing:
        if self.state is None or self.state.status is JobStatus.ROLLED_BACK:
            if self.placed:
                return "done"
            return "pending" if self.state is None else "rolled_back"
        if self.state.status is JobStatus.COMPLETED:
            return "done"
        failed = (JobStatus.FAILED, JobStatus.ROLLBACK_FAILED)
        return "failed" if self.state.status in failed else "running"

    @property
    def failure(self) -> tuple[str, str]:
        """Code and reason of the operation that failed; empty when none did."""
        tasks = self.state.tasks.items() if self.state is not None else ()
        for key, task in tasks:
            if key.kind is TaskKind.OPERATION and task.status is Status.FAILED:
                return task.code, task.why
        return "", ""


@dataclass(slots=True)
class Rebalance:
    """A plan that stands in the journal, or is about to."""

    id: str
    plan: Plan
    placement: Placement
    ranges: list[Range] = field(default_factory=list)

    @property
    def left(self) -> list[Range]:
        return [each for each in self.ranges if each.standing != "done"]

    @property
    def under_way(self) -> Range | None:
        """Whose group has not ended."""
        busy = (each for each in self.ranges if each.standing in ("running", "failed"))
        return next(busy, None)


# --- what stands in the journal ---


def root_of(namespace: str, file: Path) -> str:
    """What all rebalances of one collection by one placement file are called."""
    text = f"{namespace}\0{file.resolve()}"
    return f"rb-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def newest(journal: SqliteJournal, root: str = "rb-") -> Rebalance | None:
    """The last rebalance that was begun. Raises what reading raises, and `BadPlacement`."""
    for job in reversed(journal.jobs()):
        found = JOB.fullmatch(job)
        if found and job.startswith(root):
            return recalled(journal, found[1])
    return None


def recalled(journal: SqliteJournal, name: str) -> Rebalance:
    """A rebalance as the journal and its placement file tell it."""
    first = recall(journal, JobId(f"{name}-0001")).state
    plan = plan_of(first.operations[OperationId(COPY)].forward)
    assert plan is not None
    found = begun(name, plan)
    for job in journal.jobs():
        told = JOB.fullmatch(job)
        if told and told[1] == name:
            _take(found.ranges[int(told[2]) - 1], job, int(told[3] or 1), journal)
    return found


def begun(name: str, plan: Plan) -> Rebalance:
    """A rebalance of which no group is known."""
    placement = read(Path(plan.file))
    ranges = [
        Range(number, move, owners(placement, move.lower, move.upper) == [move.target])
        for number, move in enumerate(plan.moves, 1)
    ]
    return Rebalance(name, plan, placement, ranges)


def _take(found: Range, job: JobId, group: int, journal: SqliteJournal) -> None:
    if group > found.groups:
        found.groups, found.job = group, job
        found.state = recall(journal, job).state


def next_name(before: Rebalance | None, root: str) -> str:
    """Of a rebalance after that one."""
    return f"{root}-{int(before.id.rpartition('-')[2]) + 1 if before else 1}"


def must_be_over(before: Rebalance, asked: str) -> None:
    """Raises `Usage` while a range of another wish is half way."""
    busy = before.under_way
    if before.plan.asked != asked and busy is not None:
        raise Usage(
            f"{busy.job} of another rebalance of this collection has not ended",
            remedy=f"give its arguments again ({before.plan.asked}), or `ferrylog rollback "
            f"{busy.job}`",
        )


# --- moving ---


def asked_to_rest(journal: SqliteJournal, job: JobId) -> bool:
    """Whether somebody wanted a group to rest that has ended since, in its last run or too late
    for it."""
    if Inbox(journal.path).waiting(job):
        return True
    began = next(find(journal, Wanted(job, kind="run_started"), tail=1)).seq
    for kind in ("pause_requested", "stop_requested"):
        for asked in find(journal, Wanted(job, kind=kind, after=began), tail=1):
            assert isinstance(asked.event, PauseRequested | StopRequested)
            if asked.event.by != US:
                return True
    return False


class Interrupted:
    """Hears signals while no group runs: a group hears them itself. A context manager."""

    def __init__(self) -> None:
        self.heard = False

    def __enter__(self) -> Self:
        wanted = (signal.SIGINT, signal.SIGTERM)
        self._before = {each: signal.signal(each, self._hear) for each in wanted}
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.heard = True


@dataclass(frozen=True)
class Mover:
    """Moves what is left of a rebalance."""

    rebalance: Rebalance
    endpoints: Mapping[str, Deployment]
    run_group: RunGroup
    ended: Callable[[Range], None]
    """Told of each range whose group rests."""
    asked_to_rest: Callable[[JobId], bool]
    """Whether somebody wanted that of a group which came to its end before it was heard."""
    retries: int = RETRIES

    def run(self) -> int:
        """Until nothing is left that can be moved, or somebody wants it to rest: the exit code."""
        first = self.rebalance.under_way
        left = deque(sorted(self.rebalance.left, key=lambda each: each is not first))
        again: Counter[int] = Counter()
        with Interrupted() as interrupted:
            while left:
                if interrupted.heard:
                    return 5
                found = left.popleft()
                code = self._moved(found)
                self.ended(found)
                if code is not None and (code != 5 or self.rebalance.left):
                    return code
                if found.failure[0] == WrittenMeanwhile.code and again[found.number] < self.retries:
                    again[found.number] += 1
                    left.append(found)
        return 3 if self.rebalance.left else 0

    def _moved(self, found: Range) -> int | None:
        """Move one; the exit code if others are not to be moved now."""
        rolled_back_before = found.standing == "rolled_back"
        if found.state is None or rolled_back_before:
            found.groups += 1
            found.job = self._job(found)
        assert found.job is not None
        if found.state is not None and not rolled_back_before:
            self._must_be_the_same(found)
        planned = operations(self.rebalance.plan, found.number)
        found.state = self.run_group(found.job, self._spec(found.move), planned)
        if found.state.status is JobStatus.ROLLED_BACK and found.failure[0] not in OF_A_RANGE:
            return 6
        if found.state.status in (JobStatus.ROLLED_BACK, JobStatus.COMPLETED):
            return 5 if self.asked_to_rest(found.job) else None
        return 5 if found.state.status in RESTING else 1

    def _job(self, found: Range) -> JobId:
        again = f"-{found.groups}" if found.groups > 1 else ""
        return JobId(f"{self.rebalance.id}-{found.number:04}{again}")

    def _spec(self, move: Move) -> JobSpec:
        source, target = self.endpoints[move.source], self.endpoints[move.target]
        return JobSpec(
            kind="group",
            mode="direct",
            source=source.where,
            target=target.where,
            source_id=source.identity,
            target_id=target.identity,
            include=(move.namespace,),
            chunk_docs=max(1, move.documents),
            chunk_bytes=1,
            compression="none",
            write_concern="majority",
            drop=False,
            on_conflict="stop",
            verify=True,
            undo=True,
            title=move.title,
            endpoints=((move.source, source.where), (move.target, target.where)),
            endpoint_ids=(source.identity, target.identity),
        )

    def _must_be_the_same(self, found: Range) -> None:
        """Raises `OtherDeployment`."""
        assert found.state is not None and found.state.spec is not None
        began, move = found.state.spec, found.move
        for name, identity, where in (
            (move.source, began.source_id, began.source),
            (move.target, began.target_id, began.target),
        ):
            if not self.endpoints[name].is_same_as(identity):
                raise OtherDeployment(f"endpoint {name}", where, self.endpoints[name].where)


def needed(plan: Plan) -> Sequence[str]:
    """The endpoints that a plan names."""
    return sorted({name for each in plan.moves for name in (each.source, each.target)})
