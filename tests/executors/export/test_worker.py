"""What runs in a process that converts."""

import subprocess
import sys

HEAVY = {"pymongo", "pydantic", "statemachine.events", "loguru", "pyarrow", "asyncio"}


def test_it_imports_little() -> None:
    """G8: each of several processes holds what it imports, and takes that long to begin."""
    told = "import sys, executors.export.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(done.stdout.split())


def test_it_has_no_pandas_where_that_is_installed() -> None:
    """G8: pyarrow would import it with the first list that becomes an array."""
    told = (
        "import sys; from executors.export.worker import NoPandas;"
        "sys.meta_path.insert(0, NoPandas()); import pyarrow; pyarrow.array([1]);"
        "print('pandas' in sys.modules)"
    )
    words = [sys.executable, "-W", "ignore", "-c", told]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
