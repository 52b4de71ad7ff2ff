"""`ferrylog ops`: a user's own group, run, failing, killed, taken back, on real servers."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from ferrylog.embedded import Mongod
from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal, until
from tests.executors.undo.world import world

pytestmark = pytest.mark.server
Steps = list[dict[str, Any]]
MAKE = {
    "id": "make",
    "database": "shop",
    "forward": {"create": "orders"},
    "compensation": {"drop": "orders"},
}
INDEX = {
    "id": "index",
    "database": "shop",
    "forward": {"createIndexes": "orders", "indexes": [{"key": {"n": 1}, "unique": True}]},
    "compensation": {"dropIndexes": "orders", "index": "n_1"},
}
RULES = {
    "id": "rules",
    "database": "shop",
    "forward": {"collMod": "orders", "validator": {"n": {"$type": "int"}}},
    "compensation": {"collMod": "orders", "validator": {}},
}
RENAME = {
    "id": "rename",
    "database": "shop",
    "forward": {"renameCollection": "people", "to": "customers"},
    "compensation": {"renameCollection": "customers", "to": "people"},
}
DOUBLES = {
    "id": "no-doubles",
    "database": "shop",
    "forward": {"createIndexes": "customers", "indexes": [{"key": {"city": -1}, "unique": True}]},
    "compensation": {"dropIndexes": "customers", "index": "city_-1"},
}
RAISE = {
    "id": "raise",
    "database": "shop",
    "forward": {
        "update": "customers",
        "updates": [{"q": {"city": 3}, "u": {"$set": {"far": True}}, "multi": True}],
    },
    "compensation": {
        "update": "customers",
        "updates": [{"q": {"city": 3}, "u": {"$unset": {"far": 1}}, "multi": True}],
    },
}
SIX: Steps = [MAKE, INDEX, RULES, RENAME, DOUBLES, RAISE]
FIVE: Steps = [MAKE, INDEX, RULES, RENAME, RAISE]


class Ops:
    """A terminal, a server with something on it, and files of operations."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        self.run = Terminal(folder, pair)
        self.client = pair.target_client
        self._folder = folder
        self.client.shop.people.insert_many([{"_id": n, "city": n % 9} for n in range(100)])
        self.client.shop.people.create_index("city")
        self.before = world(self.client)

    def file(self, steps: Steps, **more: Any) -> str:
        path = self._folder / "group.json"
        path.write_text(json.dumps({"title": "a new shop", "operations": steps, **more}))
        return str(path)

    def of(self, kind: str) -> list[str]:
        return [each["entity"] for each in self.run.events() if each["kind"] == kind]

    def status(self) -> Any:
        return self.run.json("status")

    def as_before(self) -> bool:
        return world(self.client) == self.before


@pytest.fixture
def ops(tmp_path: Path, pair: Pair) -> Ops:
    return Ops(tmp_path, pair)


def names(steps: Sequence[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in steps]


def test_a_group_that_fails_is_rolled_back(ops: Ops) -> None:
    """I36–I41, M6, M8: at the fifth of six steps; exit 6; the world as before, to the byte."""
    done = ops.run("ops", "run", ops.file(SIX))
    assert done.returncode == 6, done.stderr
    assert ops.as_before()
    started = ops.of("operation_started")
    assert sorted(set(started), key=started.index) == names(SIX[:5])
    assert ops.of("operation_dropped") == ["raise"]
    undone = [f"operation {name}" for name in reversed(names(SIX[:5]))]
    assert ops.of("undo_planned") == undone
    assert ops.of("undo_completed") == undone
    kinds = [each["kind"] for each in ops.run.events()]
    assert kinds.index("group_committed") < kinds.index("operation_started")
    assert ops.status()["status"] == "rolled_back"
    told = ops.run("inspect", "explain", "no-doubles").stdout
    assert "EMONGO11000" in told
    again = ops.run("rollback")
    assert again.returncode == 2
    assert "already" in again.stderr


def test_a_group_that_succeeds_is_rolled_back_later(ops: Ops) -> None:
    """M6, M16, I42: partly, then whole; twice is refused."""
    done = ops.run("ops", "run", ops.file(FIVE))
    assert done.returncode == 0, done.stderr
    assert ops.client.shop.customers.count_documents({"far": True}) == 11
    after = world(ops.client)
    assert ops.run("rollback", "--dry-run").returncode == 0
    assert world(ops.client) == after
    assert ops.run("rollback", "--to", "rules").returncode == 0
    assert ops.of("undo_completed") == ["operation raise", "operation rename"]
    assert "orders" in ops.client.shop.list_collection_names()
    assert ops.run("rollback").returncode == 0
    assert ops.as_before()
    assert ops.of("undo_completed") == [f"operation {each}" for each in reversed(names(FIVE))]
    assert ops.run("rollback").returncode == 2


def test_a_committed_group_stays(ops: Ops) -> None:
    """I41."""
    assert ops.run("ops", "run", ops.file(FIVE)).returncode == 0
    assert ops.run("commit").returncode == 0
    refused = ops.run("rollback")
    assert refused.returncode == 2
    assert "committed" in refused.stderr


SLOW = {
    "id": "slow",
    "database": "shop",
    "forward": {
        "update": "people",
        "updates": [
            {
                "q": {"$where": "sleep(30); return true"},
                "u": {"$set": {"seen": True}},
                "multi": True,
            }
        ],
    },
    "compensation": {
        "update": "people",
        "updates": [{"q": {}, "u": {"$unset": {"seen": 1}}, "multi": True}],
    },
}


@pytest.mark.parametrize("back", [False, True], ids=["resumed", "rolled back"])
def test_killed_in_the_middle(ops: Ops, back: bool) -> None:
    """P8, P9, A24: SIGKILL while a command runs; what is in doubt is done once, or undone once."""
    started = ops.run.begin("ops", "run", ops.file([MAKE, SLOW, INDEX]))
    until(lambda: ops.run.kinds().count("operation_started") == 2)
    started.send_signal(signal.SIGKILL)
    started.communicate()
    refused = ops.run("ops", "run", ops.file([MAKE, SLOW, INDEX]))
    assert refused.returncode == 2
    assert "unfinished" in refused.stderr
    if not back:
        assert ops.run("resume").returncode == 0
        assert ops.client.shop.people.count_documents({"seen": True}) == 100
        assert ops.of("operation_completed") == ["make", "slow", "index"]
    done = ops.run("rollback")
    assert done.returncode in ((0,) if not back else (0, 6)), done.stderr
    assert ops.as_before()
    undone = ["operation index"] * (not back) + ["operation slow", "operation make"]
    assert ops.of("undo_completed") == undone


def test_a_failing_undo_is_mended(ops: Ops) -> None:
    """I41, M13: stopped, told, the cause removed, gone on with."""
    assert ops.run("ops", "run", ops.file(FIVE)).returncode == 0
    ops.client.shop.people.insert_one({"_id": "in the way"})
    stopped = ops.run("rollback")
    assert stopped.returncode == 1
    assert ops.status()["status"] == "rollback_failed"
    assert "EMONGO048" in stopped.stderr + ops.run("status").stdout
    assert ops.of("undo_completed") == ["operation raise"]
    assert "customers" in ops.client.shop.list_collection_names()
    ops.client.shop.drop_collection("people")
    gone_on = ops.run("rollback")
    assert gone_on.returncode == 0, gone_on.stderr
    assert ops.as_before()
    assert ops.of("undo_completed") == [f"operation {each}" for each in reversed(names(FIVE))]


def test_going_on_behind_a_failure(ops: Ops) -> None:
    """M6: only what waits for the failed one is left out, and nothing is taken back."""
    steps = [MAKE, {**RENAME, "wait_for": []}, {**DOUBLES, "tries": 1}, RAISE]
    last = {**INDEX, "wait_for": ["make"]}
    done = ops.run("ops", "run", ops.file([*steps, last]), "--continue-on-error")
    assert done.returncode in (1, 3), done.stderr
    assert ops.of("operation_dropped") == ["raise"]
    assert sorted(ops.of("operation_completed")) == ["index", "make", "rename"]
    assert not ops.of("undo_planned")
    assert ops.run("rollback").returncode in (0, 6)
    assert ops.as_before()


def test_a_dry_run_tells_the_commands(ops: Ops) -> None:
    """A25: exactly those that would be sent, forward and back; nothing is."""
    done = ops.run("ops", "run", ops.file(FIVE), "--dry-run")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    sent = [line.strip() for line in lines if line.startswith("       ")]
    majority = ', "writeConcern": {"w": "majority"}}'
    assert sent[0] == 'shop: {"create": "orders"' + majority
    assert sent[3] == 'admin: {"renameCollection": "shop.people", "to": "shop.customers"' + majority
    assert sent[6] == 'admin: {"renameCollection": "shop.customers", "to": "shop.people"' + majority
    assert sent[-1] == 'shop: {"drop": "orders"' + majority
    plan = json.loads(ops.run("ops", "run", ops.file(FIVE), "--dry-run", "--json").stdout)
    assert plan["schema"] == "ferrylog.ops-plan/1"
    assert plan["rollback"] == names(FIVE)[::-1]
    assert ops.as_before()
    assert not ops.run.journal.exists()


def test_two_places(ops: Ops, pair: Pair, tmp_path: Path) -> None:
    """M5: operations name their node; the rollback finds them again."""
    steps = [{**MAKE, "on": "left"}, {**MAKE, "id": "there", "on": "right"}]
    file = ops.file(steps, endpoints={"left": pair.source.uri, "right": None})
    missing = ops.run("ops", "run", file)
    assert missing.returncode == 2
    assert "endpoint right" in missing.stderr
    (tmp_path / "uri").write_text(pair.target.uri)
    named = ("--endpoint-uri-file", f"right={tmp_path / 'uri'}")
    assert ops.run("ops", "run", file, *named).returncode == 0
    assert pair.source_client.shop.list_collection_names() == ["orders"]
    assert "orders" in pair.target_client.shop.list_collection_names()
    assert ops.run("rollback").returncode == 0
    assert pair.source_client.shop.list_collection_names() == []
    assert ops.as_before()
    assert ops.run("ops", "run", file, *named, "--endpoint", "other=x").returncode == 2


BAD: list[tuple[Steps, str, str]] = [
    ([{k: v for k, v in MAKE.items() if k != "compensation"}], "EOPS001", "make has no comp"),
    ([{**MAKE, "wait_for": ["index"]}, INDEX], "EOPS001", "make → index → make"),
    ([{**MAKE, "wait_for": ["nobody"]}], "EOPS001", "nobody, which is no operation"),
    ([{**MAKE, "colour": 1}], "EOPS002", "operations[0].colour: unknown field; allowed here: id"),
    ([{**MAKE, "forward": {"getMore": 1}}], "EOPS003", "getMore means nothing"),
    ([{**MAKE, "forward": {"createUser": "u", "pwd": "s3cret"}}], "EOPS003", "the journal would"),
]


@pytest.mark.parametrize("verb", ["run", "validate"])
@pytest.mark.parametrize(("steps", "code", "words"), BAD, ids=lambda each: str(each)[:9])
def test_bad_input(ops: Ops, steps: Steps, code: str, words: str, verb: str) -> None:
    """M1, M15, I36: said in words, with a code; nothing is begun and no journal made."""
    done = ops.run("ops", verb, ops.file(steps))
    assert done.returncode == 2
    assert f"error [{code}]" in done.stderr
    assert words in done.stderr
    assert "s3cret" not in done.stderr
    assert ops.as_before()
    assert not ops.run.journal.exists()


def test_commands_that_the_server_does_not_know(ops: Ops) -> None:
    done = ops.run("ops", "run", ops.file([{**MAKE, "compensation": {"dorp": "orders"}}]))
    assert done.returncode == 2
    assert "compensation of make: the server knows no command dorp" in done.stderr
    assert ops.as_before()


def test_a_compensation_that_the_role_may_not_run(tmp_path: Path) -> None:
    """M15: found before anything happens."""
    key = tmp_path / "key"
    key.write_text("a" * 32)
    key.chmod(0o600)
    options = ("--auth", "--keyFile", str(key))
    with Mongod(tmp_path / "db", name="rights", options=options) as server:
        with MongoClient[Any](server.uri) as first:
            first.admin.command("createUser", "root", pwd="pw", roles=["root"])
        with MongoClient[Any](server.uri, username="root", password="pw") as root:
            may = {"resource": {"db": "shop", "collection": ""}, "actions": ["createCollection"]}
            root.admin.command("createRole", "maker", privileges=[may], roles=[])
            root.admin.command("createUser", "u", pwd="pw", roles=["maker"])
            ops = Ops(tmp_path, Pair(server, server, root, root))
            ops.run.environment["FERRYLOG_TARGET"] = server.uri.replace("://", "://u:pw@")
            for verb in ("run", "validate"):
                done = ops.run(
                    "ops",
                    verb,
                    ops.file([MAKE]),
                    "--target",
                    ops.run.environment["FERRYLOG_TARGET"],
                )
                assert done.returncode == 1
                assert "error [EOPS004]: the compensation of make would be refused" in done.stderr
                assert "dropCollection on shop.orders" in done.stderr
                assert ":pw@" not in done.stderr
            assert ops.as_before()


def test_a_file_that_is_in_order(ops: Ops) -> None:
    done = ops.run("ops", "validate", ops.file(SIX), "--json")
    found = json.loads(done.stdout)
    assert (found["schema"], found["valid"]) == ("ferrylog.ops-validate/1", True)
    assert [each["id"] for each in found["operations"]] == names(SIX)
