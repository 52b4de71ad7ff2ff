"""Whoever searches for a code finds it."""

import re
from collections.abc import Iterator
from pathlib import Path

from executors.dumps.errors import DETAILS
from executors.flaws import Code

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/errors.md").read_text()
ROOMS = ("statemachine", "journal", "executors", "ferrylog")
CODE = re.compile(r'"(E[A-Z]{2,}\d{3})"')


def named(cell: str) -> Iterator[str]:
    """The codes of `A, B` or of `A to B`."""
    yield from re.findall(r"E[A-Z]+\d{3}", cell)
    for room, first, last in re.findall(r"(E[A-Z]+)(\d{3}) to \1(\d{3})", cell):
        yield from (f"{room}{n:03d}" for n in range(int(first), int(last)))


def test_every_code_has_its_line() -> None:
    """Each code that stands anywhere in the source, and what it means where that stands there."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| E")]
    told = {code for row in rows for code in named(row.split("|")[1])}
    source = [path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    used = {code for text in source for code in CODE.findall(text) if code[:6] != "EMONGO"}
    assert " ".join(sorted(used - told)) == ""
    assert sorted(code for code in told - used if code[:6] != "EMONGO") == []
    for code, meaning in {**DETAILS, **{str(each): each.meaning for each in Code}}.items():
        assert any(row.startswith(f"| {code} | {meaning} |") for row in rows), code


def test_the_readme_leads_to_it() -> None:
    assert "docs/errors.md" in (ROOT / "README.md").read_text()
