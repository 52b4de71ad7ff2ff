"""`ferrylog inspect diff`: two jobs side by side."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ferrylog.cli import options as o
from ferrylog.cli.inspect.timeline import history
from ferrylog.cli.plan import foreseen
from ferrylog.estimate import learn
from ferrylog.jobs import find_job
from ferrylog.recall import recall
from ferrylog.views.compare import Told, diff_report, diff_text, told
from ferrylog.views.foretold import MISHAPS, Forecast, Mishap, mishap
from ferrylog.views.plan import expected
from journal import audit
from journal.audit import Wanted
from journal.sqlite import SqliteJournal
from statemachine.state import State
from statemachine.words import JobId


def diff(
    job_a: Annotated[str, typer.Argument(metavar="JOB_A")],
    job_b: Annotated[str, typer.Argument(metavar="JOB_B")],
    other_journal: Annotated[
        Path | None,
        typer.Option(resolve_path=True, metavar="PATH", help="Where JOB_B stands, if elsewhere."),
    ] = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Compare what two jobs were asked, how they were run, and what came of it; or what a dry run
    foresaw, and what came of the job."""
    o.Common(journal, json, verbose, quiet)
    report = diff_report(_told(journal, job_a), _told(other_journal or journal, job_b))
    typer.echo(report.as_json() if json else diff_text(report))


def _told(path: Path, name: str) -> Told:
    with SqliteJournal.read_only(path) as journal:
        job = find_job(journal, name)
        past = recall(journal, job)
        forecast = _forecast(journal, job, past.state)
        return told(str(path), past, history(journal, job), forecast, _mishaps(journal, job))


def _forecast(journal: SqliteJournal, job: JobId, state: State) -> Forecast | None:
    """What a dry run said when it ended; `None` for other jobs."""
    asked, request = audit.request(journal, job)
    if request.spec.kind != "plan":
        return None
    learned = learn(journal, request.spec, before=asked.seq)
    return Forecast(expected(state, learned), tuple(foreseen(journal, job)))


def _mishaps(journal: SqliteJournal, job: JobId) -> Counter[Mishap]:
    found = (each for kind in MISHAPS for each in audit.find(journal, Wanted(job, kind=kind)))
    return Counter(told for each in found if (told := mishap(each.event)) is not None)
