"""The shapes of what is printed about a job: models, and nothing that fills them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ferrylog.redact import ascii_json
from statemachine.events import MetadataDifference


class Report(BaseModel):
    """Something printed; `schema` names its shape."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    def as_json(self) -> str:
        """One line for `--json`."""
        return ascii_json(self.model_dump(mode="json", by_alias=True))


class SideCounts(Report):
    """Chunks by where one of their sides stands; the six sum to the total."""

    pending: int = 0
    waiting: int = 0
    processing: int = 0
    in_doubt: int = 0
    completed: int = 0
    failed: int = 0
    """Given up, or left out for good."""


class ChunkCounts(Report):
    total: int
    dump: SideCounts
    restore: SideCounts
    """Of a direct job, which copies without a file, both are those of the copy."""
    verify: SideCounts


class DocumentCounts(Report):
    total_estimate: int
    dumped: int
    restored: int
    present: int
    rejected: int
    done: int
    """Of the total: dumped by a job that dumps, compared by one that verifies, else restored."""
    repaired: int
    """With an empty timestamp, which the target filled in and got back."""


class BatchReport(Report):
    """What one write command holds at most, as last journaled."""

    documents: int
    bytes: int


class UnitReport(Report):
    namespace: str
    type: str
    target: str
    status: str
    priority: int
    chunks: ChunkCounts
    dropped: int
    """Chunks that the job goes on without."""
    documents: DocumentCounts
    bytes: int
    """Of the documents that are done."""
    percent: float
    dump_percent: float
    restore_percent: float
    """Of its chunks (A22)."""
    mismatched: int
    """Chunks on which source and target differ."""
    differing: tuple[MetadataDifference, ...]
    """Options and indexes on which they do, and more; of the first units only."""
    damaged: int
    """Places of its file in the dump that cannot be read."""
    batch: BatchReport | None
    """None while the size is the one that its policy begins with."""
    completed_at: str | None


class Totals(Report):
    chunks: ChunkCounts
    documents: DocumentCounts
    bytes: int
    percent: float


class PhaseReport(Report):
    """One stretch of the work over all units; phases overlap."""

    phase: str
    weight: float
    """Its share of the job's percentage; what is no stage of chunks has none."""
    done: int
    total: int
    percent: float


class RateReport(Report):
    current_docs_s: float
    average_docs_s: float
    peak_docs_s: float
    bytes_s: float


class DeadLetter(Report):
    task: str
    entity: str
    code: str
    why: str


class Control(Report):
    """What an operator, a signal or ferrylog itself asked of a job that rests or is about to."""

    asked: Literal["pause", "stop"]
    by: str
    why: str
    at: str
    immediate: bool
    rollback: bool


class Stats(Report):
    """What is left, in three numbers (A21)."""

    pending_downloads: int
    pending_restores: int
    active_units: int


class BreakerReport(Report):
    state: Literal["closed", "open", "half-open"]
    failures: int
    """In a row."""
    until: str | None


class PoolReport(Report):
    """Workers that share a limit and a breaker (A17)."""

    workers: int
    busy: int
    available: int
    retrying: int
    """Of the busy ones: those that try something again."""
    waiting: int
    """Tasks that failed and wait for their time."""
    pending: int
    breaker: BreakerReport


class AlertReport(Report):
    alert: str
    entity: str
    value: float | None
    limit: float | None
    why: str
    since: str | None


class AnswerReport(Report):
    """What an operator asks when something seems wrong (A26-A28)."""

    question: str
    answer: str
    remedy: str
    """Empty where nothing is to be done."""


class ChunkSide(Report):
    status: str
    attempts: int
    failures: int
    not_before: str | None


class ChunkReport(Report):
    """A chunk with work left, or one that a document was left out of."""

    chunk: str
    namespace: str
    lower: str | None
    upper: str | None
    documents: int
    """An estimate."""
    restored: int
    rejected: int
    priority: int
    state: Literal["open", "flawed", "dropped"]
    sides: dict[str, ChunkSide]
    """By stage; of an open one also its split, if it is to be cut."""
    code: str
    why: str
    """Of the last failure."""


class LeftBehind(Report):
    """What the source has and the job does not carry."""

    users: int
    roles: int


class DamageReport(Report):
    """A place of a dump that cannot be read."""

    namespace: str
    """Empty where nobody can tell."""
    file: str
    at: int
    """Offset in the uncompressed bytes."""
    bytes: int
    code: str
    why: str


class FollowReport(BaseModel):
    """How far a target is behind the source that it follows, after the last round."""

    applied: str | None
    """The cluster time up to which it has every change; `None` before the first round."""
    as_of: str | None
    """The same as a time of day."""
    lag_s: float
    documents: int
    erased: int
    """Written and deleted over all rounds."""
    cutover: bool
    """Asked for."""


class MappedReport(Report):
    """Of a unit that was exported into columns."""

    namespace: str
    columns: int
    """That hold values: members of a struct count, the struct does not."""
    as_text: dict[str, tuple[str, ...]]
    """Columns whose values are written as text, by the kind of value; `json`: of any type."""
    renamed: dict[str, str]
    """What fields are called that readers would not take by their own names."""


class ExportReport(Report):
    """What an export leaves, as far as it is."""

    format: Literal["parquet", "jsonl"]
    form: str
    """`exchange` or `native` types of Parquet, `canonical` or `relaxed` Extended JSON."""
    compression: str
    place: str
    """Where its manifest lies when it is whole."""
    files: int
    file_bytes: int
    since: str
    above: str
    upto: str
    partition: str
    units: tuple[MappedReport, ...]


class IncrementReport(BaseModel):
    """The increment under way."""

    number: int
    until: str
    shards: int
    applied: int
    """Of its shards."""
    in_flight: int
    percent: float


class ChainReport(BaseModel):
    """How far the restore of a chain is."""

    phase: str
    increments: int
    """To apply in all."""
    applied: int
    documents: int
    erased: int
    """Written and deleted by increments."""
    increment: IncrementReport | None


class GroupReport(Report):
    """A group of operations (M7)."""

    title: str
    operations: int
    completed: int
    failed: int
    dropped: int
    """That will never start."""
    percent: float


class UndoneReport(Report):
    """A rollback; its undos by name: `inspect rollback`."""

    total: int
    undone: int
    skipped: int
    kept: int
    """What others changed since and stays."""
    to: str


class StatusReport(Report):
    schema_: Literal["ferrylog.status/1"] = Field("ferrylog.status/1", alias="schema")
    job: str
    kind: str
    mode: str
    status: str
    phase: str
    running: bool
    """A process holds the journal now."""
    code: str
    """Of what failed the job; empty for any other."""
    why: str
    control: Control | None
    epoch: int
    source: str
    target: str
    layout: str | None
    """Of what a dump job makes."""
    consistency: Literal["snapshot", "fuzzy"] | None
    """All documents as of one time, or each as of when it was read; `None` where nobody knows."""
    cluster_time: str | None
    """`seconds.increment` of a snapshot."""
    as_of: str | None
    """The same as a time of day."""
    stats: Stats
    pools: dict[str, PoolReport]
    phases: tuple[PhaseReport, ...]
    units: tuple[UnitReport, ...]
    totals: Totals
    rate: RateReport
    eta_s: float | None
    elapsed_s: float
    """While runs were at work."""
    retries: int
    dead_letters: tuple[DeadLetter, ...]
    dropped_indexes: int
    mismatched_chunks: int
    differing_metadata: int
    """Options, indexes and the like on which source and target differ."""
    differing: tuple[MetadataDifference, ...]
    """Of them, those at the end of a chain or of following; each names its namespace."""
    damaged_places: int
    damage: tuple[DamageReport, ...]
    """The first of them."""
    left_behind: LeftBehind
    follow: FollowReport | None
    """Of a job that follows its source, when it has begun to."""
    chain: ChainReport | None
    """Of the restore of a full dump with increments."""
    export: ExportReport | None
    group: GroupReport | None
    rollback: UndoneReport | None
    committed: bool
    """Nobody can take the job back any more."""
    notes: tuple[str, ...]
    """What else lies on the source and is not carried, in words."""
    settings: dict[str, Any] | None
    """Of the run, with all that was changed since."""
    alerts: tuple[AlertReport, ...]
    answers: tuple[AnswerReport, ...]
    chunks: tuple[ChunkReport, ...] | None
    """With `--chunks`."""
    last_seq: int
    recorded_at: str
    """Of the last event."""
