"""Every bench runs from its beginning to its end, on next to nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "scripts" / "benchmarks"
TINY = ["--rounds", "1", "--scale", "0.001"]
SMALL = [*TINY, "--only", "small"]
WORDS = {
    "data": [*SMALL, "--peer-workers", "1,2"],
    "dump": SMALL,
    "workers": [*SMALL, "--workers", "1,2"],
    "memory": [*SMALL, "--times", "1,2"],
    "batches": [*TINY, "--only", "quiet,latency"],
    "transform": TINY,
    "share": SMALL,
    "resume": ["--rounds", "1", "--scale", "0.1", "--only", "small"],
    "journal": ["--rounds", "1", "--sizes", "2000", "--events", "2000"],
    "verify": SMALL,
    "increments": SMALL,
    "changes": ["--seconds", "2"],
    "undo": TINY,
    "coordinator": ["--chunks", "20", "--units", "2"],
}
pytestmark = [pytest.mark.deep, pytest.mark.server]


@pytest.mark.parametrize("subject", WORDS)
def test_a_bench_runs_and_leaves_its_results(subject: str, tmp_path: Path) -> None:
    program, out = BENCHMARKS / f"bench_{subject}.py", tmp_path / f"{subject}.json"
    words = [sys.executable, str(program), *WORDS[subject], "--json", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(out.read_text())
    assert found["subject"] == subject
    assert all(table["rows"] for table in found["tables"]) and found["tables"]


@pytest.mark.skipif(shutil.which("mongodump") is None, reason="no mongodump on PATH")
def test_the_document_is_composed_of_real_results(tmp_path: Path) -> None:
    """One whole run over two subjects."""
    out = tmp_path / "performance.md"
    words = ["--only", "data,undo", "--rounds", "1", "--scale", "0.0005"]
    places = ["--results", str(tmp_path / "results"), "--out", str(out)]
    program = str(BENCHMARKS / "bench_all.py")
    words = [sys.executable, program, *words, *places]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    text = out.read_text()
    assert "not measured" in text
    assert "dump, zstd" in text
