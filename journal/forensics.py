"""The whole file, row by row, trusting nothing: what is whole in it, and what is not.

For journals that every other reader refuses. Nothing here raises for what a row holds.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain as chained
from itertools import takewhile
from typing import Any, Final

from journal.audit import event_or_why
from journal.codec import GENESIS, chain, decode
from journal.overview import last_seq
from journal.protocol import Recorded
from journal.sqlite import SqliteJournal
from statemachine.errors import FerrylogError
from statemachine.evolve import evolve
from statemachine.state import State

PAGE_ROWS: Final = 1000
LAST: Final = 2**63 - 1
PROBES: Final = 50_000
"""Seqs that are tried one by one behind damage, a second's work, before bigger steps are taken."""

_PAGE: Final = (
    "SELECT seq, CAST(job AS BLOB), CAST(version AS INTEGER), CAST(epoch AS INTEGER), "
    "CAST(recorded_at_ms AS INTEGER), CAST(kind AS BLOB), CAST(entity AS BLOB), "
    "CAST(data AS BLOB), CAST(hash AS BLOB) "
    "FROM events NOT INDEXED WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT ?"
)
"""`>=`: a search for what follows a seq would touch the page of that seq, too. As bytes: text that
is no UTF-8 is shown, not refused. Past the indexes: they may be damaged."""


@dataclass(frozen=True, slots=True)
class Found:
    """A row as it stands, and what is wrong with it."""

    seq: int
    job: str
    version: int
    epoch: int
    recorded_at_ms: int
    kind: str
    entity: str
    data: bytes
    hash: bytes
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """SQLite cannot read the rows after one seq and before another (`None`: to the end)."""

    after: int
    before: int | None
    why: str


@dataclass(slots=True)
class Chain:
    """Of one job: how many events, and the last of them."""

    events: int = 0
    version: int = 0
    seq: int = 0
    hash: bytes = GENESIS


@dataclass(slots=True)
class Examination:
    """What a look at everything found."""

    pages: FerrylogError | None = None
    tip: FerrylogError | None = None
    events: int = 0
    chains: dict[str, Chain] = field(default_factory=dict)
    bad: int = 0
    """Rows with a fault, and stretches that cannot be read."""
    first_bad: Found | Unreadable | None = None
    last_good: Found | None = None
    """Before the first bad one."""


def examine(journal: SqliteJournal) -> Examination:
    """Pages, tip, order, every chain, every event; of what is there when it begins."""
    found = Examination(pages=_trouble(journal.check_pages), tip=_trouble(journal.check_tip))
    for row in walk(journal, found.chains):
        wrong = isinstance(row, Unreadable) or bool(row.faults)
        found.events += isinstance(row, Found)
        found.bad += wrong
        if wrong and found.first_bad is None:
            found.first_bad = row
        elif found.first_bad is None and isinstance(row, Found):
            found.last_good = row
    return found


def first_impossible(journal: SqliteJournal) -> tuple[Recorded, str] | None:
    """The first event of a whole journal that its job's tables do not allow where it stands, and
    why. Raises what `SqliteJournal.read` raises."""
    for job in journal.jobs():
        state = State()
        for recorded in journal.read(job):
            try:
                evolve(state, recorded.event)
            except FerrylogError as error:
                return recorded, str(error)
    return None


def _trouble(check: Any) -> FerrylogError | None:
    try:
        check()
    except FerrylogError as error:
        return error
    return None


def walk(
    journal: SqliteJournal, chains: dict[str, Chain] | None = None
) -> Iterator[Found | Unreadable]:
    """Every row in the order of `seq`, each judged by itself and by those before it.

    `chains` is filled on the way.
    """
    chains = {} if chains is None else chains
    last = 0
    for rows in _pages(journal):
        if isinstance(rows, Unreadable):
            yield rows
            last = rows.before - 1 if rows.before is not None else last
            continue
        wrong = _no_events(rows)
        for row in rows:
            row_found, faults = _read(row)
            if row_found.seq != last + 1:
                faults.append(_missing(last + 1, row_found.seq - 1))
            faults += _breaks(row_found, chains.setdefault(row_found.job, Chain()))
            faults += wrong.get(row_found.seq, [])
            last = row_found.seq
            yield replace(row_found, faults=tuple(faults)) if faults else row_found


def _missing(first: int, last: int) -> str:
    if last < first:
        return f"stands where seq {first} belongs"
    return f"seq {first} is missing" if first == last else f"seq {first} to {last} are missing"


def _read(row: tuple[Any, ...]) -> tuple[Found, list[str]]:
    seq, job, version, epoch, at_ms, kind, entity, data, hash_ = row
    faults = ["a column is empty"] if None in row else []
    names = [(raw or b"").decode("utf-8", "backslashreplace") for raw in (job, kind, entity)]
    if [name.encode() for name in names] != [raw or b"" for raw in (job, kind, entity)]:
        faults.append("its text is not UTF-8")
    found = Found(
        seq=seq,
        job=names[0],
        version=version or 0,
        epoch=epoch or 0,
        recorded_at_ms=at_ms or 0,
        kind=names[1],
        entity=names[2],
        data=data or b"",
        hash=hash_ or b"",
    )
    return found, faults


def _breaks(row: Found, before: Chain) -> list[str]:
    """How the row breaks its job's chain; the chain goes on with it all the same."""
    faults = []
    if row.version != before.version + 1:
        faults.append(f"version {row.version} stands where {before.version + 1} belongs")
    expected = chain(
        before.hash,
        job=row.job,
        version=row.version,
        epoch=row.epoch,
        recorded_at_ms=row.recorded_at_ms,
        kind=row.kind,
        entity=row.entity,
        data=row.data,
    )
    if expected != row.hash:
        faults.append("it does not match its hash")
    before.events += 1
    before.version, before.seq, before.hash = row.version, row.seq, row.hash
    return faults


def _no_events(rows: Sequence[tuple[Any, ...]]) -> dict[int, list[str]]:
    """By seq, why a row is no event that this ferrylog knows; nearly always nothing."""
    pairs = [
        ((kind or b"").decode("utf-8", "replace"), bytes(data or b""))
        for *_, kind, _, data, _ in rows
    ]
    with suppress(ValueError):
        if [event.about.encode() for event in decode(pairs)] == [row[6] for row in rows]:
            return {}
    wrong = {}
    for row, pair in zip(rows, pairs, strict=True):
        event = event_or_why(pair)
        if isinstance(event, str):
            wrong[row[0]] = [f"it stands for no event that this ferrylog knows: {event}"]
        elif event.about.encode() != row[6]:
            wrong[row[0]] = [f"it is about {event.about} in its data"]
    return wrong


# --- reading around damage ---


def _pages(journal: SqliteJournal) -> Iterator[list[tuple[Any, ...]] | Unreadable]:
    after, until = 0, LAST
    with suppress(FerrylogError):
        until = last_seq(journal)
    while True:
        trouble = ""
        try:
            rows = journal.query(_PAGE, (after + 1, until, PAGE_ROWS))
        except FerrylogError as error:
            rows, trouble = _one_by_one(journal, after, until), str(error)
        if rows:
            yield _with_skipped(journal, rows, after)
            if rows[-1][0] <= after:
                yield Unreadable(after, None, f"the pages lead back to seq {rows[-1][0]}")
                return
            after = rows[-1][0]
        elif not trouble:
            return
        if trouble:
            before = _next_readable(journal, after, until)
            yield Unreadable(after, before, trouble)
            if before is None:
                return
            after = before - 1


def _with_skipped(
    journal: SqliteJournal, rows: list[tuple[Any, ...]], after: int
) -> list[tuple[Any, ...]]:
    """The rows, and those between them that a damaged page on the way hides from a walk but not
    from who asks for them by seq."""
    whole: list[tuple[Any, ...]] = []
    for row in rows:
        for seq in range(after + 1, min(row[0], after + 1 + PROBES)):
            with suppress(FerrylogError):
                whole += journal.query(_PAGE, (seq, seq, 1))
        whole.append(row)
        after = row[0]
    return whole


def _one_by_one(journal: SqliteJournal, after: int, until: int) -> list[tuple[Any, ...]]:
    """The rows up to the first that cannot be read."""
    rows: list[tuple[Any, ...]] = []
    with suppress(FerrylogError):
        while (found := journal.query(_PAGE, (after + 1, until, 1))) and found[0][0] > after:
            rows += found
            after = rows[-1][0]
    return rows


def _next_readable(journal: SqliteJournal, after: int, until: int) -> int | None:
    """The first row behind the damage; `None` when none is found."""
    steps = chained(range(2, PROBES), (PROBES << power for power in range(64)))
    for step in takewhile(lambda step: after + step <= until, steps):
        with suppress(FerrylogError):
            rows = journal.query(_PAGE, (after + step, until, 1))
            return int(rows[0][0]) if rows else None
    return None
