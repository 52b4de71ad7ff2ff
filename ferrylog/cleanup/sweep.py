"""What there is to clean up, decided first and carried out then, thing by thing."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from executors.clients import Deployment
from ferrylog.cleanup.collections import lying_collections
from ferrylog.cleanup.files import Among, lying_files
from ferrylog.cleanup.finished import lying_projections
from ferrylog.cleanup.items import KINDS, OLDER_THAN_MS, Found, Item, Kind, Left
from ferrylog.cleanup.requests import lying_requests
from ferrylog.cleanup.standing import ended, standings
from ferrylog.clock import when
from journal.errors import JournalHeld
from journal.lease import Lease, held
from journal.sqlite import SqliteJournal
from statemachine.errors import FerrylogError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be cleaned up."""

    only: Collection[Kind] = KINDS
    older_than_ms: Mapping[Kind, int] = field(default_factory=lambda: dict(OLDER_THAN_MS))
    foreign: bool = False
    """What no journal names goes as well, though nobody can tell whose it is."""
    others: Collection[Path] = ()
    """Other journals: what their jobs have in shared folders stays."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of an item."""

    item: Item
    told: str = ""
    error: str = ""
    """Why it is still there."""


def find(
    journal: SqliteJournal,
    target: Deployment | None,
    wanted: Wanted,
    now_ms: int,
    *,
    held_since_ms: int | None = None,
) -> tuple[list[Item], list[Left]]:
    """What would go, and what stays though no job needs it. `held_since_ms`: see `Among`.

    Raises what reading the journal and looking at the target raise.
    """
    items: list[Item] = []
    left: list[Left] = []
    for each in _lying(journal, target, wanted, now_ms, held_since_ms):
        if each.kind not in wanted.only:
            continue
        if isinstance(each, Left):
            left.append(each)
        elif each.age_ms is None or each.age_ms >= wanted.older_than_ms[each.kind]:
            items.append(each)
    return items, left


def _lying(
    journal: SqliteJournal,
    target: Deployment | None,
    wanted: Wanted,
    now_ms: int,
    held_since_ms: int | None,
) -> Found:
    jobs = standings(journal)
    with ExitStack() as stack:
        opened = [stack.enter_context(SqliteJournal.read_only(each)) for each in wanted.others]
        others = [(each, standings(each)) for each in opened]
        if target is not None and {"staging", "groups"} & set(wanted.only):
            yield from lying_collections(
                journal, jobs, target, now_ms, foreign=wanted.foreign, others=others
            )
        if {"files", "groups"} & set(wanted.only):
            theirs = frozenset(job for _, its in others for job in its)
            among = Among(jobs, theirs, wanted.foreign, target, held_since_ms)
            yield from lying_files(journal, among, now_ms)
    if "requests" in wanted.only:
        runs = journal.latest_job() if held_since_ms is not None else None
        yield from lying_requests(journal, jobs, now_ms, runs=runs)
    if "jobs" in wanted.only:
        yield from lying_projections(journal, jobs, now_ms, wanted.older_than_ms["jobs"])


def sweep(journal: SqliteJournal, items: list[Item]) -> Iterator[Swept]:
    """Remove them one by one; what cannot be removed is told and keeps nothing else from going.

    A job may have gone on since its things were found: then they stay (I44).
    """
    for item in items:
        try:
            if item.job is not None and not ended(journal, item.job):
                yield Swept(item, error=f"job {item.job} goes on since it was looked at")
            else:
                yield Swept(item, told=item.remove() or "")
        except (FerrylogError, OSError) as error:
            yield Swept(item, error=str(error))


def alone_or_beside(path: Path, host: str, now_ms: int, stack: ExitStack) -> int | None:
    """Keep others from beginning anything with the journal while the stack lasts; or, where a
    process holds it already, since when: milliseconds."""
    try:
        stack.enter_context(Lease(path, host=host, since=when(now_ms)))
    except JournalHeld:
        return held_since_ms(path)
    return None


def held_since_ms(path: Path) -> int | None:
    """Since when a process has held the journal; `None`: none does."""
    if not held(path):
        return None
    return int(Path(f"{path}.lease").stat().st_mtime * 1000)
