"""Break every guard, two at a time, and print which test noticed, or that none did.

usage: scripts/mutants [--only PATH ...] [--sample N --seed S] [--list]

Exits with 1 when a break survives without a written reason in tests/mutants/reasons.toml, or
when a reason there is no longer needed.
"""

import argparse
import os
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.mutants.breaks import Break, breaks
from tests.mutants.trial import QUICK, ROOT, Trial, Verdict

WHERE = ("statemachine", "ferrylog/engine.py")
WORKERS = 2
REASONS = Path(__file__).with_name("reasons.toml")
Place = tuple[str, str, str]


@dataclass(frozen=True)
class Tried:
    broken: Break
    verdict: Verdict


def modules(only: Iterable[str]) -> Iterator[str]:
    for where in only:
        path = ROOT / where
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            yield str(file.relative_to(ROOT))


def trials(todo: list[Break]) -> Iterator[Tried]:
    """Each break tried, `WORKERS` at a time, in the order in which they end."""
    waiting = iter(todo)
    flying: dict[int, Trial] = {}
    for broken in waiting:
        trial = Trial(broken, QUICK)
        flying[trial.pid] = trial
        if len(flying) == WORKERS:
            yield _next(flying)
    while flying:
        yield _next(flying)


def _next(flying: dict[int, Trial]) -> Tried:
    pid, status = os.wait()
    trial = flying.pop(pid)
    assert trial.broken is not None
    return Tried(trial.broken, trial.verdict(status))


def whole() -> str:
    """What fails when nothing is broken; it must be nothing."""
    trial = Trial(None, QUICK)
    _, status = os.waitpid(trial.pid, 0)
    return trial.verdict(status).caught_by


def reasons() -> dict[Place, str]:
    """Why a survivor changes nothing that matters: by module, line and change."""
    entries = tomllib.loads(REASONS.read_text())["survivor"] if REASONS.exists() else []
    return {(e["module"], e["line"], e["change"]): e["reason"] for e in entries}


def place(broken: Break) -> Place:
    return broken.path, broken.text, broken.change


# --- the report ---


def report(tried: list[Tried], seconds: float) -> bool:
    """Print the tables; whether every survivor has its reason."""
    known = reasons()
    by_module: dict[str, list[Tried]] = defaultdict(list)
    for each in sorted(tried, key=lambda each: (each.broken.path, each.broken.line)):
        by_module[each.broken.path].append(each)
    print("| module | mutants | caught | with a reason | survived | most by |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for path, group in by_module.items():
        print(_row(path, group, known))
    print(_row("**all**", tried, known))
    alive = [each.broken for each in tried if not each.verdict.caught_by]
    survivors = [broken for broken in alive if place(broken) not in known]
    stale = {place(each.broken) for each in tried if each.verdict.caught_by} & set(known)
    stale -= {place(broken) for broken in alive}
    for broken in survivors:
        print(f"\nsurvived: {broken.place}: {broken.change}\n    {broken.text}")
    for path, text, change in sorted(stale):
        print(f"\na reason that is not needed: {path}: {change}\n    {text}")
    print(f"\n{len(tried)} mutants, {len(survivors)} survivors without a reason, {seconds:.0f} s")
    return not survivors and not stale


def _row(path: str, group: list[Tried], known: dict[Place, str]) -> str:
    by = Counter(each.verdict.caught_by for each in group if each.verdict.caught_by)
    alive = [each.broken for each in group if not each.verdict.caught_by]
    excused = sum(place(broken) in known for broken in alive)
    tests = Counter(_test(name) for name in by.elements())
    most = ", ".join(f"{name} {times}" for name, times in tests.most_common(4))
    counts = (len(group), len(group) - len(alive), excused, len(alive) - excused)
    return f"| {path} | " + " | ".join(map(str, counts)) + f" | {most} |"


def _test(node: str) -> str:
    return node.rpartition("::")[2].partition("[")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", metavar="PATH", help="a module or folder")
    parser.add_argument("--sample", type=int, metavar="N", help="so many, drawn by --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="show them; try none")
    arguments = parser.parse_args()
    todo = [each for path in modules(arguments.only or WHERE) for each in breaks(ROOT, path)]
    if arguments.sample is not None:
        todo = Random(arguments.seed).sample(todo, min(arguments.sample, len(todo)))
    if arguments.list:
        for broken in todo:
            print(f"{broken.place}: {broken.change}")
        print(len(todo), "mutants")
        return 0
    if failed := whole():
        sys.exit(f"nothing is broken, and yet {failed} fails")
    began = time.monotonic()
    tried = []
    for each in trials(todo):
        tried.append(each)
        if not each.verdict.caught_by:
            print(f"{len(tried)}/{len(todo)} survived: {each.broken.place}", file=sys.stderr)
    return 0 if report(tried, time.monotonic() - began) else 1


if __name__ == "__main__":
    sys.exit(main())
