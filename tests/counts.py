"""Numbers that a test run owes to whoever reads its last lines: images, faults, losses, seeds.

A test calls `count("power-cut images", 20_000)`; calls under one name add up, over all tests and
all pytest-xdist workers. `tests/conftest.py` prints them after the tests.
"""

from collections import Counter
from typing import Any, Final

COUNTS: Final[Counter[str]] = Counter()
_CARRIED: Final = "ferrylog counts"


def count(name: str, n: int = 1) -> None:
    """Add `n` to the number `name`. A zero is printed too: it says that somebody looked."""
    COUNTS[name] += n


def hand_over(workeroutput: dict[str, Any]) -> None:
    """In a worker at its end: put the numbers where the controller finds them."""
    workeroutput[_CARRIED] = dict(COUNTS)


def take_over(workeroutput: dict[str, Any]) -> None:
    """In the controller: add what a worker counted."""
    for name, n in workeroutput.get(_CARRIED, {}).items():
        count(name, n)


def lines() -> list[str]:
    return [f"{name}: {n:,}" for name, n in sorted(COUNTS.items())]
