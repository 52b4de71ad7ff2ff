"""`ferrylog cutover`: following ends when the last change is on the target."""

from pathlib import Path

from ferrylog.asking import ask
from ferrylog.cli import options as o
from ferrylog.cli.answers import show
from ferrylog.errors import Usage
from ferrylog.jobs import find_job, operator, unfinished
from journal.sqlite import SqliteJournal
from statemachine.stimuli import CutoverAsked
from statemachine.words import JobId


def cutover(
    job: o.Job = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """End a migration that follows its source: stop writing to the source first."""
    common = o.Common(journal, json, verbose, quiet)
    show(common, [ask(journal, _following(journal, job), CutoverAsked(operator()))])


def _following(path: Path, named: str | None) -> JobId:
    """The job of that name; else the only one that follows. Raises `Usage`, `NoSuchJob`."""
    with SqliteJournal.read_only(path) as journal:
        if named is not None:
            return find_job(journal, named)
        following = [
            job
            for job, past in unfinished(journal)
            if past.state.spec is not None and past.state.spec.follow
        ]
    if len(following) == 1:
        return following[0]
    what = ", ".join(following) if following else "none"
    raise Usage(f"which job? Those that follow their source: {what}", remedy="name the job")
