"""How a dry run ends: `ferrylog start --dry-run`, or a `resume` of one.

Exit codes: 0 when the plan is whole and nothing in it is certain to fail; 3 when something is: as
for a job that finished with rejects, the plan is there and what was asked for would not be (so
that `ferrylog start --dry-run && ferrylog start` does what it looks like); 5 when the dry run
itself was interrupted.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import typer

from executors.foresee import free_bytes
from ferrylog.cli.beginning import SAME_WORK
from ferrylog.cli.options import Common
from ferrylog.engine import Engine
from ferrylog.estimate import learn
from ferrylog.jobs import unfinished
from ferrylog.redact import one_line
from ferrylog.views.model import exit_code
from ferrylog.views.plan import PlanReport, Room, plan_report, plan_text
from ferrylog.wiring import Run
from journal import audit
from journal.audit import Wanted
from journal.opening import work_path
from journal.sqlite import SqliteJournal
from statemachine.events import ConflictForeseen, JobSpec
from statemachine.words import JobId

REJECTS = 3


def end_plan(common: Common, run: Run, engine: Engine) -> NoReturn:
    """Tell the plan, and leave with the exit code that it deserves."""
    report = _report(run, engine)
    if common.json:
        typer.echo(report.as_json())
    else:
        typer.echo(plan_text(report))
    code = exit_code(engine.state)
    if code and not common.quiet:
        why = one_line(engine.state.why)
        typer.echo(f"the dry run is {engine.state.status}: {why}; ask again to go on", err=True)
    raise typer.Exit(code or (0 if report.ok else REJECTS))


def _report(run: Run, engine: Engine) -> PlanReport:
    spec, settings = engine.state.spec, engine.state.settings
    assert spec is not None and settings is not None and run.target is not None
    asked, _ = audit.request(run.journal, engine.job)
    folder = Path(settings.work_dir) if settings.work_dir else work_path(run.journal.path)
    return plan_report(
        engine.job,
        engine.state,
        foreseen(run.journal, engine.job),
        unfinished_like(run.journal, spec),
        learn(run.journal, spec, before=asked.seq),
        Room(str(folder), _free(folder), free_bytes(run.target.client)),
    )


def unfinished_like(journal: SqliteJournal, wanted: JobSpec) -> str:
    """The migration that `ferrylog start` would go on with instead of beginning one; or nothing."""
    for job, past in unfinished(journal):
        spec = past.state.spec
        assert spec is not None
        same = all(getattr(spec, name) == getattr(wanted, name) for name in SAME_WORK)
        if spec.kind == "migrate" and same:
            return job
    return ""


def foreseen(journal: SqliteJournal, job: JobId) -> list[ConflictForeseen]:
    """Every conflict that a dry run named, in its order. Raises `DamagedJournal`."""
    found = audit.find(journal, Wanted(job, kind="conflict_foreseen"))
    return [each.event for each in found if isinstance(each.event, ConflictForeseen)]


def _free(folder: Path) -> int | None:
    """Bytes where the folder is, or would be made."""
    with suppress(OSError, StopIteration):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        return shutil.disk_usage(there).free
    return None
