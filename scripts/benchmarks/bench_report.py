"""Compose one document of what benches found: `docs/performance.md`.

usage: scripts/bench report RESULTS.json... [--out docs/performance.md]

The results are the files of `--json`, of `scripts/bench all` or of benches run one by one, with
several of one subject where parts of it were run alone. What several find for a goal counts as the
first of them found it, in the document's order. What was written by hand below the mark of the old
document stays.
"""

import argparse
import ast
import inspect
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Final

from common import ROOT
from goals import judged
from results import Results, Table

SUBJECTS: Final = (
    "dump", "data", "export", "workers", "memory", "batches", "transform", "share", "resume",
    "journal", "verify", "increments", "changes", "undo", "coordinator",
)  # fmt: skip
"""In the order of the document."""
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
    inside = sorted(found, key=lambda each: SUBJECTS.index(each.subject))
    reached = [each for results in inside for each in results.reached]
    parts = [HEAD, "## The machine", facts(inside), "## Goals", judged(reached).markdown()]
    for subject, several in groupby(inside, key=lambda each: each.subject):
        parts += [f"## {subject}", explained(subject)]
        parts += chain.from_iterable(map(section, several))
    return "\n\n".join([*parts, MARK]) + "\n" + by_hand


def facts(inside: Sequence[Results]) -> str:
    """Where all runs agree, once; where not, each with its subject."""
    rows = []
    for name in dict.fromkeys(name for each in inside for name in each.machine):
        told = [each.machine.get(name, "unknown") for each in inside]
        each_told = [f"{each.subject} {fact}" for each, fact in zip(inside, told, strict=True)]
        rows.append([name, told[0] if len(set(told)) == 1 else ", ".join(each_told)])
    return Table("", ["", ""], rows, words=2).markdown()


def section(results: Results) -> Iterator[str]:
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
