"""`ferrylog inspect check`: whether the journal is what was written."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import Field

from ferrylog.cli import options as o
from ferrylog.cli.inspect.evidence import check_evidence
from ferrylog.cli.inspect.forensic import faults_of, place
from ferrylog.jobs import renew
from ferrylog.redact import one_line
from ferrylog.views.model import Report
from journal.errors import DamagedJournal
from journal.forensics import Examination, Found, Unreadable, examine, first_impossible
from journal.sqlite import SqliteJournal
from statemachine.errors import FerrylogError


class ChainLine(Report):
    job: str
    events: int
    last_seq: int
    hash: str
    """Of the job's last event: it stands for all before it."""


class EventLine(Report):
    seq: int
    job: str
    version: int
    kind: str
    entity: str
    hash: str


class BadLine(Report):
    event: EventLine | None
    """`None` where no row can be read."""
    after: int
    """The last seq before the damage."""
    faults: tuple[str, ...]


class Finding(Report):
    code: str
    message: str
    remedy: str


class CheckReport(Report):
    schema_: Literal["ferrylog.check-journal/1"] = Field("ferrylog.check-journal/1", alias="schema")
    journal: str
    intact: bool
    last_seq: int
    events: int
    jobs: int
    chains: tuple[ChainLine, ...]
    pages: Literal["intact", "damaged"]
    order: Literal["intact", "damaged"]
    """Positions without gaps, every chain, every event's shape."""
    tip: Literal["intact", "damaged"]
    bad_events: int
    first_bad: BadLine | None
    last_good: EventLine | None
    """The last event before the first bad one; everything after it deserves no trust."""
    findings: tuple[Finding, ...]


def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", resolve_path=True, help="Evidence; default: the journal."),
    ] = None,
    key_file: o.KeyFile = None,
    renew_tip: Annotated[
        bool, typer.Option("--renew-tip", help="Vouch that no event is missing.")
    ] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Verify pages, order, every hash chain, every event and the tip; exit 4 on damage.

    Of an evidence file: every line, its chain, its manifest, and with a key its seal.
    """
    o.Common(journal, json, verbose, quiet)
    if file is not None:
        check_evidence(file, o.key(key_file), json=json)
        return
    if renew_tip:
        renew(journal)
    with SqliteJournal.read_only(journal, trusted=False) as opened:
        examination = examine(opened)
        errors = _errors(opened, examination) or _impossible(opened)
    report = _report(str(journal), examination, errors)
    if json:
        typer.echo(report.as_json())
        raise typer.Exit(max((error.exit_code for error in errors), default=0))
    typer.echo(_text(report))
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"[{other.code}] {other}")
        raise errors[0]


def _errors(journal: SqliteJournal, found: Examination) -> list[FerrylogError]:
    errors = [error for error in (found.pages, found.tip) if error is not None]
    if found.first_bad is not None:
        good = found.last_good.seq if found.last_good else 0
        why = one_line(f"{place(found.first_bad)}: {'; '.join(faults_of(found.first_bad))}")
        errors.insert(0, DamagedJournal(journal.path, why, good=good))
    return errors


def _impossible(journal: SqliteJournal) -> list[FerrylogError]:
    """Whole as bytes, but no history that the rules could have written."""
    found = first_impossible(journal)
    if found is None:
        return []
    recorded, why = found
    event = recorded.event
    place = f"event seq {recorded.seq} ({event.kind} of {event.about}) cannot stand there"
    return [DamagedJournal(journal.path, one_line(f"{place}: {why}"), good=recorded.seq - 1)]


def _report(path: str, found: Examination, errors: list[FerrylogError]) -> CheckReport:
    return CheckReport(
        journal=path,
        intact=not errors,
        last_seq=max((chain.seq for chain in found.chains.values()), default=0),
        events=found.events,
        jobs=len(found.chains),
        chains=tuple(
            ChainLine(job=job, events=chain.events, last_seq=chain.seq, hash=chain.hash.hex())
            for job, chain in found.chains.items()
        ),
        pages="damaged" if found.pages else "intact",
        order="damaged" if found.first_bad else "intact",
        tip="damaged" if found.tip else "intact",
        bad_events=found.bad,
        first_bad=_bad(found.first_bad) if found.first_bad else None,
        last_good=_event(found.last_good) if found.last_good else None,
        findings=tuple(
            Finding(code=error.code, message=str(error), remedy=error.remedy) for error in errors
        ),
    )


def _bad(row: Found | Unreadable) -> BadLine:
    if isinstance(row, Unreadable):
        return BadLine(event=None, after=row.after, faults=(row.why,))
    return BadLine(event=_event(row), after=row.seq - 1, faults=row.faults)


def _event(row: Found) -> EventLine:
    return EventLine(
        seq=row.seq,
        job=row.job,
        version=row.version,
        kind=row.kind,
        entity=row.entity,
        hash=row.hash.hex(),
    )


def _text(report: CheckReport) -> str:
    if report.intact:
        return (
            f"{report.journal}: {report.last_seq} events of {report.jobs} jobs, no damage\n"
            "  pages, positions, hash chains, every event and the tip are intact"
        )
    good, bad = report.last_good, report.first_bad
    lines = [
        f"{report.journal}: {report.events} events of {report.jobs} jobs can be read",
        f"  pages {report.pages} · order and hash chains {report.order} · tip {report.tip}",
    ]
    if bad is not None and bad.event is not None:
        lines.append(f"  first bad event: {_place(bad.event)}: {'; '.join(bad.faults)}")
    elif bad is not None:
        lines.append(f"  nothing can be read after seq {bad.after}: {'; '.join(bad.faults)}")
    if bad is not None:
        lines.append(f"  last good event: {_place(good) if good else 'none'}")
        lines.append("  `ferrylog inspect events --forensic` shows every event, good or bad")
    return "\n".join(one_line(line) for line in lines)


def _place(event: EventLine) -> str:
    what = f"{event.kind} of {event.entity}"
    return f"seq {event.seq} (job {event.job}, version {event.version}, {what})"
