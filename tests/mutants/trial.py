"""One break against the quick tests, in a child process.

The parent has imported what is slow and not ours; nothing of the project. The child imports the
broken module in place of the real one, before anything else does.
"""

import gc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn, cast

import apsw
import hypothesis.stateful
import pydantic
import pymongo
import pytest
import zstandard

from tests.mutants.breaks import Break

SLOW: tuple[ModuleType, ...] = (apsw, hypothesis.stateful, pydantic, pymongo, zstandard)
"""Imported once for all children."""
ROOT = Path(__file__).parents[2]
OURS = ("statemachine", "journal", "ferrylog", "executors")
CPU_S = 40
MEMORY_BYTES = 3 << 30
"""Limits of one child: what loops for ever is caught too."""
QUICK = (
    "tests/statemachine/test_rules.py",
    "tests/statemachine",
    "tests/simulation/test_engine.py",
    "tests/simulation/test_history.py::test_every_prefix_is_legal",
    "tests/simulation/test_simulation.py::test_every_law_holds_at_every_step[0]",
)
OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
    "-Wignore::pytest.PytestAssertRewriteWarning",  # imported once for all children
)


@dataclass(frozen=True)
class Verdict:
    caught_by: str
    """Id of the first test that failed; `""` when none did."""


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Finder:
    """Finds one module, broken."""

    def __init__(self, broken: Break) -> None:
        self._file = str(ROOT / broken.path)
        self._code = broken.compiled(self._file)
        parts = Path(broken.path).with_suffix("").parts
        self._package = parts[-1] == "__init__"
        self._name = ".".join(parts[:-1] if self._package else parts)

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(
            name,
            self._file,
            loader=_Loader(name, self._file, self._code),
            submodule_search_locations=[str(Path(self._file).parent)] if self._package else None,
        )


class _First:
    """Remembers the first failure."""

    def __init__(self) -> None:
        self.failed = ""

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = "the import"


class Trial:
    """A child under way."""

    def __init__(self, broken: Break | None, tests: Sequence[str]) -> None:
        """`None`: everything whole."""
        self.broken = broken
        finder = _Finder(broken) if broken is not None else None
        self._read, write = os.pipe()
        gc.freeze()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            _child(finder, tests, write)
        os.close(write)

    def verdict(self, status: int) -> Verdict:
        """After the child has ended with this wait status."""
        with os.fdopen(self._read) as pipe:
            told = pipe.read()
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return Verdict("timeout" if name in ("SIGXCPU", "SIGALRM") else f"a {name}")
        return Verdict(cast("str", json.loads(told)) if told else "the import")


def _child(finder: _Finder | None, tests: Sequence[str], write: int) -> NoReturn:
    """Run the tests, tell which failed first, and vanish."""
    told = "the run"
    try:
        _limit()
        assert not any(name.partition(".")[0] in OURS for name in sys.modules)
        if finder is not None:
            sys.meta_path.insert(0, cast("Any", finder))
        told = _first_failure(tests)
    finally:
        os.write(write, json.dumps(told).encode())
        os._exit(0)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.alarm(4 * CPU_S)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


def _first_failure(tests: Sequence[str]) -> str:
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    first = _First()
    with tempfile.TemporaryDirectory() as folder:
        options = [*OPTIONS, f"--rootdir={ROOT}", f"--basetemp={folder}/t"]
        code = pytest.main([*options, *tests], plugins=[first])
    return first.failed or ("" if code == 0 else "the import")
