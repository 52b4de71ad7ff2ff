"""What commands that begin a job share: a new one, or the unfinished one of the same work."""

import typer

from ferrylog import clock
from ferrylog.engine import Engine
from ferrylog.errors import OtherSettings
from ferrylog.jobs import without_end
from ferrylog.past import Past
from ferrylog.rollbacks import going_on
from ferrylog.wiring import Run
from journal.errors import JobMoved
from journal.sqlite import SqliteJournal
from statemachine.events import ExportSpec, JobSpec
from statemachine.words import JobId, JobStatus

SAME_WORK = (
    "source_id", "target_id", "include", "exclude", "incremental", "parent", "follow", "place",
)  # fmt: skip
"""Fields that make two requests of one kind the same job."""
OF_ITS_TIME = ("source", "target", "deadline_ms", "swap")
"""Fields that the same work may have otherwise another day; it keeps those it began with."""
Begun = tuple[JobId, Past] | None


def start_or_continue(
    run: Run, spec: JobSpec, same: Begun, *, anew: bool = False, malformed: float = 0
) -> Engine:
    """`anew`, `malformed`: as of `Run.start`."""
    if same is None:
        return run.start(clock.new_job_id(), spec, anew=anew, malformed=malformed)
    job, past = same
    what = "taking back" if going_on(past.state) else "continuing"
    typer.echo(f"{what} the unfinished job {job}; --new would begin another", err=True)
    return run.resume(job, past)


def same_job(journal: SqliteJournal, spec: JobSpec) -> Begun:
    """The newest unfinished job of the same work. Raises `OtherSettings`, and `JobMoved` when it
    goes on elsewhere."""
    for job, past in without_end(journal):
        known = past.state.spec
        assert known is not None
        same = all(getattr(known, name) == getattr(spec, name) for name in ("kind", *SAME_WORK))
        if same and _form(known) == _form(spec):
            differing = [
                f"{name} was {getattr(known, name)}"
                for name in JobSpec.model_fields
                if name not in ("source", "target", "deadline_ms", "export")
                and getattr(known, name) != getattr(spec, name)
                and not (name == "swap" and known.swap and spec.swap)  # drawn anew each time
            ]
            if past.state.status is JobStatus.MOVED:
                raise JobMoved(job, past.state.why)
            if differing:
                raise OtherSettings(job, differing)
            return job, past
    return None


def _form(spec: JobSpec) -> ExportSpec | None:
    """Of an export, without what is of its time."""
    if spec.export is None:
        return None
    of_its_time = {"prefix": "", "above": "", "upto": "", "overwrite": False}
    dated = "/" * bool(spec.export.prefix)
    return spec.export.model_copy(update=of_its_time | {"prefix": dated})
