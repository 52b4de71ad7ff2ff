"""Finds inputs in the corpus by their kind, wherever they lie in it and whatever their names."""

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

VARIABLE: Final = "FERRYLOG_CORPUS"


class Case(NamedTuple):
    """One document of the BSON corpus (mongodb/specifications)."""

    name: str
    """File and description."""
    bson: bytes


def corpus() -> Path | None:
    """The folder, if there is one."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named and Path(named).is_dir() else None


needs_corpus = pytest.mark.skipif(corpus() is None, reason=f"{VARIABLE} names no folder")
"""Mark of tests that read it: skipped, and counted as such, where it is absent."""


def valid_bson() -> list[Case]:
    """Documents that every decoder must take, in the form that encoders make and in others."""
    return [
        Case(f"{name}, {form}", bytes.fromhex(case[form]))
        for name, case in _cases("valid")
        for form in ("canonical_bson", "degenerate_bson")
        if form in case
    ]


def invalid_bson() -> list[Case]:
    """Documents that every decoder must refuse."""
    return [Case(name, bytes.fromhex(case["bson"])) for name, case in _cases("decodeErrors")]


def bson_files() -> list[tuple[str, bytes]]:
    """Every file of documents in a row, good or damaged, unpacked: its name and its bytes."""
    plain = [(path.name, path.read_bytes()) for path in _files("*.bson")]
    return plain + [
        (path.name, unpacked)
        for path in _files("*.bson.gz")
        if (unpacked := _unpacked(path.read_bytes())) is not None
    ]


def files(pattern: str) -> list[Path]:
    """All files of the corpus with names of that kind."""
    return list(_files(pattern))


def _unpacked(packed: bytes) -> bytes | None:
    """None where the gzip itself is damaged."""
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        return None


def _cases(of: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in _files("*.json"):
        try:
            told = json.loads(path.read_bytes())
        except ValueError:  # metadata, or one document a line
            continue
        if isinstance(told, dict) and "bson_type" in told:
            for case in told.get(of, ()):
                yield f"{path.name}: {case['description']}", case


def _files(pattern: str) -> Iterator[Path]:
    folder = corpus()
    if folder is not None:
        yield from sorted(path for path in folder.rglob(pattern) if path.is_file())
