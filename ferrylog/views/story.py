"""One entity's whole story, read off its events: the model that `inspect explain` prints.

Built from records alone; nothing here reads a clock or a journal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import Field

from ferrylog.clock import when
from ferrylog.views.notes import note_on
from ferrylog.views.shapes import Report
from journal.entities import Type
from journal.protocol import Recorded
from statemachine.events import (
    ApplyProgressed,
    Cancelled,
    CaptureProgressed,
    Completed,
    CopyProgressed,
    DamageFound,
    DeadLettered,
    DocumentRejected,
    InDoubt,
    Resolved,
    RestoreProgressed,
    RetryScheduled,
    RunStarted,
    SplitRequested,
    Started,
    TaskEvent,
)
from statemachine.transitions import TASK_TRANSITIONS
from statemachine.words import Status, TaskKind

Outcome = Literal["completed", "failed", "cancelled", "lost", "open"]
"""`lost`: in doubt, because its process was gone before it told, or somebody wanted a rest at once;
`open`: the journal does not say yet."""
Decision = Literal["", "retry", "give_up", "again", "continue"]


class Run(Report):
    """One process that worked on the job."""

    epoch: int
    by: str
    host: str
    pid: int
    version: str
    began: str


class Progress(Report):
    """What the target had acknowledged, summed over all attempts of the restore or copy."""

    at: str
    position: int
    documents: int
    bytes: int


class Attempt(Report):
    """One start of one task, how it ended, and what was decided then."""

    type: Literal["attempt"] = "attempt"
    seq: int
    last_seq: int
    stage: str
    attempt: int
    run: Run | None
    began: str
    ended: str | None
    duration_ms: int | None
    """Never negative; `None` while or where nobody knows."""
    clock_went_back: bool
    outcome: Outcome
    at_once: bool = False
    """Lost to a pause or stop that did not wait for it."""
    cause: str = ""
    code: str = ""
    why: str = ""
    progress: Progress | None = None
    result: dict[str, Any] = Field(default_factory=dict)
    decision: Decision = ""
    decided_in_run: int | None = None
    delay_ms: int | None = None
    jitter: float | None = None
    not_before: str | None = None
    position: int | None = None


class Note(Report):
    """Something else that happened to the entity."""

    type: Literal["note"] = "note"
    seq: int
    at: str
    kind: str
    text: str


class Stage(Report):
    """One task of the entity over all its attempts."""

    stage: str
    status: str
    attempts: int
    failed: int
    lost: int


class Mark(Report):
    seq: int
    at: str
    hash: str


class Proof(Report):
    """Where the story stands in the journal; each event was checked against its hash."""

    events: int
    first: Mark
    last: Mark


class Asked(Report):
    """The job that the entity belongs to."""

    by: str
    at: str
    kind: str
    source: str
    target: str


class Parts(Report):
    """What a unit's chunks and indexes came to."""

    chunks: int
    dumped: int
    restored: int
    copied: int = 0
    verified: int
    differing: int
    documents: int
    bytes: int
    rejected: int
    retries: int
    lost: int
    dead_letters: int


class StoryReport(Report):
    schema_: Literal["ferrylog.explain/1"] = Field("ferrylog.explain/1", alias="schema")
    job: str
    entity: str
    type: Type
    asked: Asked
    what: dict[str, Any]
    """The fields of the event that brought the entity into the job."""
    history: tuple[Attempt | Note, ...]
    """In the order of `seq`."""
    parts: Parts | None
    stages: tuple[Stage, ...]
    replaces: str = ""
    """Of a chunk: the one whose range, or a part of it, it took over."""
    replaced_by: tuple[str, ...] = ()
    """Of a chunk: those that cover its range now."""
    standing: str
    """Where it stands now, in a sentence."""
    clock_went_back: bool
    proof: Proof


TOGETHER: Final = (DocumentRejected, DamageFound)
"""Events of which many may come in a row."""


@dataclass(slots=True)
class _Draft:
    """An attempt that has begun."""

    began: Recorded
    stage: TaskKind
    attempt: int
    progress: Progress | None = None
    doubted_in: int | None = None


@dataclass(slots=True)
class Teller:
    """Feed it an entity's records in order; read `history` and `stages`."""

    runs: dict[int, Run]
    history: list[Attempt | Note] = field(default_factory=list)
    clock_went_back: bool = False
    statuses: dict[TaskKind, Status] = field(default_factory=dict)
    _open: dict[TaskKind, _Draft] = field(default_factory=dict)
    _alike: list[Recorded] = field(default_factory=list)
    _last_ms: int = 0

    def hear(self, records: Iterable[Recorded]) -> None:
        for recorded in records:
            self.clock_went_back |= recorded.recorded_at_ms < self._last_ms
            self._last_ms = recorded.recorded_at_ms
            if self._alike and recorded.event.kind != self._alike[0].event.kind:
                self._tell_alike()
            if isinstance(recorded.event, TOGETHER):
                self._alike.append(recorded)
                continue
            if isinstance(recorded.event, TaskEvent):
                self._task(recorded, recorded.event)
            else:
                if isinstance(recorded.event, SplitRequested):
                    self._call_off(recorded)
                self._note(recorded)
        self._tell_alike()
        for draft in self._open.values():
            lost = draft.doubted_in is not None  # undecided where it was only to be taken back
            at_once = draft.doubted_in == draft.began.epoch
            self._end(draft, None, "lost" if lost else "open", {"at_once": at_once})
        self._open.clear()
        self.history.sort(key=lambda each: each.seq)

    def stages(self) -> tuple[Stage, ...]:
        found = [each for each in self.history if isinstance(each, Attempt)]
        return tuple(
            Stage(
                stage=kind,
                status=status,
                attempts=sum(each.stage == kind for each in found),
                failed=sum(each.stage == kind and each.outcome == "failed" for each in found),
                lost=sum(each.stage == kind and each.outcome == "lost" for each in found),
            )
            for kind, status in self.statuses.items()
        )

    # --- event by event ---

    def _task(self, recorded: Recorded, event: TaskEvent) -> None:
        kind = event.task.kind
        before = self.statuses.get(kind, Status.PENDING)
        self.statuses[kind] = TASK_TRANSITIONS[before].get(event.verb, before)
        draft = self._open.get(kind)
        if isinstance(event, Started):
            self._open[kind] = _Draft(recorded, kind, event.attempt)
        elif draft is None:
            self._note(recorded)
        elif isinstance(event, CaptureProgressed):
            pass  # of documents it tells nothing yet
        elif isinstance(event, RestoreProgressed | CopyProgressed | ApplyProgressed):
            draft.progress = Progress(
                at=when(recorded.recorded_at_ms),
                position=event.position,
                documents=event.documents,
                bytes=event.bytes,
            )
        elif isinstance(event, InDoubt):
            draft.doubted_in = recorded.epoch
        else:
            del self._open[kind]
            self._end(draft, recorded, *_ending(event, draft, recorded.epoch))

    def _call_off(self, recorded: Recorded) -> None:
        """A chunk that is to be cut: nobody waits for what is under way with it."""
        for draft in self._open.values():
            why = "the chunk is to be cut in two"
            self._end(draft, recorded, "cancelled", {"why": why})
            self.statuses[draft.stage] = Status.PENDING
        self._open.clear()

    def _end(
        self,
        draft: _Draft,
        ended: Recorded | None,
        outcome: Outcome,
        fields: dict[str, Any] | None = None,
    ) -> None:
        known = ended if outcome != "lost" else None
        began_ms = draft.began.recorded_at_ms
        lasted = known.recorded_at_ms - began_ms if known else None
        self.history.append(
            Attempt(
                seq=draft.began.seq,
                last_seq=(ended or draft.began).seq,
                stage=draft.stage,
                attempt=draft.attempt,
                run=self.runs.get(draft.began.epoch),
                began=when(began_ms),
                ended=when(known.recorded_at_ms) if known else None,
                duration_ms=max(0, lasted) if lasted is not None else None,
                clock_went_back=lasted is not None and lasted < 0,
                outcome=outcome,
                progress=draft.progress,
                **(fields or {}),
            )
        )

    def _note(self, recorded: Recorded) -> None:
        self.history.append(
            Note(
                seq=recorded.seq,
                at=when(recorded.recorded_at_ms),
                kind=recorded.event.kind,
                text=note_on(recorded.event),
            )
        )

    def _tell_alike(self) -> None:
        """What was told together is one note."""
        if self._alike:
            first = self._alike[0]
            text = note_on(first.event, others=len(self._alike) - 1)
            self.history.append(
                Note(
                    seq=first.seq,
                    at=when(first.recorded_at_ms),
                    kind=first.event.kind,
                    text=text,
                )
            )
        self._alike = []


_ENVELOPE: Final = {"kind", "entity"}


def _ending(event: TaskEvent, draft: _Draft, epoch: int) -> tuple[Outcome, dict[str, Any]]:
    """How the event ended the attempt, and the fields that say so."""
    lost: dict[str, Any] = {
        "decided_in_run": epoch,
        "at_once": draft.doubted_in == draft.began.epoch,
    }
    match event:
        case RetryScheduled():
            return "failed", {
                **_blame(event),
                "decision": "retry",
                "delay_ms": event.delay_ms,
                "jitter": event.jitter,
                "not_before": when(event.not_before_ms),
            }
        case DeadLettered() if draft.doubted_in is not None:
            return "lost", {**lost, **_blame(event), "decision": "give_up"}
        case DeadLettered():
            return "failed", {**_blame(event), "decision": "give_up"}
        case Cancelled():
            return "cancelled", {"code": event.code, "why": event.why, "decision": "again"}
        case Resolved():
            decision = "continue" if event.decision == "continue" else "again"
            return "lost", {**lost, "decision": decision, "position": event.position}
        case _ if isinstance(event, Completed):
            return "completed", {"result": event.model_dump(mode="json", exclude=_ENVELOPE)}
        case _:
            return "open", {}


def _blame(event: RetryScheduled | DeadLettered) -> dict[str, Any]:
    return {"cause": event.cause, "code": event.code, "why": event.why}


def runs_of(records: Iterable[Recorded]) -> dict[int, Run]:
    """The runs by epoch, from the job's `run_started` events."""
    return {
        recorded.event.epoch: Run(
            epoch=recorded.event.epoch,
            by=recorded.event.by,
            host=recorded.event.host,
            pid=recorded.event.pid,
            version=recorded.event.version,
            began=when(recorded.recorded_at_ms),
        )
        for recorded in records
        if isinstance(recorded.event, RunStarted)
    }


def proof(records: Sequence[Recorded]) -> Proof:
    return Proof(events=len(records), first=_mark(records[0]), last=_mark(records[-1]))


def _mark(recorded: Recorded) -> Mark:
    return Mark(seq=recorded.seq, at=when(recorded.recorded_at_ms), hash=recorded.hash.hex())
