"""Rollbacks, end to end: see `rollbacks.py`."""

from pathlib import Path

import pytest

from tests.conftest import Pair
from tests.end_to_end.rollbacks import Size, trial


@pytest.mark.parametrize("seed", [7])
def test_a_killed_restore_is_taken_back(pair: Pair, tmp_path: Path, seed: int) -> None:
    """I37–I41, P9, M6: after kills of the restore and of the rollback the target is as before."""
    tally = trial(pair.source, pair.target, tmp_path, Size(4, 2_000), runs=4, seed=seed)
    assert not tally.wrong
    assert tally.runs == 4
    assert tally.kills["restore"] and tally.kills["rollback"]
