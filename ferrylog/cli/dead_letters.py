"""`ferrylog dead-letters`: what was given up or left out; look at it, ask for it again, let it go.

Ids are those that `list` names: the number of the event in the journal.
"""

import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from executors.dumps.making import refuse_reopening
from executors.folder import inside
from executors.rejected import as_json, find_rejected, rejected_path
from ferrylog.asking import Answer, ask
from ferrylog.cli import options as o
from ferrylog.cli.answers import lines, show
from ferrylog.errors import Refused, Usage
from ferrylog.jobs import find_migration, operator
from ferrylog.letters import Letter, job_of, letter, letters
from ferrylog.past import collector_at_rest
from ferrylog.recall import recall
from ferrylog.redact import one_line
from ferrylog.views.dead import (
    LettersReport,
    Shown,
    letter_report,
    letters_text,
    of_stages,
    shown_text,
)
from ferrylog.views.story import Teller, runs_of
from journal import audit
from journal.audit import Wanted
from journal.opening import work_path
from journal.sqlite import SqliteJournal
from statemachine.errors import FerrylogError, OperatorError
from statemachine.events import ChunkPlanned
from statemachine.state import State
from statemachine.stimuli import DropAsked, RequeueAsked
from statemachine.words import JobId, JobStatus

app = typer.Typer(
    help="What was given up, refused or left out.", no_args_is_help=True, rich_markup_mode=None
)

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID...", min=1, help="As `list` names.")]
JobOption = Annotated[
    str | None, typer.Option("--job", metavar="JOB", help="Default: the newest migration.")
]


class NotKept(OperatorError):
    """The document itself is not here."""

    code, exit_code = "EDEAD004", 2

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__(
            f"the document of dead letter {number} is not in {folder}",
            remedy="it lies on the host that ran the job, or on the source",
        )


@app.command("list")
def list_(
    job: o.Job = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Name all dead letters of a job, the oldest first."""
    o.Common(journal, json, verbose, quiet)
    with collector_at_rest(), SqliteJournal.read_only(journal) as opened:
        wanted = find_migration(opened, job)
        state = recall(opened, wanted).state
        found = letters(opened, wanted, state)
    named = sum(each.level == "document" for each in found)
    left_out = sum(chunk.done.rejected for chunk in state.flawed.values() if not chunk.dropped)
    report = LettersReport(
        job=wanted,
        letters=tuple(letter_report(each, journal) for each in found),
        unnamed=max(0, left_out - named),
    )
    typer.echo(report.as_json() if json else letters_text(report, journal))


@app.command("show")
def show_(
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="As `list` names it.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Only the rejected document, as BSON, to stdout.")
    ] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Tell all about one: every attempt, the range, the document itself."""
    o.Common(journal, json, verbose, quiet)
    with collector_at_rest(), SqliteJournal.read_only(journal) as opened:
        job = job_of(opened, number)
        state = recall(opened, job).state
        found = letter(opened, job, state, number)
        folder = _folder(journal, job, state)
        document = _document(folder, found)
        if raw:
            if document is None:
                raise NotKept(number, folder)
            sys.stdout.buffer.write(document)
            return
        report = _shown(opened, job, found, folder, document)
    typer.echo(report.as_json() if json else shown_text(report))


@app.command("requeue")
def requeue(
    ids: Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="All that `list` names.")] = False,
    job: JobOption = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Try them again with fresh attempts; of a rejected document, its chunk is carried again."""
    common = o.Common(journal, json, verbose, quiet)
    chosen = _chosen(journal, ids or [], job, everything=everything)
    _refuse_to_reopen(journal, {of for of, _ in chosen})
    by = operator()
    _ask_all(common, chosen, lambda each: each.requeue(by))


@app.command("drop")
def drop(
    ids: Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="All that can be dropped.")] = False,
    job: JobOption = None,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Let the job go on without them; it will end with exit code 3."""
    common = o.Common(journal, json, verbose, quiet)
    chosen = _chosen(journal, ids or [], job, everything=everything)
    if everything:
        chosen = [(of, each) for of, each in chosen if each.droppable]
    by = operator()
    _ask_all(common, chosen, lambda each: each.drop(by))


# --- what is meant ---


def _chosen(
    journal: Path, ids: Sequence[int], job: str | None, *, everything: bool
) -> list[tuple[JobId, Letter]]:
    """Every id is known to be dead before anything is asked."""
    if everything is bool(ids):
        raise Usage("nothing is named, or too much", remedy="give ids, or --all")
    with collector_at_rest(), SqliteJournal.read_only(journal) as opened:
        if everything:
            wanted = find_migration(opened, job)
            return [
                (wanted, each) for each in letters(opened, wanted, recall(opened, wanted).state)
            ]
        jobs = {number: job_of(opened, number) for number in ids}
        states = {each: recall(opened, each).state for each in set(jobs.values())}
        return [(of, letter(opened, of, states[of], number)) for number, of in jobs.items()]


def _refuse_to_reopen(journal: Path, jobs: Collection[JobId]) -> None:
    """Raise `LinkNeeded` for a full dump that is done, and that increments follow."""
    with collector_at_rest(), SqliteJournal.read_only(journal) as opened:
        for each in jobs:
            state = recall(opened, each).state
            if state.spec is not None and state.status is JobStatus.COMPLETED:
                refuse_reopening(state.spec)


def _ask_all(
    common: o.Common,
    chosen: Sequence[tuple[JobId, Letter]],
    wish_of: Callable[[Letter], RequeueAsked | DropAsked],
) -> None:
    """One after another; several documents of a chunk are one wish. What is refused among others
    stops none of them and ends with 2."""
    wishes = dict.fromkeys((job, wish_of(each)) for job, each in chosen)
    if not wishes:
        typer.echo("nothing to do", err=True)
        return
    answers: list[Answer] = []
    try:
        for job, wish in wishes:
            answers.append(_ask(common.journal, job, wish, alone=len(wishes) == 1))
    except FerrylogError as error:
        for line in (line for answer in answers for line in lines(answer)):
            error.add_note(f"done before: {line}")
        raise
    for job in dict.fromkeys(job for job, _ in wishes):
        show(common, [answer for answer in answers if answer.job == job])
    if refused := [answer for answer in answers if answer.refused]:
        for answer in refused:
            typer.echo(one_line(f"error [{Refused.code}]: {answer.refused}"), err=True)
        typer.echo(f"{len(refused)} of {len(answers)} refused", err=True)
        raise typer.Exit(Refused.exit_code)


def _ask(path: Path, job: JobId, wish: RequeueAsked | DropAsked, *, alone: bool) -> Answer:
    try:
        return ask(path, job, wish)
    except Refused as error:
        if alone:
            raise
        return Answer(job, wish, 0, (), refused=str(error))


# --- one of them ---


def _shown(
    journal: SqliteJournal, job: JobId, found: Letter, folder: Path, document: bytes | None
) -> Shown:
    own = list(audit.find(journal, Wanted(job, entity=found.entity)))
    teller = Teller(runs_of(audit.find(journal, Wanted(job, kind="run_started"))))
    teller.hear(own)
    planned = [each.event for each in own if isinstance(each.event, ChunkPlanned)]
    file = str(_file(folder, found)) if document is not None else None
    return Shown(
        job=job,
        letter=letter_report(found, journal.path),
        lower=planned[0].lower if planned else None,
        upper=planned[0].upper if planned else None,
        history=of_stages(teller.history, found),
        file=file,
        document=as_json(document) if document is not None else None,
    )


def _folder(journal: Path, job: JobId, state: State) -> Path:
    given = state.settings.work_dir if state.settings is not None else ""
    return inside(Path(given) if given else work_path(journal), job)


def _document(folder: Path, found: Letter) -> bytes | None:
    """The rejected document; `None` for another letter, or where it is not kept."""
    if found.key is None or found.unit is None:
        return None
    return find_rejected(folder, found.unit, found.chunk, found.key)


def _file(folder: Path, found: Letter) -> Path:
    assert found.unit is not None
    return rejected_path(folder, found.unit, found.chunk)
