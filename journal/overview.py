"""What a journal has, without reading it: lookups in its indexes, and sums made inside SQLite.

Nothing here is checked against its hash: `audit.find` does that for what it shows.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from journal.entities import TYPES, Type, named, type_in_sql, type_of
from journal.errors import DamagedJournal
from journal.sqlite import SqliteJournal
from statemachine.words import JobId, Millis

MARKS: Final = 10_000
"""Rows of one query."""
TALLIED: Final = (
    "_completed", "_invalidated", "_retry_scheduled", "_in_doubt", "_dead_lettered", "_planned",
    "_replaced",
)  # fmt: skip
SUMMED: Final = ("dump_completed", "restore_completed", "copy_completed", "verify_completed")


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
    while rows := journal.query(sql, (after, until, job, MARKS)):
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
    if has_time_index(journal):
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


def types(journal: SqliteJournal, job: JobId, entity: str) -> list[Type]:
    """What the job has under this name: a unit and a chunk of another may share it."""
    rows = journal.query(
        f"SELECT DISTINCT {type_in_sql()} FROM events AS e INDEXED BY events_by_entity "
        "WHERE e.job = ? AND e.entity = ?",
        (job, entity),
    )
    return [each for each in TYPES if (each,) in rows]


def names(journal: SqliteJournal, job: JobId, kind: str) -> list[str]:
    """The entities that the events of one kind are about, in their order."""
    rows = journal.query(
        "SELECT entity FROM events INDEXED BY events_by_kind "
        "WHERE job = ? AND kind = ? ORDER BY seq",
        (job, kind),
    )
    return [name for (name,) in rows]


def times(journal: SqliteJournal, job: JobId, kind: str, *, until: int) -> dict[str, Millis]:
    """When the last event of this kind up to a seq was recorded, for each entity that has one."""
    rows = journal.query(
        "SELECT entity, recorded_at_ms FROM events INDEXED BY events_by_kind "
        "WHERE job = ? AND kind = ? AND seq <= ? ORDER BY seq",
        (job, kind, until),
    )
    return dict(rows)  # of each entity, the last row stays


def latest_ms(journal: SqliteJournal, job: JobId, entity: str, kind: str, *, until: int) -> Millis:
    """When the last event of this kind about this entity, up to a seq, was recorded; or 0."""
    rows = journal.query(
        "SELECT recorded_at_ms FROM events INDEXED BY events_by_entity "
        "WHERE job = ? AND entity = ? AND kind = ? AND seq <= ? ORDER BY seq DESC LIMIT 1",
        (job, entity, kind, until),
    )
    return Millis(rows[0][0]) if rows else Millis(0)


class Count(NamedTuple):
    """Events of one kind, and what they sum up to where they count it."""

    events: int = 0
    documents: int = 0
    bytes: int = 0
    rejected: int = 0
    differing: int = 0


def tally(journal: SqliteJournal, job: JobId, unit: str) -> dict[str, Count]:
    """What the unit, its chunks and indexes came to, by kind: ends and mishaps, no starts.

    Summed up inside SQLite; these rows are not checked against their hashes.
    """
    # LIMIT keeps SQLite from parsing the JSON once for each sum.
    sql = (
        "SELECT count(*), total(d ->> 0), total(d ->> 1), total(d ->> 2), total(d ->> 3 = 0) "
        "FROM (SELECT {0} AS d FROM events AS e INDEXED BY events_by_kind "
        "WHERE e.job = ? AND e.kind = ? AND {1} LIMIT -1)"
    ).format
    fields = "'$.documents', '$.bytes', '$.rejected', '$.equal'"
    found = {}
    for kind in kinds(journal, job):
        about = type_of(kind, b"")
        if kind.endswith(TALLIED) and about in ("unit", "chunk", "index"):
            condition, names = named(about, unit)
            summed = kind in SUMMED
            data = f"json_extract(CAST(e.data AS TEXT), {fields})" if summed else "NULL"
            (row,) = journal.query(sql(data, condition), (job, kind, *names))
            found[kind] = Count._make(map(int, row))
    return found


def has_time_index(journal: SqliteJournal) -> bool:
    """Files of the first format have no index over time."""
    return bool(journal.query("SELECT 1 FROM sqlite_schema WHERE name = 'events_by_time'"))
