"""A source that is followed while it changes, killed and resumed, until a cut-over."""

from pathlib import Path

import pytest

from tests.conftest import Pair
from tests.end_to_end.chains import Size, Trial
from tests.end_to_end.following import follow

pytestmark = pytest.mark.server
SMALL = Size(documents=3_000, chunk_docs=200, ddl_every_s=0.3)


@pytest.mark.parametrize("kills", [2, pytest.param(0, marks=pytest.mark.deep)])
def test_both_are_equal_at_the_cut_over(kills: int, pair: Pair, tmp_path: Path) -> None:
    """I22, I33: 1,000 changes a second, and of the catalogue; the writer rests, all is there."""
    with Trial(pair.source, pair.target, tmp_path, SMALL, seed=2) as trial:
        trial.writer.await_changes(500)
        follow(trial, 3, kills)
    assert not trial.problems
