"""Compose one document of what benches found: `docs/performance.md`.

usage: scripts/bench report RESULTS.json... [--out docs/performance.md]

The results are the files of `--json`, of `scripts/bench all` or of benches run one by one; of two
of one subject the later counts. What was written by hand below the mark of the old document stays.
"""

import argparse
import ast
import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from common import ROOT
from goals import judged
from results import Results, Table

SUBJECTS: Final = (
    "dump", "data", "workers", "memory", "batches", "transform", "share", "resume", "journal",
    "verify", "increments", "changes", "undo", "coordinator",
)  # fmt: skip
"""In the order of the document; of what several find for a goal, the first counts."""
OUT: Final = ROOT / "docs" / "performance.md"
MARK: Final = "<!-- What stands below is written by hand; `scripts/bench report` keeps it. -->"
BY_HAND: Final = """
## Where the time goes

## What falls short
"""
HEAD: Final = """# How fast ferrylog is

Client and servers share one machine, so a server's work is part of every figure; the absolute
numbers are that machine's. Only ratios within one run mean anything. Peak memory is that of the
largest process, CPU that of all of them."""


def document(found: Iterable[Results], by_hand: str = BY_HAND) -> str:
    """The whole text; what nothing was found for is left out, but for goals."""
    newest = {each.subject: each for each in sorted(found, key=lambda each: each.began)}
    inside = sorted(newest.values(), key=lambda each: SUBJECTS.index(each.subject))
    reached = [each for results in inside for each in results.reached]
    parts = [HEAD, "## The machine", facts(inside), "## Goals", judged(reached).markdown()]
    for results in inside:
        parts += section(results)
    return "\n\n".join([*parts, MARK]) + "\n" + by_hand


def facts(inside: Sequence[Results]) -> str:
    """Where all of them agree, once; where not, by subject."""
    rows = []
    for name in dict.fromkeys(name for each in inside for name in each.machine):
        told = {each.subject: each.machine.get(name, "unknown") for each in inside}
        one = set(told.values())
        rows.append([name, one.pop() if len(one) == 1 else ", ".join(map(" ".join, told.items()))])
    return Table("", ["", ""], rows, words=2).markdown()


def section(results: Results) -> Iterator[str]:
    yield f"## {results.subject}"
    yield explained(results.subject)
    minutes = results.seconds / 60
    yield f"`{results.command}`, {results.began}, {minutes:.1f} minutes."
    for table in results.tables:
        yield table.markdown()


def explained(subject: str) -> str:
    """What the bench says that it does, without its usage."""
    code = Path(__file__).with_name(f"bench_{subject}.py").read_text()
    told = inspect.cleandoc(ast.get_docstring(ast.parse(code)) or "")
    parts = told.split("\n\n")
    return "\n\n".join(part for part in parts if not part.startswith("usage:"))


def written_by_hand(path: Path) -> str:
    """What stands below the mark."""
    old = path.read_text() if path.is_file() else ""
    _, mark, below = old.partition(MARK)
    return below.removeprefix("\n") if mark else BY_HAND


def compose(files: Iterable[Path], out: Path) -> None:
    """Raises `ValueError` for a file of another kind."""
    out.write_text(document(map(Results.read, files), written_by_hand(out)))
    print(f"{out}: written")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    compose(asked.results, asked.out)


if __name__ == "__main__":
    main()
