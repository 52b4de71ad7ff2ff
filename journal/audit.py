"""Questions to a journal: which events, found through an index, each checked against its hash.

A row that is found out of its chain still proves itself: its hash covers the hash of the job's
event before it, which is one lookup away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from heapq import merge
from itertools import islice
from typing import Any, Final, NamedTuple

from journal.codec import GENESIS, chain, decode
from journal.errors import DamagedJournal, UnknownEvent
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.events import AnyEvent
from statemachine.words import JobId, Millis

PAGE_ROWS: Final = 1000
"""Rows of one query: no reader keeps a transaction open while somebody scrolls."""
FIRST_ROWS: Final = 64
"""Of the first page: most questions have few answers."""
LAST: Final = 2**63 - 1
TALLIED: Final = (
    "_completed", "_invalidated", "_retry_scheduled", "_in_doubt", "_dead_lettered",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events of a job; all that is given must hold."""

    job: JobId
    entity: str | None = None
    below: bool = False
    """`entity` is a unit, and its chunks and indexes are meant too."""
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


class Mark(NamedTuple):
    """That something happened, without what it was."""

    seq: int
    epoch: int
    at_ms: int
    kind: str
    entity: str


def marks(journal: SqliteJournal, job: JobId) -> Iterator[Mark]:
    """Every event of the job, without its data: nothing is checked but the order."""
    after, until = 0, last_seq(journal)
    sql = (
        "SELECT seq, epoch, recorded_at_ms, kind, entity FROM events NOT INDEXED "
        "WHERE seq > ? AND seq <= ? AND job = ? ORDER BY seq LIMIT ?"
    )
    while rows := journal.query(sql, (after, until, job, 10 * PAGE_ROWS)):
        yield from map(Mark._make, rows)
        if rows[-1][0] <= after:
            raise DamagedJournal(journal.path, f"after seq {after} comes seq {rows[-1][0]}")
        after = rows[-1][0]


def last_seq(journal: SqliteJournal) -> int:
    """Of the whole file; 0 for an empty one."""
    return int(journal.query("SELECT max(seq) FROM events")[0][0] or 0)


def span(journal: SqliteJournal, job: JobId) -> tuple[Millis, Millis]:
    """When the job's first event was recorded, and the latest time of all (the clock may have
    gone back). Without the index over time, that of the last event."""
    first = journal.query("SELECT recorded_at_ms FROM events WHERE job = ? AND version = 1", (job,))
    latest = "SELECT recorded_at_ms FROM events WHERE job = ? ORDER BY version DESC LIMIT 1"
    if _has_time_index(journal):
        latest = "SELECT max(recorded_at_ms) FROM events INDEXED BY events_by_time WHERE job = ?"
    return Millis(first[0][0]), Millis(journal.query(latest, (job,))[0][0])


def kinds(journal: SqliteJournal, job: JobId) -> list[str]:
    """The kinds of events that the job has, in alphabetical order: one lookup for each."""
    rows = journal.query(
        "WITH RECURSIVE found (kind) AS ("
        " SELECT min(kind) FROM events INDEXED BY events_by_kind WHERE job = ?1 UNION"
        " SELECT (SELECT min(kind) FROM events INDEXED BY events_by_kind"
        "  WHERE job = ?1 AND kind > found.kind) FROM found WHERE kind IS NOT NULL) "
        "SELECT kind FROM found WHERE kind IS NOT NULL",
        (job,),
    )
    return [kind for (kind,) in rows]


def knows(journal: SqliteJournal, job: JobId, entity: str) -> bool:
    """Whether the job has an event about this very entity."""
    return bool(
        journal.query(
            "SELECT 1 FROM events INDEXED BY events_by_entity WHERE job = ? AND entity = ? LIMIT 1",
            (job, entity),
        )
    )


def entities(journal: SqliteJournal, job: JobId, *, after: str, count: int) -> list[str]:
    """The first entities after this name, in the order of names: one lookup for each."""
    rows = journal.query(
        "WITH RECURSIVE found (entity) AS ("
        " SELECT min(entity) FROM events INDEXED BY events_by_entity"
        "  WHERE job = ?1 AND entity > ?2 UNION"
        " SELECT (SELECT min(entity) FROM events INDEXED BY events_by_entity"
        "  WHERE job = ?1 AND entity > found.entity) FROM found WHERE entity IS NOT NULL) "
        "SELECT entity FROM found WHERE entity IS NOT NULL LIMIT ?3",
        (job, after, count),
    )
    return [entity for (entity,) in rows]


def has_parts(journal: SqliteJournal, job: JobId, entity: str) -> bool:
    """Whether chunks or indexes lie below it: then it is a unit."""
    return any(
        name.startswith(f"{entity}{mark}")
        for mark in "#@"
        for name in entities(journal, job, after=f"{entity}{mark}", count=1)
    )


def is_part(entity: str, unit: str) -> bool:
    """Whether it is the unit itself, one of its chunks, or one of its indexes."""
    rest = entity.removeprefix(unit)
    if rest == entity and unit:
        return False
    chunk = rest[:1] == "#" and rest[1:].isascii() and rest[1:].isdecimal()
    return not rest or chunk or (rest[:1] == "@" and "@" not in rest[1:])


def names(journal: SqliteJournal, job: JobId, kind: str) -> list[str]:
    """The entities that the events of one kind are about, in their order."""
    rows = journal.query(
        "SELECT entity FROM events INDEXED BY events_by_kind "
        "WHERE job = ? AND kind = ? ORDER BY seq",
        (job, kind),
    )
    return [name for (name,) in rows]


class Count(NamedTuple):
    """Events of one kind, and what they sum up to where they count it."""

    events: int = 0
    documents: int = 0
    bytes: int = 0
    rejected: int = 0
    differing: int = 0


def tally(journal: SqliteJournal, job: JobId, unit: str) -> dict[str, Count]:
    """What the unit's chunks and indexes came to, by kind: ends and mishaps, no starts.

    Summed up inside SQLite; these rows are not checked against their hashes.
    """
    condition, names = _below(unit)
    # LIMIT keeps SQLite from parsing the JSON once for each sum.
    sql = (
        "SELECT count(*), total(d ->> 0), total(d ->> 1), total(d ->> 2), total(d ->> 3 = 0) "
        "FROM (SELECT {0} AS d FROM events AS e INDEXED BY events_by_kind "
        f"WHERE e.job = ? AND e.kind = ? AND {condition} LIMIT -1)"
    ).format
    fields = "'$.documents', '$.bytes', '$.rejected', '$.equal'"
    found = {}
    for kind in kinds(journal, job):
        if kind.endswith(TALLIED):
            summed = kind in ("restore_completed", "verify_completed")
            data = f"json_extract(CAST(e.data AS TEXT), {fields})" if summed else "NULL"
            (row,) = journal.query(sql(data), (job, kind, *names))
            found[kind] = Count._make(map(int, row))
    return found


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
        condition, names = _below(wanted.entity)
        parts.append(condition)
        values += names
    elif wanted.entity is not None and chosen is not None:
        parts.append(f"e.kind IN ({', '.join('?' * len(chosen))})")
        values += chosen
    for condition, value in (
        ("e.epoch = ?", wanted.epoch),
        ("e.recorded_at_ms >= ?", wanted.since_ms),
        ("e.recorded_at_ms < ?", wanted.until_ms),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    return " AND ".join(parts), values


def _below(unit: str) -> tuple[str, list[int | str]]:
    """The unit, its chunks `unit#n`, its indexes `unit@name`; no unit whose name goes on so."""
    condition = (
        "(e.entity = ?"
        " OR e.entity > ? AND e.entity < ? AND substr(e.entity, ?) NOT GLOB '*[^0-9]*'"
        " OR e.entity > ? AND e.entity < ? AND instr(substr(e.entity, ?), '@') = 0)"
    )
    rest = len(unit) + 2
    return condition, [unit, f"{unit}#", f"{unit}$", rest, f"{unit}@", f"{unit}A", rest]


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
    if not _has_time_index(journal):
        return 0, LAST
    return _edges(
        journal.query(
            "SELECT min(seq), max(seq) FROM events INDEXED BY events_by_time "
            "WHERE job = ? AND recorded_at_ms >= ? AND recorded_at_ms < ?",
            (wanted.job, wanted.since_ms or 0, _or(wanted.until_ms, LAST)),
        )
    )


def _has_time_index(journal: SqliteJournal) -> bool:
    """Files of the first format have none."""
    return bool(journal.query("SELECT 1 FROM sqlite_schema WHERE name = 'events_by_time'"))


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _unit_window(journal: SqliteJournal, job: JobId, unit: str) -> tuple[int, int]:
    ranges = ((unit, f"{unit}\0"), (f"{unit}#", f"{unit}$"), (f"{unit}@", f"{unit}A"))
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
