"""Every operation on the disk fails once, and once for good."""

import pytest

from tests.counts import count
from tests.faults.io_errors import PLANS, Sweep


def run(seed: int, plan: int) -> None:
    sweep = Sweep()
    sweep.run(seed, plan)
    print(sweep)
    assert sweep.fired > 300
    assert sweep.unknown > 100
    assert sweep.refused > 20
    count(f"faults fired: {PLANS[plan][0]}", sweep.fired)
    count("disks after a fault", sweep.disks)
    count("disks after a fault: refused, a journal that was never made", sweep.unmade)
    count("disks after a fault: refused, a forgotten sync and a cut in its repair", sweep.forgotten)


OFTEN = (("io", False, True), ("full", True, False))
"""The hardest plans, each time; all of them, and over more runs, in the deep lane."""


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(
            each, id=str(PLANS[each]), marks=() if PLANS[each] in OFTEN else pytest.mark.deep
        )
        for each in range(len(PLANS))
    ],
)
def test_every_operation_may_fail(plan: int) -> None:
    """I3, I4: an append that fails raises `JournalUnknown`, an opening `JournalUnreachable`, and
    nothing else; the batch is there whole or not at all; what was acknowledged is there, also
    when the kernel forgets what a failed sync was to write."""
    run(1, plan)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(2, 12))
def test_every_operation_of_other_runs(seed: int) -> None:
    """I3, I4."""
    for plan in range(len(PLANS)):
        run(seed, plan)
