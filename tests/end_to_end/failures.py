"""The table of injected failures: what the servers refuse, and what becomes of the job.

Each case tells a real server to fail one command of ferrylog (`failCommand`), for longer than the
driver's own retry, runs `ferrylog start` as a child, and reads from the journal what it did about
it: attempts, causes, delays, breakers, pauses, dead letters. Where the job ended unfinished the
failure is removed and the job is resumed, as an operator would. In the end the judge (`oracle.py`,
no code shared) compares both servers.

    python -m tests.end_to_end.failures [--only TEXT]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import ExecutionTimeout

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ferrylog.embedded import Mongod
from tests import program
from tests.end_to_end import oracle
from tests.end_to_end.failure_cases import SILENT, SPARED, Case, cases

BREAKABLE = ("--setParameter", "enableTestCommands=1")
LIMIT_S = 90.0
"""A job that takes longer hangs (I30): without a failure it takes two seconds."""
CHUNK_DOCS = 250
MAX_RUNS = 3
SETTINGS = {
    "FERRYLOG_RETRY_BASE_MS": "50",
    "FERRYLOG_RETRY_CAP": "1",
    "FERRYLOG_MAX_RETRIES": "5",
    "FERRYLOG_BREAKER_FAILURES": "1000",
    "FERRYLOG_TICK": "0.2",
}
"""Short delays; and breakers stay out of the way where they are not what is looked at."""


# --- the data -------------------------------------------------------------------------------------


def load(uri: str) -> None:
    """Three collections with an index each, in about ten chunks; one of them needs `getMore`."""
    with MongoClient[dict[str, Any]](uri) as client:
        shop, depot = client["shop"], client["depot"]
        shop["orders"].insert_many({"_id": n, "by": n % 97, "total": n * 0.5} for n in range(1500))
        shop["customers"].insert_many({"_id": f"c{n:05}", "city": n % 50} for n in range(900))
        pad = os.urandom(20_000)
        depot["parcels"].insert_many({"_id": n, "route": n % 8, "body": pad} for n in range(500))
        shop["orders"].create_index("by")
        shop["customers"].create_index([("city", 1), ("_id", -1)], name="by city")
        depot["parcels"].create_index("route")


def empty(uri: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        for name in client.list_database_names():
            if name not in oracle.OWN:
                client.drop_database(name)


# --- one case -------------------------------------------------------------------------------------


@dataclass
class Row:
    """What became of a case."""

    case: Case
    hits: int = 0
    """Commands that failed."""
    exits: list[int] = field(default_factory=list)
    """Of `start`, and of each `resume`."""
    told: list[oracle.Told] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    said: str = ""
    """Last words of the first process."""

    def count(self, ending: str) -> int:
        return sum(each.kind.endswith(ending) for each in self.told)

    @property
    def failures(self) -> Counter[str]:
        """Task, cause and code of every attempt that failed."""
        found: Counter[str] = Counter()
        for each in self.told:
            if each.kind.endswith(("_retry_scheduled", "_dead_lettered", "_cancelled")):
                cause = each.data.get("cause", "fatal or cut")
                found[f"{each.task[0]} {cause} {each.data['code']}"] += 1
        return found

    @property
    def delays_ms(self) -> list[int]:
        return [each.data["delay_ms"] for each in self.told if "delay_ms" in each.data]

    @property
    def causes(self) -> set[str]:
        return {
            each.data["cause"]
            for each in self.told
            if "cause" in each.data and each.kind != "batch_resized"
        }

    @property
    def pauses(self) -> list[str]:
        return [each.data["why"] for each in self.told if each.kind == "pause_requested"]


class Arena:
    """Two servers that can be told to fail, the source filled."""

    def __init__(self, source: Mongod, target: Mongod, folder: Path) -> None:
        self.uris = {"source": source.uri, "target": target.uri}
        self._folder = folder
        empty(source.uri)
        load(source.uri)
        self._expected = oracle.snapshot(source.uri)
        self._runs = 0

    def run(self, case: Case) -> Row:
        """The case from an empty target to the end of the job."""
        empty(self.uris["target"])
        self._runs += 1
        journal = self._folder / f"case{self._runs}.db"
        row = Row(case)
        began = time.monotonic()
        with FailPoint(self.uris[case.side], case) as point:
            self._start(row, journal, point)
        while row.exits[-1] != 0 and len(row.exits) < MAX_RUNS:
            row.exits.append(self._again(row, journal))
        row.seconds = time.monotonic() - began
        self._judge(row, journal)
        return row

    def _start(self, row: Row, journal: Path, point: "FailPoint") -> None:
        """The first process, under the failure."""
        case = row.case
        words, environment = self._asked(case), self._environment(case, journal)
        with program.begin(*words, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                if isinstance(case.lasts, float):
                    point.wait()
                    time.sleep(case.lasts)
                    point.off()
                row.said = process.communicate(timeout=LIMIT_S)[1][-2000:]
            except subprocess.TimeoutExpired:
                row.problems.append(f"still running after {LIMIT_S:.0f} s (I30)")
            finally:
                process.kill()
        row.exits.append(process.returncode)
        row.hits = point.off()

    def _again(self, row: Row, journal: Path) -> int:
        """What an operator does about the end of the last process."""
        if row.exits[-1] == 1:
            return self._ferrylog(row.case, journal, *self._asked(row.case))
        if row.exits[-1] == 3:
            self._ferrylog(row.case, journal, "dead-letters", "requeue", "--all")
        return self._ferrylog(row.case, journal, "resume", *self._job(journal))

    def _asked(self, case: Case) -> list[str]:
        return ["start", "--mode", case.mode, "--chunk-docs", str(CHUNK_DOCS)]

    def _ferrylog(self, case: Case, journal: Path, *words: str) -> int:
        environment = self._environment(case, journal)
        return program.ferrylog(*words, env=environment, timeout_s=LIMIT_S).returncode

    def _job(self, journal: Path) -> list[str]:
        """By name: a job that ended with rejects is not resumed unasked."""
        done = program.ferrylog("jobs", "--json", "--journal", journal)
        return [json.loads(done.stdout)["jobs"][0]["job"]] if done.returncode == 0 else []

    def _environment(self, case: Case, journal: Path) -> dict[str, str]:
        """The heartbeat of one second is an option that a user may give: with the default one the
        driver waits up to ten seconds after a failover before it looks at a server again."""
        uris = {
            f"FERRYLOG_{side.upper()}": f"{uri}?heartbeatFrequencyMS=500"
            for side, uri in self.uris.items()
        }
        known = {**SETTINGS, **dict(case.settings), "FERRYLOG_JOURNAL": str(journal)}
        return {**os.environ, **uris, **known}

    def _judge(self, row: Row, journal: Path) -> None:
        """Fill in what went wrong."""
        case, problems = row.case, row.problems
        if not row.hits:
            problems.append("nothing failed: the case proves nothing")
        if row.exits[0] not in case.exits:
            problems.append(f"exit {row.exits[0]}, not one of {case.exits}: {row.said[-300:]}")
        if row.exits[-1] != 0:
            problems.append(f"not healed by resume: exits {row.exits}")
        problems += oracle.differences(self._expected, oracle.snapshot(self.uris["target"]))
        try:
            row.told = oracle.events(journal)
        except oracle.Untold as error:
            problems.append(str(error))
        problems += self._misjudged(row)

    def _misjudged(self, row: Row) -> Iterator[str]:
        """What the journal says of the failure that the failure was not."""
        expected = row.case.failure.cause
        wrong = {cause for cause in row.causes if cause != expected}
        if expected != "fatal" and wrong:
            yield f"cause {', '.join(sorted(wrong))} instead of {expected or 'none'}"
        noticed = expected == "" or row.case.early or row.case.command in SILENT
        if not noticed and not row.failures:
            yield "went unnoticed"
        yield from _impatient(row.told)
        if row.pauses and row.exits[0] == 0:
            yield f"paused without need: {row.pauses}"


def _impatient(told: Sequence[oracle.Told]) -> Iterator[str]:
    """Attempts before their time, delays that shrink (I18)."""
    waits: dict[tuple[str, str], oracle.Told] = {}
    for each in told:
        last = waits.get(each.task)
        if each.verb in ("progressed", "completed", "requeued"):
            waits.pop(each.task, None)
        if last and each.verb == "started" and each.at_ms < last.data["not_before_ms"]:
            yield f"seq {each.seq}: {each.entity} started before its time"
        if each.verb == "retry_scheduled":
            if last and each.data["delay_ms"] < last.data["delay_ms"]:
                yield f"seq {each.seq}: {each.entity} waits less than before"
            waits[each.task] = each


class FailPoint:
    """`failCommand` of one server, for ferrylog's connections alone; off in the end."""

    def __init__(self, uri: str, case: Case) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri, appname="judge")
        self._case = case
        self._before = 0
        self._hits = -1

    def __enter__(self) -> Self:
        case = self._case
        spared = 0 if case.early else SPARED.get(case.command, 0)
        mode = {"times": case.lasts} if isinstance(case.lasts, int) else {"skip": spared}
        data = {"failCommands": [case.command], "appName": "ferrylog", **case.failure.how}
        self._before = self._set(mode, data)
        return self

    def _set(self, mode: Any, data: dict[str, Any]) -> int:
        """Returns how often it was met so far, in the life of the server."""
        command = {"configureFailPoint": "failCommand", "mode": mode, "data": data}
        return int(self._client.admin.command(command)["count"])

    def wait(self) -> None:
        """Until it is met for the first time; or not."""
        with suppress(ExecutionTimeout):
            self._client.admin.command(
                {
                    "waitForFailPoint": "failCommand",
                    "timesEntered": self._before + 1,
                    "maxTimeMS": 10_000,
                }
            )

    def off(self) -> int:
        """How often a command failed."""
        if self._hits < 0:
            self._hits = self._set("off", {}) - self._before
        return self._hits

    def __exit__(self, *_: object) -> None:
        self.off()
        self._client.close()


# --- the table ------------------------------------------------------------------------------------


def line(row: Row) -> str:
    """One row for people."""
    verdict = "ok" if not row.problems else "; ".join(row.problems)
    failures = ", ".join(f"{what} x{n}" for what, n in sorted(row.failures.items())) or "none"
    delays = f"{min(row.delays_ms)}..{max(row.delays_ms)} ms" if row.delays_ms else "-"
    events = " ".join(f"{word} {row.count(kind)}" for word, kind in EVENTS if row.count(kind))
    exits = " then ".join(map(str, row.exits))
    return (
        f"{row.case.name}\n    hits {row.hits}; failed attempts: {failures}; delays {delays}; "
        f"{events or 'no other events'}; exit {exits}; {row.seconds:.1f} s; {verdict}"
    )


EVENTS = (
    ("breaker opened", "breaker_opened"),
    ("closed", "breaker_closed"),
    ("pauses", "pause_requested"),
    ("dead letters", "_dead_lettered"),
    ("cuts", "split_requested"),
    ("rejected", "document_rejected"),
    ("dropped", "chunk_dropped"),
)


@contextmanager
def arena(folder: Path) -> Iterator[Arena]:
    with (
        Mongod(folder / "source", name="source", options=BREAKABLE) as source,
        Mongod(folder / "target", name="target", options=BREAKABLE) as target,
    ):
        yield Arena(source, target, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    only = parser.parse_args().only
    bad = 0
    with (
        tempfile.TemporaryDirectory(prefix="ferrylog-failures-") as name,
        arena(Path(name)) as both,
    ):
        for case in cases():
            if only in case.name:
                row = both.run(case)
                bad += bool(row.problems)
                print(line(row), flush=True)
    print(f"{bad} cases went wrong" if bad else "all as promised")
    sys.exit(4 if bad else 0)


if __name__ == "__main__":
    main()
