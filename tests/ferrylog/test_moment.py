"""A place in a history, as people write it."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrylog import clock
from ferrylog.cli.moment import Moment, parse_moment, parse_time
from ferrylog.errors import Usage
from statemachine.words import Millis

NOW = Millis(1_800_000_000_000)


@pytest.fixture(autouse=True)
def _still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now_ms", lambda: NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T14:30:00Z", 1_795_357_800_000),
        ("2026-11-22T14:30:00.5Z", 1_795_357_800_500),
        ("2026-11-22 14:30", 1_795_357_800_000),
        ("2026-11-22T16:30:00+02:00", 1_795_357_800_000),
        (" 2026-11-22 ", 1_795_305_600_000),
        ("1970-01-01", 0),
        ("now", NOW),
        ("-90s", NOW - 90_000),
        ("-10m", NOW - 600_000),
        ("-2h30m", NOW - 9_000_000),
        ("-1d", NOW - 86_400_000),
        ("-1w", NOW - 7 * 86_400_000),
    ],
)
def test_times(text: str, expected: int) -> None:
    """UTC unless an offset is given; relative to now with a minus."""
    assert parse_time(text) == expected
    assert parse_moment(text) == Moment(at_ms=Millis(expected))


def test_plain_digits_are_a_seq() -> None:
    """A number is never a time: seqs and seconds since 1970 look alike."""
    assert parse_moment("42") == Moment(seq=42)
    with pytest.raises(Usage, match="no time"):
        parse_time("42")
    with pytest.raises(Usage, match="no time"):
        parse_time("20261122")


@pytest.mark.parametrize("text", ["0", "9223372036854775808", "9" * 5000])
def test_no_such_seq(text: str) -> None:
    """Events are numbered from 1, and SQLite's numbers end."""
    with pytest.raises(Usage, match="no seq"):
        parse_moment(text)


@pytest.mark.parametrize(
    "text",
    ["", "-", "yesterday", "10m", "-10", "-10x", "- 10m", "2026-13-01", "25:00", "1969-12-31",
     "-999999999w", "-٣m", "²", "2026-11-22T14:30:00+99:00", "\0"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    """With the ways to write one."""
    with pytest.raises(Usage) as caught:
        parse_moment(text)
    assert "2026-11-22T14:30:00Z" in caught.value.remedy


@given(st.text())
def test_nothing_else_is_raised(text: str) -> None:
    """Whatever is typed: a moment or a Usage error."""
    with suppress(Usage):
        parse_moment(text)
