"""What a job is, by its spec: its stages, and what they work on."""

from typing import Final

from statemachine.events import JobSpec
from statemachine.words import (
    TaskKind,
)

DUMP: Final = "file:"
"""How the name of a source or target begins that is a dump."""
STAGES: Final[dict[tuple[str, str], tuple[TaskKind, ...]]] = {
    ("migrate", "coordinated"): (TaskKind.DUMP, TaskKind.RESTORE, TaskKind.VERIFY),
    ("migrate", "direct"): (TaskKind.COPY, TaskKind.VERIFY),
    ("verify", "coordinated"): (TaskKind.VERIFY,),
    ("verify", "direct"): (TaskKind.VERIFY,),
    ("dump", "coordinated"): (TaskKind.DUMP,),
    ("dump", "direct"): (TaskKind.DUMP,),
    ("export", "coordinated"): (TaskKind.DUMP,),
    ("export", "direct"): (TaskKind.DUMP,),
    ("restore", "coordinated"): (TaskKind.RESTORE, TaskKind.VERIFY),
    ("restore", "direct"): (TaskKind.RESTORE, TaskKind.VERIFY),
    ("plan", "coordinated"): (),
    ("plan", "direct"): (),
    ("group", "coordinated"): (),
    ("group", "direct"): (),
}
"""What is done with a chunk, in order, by the kind and the mode of its job."""


STORES: Final = ("s3://", "gs://", "az://")
"""How the URL of an object store begins."""
KEEPS_FILES: Final = ("dump", "export")
"""Kinds of jobs whose files stay, named by a manifest when all are there."""


def is_dump(end: str) -> bool:
    """Whether a source or target is files rather than a deployment."""
    return end.startswith((DUMP, *STORES))


def is_stored(end: str) -> bool:
    """Whether it lies in an object store."""
    return end.startswith(STORES)


def reads_dump(spec: JobSpec) -> bool:
    return is_dump(spec.source) or (spec.kind == "verify" and is_dump(spec.target))


def keeps_files(spec: JobSpec) -> bool:
    return spec.kind in KEEPS_FILES


def takes_census(spec: JobSpec) -> bool:
    """Whether what a unit's documents hold decides the shape of all its files."""
    return spec.export is not None and spec.export.format == "parquet"


def stages_of(spec: JobSpec) -> tuple[TaskKind, ...]:
    """Of every chunk of a job; what only verifies keeps its one stage. Where changes follow, a
    chunk is nothing that could be compared: a job of its own does it at the end."""
    stages = STAGES[spec.kind, spec.mode]
    wanted = spec.verify and not spec.follow
    return stages if wanted or len(stages) < 2 else stages[:-1]


def transforms(spec: JobSpec) -> bool:
    """Whether documents go through code of the user's own: what lies on the target is then what
    the chunk files hold, and the source does not tell of it."""
    return bool(spec.transform or spec.model)


def restores_chain(spec: JobSpec) -> bool:
    return spec.kind == "restore" and bool(spec.links or spec.at)


def is_whole(spec: JobSpec) -> bool:
    """Whether nothing can be left out: changes that follow would miss it."""
    return spec.follow or spec.incremental or restores_chain(spec)
