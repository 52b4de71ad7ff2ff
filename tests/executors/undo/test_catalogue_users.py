"""Users and roles that a job brought go again; who was there before, or changed since, stays."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import WriteConcernError

from executors.finish import finish
from executors.metadata import create
from executors.select import STAGED, USERS
from executors.undo.catalogue import undo_create, undo_finish
from executors.undo.log import UNDO
from ferrylog.embedded import Mongod
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.stimuli import Undone
from tests.conftest import Pair
from tests.executors.examples import Client, spec, unit_of
from tests.executors.undo.job import kept, told
from tests.executors.undo.world import deaths

pytestmark = pytest.mark.server

Step = Callable[[], object]
EVERYBODY = {"source": ("ann", "bob"), "target": ("bob", "carl")}


def know(client: Client, names: tuple[str, ...]) -> None:
    """Roles that inherit from one another, and users who have them."""
    for role, inherits in (("base", []), ("above", ["base"]), ("a top", ["above"])):
        if "ann" in names or role == "base":
            client.admin.command({"createRole": role, "privileges": [], "roles": inherits})
    for name in names:
        roles = ["a top", "base"] if "ann" in names else ["base"]
        client.admin.command({"createUser": name, "pwd": name, "roles": roles})


def forget(client: Client) -> None:
    client.admin.command("dropAllUsersFromDatabase")
    client.admin.command("dropAllRolesFromDatabase")


def people(client: Client) -> list[object]:
    return [
        list(client[n.partition(".")[0]][n.partition(".")[2]].find().sort("_id")) for n in USERS
    ]


@dataclass
class Merging:
    """The units of users and roles of one job."""

    pair: Pair
    units: list[Unit]
    spec: JobSpec
    folder: Path
    done: int = 0
    undone: int = 0
    said: list[Undone] = field(default_factory=list)

    def run(self) -> None:
        for step in self._tasks()[self.done :]:
            step()
            self.done += 1

    def _tasks(self) -> list[Step]:
        client = self.pair.target_client
        creates = [partial(create, client, each, self.spec, self.folder) for each in self.units]
        fills = [partial(self._fill, each) for each in self.units]
        ends = [partial(finish, client, each, self.spec, (), self.folder) for each in self.units]
        return [*creates, *fills, *ends]

    def _fill(self, unit: Unit) -> None:
        place = self.pair.target_client.admin[STAGED[unit.id].partition(".")[2]]
        for each in self.pair.source_client.admin[unit.id.partition(".")[2]].find():
            place.replace_one({"_id": each["_id"]}, each, upsert=True)

    def undo(self) -> list[Undone]:
        client = self.pair.target_client
        steps = [partial(undo_finish, client, each, self.spec, self.folder) for each in self.units]
        steps += [partial(undo_create, client, each, self.spec, self.folder) for each in self.units]
        for step in steps[self.undone :]:
            self.said.append(step())
            self.undone += 1
        return self.said


@pytest.fixture
def known(pair: Pair) -> Iterator[Pair]:
    for client in (pair.source_client, pair.target_client):
        forget(client)
    know(pair.source_client, EVERYBODY["source"])
    yield pair
    for client in (pair.source_client, pair.target_client):
        forget(client)


def merging(pair: Pair, folder: Path, *, users_first: bool = True) -> Merging:
    forget(pair.target_client)
    know(pair.target_client, EVERYBODY["target"])
    units = [
        unit_of(pair.source_client, "x.x", users=True, exclude=(left,)) for left in reversed(USERS)
    ]
    ordered = units if users_first else units[::-1]
    folder.mkdir()
    return Merging(pair, ordered, spec(undo=True, drop=True), folder)


@pytest.mark.parametrize("users_first", [True, False])
def test_everybody_is_as_before(
    known: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users_first: bool
) -> None:
    """I40: wherever the process dies, in whichever order they came."""
    number = count()

    def prepare() -> tuple[Merging, list[object]]:
        job = merging(known, tmp_path / str(next(number)), users_first=users_first)
        return job, people(known.target_client)

    for job, before in deaths(monkeypatch, prepare, lambda prepared: prepared[0].run()):
        assert kept(job.undo()) == 0
        assert people(known.target_client) == before
        assert not {"tempusers", "temproles"} & {*known.target_client.admin.list_collection_names()}


@pytest.mark.parametrize("users_first", [True, False])
def test_dead_while_undoing(
    known: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users_first: bool
) -> None:
    """I39, I40."""
    number = count()

    def prepare() -> tuple[Merging, list[object]]:
        job = merging(known, tmp_path / str(next(number)), users_first=users_first)
        before = people(known.target_client)
        job.run()
        return job, before

    for job, before in deaths(monkeypatch, prepare, lambda prepared: prepared[0].undo()):
        assert kept(job.undo()) == 0
        assert people(known.target_client) == before


def test_who_was_changed_since_stays(known: Pair, tmp_path: Path) -> None:
    job = merging(known, tmp_path / "job")
    job.run()
    known.target_client.admin.command({"updateUser": "ann", "pwd": "another"})
    undone = job.undo()
    assert "kept: user admin.ann: it was changed since" in told(undone)
    assert "kept: role admin.a top: others have it by now" in told(undone)
    users, roles = people(known.target_client)
    assert "admin.ann" in str(users)
    assert "admin.above" in str(roles)


def test_no_word_of_credentials_is_written_down(known: Pair, tmp_path: Path) -> None:
    """I45."""
    job = merging(known, tmp_path / "job")
    job.run()
    written = b"".join(p.read_bytes() for p in (job.folder / UNDO).rglob("*") if p.is_file())
    assert b"admin.ann" in written
    for secret in (b"SCRAM", b"storedKey", b"salt", b"credentials"):
        assert secret not in written


def test_what_is_no_user_is_refused_by_the_server(known: Pair, tmp_path: Path) -> None:
    job = merging(known, tmp_path / "job")
    before = people(known.target_client)
    create(known.target_client, job.units[0], job.spec, job.folder)
    known.target_client.admin.tempusers.insert_one({"_id": "shop.eve"})
    with pytest.raises(Exception, match=r"user|User"):
        finish(known.target_client, job.units[0], job.spec, (), job.folder)
    job.undo()
    assert people(known.target_client) == before


@pytest.mark.parametrize("command", ["create", "_mergeAuthzCollections", "drop"])
def test_what_a_majority_did_not_acknowledge_is_not_done(
    known: Pair, tmp_path: Path, command: str
) -> None:
    """P3: a primary that steps down says so beside `ok`; what it did may be gone then."""
    options = ("--setParameter", "enableTestCommands=1")
    with (
        Mongod(tmp_path / "db", name="breaks", options=options) as mongod,
        MongoClient[Any](mongod.uri) as target,
    ):
        job = merging(replace(known, target=mongod, target_client=target), tmp_path / "job")
        error = {"code": 189, "errmsg": "it steps down"}
        data = {"failCommands": [command], "writeConcernError": error}
        target.admin.command(
            {"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data}
        )
        with pytest.raises(WriteConcernError):
            job.run()
        target.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
