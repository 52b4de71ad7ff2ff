"""What runs in a process that converts."""

import subprocess
import sys

HEAVY = {"pymongo", "pydantic", "statemachine.events", "loguru", "pyarrow", "asyncio"}


def test_it_imports_little() -> None:
    """G8: each of several processes holds what it imports, and takes that long to begin."""
    told = "import sys, executors.export.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(done.stdout.split())
