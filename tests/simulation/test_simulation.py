"""The engine under faults: seeds, each with its own mix of faults and its own laws' checks.

Proves, on the real engine and the real journal file with a virtual clock: I1, I2, I3, I4, I5,
I8, I9, I12, I13, I14, I15, I16, I17, I18, I19, I20, I21, I22, I23, I25, I26, I28, I29, I30,
and the flow of A2-A9, A11-A16, A18, A19.
"""

from pathlib import Path

import pytest

from tests.simulation.simulate import Simulation

SHORT = 200
LONG = 5000


def run(seeds: range, folder: Path) -> None:
    crashes = pauses = faults = steps = 0
    for seed in seeds:
        simulation = Simulation(seed, folder / f"{seed}.db", check_every=1 if seed % 4 == 0 else 7)
        try:
            simulation.run()
        except BaseException as error:
            error.add_note(f"repeat with: scripts/simulate --seed {seed}")
            raise
        (folder / f"{seed}.db").unlink()
        crashes += simulation.crashes
        pauses += simulation.pauses
        faults += simulation.world.faults
        steps += simulation.steps
    print(f"{len(seeds)} seeds, {steps} steps, {crashes} crashes, {faults} faults, {pauses} pauses")


@pytest.mark.parametrize("quarter", range(4))
def test_every_law_holds_at_every_step(quarter: int, tmp_path: Path) -> None:
    """I12, I22 and all of the module's: the end is the same, whatever happened on the way."""
    size = SHORT // 4
    run(range(quarter * size, (quarter + 1) * size), tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("part", range(10))
def test_many_more_seeds(part: int, tmp_path: Path) -> None:
    """As above, over fresh seeds (I12)."""
    size = LONG // 10
    run(range(100_000 + part * size, 100_000 + (part + 1) * size), tmp_path)


def test_one_seed_one_history(tmp_path: Path) -> None:
    """I7: the same seed gives the same journal, byte for byte."""
    histories = []
    for name in ("one", "two"):
        simulation = Simulation(8, tmp_path / name)
        simulation.run()
        histories.append([recorded.hash for recorded in simulation.seen])
    assert histories[0] == histories[1]
