"""Questions to a journal: which events, found through an index, each checked against its hash.

A row that is found out of its chain still proves itself: its hash covers the hash of the job's
event before it, which is one lookup away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from heapq import merge
from itertools import islice
from typing import Any, Final

from journal.codec import GENESIS, chain, decode
from journal.entities import Type, below, of_type, span
from journal.errors import DamagedJournal, UnknownEvent
from journal.overview import has_time_index, kinds, last_seq
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.events import AnyEvent, JobRequested
from statemachine.words import JobId, Millis

PAGE_ROWS: Final = 1000
"""Rows of one query: no reader keeps a transaction open while somebody scrolls."""
FIRST_ROWS: Final = 64
"""Of the first page: most questions have few answers."""
LAST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events of a job; all that is given must hold."""

    job: JobId
    entity: str | None = None
    type: Type | None = None
    """What the entity is, where several share the name."""
    below: bool = False
    """The chunks and indexes of a unit called `entity` are meant too."""
    kind: str | None = None
    """A kind, or a glob over kinds."""
    epoch: int | None = None
    since_ms: int | None = None
    """Recorded then or later."""
    until_ms: int | None = None
    """Recorded before then."""
    after: int = 0
    """A greater seq."""
    until: int = LAST
    """A seq not greater."""


def find(journal: SqliteJournal, wanted: Wanted, *, tail: int | None = None) -> Iterator[Recorded]:
    """The wanted events in the order of `seq`; the last `tail` of them.

    Raises `DamagedJournal` at the first that does not match its hash or is no known event; those
    before it have been given.
    """
    rows = _rows(journal, wanted, newest_first=tail is not None)
    if tail is not None:
        rows = iter(list(islice(rows, tail))[::-1])
    while page := list(islice(rows, PAGE_ROWS)):
        yield from _proved(journal, page)


def request(journal: SqliteJournal, job: JobId) -> tuple[Recorded, JobRequested]:
    """What the job began with. Raises `DamagedJournal` when that is no request for it."""
    found = journal.query("SELECT seq FROM events WHERE job = ? AND version = 1", (job,))
    for (seq,) in found:
        for recorded in find(journal, Wanted(job, after=seq - 1, until=seq)):
            if isinstance(recorded.event, JobRequested):
                return recorded, recorded.event
    raise DamagedJournal(journal.path, f"job {job} does not begin with the request for it")


# --- where to look ---


def _rows(
    journal: SqliteJournal, wanted: Wanted, *, newest_first: bool
) -> Iterator[tuple[Any, ...]]:
    """Through the index that names the fewest rows, each stream in the order of `seq`."""
    window = _window(journal, wanted)
    chosen = _kinds(journal, wanted)
    where, values = _conditions(wanted, chosen)
    sources: list[tuple[str, list[str]]] = [("NOT INDEXED WHERE e.job = ?", [])]
    if wanted.entity is not None and not wanted.below:
        through = "INDEXED BY events_by_entity WHERE e.job = ? AND e.entity = ?"
        sources = [(through, [wanted.entity])]
    elif chosen is not None:
        through = "INDEXED BY events_by_kind WHERE e.job = ? AND e.kind = ?"
        sources = [(through, [kind]) for kind in chosen]
    streams = [
        _pages(
            journal,
            f"FROM events AS e {source} AND {where}",
            (wanted.job, *named, *values),
            window,
            newest_first=newest_first,
        )
        for source, named in sources
    ]
    return merge(*streams, key=lambda row: row[0], reverse=newest_first)


def _kinds(journal: SqliteJournal, wanted: Wanted) -> list[str] | None:
    """`None`: all."""
    if wanted.kind is None:
        return None
    if not set(wanted.kind) & set("*?["):
        return [wanted.kind]
    return [kind for kind in kinds(journal, wanted.job) if fnmatchcase(kind, wanted.kind)]


def _conditions(wanted: Wanted, chosen: list[str] | None) -> tuple[str, list[int | str]]:
    """What the index that is walked does not answer by itself."""
    parts, values = ["1"], list[int | str]()
    if wanted.entity is not None and wanted.below:
        condition, names = below(wanted.entity)
        parts.append(f"(e.entity = ? OR {condition})")
        values += [wanted.entity, *names]
    elif wanted.entity is not None and chosen is not None:
        parts.append(f"e.kind IN ({', '.join('?' * len(chosen))})")
        values += chosen
    if wanted.type is not None:
        parts.append(of_type(wanted.type))
    for condition, value in (
        ("e.epoch = ?", wanted.epoch),
        ("e.recorded_at_ms >= ?", wanted.since_ms),
        ("e.recorded_at_ms < ?", wanted.until_ms),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    return " AND ".join(parts), values


def _window(journal: SqliteJournal, wanted: Wanted) -> tuple[int, int]:
    """Between which seqs all of the wanted lie: above the first, up to the second."""
    windows = [(wanted.after, min(wanted.until, last_seq(journal)))]
    if wanted.epoch is not None:
        windows.append(_epoch_window(journal, wanted.job, wanted.epoch))
    if wanted.since_ms is not None or wanted.until_ms is not None:
        windows.append(_time_window(journal, wanted))
    if wanted.entity is not None and wanted.below:
        windows.append(_unit_window(journal, wanted.job, wanted.entity))
    return max(after for after, _ in windows), min(until for _, until in windows)


def _epoch_window(journal: SqliteJournal, job: JobId, epoch: int) -> tuple[int, int]:
    """Epochs never go back: each begins with its run's start, the first with the job."""
    runs = journal.query(
        "SELECT seq, epoch FROM events INDEXED BY events_by_kind "
        "WHERE job = ? AND kind = 'run_started' ORDER BY seq",
        (job,),
    )
    began = [seq for seq, found in runs if found == epoch]
    later = [seq for seq, found in runs if found > epoch]
    after = began[0] - 1 if began and epoch > 1 else 0
    return after, later[0] - 1 if later else LAST


def _time_window(journal: SqliteJournal, wanted: Wanted) -> tuple[int, int]:
    """The clock may have gone back: the window holds all of that time, and perhaps more."""
    if not has_time_index(journal):
        return 0, LAST
    return _edges(
        journal.query(
            "SELECT min(seq), max(seq) FROM events INDEXED BY events_by_time "
            "WHERE job = ? AND recorded_at_ms >= ? AND recorded_at_ms < ?",
            (wanted.job, wanted.since_ms or 0, _or(wanted.until_ms, LAST)),
        )
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _unit_window(journal: SqliteJournal, job: JobId, unit: str) -> tuple[int, int]:
    ranges = ((unit, f"{unit}\0"), span("chunk", unit), span("index", unit))
    part = (
        "SELECT min(seq) AS low, max(seq) AS high FROM events INDEXED BY events_by_entity "
        "WHERE job = ? AND entity >= ? AND entity < ?"
    )
    values = [value for first, end in ranges for value in (job, first, end)]
    return _edges(
        journal.query(f"SELECT min(low), max(high) FROM ({' UNION ALL '.join([part] * 3)})", values)
    )


def _edges(rows: Sequence[tuple[Any, ...]]) -> tuple[int, int]:
    first, last = rows[0]
    return (0, 0) if first is None else (first - 1, last)


def _pages(
    journal: SqliteJournal,
    source: str,
    values: Sequence[int | str],
    window: tuple[int, int],
    *,
    newest_first: bool,
) -> Iterator[tuple[Any, ...]]:
    """The rows of one index, a page at a time, each with the hash of the one before it."""
    order, rows_wanted = "DESC" if newest_first else "ASC", FIRST_ROWS
    sql = (
        "SELECT e.seq, e.job, e.version, e.epoch, e.recorded_at_ms, e.kind, e.entity, e.data, "
        "e.hash, (SELECT hash FROM events AS b WHERE b.job = e.job AND b.version = e.version - 1) "
        f"{source} AND e.seq > ? AND e.seq <= ? ORDER BY e.seq {order} LIMIT ?"
    )
    after, until = window
    while rows := journal.query(sql, (*values, after, until, rows_wanted)):
        yield from rows
        if len(rows) < rows_wanted:
            return
        here = rows[-1][0]
        if not after < here <= until:  # a damaged index may lead in circles
            raise DamagedJournal(journal.path, f"an index leads from seq {after} back to {here}")
        after, until = (after, here - 1) if newest_first else (here, until)
        rows_wanted = PAGE_ROWS


# --- proof ---


def _proved(journal: SqliteJournal, rows: Sequence[tuple[Any, ...]]) -> Iterator[Recorded]:
    events = _decoded([(row[5], row[7]) for row in rows])
    for row, event in zip(rows, events, strict=True):
        seq, job, version, epoch, at_ms, kind, entity, _, hash_, _ = row
        if why := _mismatch(row):
            raise DamagedJournal(
                journal.path, f"event seq {seq} ({kind} of {entity}, version {version}) {why}"
            )
        if isinstance(event, str):
            raise UnknownEvent(journal.path, seq, kind, event)
        yield Recorded(seq, JobId(job), version, epoch, Millis(at_ms), event, bytes(hash_))


def _mismatch(row: tuple[Any, ...]) -> str:
    _, job, version, epoch, at_ms, kind, entity, data, hash_, before = row
    if before is None and version != 1:
        return "has no event before it"
    expected = chain(
        before if before is not None else GENESIS,
        job=job,
        version=version,
        epoch=epoch,
        recorded_at_ms=at_ms,
        kind=kind,
        entity=entity,
        data=data,
    )
    return "" if expected == hash_ else "does not match its hash"


def _decoded(rows: Sequence[tuple[str, bytes]]) -> Iterator[AnyEvent | str]:
    """Each row's event, or why it is none; all at once while nothing is wrong."""
    try:
        events = decode(rows)
    except ValueError:
        events = []
    yield from events if len(events) == len(rows) else map(event_or_why, rows)


def event_or_why(row: tuple[str, bytes]) -> AnyEvent | str:
    """The event of this kind and data, or why it is none."""
    try:
        events = decode([row])
    except ValueError as error:
        return str(error)
    return events[0] if len(events) == 1 else f"{len(events)} events in one"
