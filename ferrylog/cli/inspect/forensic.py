"""`ferrylog inspect events --forensic`: what is there, even where nobody may trust it."""

import json as js
from collections import deque
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Final

import typer

from ferrylog.clock import when
from ferrylog.redact import ascii_json, one_line
from journal.audit import Wanted
from journal.entities import is_part
from journal.errors import DamagedJournal
from journal.forensics import Found, Unreadable, walk
from journal.sqlite import SqliteJournal

MAX_SHOWN: Final = 4096
"""Bytes of one event's data: a damaged length is no reason to fill a screen."""


def forensic_events(
    path: Path, wanted: Wanted, *, tail: int | None, limit: int | None, json: bool
) -> None:
    """Print every wanted row, intact or not. Raises the first reason for distrust at the end."""
    with SqliteJournal.read_only(path, trusted=False) as journal:
        verdict = _Verdict(journal)
        rows: Iterable[Found | Unreadable] = (
            row for row in verdict.watching(walk(journal)) if _is_wanted(row, wanted)
        )
        shown = iter(deque(rows, tail)) if tail is not None else iter(rows)
        for row in islice(shown, limit):
            typer.echo(ascii_json(_as_json(row)) if json else _as_text(row))
        deque(shown, 0)  # the verdict is over everything
        verdict.give()


class _Verdict:
    """The first reason for distrust."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal
        self._first: str = ""
        self._bad = 0

    def watching(self, rows: Iterable[Found | Unreadable]) -> Iterator[Found | Unreadable]:
        for row in rows:
            faults = faults_of(row)
            self._bad += bool(faults)
            if faults and not self._first:
                self._first = f"{place(row)}: {'; '.join(faults)}"
            yield row

    def give(self) -> None:
        if self._first:
            more = f" (the first of {self._bad} places)" if self._bad > 1 else ""
            raise DamagedJournal(self._journal.path, one_line(self._first + more))
        self._journal.check_tip()
        self._journal.check_pages()


def faults_of(row: Found | Unreadable) -> tuple[str, ...]:
    return row.faults if isinstance(row, Found) else (row.why,)


def place(row: Found | Unreadable) -> str:
    if isinstance(row, Found):
        return f"seq {row.seq} (job {row.job}, version {row.version}, {row.kind} of {row.entity})"
    end = "the end" if row.before is None else f"seq {row.before}"
    return f"between seq {row.after} and {end}"


def _is_wanted(row: Found | Unreadable, wanted: Wanted) -> bool:
    """As `journal.audit` would choose; what cannot be read may have been meant."""
    if isinstance(row, Unreadable):
        return True
    return (
        wanted.job in ("", row.job)
        and (
            wanted.entity in (None, row.entity)
            or is_part(row.kind, row.entity, row.data, wanted.entity or "")
        )
        and (wanted.kind is None or fnmatchcase(row.kind, wanted.kind))
        and wanted.epoch in (None, row.epoch)
        and (wanted.since_ms is None or row.recorded_at_ms >= wanted.since_ms)
        and (wanted.until_ms is None or row.recorded_at_ms < wanted.until_ms)
        and wanted.after < row.seq <= wanted.until
    )


def _as_json(row: Found | Unreadable) -> dict[str, Any]:
    faults = list(faults_of(row))
    if isinstance(row, Unreadable):
        return {"after": row.after, "before": row.before, "intact": False, "faults": faults}
    data = _parsed(row.data)
    return {
        "seq": row.seq,
        "job": row.job,
        "version": row.version,
        "epoch": row.epoch,
        "recorded_at": when(row.recorded_at_ms),
        "kind": row.kind,
        "entity": row.entity,
        "data": data,
        **({} if data is not None else _raw(row.data)),
        "hash": row.hash[:MAX_SHOWN].hex(),
        "intact": not faults,
        "faults": faults,
    }


def _parsed(data: bytes) -> Any:
    """The JSON object; `None` for anything that is none, or that no other reader would take."""
    try:
        parsed = js.loads(data)
        js.dumps(parsed, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _raw(data: bytes) -> dict[str, Any]:
    return {"data_hex": data[:MAX_SHOWN].hex(), "data_bytes": len(data)}


def _as_text(row: Found | Unreadable) -> str:
    if isinstance(row, Unreadable):
        return one_line(f"DAMAGED  {place(row)}: {row.why}")
    mark = "DAMAGED" if row.faults else "intact "
    line = (
        f"{mark} {row.seq:>7}  {when(row.recorded_at_ms)}  {row.epoch:>3}  {row.kind:<24} "
        f"{row.entity}  {_data(row.data)}"
    )
    return "\n".join(one_line(text) for text in (line, *(f"        ! {f}" for f in row.faults)))


def _data(data: bytes) -> str:
    more = f"… ({len(data)} bytes)" if len(data) > MAX_SHOWN else ""
    try:
        return data[:MAX_SHOWN].decode("utf-8", "strict" if not more else "replace") + more
    except UnicodeDecodeError:
        return f"hex {data[:MAX_SHOWN].hex()}{more}"
