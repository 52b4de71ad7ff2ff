"""Where in a history: a seq, or a time as people write it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ferrylog import clock
from ferrylog.errors import Usage
from statemachine.words import Millis

UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
AGO: Final = re.compile(r"-(?:\d{1,9}[smhdw])+", re.ASCII)
STEP: Final = re.compile(r"(\d+)([smhdw])", re.ASCII)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_SEQ: Final = 2**63 - 1
"""What SQLite can hold."""
HOW: Final = (
    "write a time as 2026-11-22T14:30:00Z, 2026-11-22 14:30 (UTC), with an offset such as +02:00, "
    "or how long ago: -90s, -10m, -2h30m, -1d"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """Exactly one of the two is set."""

    seq: int | None = None
    at_ms: Millis | None = None


def parse_moment(text: str) -> Moment:
    """Plain digits are a seq, everything else a time. Raises `Usage`."""
    if not (text.isascii() and text.isdecimal()):
        return Moment(at_ms=parse_time(text))
    seq = int(text) if len(text) < 20 else 0
    if not 0 < seq <= MAX_SEQ:
        raise Usage(f"{text} is no seq", remedy="events are numbered from 1")
    return Moment(seq=seq)


def parse_time(text: str) -> Millis:
    """ISO 8601 (UTC unless an offset is given), `now`, or how long ago. Raises `Usage`."""
    given = text.strip()
    try:
        moment = _ago(given) or _iso(given)
        at_ms = (moment - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise Usage(f"{text!r} is no time", remedy=HOW) from None
    if at_ms < 0:
        raise Usage(f"{text!r} is before 1970", remedy=HOW)
    return Millis(at_ms)


def _ago(text: str) -> datetime | None:
    now = EPOCH + timedelta(milliseconds=clock.now_ms())
    if text == "now":
        return now
    if not AGO.fullmatch(text):
        return None
    steps = (timedelta(**{UNITS[unit]: int(number)}) for number, unit in STEP.findall(text))
    return now - sum(steps, timedelta())


def _iso(text: str) -> datetime:
    if text.isdecimal():
        raise ValueError("a number alone is a seq")
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
