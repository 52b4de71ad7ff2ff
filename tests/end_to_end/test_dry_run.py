"""`start --dry-run`: it plans and foresees, writes nothing, and is held to its word afterwards."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import monitoring

from ferrylog.cli import main
from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal, until

READS = {
    "hello", "ismaster", "ping", "connectionStatus", "buildInfo", "find", "getMore", "killCursors",
    "aggregate", "count", "listCollections", "listDatabases", "listIndexes", "dbStats", "dbHash",
    "serverStatus", "replSetGetStatus", "getParameter", "endSessions", "collStats",
}  # fmt: skip
PLANNED = {
    "job_requested", "run_started", "survey_started", "survey_completed", "unit_registered",
    "plan_started", "chunk_planned", "conflict_foreseen", "plan_completed", "unit_completed",
    "job_completed",
}  # fmt: skip


class Heard(monitoring.CommandListener):
    """Every command of this process, with the port that it went to."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, dict[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append((event.connection_id[1] or 0, dict(event.command)))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@contextmanager
def listening() -> Iterator[Heard]:
    """To all clients that are made meanwhile."""
    heard = Heard()
    listeners = monitoring._LISTENERS.command_listeners
    listeners.append(heard)
    try:
        yield heard
    finally:
        listeners.remove(heard)


@pytest.fixture
def terminal(tmp_path: Path, pair: Pair) -> Terminal:
    return Terminal(tmp_path, pair)


@pytest.fixture
def here(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """The same command in this process: its exit code and what it printed."""

    def run(*words: str) -> tuple[int, str]:
        for name, value in terminal.environment.items():
            if name.startswith("FERRYLOG_"):
                monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["ferrylog", *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        return int(end.value.code or 0), capsys.readouterr().out

    return run


def content(client: Any) -> dict[str, Any]:
    """All that a server holds beside its own: catalogue, indexes, documents."""
    found: dict[str, Any] = {}
    for name in client.list_database_names():
        if name not in ("admin", "config", "local"):
            db = client[name]
            for entry in db.list_collections():
                found[f"{name}.{entry['name']}"] = str(entry)
                if entry["type"] == "collection":
                    indexes = [str(each) for each in db[entry["name"]].list_indexes()]
                    found[f"{name}.{entry['name']} indexes"] = indexes
            found[name] = db.command("dbHash")["md5"]
    return found


@pytest.fixture
def troubled(pair: Pair) -> Pair:
    """A source, and a target with something in the way of nearly everything."""
    shop, there = pair.source_client.shop, pair.target_client.shop
    shop.plain.insert_many([{"_id": n, "text": "x" * 100} for n in range(5000)])
    shop.plain.create_index("text")
    shop.create_collection("seen", viewOn="plain")
    shop.full.insert_many([{"_id": n} for n in range(100)])
    there.full.insert_many([{"_id": n, "other": True} for n in range(7)])
    shop.options.insert_one({"_id": 1})
    there.create_collection("options", collation={"locale": "de"})
    shop.mails.insert_many([{"_id": n, "mail": n % 90} for n in range(100)])
    there.mails.create_index("mail", unique=True)
    shop.indexed.insert_one({"_id": 1, "a": 1})
    shop.indexed.create_index("a", name="mine")
    there.indexed.create_index("a", name="theirs")
    for side in (shop, there):
        side.create_collection("checked", validator={"a": 1})
    shop.expiring.create_index("at", expireAfterSeconds=3600)
    pair.source_client.Cases.x.insert_one({"_id": 1})
    pair.target_client.cases.x.insert_one({"_id": 1})
    return pair


FORESEEN = {
    ("shop.full", "EPLAN001"),
    ("shop.options", "EPLAN005"),
    ("shop.mails", "EPLAN008"),
    ("shop.indexed", "EPLAN010"),
    ("shop.checked", "EPLAN007"),
    ("shop.expiring", "EPLAN012"),
    ("Cases.x", "EPLAN014"),
}


def test_it_writes_nothing(
    terminal: Terminal, troubled: Pair, here: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """I46: every command that reaches either server reads; the target stays as it is, byte by
    byte; no work folder is made; the journal tells of a plan and of nothing else."""
    before = content(troubled.target_client), content(troubled.source_client)
    with listening() as heard:
        code, out = here("start", "--dry-run", "--chunk-docs", "1000", "--json")
    report = json.loads(out)
    assert (code, report["schema"], report["ok"]) == (3, "ferrylog.plan/1", False)
    assert {port for port, _ in heard.sent} == {troubled.source.port, troubled.target.port}
    assert {next(iter(command)) for _, command in heard.sent} <= READS
    for _, command in heard.sent:
        stages = {name for stage in command.get("pipeline", ()) for name in stage}
        assert not stages & {"$out", "$merge"}
    assert (content(troubled.target_client), content(troubled.source_client)) == before
    assert set(terminal.kinds()) == PLANNED
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_the_report(terminal: Terminal, troubled: Pair) -> None:
    """Chunks, documents, bytes and indexes by unit; time and space with where they come from;
    conflicts with why and remedy."""
    done = terminal("start", "--dry-run", "--chunk-docs", "1000", "--json")
    report = json.loads(done.stdout)
    assert {(each["namespace"], each["code"]) for each in report["conflicts"]} == FORESEEN
    certain = {each["code"] for each in report["conflicts"] if each["certain"]}
    assert certain == {"EPLAN001", "EPLAN005", "EPLAN010", "EPLAN014"}
    assert all(each["why"] and each["remedy"] for each in report["conflicts"])
    plain = next(unit for unit in report["units"] if unit["namespace"] == "shop.plain")
    assert (plain["documents"], plain["indexes"]) == (5000, 1)
    assert plain["chunks"] >= 5
    for name in ("chunks", "documents", "bytes", "indexes"):
        assert report["totals"][name] == sum(unit[name] for unit in report["units"])
    time, space = report["time"], report["space"]
    assert time["least_s"] <= time["seconds"] <= time["most_s"]
    assert "guess" in time["origin"]
    assert "guess" in space["compression_origin"]
    assert 0 < space["files"] <= space["target"] == report["totals"]["bytes"]
    assert space["files_free"] > 0
    assert space["target_free"] > 0
    text = terminal("start", "--dryRun").stdout
    assert "[EPLAN001] the target is not empty" in text
    assert "a job cannot carry everything" in text


def test_a_plan_without_conflicts_ends_with_0(terminal: Terminal, pair: Pair) -> None:
    """And so does one whose conflicts are not certain; an empty source has an empty plan."""
    assert terminal("start", "--dry-run").returncode == 0
    pair.source_client.shop.orders.insert_many([{"_id": n, "n": n % 2} for n in range(10)])
    done = terminal("start", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "no conflict foreseen" in done.stdout
    pair.target_client.shop.orders.create_index("n", unique=True)
    done = terminal("start", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert [each["code"] for each in report["conflicts"]] == ["EPLAN008"]


@pytest.mark.deep
@pytest.mark.parametrize("mode", ["coordinated", "direct"])
def test_the_plan_beside_the_job(terminal: Terminal, troubled: Pair, mode: str) -> None:
    """What was foreseen and came, what was and did not, what nobody foresaw; per unit what was
    estimated and what was carried; and the next plan learns from the job."""
    words = ("--mode", mode, "--chunk-docs", "1000", "--on-conflict", "skip")
    plan = json.loads(terminal("start", "--dry-run", *words, "--json").stdout)
    troubled.target_client.shop.plain.create_index("text", unique=True, name="later")
    done = terminal("start", *words, "--on-exhausted", "skip-unit", "--json")
    assert done.returncode == 3, done.stderr
    job = json.loads(done.stdout)
    assert job["job"] != plan["job"]
    report = terminal.json("inspect", "diff", plan["job"], job["job"])
    rows = {(row["section"], row["name"]): row for row in report["rows"]}
    told = {
        name: (row["b"], row["differs"])
        for (section, name), row in rows.items()
        if section == "foreseen" and name != "time"
    }
    came = {
        "shop.full EPLAN002": "came: ECONFLICT001 7 times",
        "shop.options EPLAN005": "came: ETARGET002 once",
        "shop.mails EPLAN008": "came: EMONGO11000 10 times",
        "shop.indexed EPLAN010": "came: EMONGO085 once",
        "Cases.x EPLAN014": "came: EMONGO13297 once",
        "shop.checked EPLAN007": "no journal can tell",
    }
    expected = {name: (text, False) for name, text in came.items()}
    assert told == {**expected, "shop.expiring EPLAN012": ("did not come", True)}
    surprises = {name for section, name in rows if section == "surprises"}
    assert "shop.plain EMONGO11000" in surprises
    assert all(name.startswith("shop.plain ") for name in surprises)
    carried = rows["unit shop.mails", "restored_documents"]
    assert (carried["a"], carried["b"], carried["differs"]) == (100, 90, True)
    chunks = rows["unit shop.plain", "settled"]
    assert (chunks["a"], chunks["differs"]) == (chunks["b"], False)
    assert ("unit shop.plain", "plan_started") not in rows, "a plan expects nothing of it"
    time = rows["foreseen", "time"]
    assert " to " in time["a"]
    assert time["b"]
    around = terminal.json("inspect", "diff", job["job"], plan["job"])
    assert around["differing"] == report["differing"]
    text = terminal("inspect", "diff", plan["job"], job["job"])
    assert "surprises" in text.stdout
    again = json.loads(terminal("start", "--dry-run", *words, "--json").stdout)
    assert "1 finished job" in again["time"]["origin"]
    learned = again["space"]["compression_origin"]
    assert learned == ("finished jobs" if mode == "coordinated" else "a guess")


@pytest.mark.deep
def test_it_is_taken_for_no_migration(terminal: Terminal, pair: Pair) -> None:
    """A dry run that was cut short: `start` begins a job beside it, `resume` goes on with the
    migration, `verify` looks at what was moved; asked for again, it goes on itself."""
    for n in range(120):
        pair.source_client.shop[f"c{n}"].insert_many([{"_id": each} for each in range(20)])
    moving = terminal.begin("start")
    until(lambda: "restore_completed" in terminal.kinds())
    moving.send_signal(signal.SIGINT)
    moving.communicate(timeout=60)
    assert moving.returncode == 5
    planning = terminal.begin("start", "--dry-run")
    until(lambda: "plan_completed" in after_second_request(terminal.kinds()))
    planning.kill()
    planning.communicate()
    assert kinds(terminal) == ["migrate", "plan"]
    migration, plan = (job["job"] for job in terminal.json("jobs")["jobs"])
    again = terminal("start", "--dry-run", "--json")
    assert json.loads(again.stdout)["job"] == plan, again.stderr
    assert json.loads(again.stdout)["unfinished"] == migration
    assert terminal("resume").returncode == 0
    states = {job["job"]: job["status"] for job in terminal.json("jobs")["jobs"]}
    assert states == {migration: "completed", plan: "completed"}
    assert terminal.json("verify")["of"] == migration
    assert terminal("resume", plan).returncode == 3, "says again what it foresaw"


def after_second_request(kinds: list[str]) -> list[str]:
    at = [number for number, kind in enumerate(kinds) if kind == "job_requested"]
    return kinds[at[1] :] if len(at) > 1 else []


def kinds(terminal: Terminal) -> list[str]:
    """Of all jobs."""
    return [job["kind"] for job in terminal.json("jobs")["jobs"]]


def test_start_after_an_unfinished_dry_run(terminal: Terminal, pair: Pair) -> None:
    """The dry run is no unfinished job of the same work."""
    for n in range(120):
        pair.source_client.shop[f"c{n}"].insert_one({"_id": 1})
    planning = terminal.begin("start", "--dry-run")
    until(lambda: "plan_completed" in terminal.kinds())
    planning.kill()
    planning.communicate()
    done = terminal("start")
    assert done.returncode == 0, done.stderr
    assert "continuing" not in done.stderr
    assert kinds(terminal) == ["plan", "migrate"]
    assert terminal("replay", "--check").returncode == 0
