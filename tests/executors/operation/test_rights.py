"""What a user may not do is known before anything happens, going and coming back."""

import re
from collections.abc import Iterator
from typing import Any

import bson
import pytest

from executors.boundaries import to_text
from executors.operation.rights import objections
from ferrylog.embedded import Mongod
from statemachine.stimuli import PlannedOperation
from statemachine.words import OperationId
from tests.conftest import Pair
from tests.executors.examples import Client

pytestmark = pytest.mark.server
ROLES = {
    "readWrite": [{"role": "readWrite", "db": "shop"}],
    "both": [{"role": "readWrite", "db": "shop"}, {"role": "dbAdmin", "db": "shop"}],
    "one": [{"role": "one", "db": "admin"}],
}
ONE = [
    {"resource": {"db": "shop", "collection": "orders"}, "actions": ["createCollection", "insert"]},
    {"resource": {"cluster": True}, "actions": ["setParameter"]},
]


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Client]]:
    """One for each user, of a server that knows them."""
    folder = tmp_path_factory.mktemp("rights")
    key = folder / "key"
    key.write_text("a" * 32)
    key.chmod(0o600)
    with Mongod(folder / "db", name="r", options=("--keyFile", str(key))) as server:
        _users(server.uri)
        found = {name: Client(server.uri, username=name, password="pw") for name in ROLES}
        yield found
        for client in found.values():
            client.close()


def _users(uri: str) -> None:
    with Client(uri) as first:
        first.admin.command("createUser", "root", pwd="pw", roles=["root"])
    with Client(uri, username="root", password="pw") as root:
        root.admin.command("createRole", "one", privileges=ONE, roles=[])
        for name, roles in ROLES.items():
            root.admin.command("createUser", name, pwd="pw", roles=roles)


def told(client: Client, forward: Any, back: Any, database: str = "shop") -> list[str]:
    texts = (
        to_text(bson.encode({"do": "command", "on": "", "database": database, "commands": [each]}))
        for each in (forward, back)
    )
    return [str(each) for each in objections(client, PlannedOperation(OperationId("op"), *texts))]


@pytest.mark.parametrize(
    ("user", "forward", "back", "lacking"),
    [
        ("both", {"create": "a"}, {"drop": "a"}, None),
        ("readWrite", {"create": "a"}, {"drop": "a"}, None),
        ("readWrite", {"renameCollection": "shop.a", "to": "shop.b"}, {"ping": 1}, None),
        ("readWrite", {"insert": "a"}, {"collMod": "a"}, "compensation of op.*collMod on shop.a"),
        ("readWrite", {"collMod": "a"}, {"drop": "a"}, "forward command of op.*collMod"),
        ("both", {"dropDatabase": 1}, {"create": "a"}, None),
        ("both", {"renameCollection": "shop.a", "to": "other.a"}, {"ping": 1}, "insert on other.a"),
        ("one", {"create": "orders"}, {"drop": "orders"}, "compensation.*dropCollection"),
        ("one", {"create": "others"}, {"ping": 1}, "createCollection on shop.others"),
        ("one", {"setParameter": 1}, {"ping": 1}, None),
        ("both", {"setParameter": 1}, {"ping": 1}, "setParameter on the cluster"),
        ("readWrite", {"create": "system.js"}, {"ping": 1}, None),
        ("readWrite", {"create": "system.users"}, {"ping": 1}, "system.users"),
        ("both", {"ping": 1}, {"crate": "a"}, "compensation of op: the server knows no command"),
    ],
)
def test_rights(
    clients: dict[str, Client], user: str, forward: Any, back: Any, lacking: str | None
) -> None:
    """M15: a compensation that the role may not run is found before the forward command runs."""
    found = told(clients[user], forward, back)
    if lacking is None:
        assert found == []
    else:
        (only,) = found
        assert re.search(lacking, only)


def test_without_access_control(pair: Pair) -> None:
    assert told(pair.target_client, {"create": "a"}, {"drop": "a"}) == []
