"""The engine under faults: seeds, each with its own mix of faults and its own laws' checks.

Proves, on the real engine and the real journal file with a virtual clock: I1-I5, I8, I9,
I12-I26, I28-I30, I36-I42, P8, P9, and the flow of A2-A9, A11-A16, A18, A19.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest

from tests.counts import count
from tests.simulation.draws import EVERY_KIND
from tests.simulation.simulate import Simulation
from tests.simulation.world import Odds

SHORT = 200
LONG = 5000


def run(seeds: range, folder: Path, kinds: Sequence[str] = EVERY_KIND) -> Counter[str]:
    """How often each fault struck."""
    fired: Counter[str] = Counter()
    for seed in seeds:
        path = folder / f"{seed}.db"
        simulation = Simulation(seed, path, check_every=1 if seed % 16 == 0 else 7, kinds=kinds)
        try:
            simulation.run()
        except BaseException as error:
            only = f" --kind {kinds[0]}" if len(kinds) == 1 else ""
            error.add_note(f"repeat with: scripts/simulate --seed {seed}{only}")
            raise
        path.unlink()
        fired.update(simulation.fired)
        count("simulation: steps", simulation.steps)
        count("simulation: deaths of the process", simulation.host.deaths)
    count("simulation: seeds", len(seeds))
    for fault, times in fired.items():
        count(f"simulation fault: {fault}", times)
    return fired


@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.deep)])
def test_every_law_holds_at_every_step(half: int, tmp_path: Path) -> None:
    """I1-I5, I8, I9, I11-I26, I28-I30, I36-I42: whatever happens on the way, every law holds after
    every step and the end is the same. Faults that never strike would prove nothing."""
    size = SHORT // 2
    fired = run(range(half * size, (half + 1) * size), tmp_path)
    assert {each.name for each in fields(Odds)} <= set(fired)


@pytest.mark.parametrize("seeds", [12, pytest.param(400, marks=pytest.mark.deep)])
def test_exports_name_every_document_once(seeds: int, tmp_path: Path) -> None:
    """I17, I21, I22, I24, I29: each chunk's files stand in the last manifest, and no others; also
    of chunks with rejected documents that were exported again."""
    run(range(seeds), tmp_path, ["export"])


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["group", "migrate", "restore", "chain", "follow"])
def test_what_was_done_is_taken_back(kind: str, tmp_path: Path) -> None:
    """I36-I42, P8, P9: over seeds of the kinds that change a target."""
    fired = run(range(200_000, 200_500), tmp_path, (kind,))
    assert {"rollback", "partly", "persevering"} <= set(fired)


@pytest.mark.deep
@pytest.mark.parametrize("part", range(10))
def test_many_more_seeds(part: int, tmp_path: Path) -> None:
    """As above, over fresh seeds (I12)."""
    size = LONG // 10
    run(range(100_000 + part * size, 100_000 + (part + 1) * size), tmp_path)


ROWS = """
import hashlib, sys, tempfile
from pathlib import Path
import apsw
from tests.simulation.simulate import Simulation
for seed in range(8, 16):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        Simulation(seed, path).run()
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        rows = db.execute(
            "SELECT seq, job, version, epoch, recorded_at_ms, kind, entity, data, hash "
            "FROM events ORDER BY seq"
        ).fetchall()
        db.close()
    print(seed, len(rows), hashlib.sha256(repr(rows).encode()).hexdigest())
"""


def test_one_seed_one_history() -> None:
    """I7: the same seed gives the same journal, byte for byte, in every process."""
    histories = [
        subprocess.run(
            [sys.executable, "-c", ROWS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for hash_seed in ("1", "2")
    ]
    assert len(histories[0]) == 8
    assert histories[0] == histories[1]
