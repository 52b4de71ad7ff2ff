"""Jobs that ended long ago: their snapshots go when their history lies whole in an archive.

An archive is evidence (`journal.evidence`) beside the journal, checked to its last hash before
anything goes. The events stay where they are, so an archive can be written again at any time: an
old one goes, too, where the journal still holds the event that it ends with.
"""

from functools import partial
from pathlib import Path

from ferrylog.cleanup.items import Found, Freed, Item, Left
from ferrylog.cleanup.standing import Standing
from ferrylog.moving import write_evidence
from journal.errors import BadEvidence
from journal.evidence import Evidence, examine
from journal.sqlite import SqliteJournal
from journal.upkeep import forget_snapshots, kept_snapshots
from statemachine.errors import FerrylogError
from statemachine.words import JobId


def archive_folder(journal: Path) -> Path:
    return Path(f"{journal}.archive")


def lying_projections(
    journal: SqliteJournal, jobs: dict[JobId, Standing], now_ms: int, older_ms: int
) -> Found:
    """Snapshots of jobs that have ended, and archives that are old enough to be looked into."""
    for job, kept in kept_snapshots(journal.path).items():
        if job not in jobs or jobs[job].live:
            continue
        age_ms = now_ms - jobs[job].last_ms
        freed = Freed(bytes=kept.bytes, snapshots=kept.snapshots)
        why = f"the job has ended; first its history goes to {archive_folder(journal.path)}"
        remover = partial(_archive_and_forget, journal, job)
        yield Item("jobs", f"snapshots {job}", age_ms, why, freed, remover, job)
    folder = archive_folder(journal.path)
    for path in sorted(folder.glob("*.evidence.ndjson")) if folder.is_dir() else ():
        age_ms = now_ms - int(path.lstat().st_mtime * 1000)
        if age_ms >= older_ms and path.is_file() and not path.is_symlink():
            yield _archive(journal, path, age_ms)


def _archive_and_forget(journal: SqliteJournal, job: JobId) -> str:
    path, found = archive(journal, job)
    forget_snapshots(journal.path, job)
    return f"its {found.events} events lie in {path}, too; the last hash is {found.last_hash.hex()}"


def archive(journal: SqliteJournal, job: JobId) -> tuple[Path, Evidence]:
    """The job's whole history as a file of evidence, verified; written unless it is there.

    Raises `BadEvidence` for one that is there and is not what the journal holds, and what writing
    raises.
    """
    (row,) = journal.query("SELECT max(version) FROM events WHERE job = ?", (job,))
    path = archive_folder(journal.path) / f"{job}.{row[0]}.evidence.ndjson"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        write_evidence(journal, job, path, None)
    found = examine(path)
    if not _ends_here(journal, found):
        raise BadEvidence(path, found.events + 2, "the journal ends this history otherwise")
    return path, found


def _archive(journal: SqliteJournal, path: Path, age_ms: int) -> Item | Left:
    freed = Freed(bytes=path.stat().st_size, files=1)
    try:
        whole, told = _ends_here(journal, examine(path)), "the journal does not hold its last event"
    except FerrylogError as error:
        whole, told = False, str(error)
    if not whole:
        return Left("jobs", str(path), f"the archive stays: {told}", freed)
    why = "the journal holds all of it: `ferrylog inspect export` writes it again"
    return Item("jobs", str(path), age_ms, why, freed, partial(path.unlink, missing_ok=True))


def _ends_here(journal: SqliteJournal, found: Evidence) -> bool:
    rows = journal.query(
        "SELECT hash FROM events WHERE job = ? AND version = ?", (found.job, found.events)
    )
    return rows == [(found.last_hash,)]
