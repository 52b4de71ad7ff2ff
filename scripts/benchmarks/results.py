"""What a bench found: tables, the ratios that goals ask for, and the JSON between run and document.

A bench makes one `Results`, adds tables (printed at once, as Markdown) and ratios, and saves it.
"""

import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import psutil
from common import ROOT, Contender, Figures

SCHEMA: Final = "ferrylog.bench/1"


@dataclass(frozen=True)
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""
    words: int = 1
    """So many columns are of words, and the others of numbers."""

    def markdown(self) -> str:
        lines = [f"**{self.title}**", ""] if self.title else []
        sides = ["---"] * self.words + ["---:"] * (len(self.columns) - self.words)
        lines += [line(self.columns), line(sides)]
        lines += map(line, self.rows)
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


@dataclass(frozen=True)
class Reached:
    """What was found for a goal: a value a round, of rounds in which both sides ran."""

    goal: str
    data: str
    values: list[float]


@dataclass
class Results:
    subject: str
    command: str
    began: str
    seconds: float = 0.0
    machine: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    reached: list[Reached] = field(default_factory=list)
    figures: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    """Every single measurement of a contest, by table and contender."""

    @classmethod
    def begin(cls, subject: str) -> Self:
        """Of the subject, run from now on as the command line says."""
        command = shlex.join(["scripts/bench", subject, *told(sys.argv[1:])])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(subject, command, now, machine=machine())

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        note: str = "",
        words: int = 1,
    ) -> None:
        cells = [[str(cell) for cell in row] for row in rows]
        made = Table(title, list(columns), cells, note, words)
        self.tables.append(made)
        print(made.markdown() + "\n", flush=True)

    def reach(self, goal: str, data: str, values: Sequence[float]) -> None:
        self.reached.append(Reached(goal, data, list(values)))

    def save(self, path: Path | None) -> None:
        """What was found so far, whole or not at all; nothing without a path."""
        if path is None:
            return
        begun = datetime.fromisoformat(self.began)
        self.seconds = (datetime.now(UTC) - begun).total_seconds()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")
        part.rename(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        found: dict[str, Any] = json.loads(path.read_text())
        if found.pop("schema", "") != SCHEMA:
            raise ValueError(f"{path} holds no results of a bench")
        found["tables"] = [Table(**each) for each in found["tables"]]
        found["reached"] = [Reached(**each) for each in found["reached"]]
        return cls(**found)

    # --- contests ---

    def contest(
        self,
        title: str,
        contenders: Sequence[Contender],
        results: Mapping[str, Sequence[Figures]],
        *,
        amount: float,
        unit: str = "MB/s",
        note: str = "",
    ) -> None:
        """A table of medians, and of ratios between figures of one round; `amount` in `unit`
        times seconds is what each of them carried. `results` may hold more than the contenders:
        what they are compared with."""
        columns = ["", "s", unit, "client CPU s", "server CPU s", "peak MB", "times the peer"]
        rows = [row(each, results, amount) for each in contenders]
        self.figures[title] = {k: [asdict(f) for f in each] for k, each in results.items()}
        self.table(title, columns, rows, note)


def told(words: Sequence[str]) -> list[str]:
    """The command line for readers elsewhere: nothing of where files lie on this machine."""
    pairs = zip(("", *words), words, strict=False)
    kept = [word for before, word in pairs if "--json" not in (before, word)]
    return [Path(word).name if word.startswith("/") else word for word in kept]


def row(who: Contender, results: Mapping[str, Sequence[Figures]], amount: float) -> list[str]:
    each = results[who.name]
    took = middle(each, lambda f: f.seconds)
    compared = [
        f"{spread(paired(results[peer], each))} {peer}" for peer in who.against if peer in results
    ]
    return [
        who.name,
        f"{took:.2f}",
        f"{amount / took:,.0f}",
        f"{middle(each, lambda f: f.cpu_s):.2f}",
        f"{middle(each, lambda f: f.server_cpu_s):.2f}",
        f"{max(f.peak_mb for f in each):.0f}",
        "; ".join(compared),
    ]


# --- statistics -----------------------------------------------------------------------------------


def middle(each: Sequence[Figures], of: Callable[[Figures], float]) -> float:
    return statistics.median(map(of, each))


def seconds(figures: Figures) -> float:
    return figures.seconds


def paired(
    above: Sequence[Figures],
    below: Sequence[Figures],
    of: Callable[[Figures], float] = seconds,
) -> list[float]:
    """Ratios between two figures of one round each: of seconds, how many times faster the second
    one is."""
    return [of(a) / of(b) for a, b in zip(above, below, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and between what the others lie."""
    told = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return told
    return f"{told} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |"


# --- the machine ----------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """What figures depend on."""
    import pymongo  # noqa: PLC0415 — its version

    from ferrylog.embedded import binary  # noqa: PLC0415

    memory = psutil.virtual_memory().total / (1 << 30)
    return {
        "processor": f"{os.cpu_count()} × {model()}",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": file_system(Path(tempfile.gettempdir())),
        "Python": platform.python_version(),
        "pymongo": pymongo.version,
        "mongod": first_line(str(binary()), "--version"),
        "mongodump": first_line("mongodump", "--version"),
        "ferrylog": first_line("git", "describe", "--always", "--dirty", "--tags"),
        "load before": " ".join(f"{each:.1f}" for each in os.getloadavg()),
    }


def model() -> str:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    named = [each.partition(":")[2].strip() for each in lines if each.startswith("model name")]
    return named[0] if named else platform.machine()


def file_system(path: Path) -> str:
    """Of the longest mount point above the path."""
    mounts = [
        each for each in psutil.disk_partitions(all=True) if path.is_relative_to(each.mountpoint)
    ]
    if not mounts:
        return "unknown"
    found = max(mounts, key=lambda each: len(each.mountpoint))
    return f"{found.fstype} ({path})"


def first_line(*words: str) -> str:
    if shutil.which(words[0]) is None:
        return "none"
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    return "unknown" if done.returncode else done.stdout.strip().partition("\n")[0]
