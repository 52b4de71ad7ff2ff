"""Where an export goes, and whose the place is: of the job that claims it."""

from collections.abc import Callable
from dataclasses import dataclass

from executors.export.errors import ExportStands, PlaceTaken
from executors.export.garbage import OWN
from executors.export.manifest import Facts, standing
from executors.export.names import CLAIM, SUCCESS, job_of
from executors.export.processes import Processes
from executors.storage.errors import NoObject, ObjectExists
from executors.storage.names import is_probe
from executors.storage.protocol import Store
from statemachine.events import JobSpec
from statemachine.state import DUMP


@dataclass(frozen=True)
class Export:
    """Where one job's documents go."""

    job: str
    store: Store
    """Its root is the folder of this export."""
    processes: Processes
    facts: Callable[[], Facts]
    memory: Callable[[], int]
    """Bytes that one chunk may hold on its way, as of now."""

    @property
    def worker_memory(self) -> int:
        return self.memory()


def root_of(spec: JobSpec) -> str:
    """The URL or the path beneath which this export lies: a path knows no escapes."""
    assert spec.export is not None
    target, prefix = spec.target.removeprefix(DUMP), spec.export.prefix.strip("/")
    return f"{target.rstrip('/')}/{prefix}" if prefix else target


def refuse_taken(store: Store, spec: JobSpec) -> None:
    """Before a job begins. Raise `ExportStands` where an export lies that is not to be replaced,
    `PlaceTaken` where anything lies that is none of ours; what the store raises."""
    assert spec.export is not None
    for found in store.list():
        if is_probe(found.name):
            continue
        if found.name not in OWN and job_of(found.name) is None:
            raise PlaceTaken(store.url, f"{found.name} lies there, which no export made")
        if not spec.export.overwrite:
            before = standing(store)
            by = before.job if before is not None else holder(store) or job_of(found.name) or ""
            raise ExportStands(store.url, by, finished=before is not None)


def take(store: Store, job: str, *, replace: bool) -> None:
    """Claim the place for a job; nothing in it is finished from now on. Raises `PlaceTaken` for one
    that another job has claimed, or finished since this one was last at it, but to `replace` what
    that made of it."""
    if not replace:
        must_be_ours(store, job)
    try:
        store.put(CLAIM, job.encode(), replace=replace)
    except ObjectExists:
        raise PlaceTaken(store.url, f"job {holder(store)} exports to there") from None
    store.remove([SUCCESS])


def must_be_ours(store: Store, job: str) -> None:
    """The files of two jobs side by side would be documents twice. Raises `PlaceTaken` where
    another one has claimed the place, or has finished there after it took the claim away."""
    by = holder(store)
    if by not in (None, job):
        raise PlaceTaken(store.url, f"job {by} exports to there by now")
    if by is None and (before := standing(store)) is not None and before.job != job:
        raise PlaceTaken(store.url, f"the export of job {before.job} stands there by now")


def holder(store: Store) -> str | None:
    """The job that has claimed the place."""
    try:
        return store.get(CLAIM).decode(errors="replace")
    except NoObject:
        return None
