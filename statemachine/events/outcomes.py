"""What tasks bring about."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from statemachine.events.base import Value
from statemachine.events.spec import FilePart
from statemachine.events.tasks import TaskEvent
from statemachine.words import (
    Found,
    Key,
    Verb,
)


class SurveyCompleted(TaskEvent):
    """Everything the source holds for this job is registered; no unit comes after this (I29)."""

    verb = Verb.COMPLETED
    kind: Literal["survey_completed"] = "survey_completed"
    units: NonNegativeInt
    cluster_time: str
    """Of a snapshot: `seconds.increment` as of which all documents are read."""
    users: NonNegativeInt
    roles: NonNegativeInt
    """That the source has and this job leaves there."""
    notes: tuple[str, ...]
    """What else lies there and is not carried, in words."""
    since: str = ""
    """`seconds.increment` before anything of the source was read: an increment begins there."""


class CreateCompleted(TaskEvent):
    """The target collection stands, with its options and its unique indexes."""

    verb = Verb.COMPLETED
    kind: Literal["create_completed"] = "create_completed"
    built: tuple[str, ...]
    """Names of the indexes that stand already."""
    uuid: str
    """Of the target collection, hexadecimal; empty for a view."""
    found: Found = ""
    """What lay under the name before; empty: that was not recorded."""


class CensusCompleted(TaskEvent):
    """Every document of the unit was looked at: all files of its export have these columns."""

    verb = Verb.COMPLETED
    kind: Literal["census_completed"] = "census_completed"
    columns: str
    """JSON; opaque here: only `executors.export` makes and reads it."""
    documents: NonNegativeInt


class PlanCompleted(TaskEvent):
    """The chunks planned so far cover the whole `_id` space of the unit, without overlap (I21)."""

    verb = Verb.COMPLETED
    kind: Literal["plan_completed"] = "plan_completed"
    chunks: NonNegativeInt
    """None of a view, which a dry run only looks at."""


class DumpCompleted(TaskEvent):
    """The chunk file is whole, durable and has its name."""

    verb = Verb.COMPLETED
    kind: Literal["dump_completed"] = "dump_completed"
    file: str
    """Name inside the job's work folder."""
    documents: NonNegativeInt
    bytes: NonNegativeInt
    """Of the documents, uncompressed."""
    file_bytes: NonNegativeInt
    blocks: NonNegativeInt
    sha256: str
    """Of the whole file."""
    erased: NonNegativeInt = 0
    """Of an increment: keys in it whose documents are gone."""
    rejected: NonNegativeInt = 0
    """Documents that were read and that the user's own code did not let through, or that an export
    cannot hold."""
    parts: tuple[FilePart, ...] = ()
    """Where the documents went to several files; `file` is then the folder of all of them."""


class SurveyInvalidated(TaskEvent):
    """More of the source is wanted: it is surveyed again."""

    verb = Verb.INVALIDATED
    kind: Literal["survey_invalidated"] = "survey_invalidated"
    why: str


class DumpInvalidated(TaskEvent):
    """The chunk file is damaged or gone; the chunk is dumped again (I24)."""

    verb = Verb.INVALIDATED
    kind: Literal["dump_invalidated"] = "dump_invalidated"
    why: str


class Carried(TaskEvent):
    """How much of a chunk the target has so far, over all attempts."""

    documents: NonNegativeInt
    """Inserted, present, overwritten."""
    bytes: NonNegativeInt
    present: NonNegativeInt
    """Of `documents`: found there already, equal to the byte."""
    rejected: NonNegativeInt


class RestoreProgressed(Carried):
    """The target acknowledged every block of the chunk file before `position`."""

    verb = Verb.PROGRESSED
    kind: Literal["restore_progressed"] = "restore_progressed"
    attempt: PositiveInt
    position: NonNegativeInt
    """Offset in the chunk file, in bytes: resume goes on here."""


class RestoreCompleted(Carried):
    """The target acknowledged every document of the chunk file, or refused it by name."""

    verb = Verb.COMPLETED
    kind: Literal["restore_completed"] = "restore_completed"


class CopyProgressed(Carried):
    """The target acknowledged every document of the chunk up to `last_key`."""

    verb = Verb.PROGRESSED
    kind: Literal["copy_progressed"] = "copy_progressed"
    attempt: PositiveInt
    position: NonNegativeInt
    """Documents read so far."""
    last_key: Key
    """Resume goes on behind it."""


class CopyCompleted(Carried):
    """The target acknowledged every document of the chunk's range, or refused it by name."""

    verb = Verb.COMPLETED
    kind: Literal["copy_completed"] = "copy_completed"


class SplitCompleted(TaskEvent):
    """The chunk is replaced by so many that cover its range without overlap (I21)."""

    verb = Verb.COMPLETED
    kind: Literal["split_completed"] = "split_completed"
    chunks: PositiveInt


class IndexCompleted(TaskEvent):
    """The index stands on the target."""

    verb = Verb.COMPLETED
    kind: Literal["index_completed"] = "index_completed"


class MetadataDifference(Value):
    """One thing that source and target are told to be and are not alike."""

    what: str
    """`option validator`, `index a_1`, `documents`, ..."""
    source: str
    """As text; empty where it is missing."""
    target: str


class FinishCompleted(TaskEvent):
    """The unit is as it should stay: expiry is on, and what stands there was compared."""

    verb = Verb.COMPLETED
    kind: Literal["finish_completed"] = "finish_completed"
    differing: tuple[MetadataDifference, ...]


class ManifestCompleted(TaskEvent):
    """The dump is whole and durable, under its name."""

    verb = Verb.COMPLETED
    kind: Literal["manifest_completed"] = "manifest_completed"
    sha256: str
    """Of the manifest; empty where the layout has none."""
    documents: NonNegativeInt
    bytes: NonNegativeInt


class Difference(Value):
    """One document on which source and target disagree."""

    key: Key
    what: Literal["missing", "extra", "different"]
    """On the target, seen from the source."""


class VerifyCompleted(TaskEvent):
    """Source and target were read over the chunk's range and compared."""

    verb = Verb.COMPLETED
    kind: Literal["verify_completed"] = "verify_completed"
    equal: bool
    """Nothing differs but what was rejected."""
    source_documents: NonNegativeInt
    target_documents: NonNegativeInt
    source_digest: str
    target_digest: str
    rejected: NonNegativeInt
    """Differing documents that the restore rejected by name: known, and no mismatch."""
    differing: tuple[Difference, ...]
    """The first few, rejected ones among them."""
