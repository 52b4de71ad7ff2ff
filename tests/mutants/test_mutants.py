"""The tool that breaks guards: it finds what can be broken, leaves the rest alone, and is run."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.counts import count
from tests.mutants.breaks import Break, breaks

ROOT = Path(__file__).parents[2]
SOURCE = '''"""Nobody changes a docstring of 1 line."""

TABLE = {"a": {"x": 1}, "b": {"y": 2}}


class Thing:
    size: int = 0


def f(things: list[Literal[3]], most: int = 5) -> list[int]:
    """Nor this 1."""
    assert things != 7
    if not things or len(things) >= most:
        raise ValueError(f"{8} is too many, not {9}")
    things.append(4)
    return [n for n in things if n]
'''
EXPECTED = """
3 without `'a'`
3 without `'x'`
3 `1` → `0`
3 `1` → `2`
3 without `'b'`
3 without `'y'`
3 `2` → `1`
3 `2` → `3`
7 `size` without default
7 `0` → `-1`
7 `0` → `1`
10 `most` without default
10 `5` → `4`
10 `5` → `6`
13 `not things or len(things) >= most` → `True`
13 `not things or len(things) >= most` → `False`
13 `not things or len(things) >= most`: and ↔ or
13 without `not things`
13 without `len(things) >= most`
13 `not things` without not
13 `len(things) >= most` → `a > b`
14 without `raise ValueError(f'{8} is too many, not {9}')`
15 without `things.append(4)`
15 `4` → `3`
15 `4` → `5`
16 `[n for n in things if n]` → `[]`
16 `n` → `True`
16 `n` → `False`
"""


def found(folder: Path, source: str) -> list[Break]:
    (folder / "module.py").write_text(source)
    return breaks(folder, "module.py")


def test_what_can_be_broken(tmp_path: Path) -> None:
    """Rule 18: conditions, tables, numbers, defaults, statements; no texts, no annotations."""
    told = [f"{each.line} {each.change}" for each in found(tmp_path, SOURCE)]
    assert sorted(told) == sorted(EXPECTED.split("\n")[1:-1])


def test_each_break_compiles_and_leaves_the_tree_whole(tmp_path: Path) -> None:
    for each in found(tmp_path, SOURCE):
        before = ast.dump(each.tree)
        each.compiled("module.py")
        assert ast.dump(each.tree) == before


@pytest.mark.deep
def test_no_guard_can_be_broken_unnoticed() -> None:
    """Rule 18: every break in the rules and in the engine is noticed, or has its reason."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr, sep="\n")
    numbers = re.search(r"^(\d+) mutants, (\d+) survivors", done.stdout, re.MULTILINE)
    assert numbers, done.stderr
    count("mutants", int(numbers[1]))
    count("mutants that survived without a reason", int(numbers[2]))
    assert done.returncode == 0
