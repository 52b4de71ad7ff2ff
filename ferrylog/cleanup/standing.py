"""How the jobs of a journal stand, as far as removing what they left depends on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from ferrylog.past import Past
from ferrylog.recall import recall
from journal import audit, overview
from journal.audit import Wanted
from journal.opening import work_path
from journal.sqlite import SqliteJournal
from statemachine.events import RunStarted
from statemachine.state import State
from statemachine.words import JobId, JobStatus, Millis

ENDS: Final = ("job_completed", "job_failed", "job_rolled_back")
GOES_ON: Final = ("job_reopened", "rollback_started")
"""What leads out of an end again."""


def ended(journal: SqliteJournal, job: JobId) -> bool:
    """Whether the job is at an end now. Nothing is folded: of all that leads to an end or out of
    one, the last event counts."""
    known = overview.kinds(journal, job)
    last = {
        kind: recorded.seq
        for kind in (*ENDS, *GOES_ON)
        if kind in known
        for recorded in audit.find(journal, Wanted(job, kind=kind), tail=1)
    }
    return bool(last) and max(last, key=last.__getitem__) in ENDS


@dataclass(frozen=True)
class Standing:
    """One job."""

    journal: SqliteJournal
    job: JobId

    @cached_property
    def live(self) -> bool:
        """It has not ended: whatever it names stays (I44). So does that of a job that left."""
        return not ended(self.journal, self.job)

    @cached_property
    def last_ms(self) -> Millis:
        """When its last event was recorded."""
        return overview.span(self.journal, self.job)[1]

    @cached_property
    def past(self) -> Past:
        return recall(self.journal, self.job)

    @cached_property
    def work_folders(self) -> frozenset[Path]:
        """Those that its runs were told to use."""
        runs = audit.find(self.journal, Wanted(self.job, kind="run_started"))
        named = {
            each.event.settings.work_dir for each in runs if isinstance(each.event, RunStarted)
        }
        return frozenset(Path(name) for name in named if name)


def standings(journal: SqliteJournal) -> dict[JobId, Standing]:
    """Of all jobs, in their order."""
    return {job: Standing(journal, job) for job in journal.jobs()}


def work_folders(
    journal: SqliteJournal, jobs: dict[JobId, Standing]
) -> Iterator[tuple[Path, bool]]:
    """Where folders of jobs lie, and whether other journals may have some there, too."""
    own = work_path(journal.path)
    yield own, False
    for folder in sorted({each for job in jobs.values() for each in job.work_folders} - {own}):
        yield folder, True


def cannot_return(state: State) -> bool:
    """Nobody can take the job back any more: it is committed, it is taken back as a whole with
    nothing left to take back, or it never recorded what it changed."""
    if not state.terminal or state.spec is None:
        return False
    if state.committed or not (state.spec.undo or state.spec.kind == "group"):
        return True
    rolled_back = state.status is JobStatus.ROLLED_BACK and not state.rolled_to
    return rolled_back and not (state.skipped or state.undo_kept)
