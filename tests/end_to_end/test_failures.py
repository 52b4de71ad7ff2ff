"""Servers that fail commands, one kind of failure after the other; see `failures.py`."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.failure_cases import Case, cases
from tests.end_to_end.failures import Arena, arena, line

pytestmark = pytest.mark.server

SHORT = (
    "coordinated, target, insert, 10107 no primary, 1.5 s",
    "coordinated, target, insert, 13 not authorised, to the end",
    "coordinated, target, insert, write concern 64, 4 times",
    "coordinated, source, getMore, 43 cursor lost, 8 times",
    "coordinated, source, listCollections, 8000 unknown, to the end",
    "direct, target, insert, connection closed, 1.5 s",
)
"""One of each kind of answer; all of them take six minutes."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with arena(tmp_path_factory.mktemp("failures")) as made:
        yield made


@pytest.mark.parametrize("case", [each for each in cases() if each.name in SHORT], ids=str)
def test_a_failure_is_overcome_or_told(both: Arena, case: Case) -> None:
    """A7-A9, A18, A34, I18, I22, I43: retried in its time, or paused, or named as a dead letter;
    and once the failure is gone, source and target are equal."""
    row = both.run(case)
    assert not row.problems, line(row)


@pytest.mark.deep
@pytest.mark.parametrize("case", [each for each in cases() if each.name not in SHORT], ids=str)
def test_every_failure_is_overcome_or_told(both: Arena, case: Case) -> None:
    """A7-A9, A18, A34, I18, I22, I43."""
    row = both.run(case)
    assert not row.problems, line(row)


def test_the_short_ones_exist() -> None:
    """A case that was renamed would silently be left out."""
    assert {each.name for each in cases()} >= set(SHORT)
