"""What CREATE, INDEX and FINISH did is taken back: the target is as before, to the byte, wherever
the process died (I40), and however often it is undone (I39)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from executors.commands import there
from executors.finish import finish
from executors.metadata import build_index, create
from executors.source import data_of
from executors.undo.aside import staged
from executors.undo.catalogue import undo_catalogue, undo_create, undo_finish
from executors.undo.log import undo_path
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.stimuli import Undone
from statemachine.words import TaskKey, index_task
from tests.conftest import Pair
from tests.executors.examples import spec, unit_of
from tests.executors.kinds import AGES_AGO, VIEWS, Db, Maker, created, indexed, measured
from tests.executors.undo.world import Held, deaths, world

pytestmark = pytest.mark.server

NAME = "shop.c1"
UNIQUE = {"key": {"a": 1}, "unique": True}
PLAIN = {"key": {"b": 1}, "sparse": True}
TTL = {"key": {"at": 1}, "expireAfterSeconds": 1}
SERIES = measured({"key": {"m.k": 1, "t": -1}}, metaField="m", expire=1)
OURS: dict[str, Maker] = {
    "collection": indexed(UNIQUE, PLAIN, TTL),
    "view": VIEWS["view with collation"],
    "time series": SERIES,
    "clustered": created(documents=0, clusteredIndex={"key": {"_id": 1}, "unique": True},
                         expireAfterSeconds=1),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_expires_in_time(servers: Pair) -> Iterator[None]:
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    yield
    for client in (servers.source_client, servers.target_client):
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})


def theirs(db: Db, name: str) -> None:
    """Other documents, one index by the name of one of ours, one of their own."""
    documents = [{"_id": f"x{n}", "a": f"x{n}", "at": AGES_AGO} for n in range(3)]
    db.command({"insert": name, "documents": documents})
    indexes = [{"name": "i1", "key": {"b": 1}, "sparse": True}, {"name": "own", "key": {"c": 1}}]
    db.command({"createIndexes": name, "indexes": indexes})


LAY: dict[str, Maker] = {
    "nothing": lambda db, name: db["beside"].insert_one({"_id": 1}),
    "empty": lambda db, name: db.command({"create": name}),
    "documents": theirs,
    "view": VIEWS["view"],
    "time series": measured({"key": {"v": 1}}, metaField="m"),
}


@dataclass
class Job:
    """One unit of a job, as far as the catalogue and its few documents go."""

    pair: Pair
    unit: Unit
    spec: JobSpec
    folder: Path
    done: int = 0
    undone: int = 0
    """Tasks and undos that came to their end."""

    def run(self) -> None:
        """From where it was left: what died comes again, what is done does not."""
        for step in self._tasks()[self.done :]:
            step()
            self.done += 1

    def _tasks(self) -> list[Callable[[], object]]:
        names = [index_task(self.unit.id, index.name) for index in self.unit.indexes]
        return [
            self._create,
            self._fill,
            *(partial(self._build, name) for name in names),
            self._finish,
        ]

    def _create(self) -> None:
        made = create(self.pair.target_client, self.filled, self.spec, self.folder)
        self.unit.target_uuid, self.unit.found, self.unit.built = made.uuid, made.found, made.built

    def _fill(self) -> None:
        client, documents = self.pair.target_client, self._documents()
        if documents:
            database, collection = data_of(self.filled.target, self.unit.type)
            command = {"insert": collection, "documents": documents, "ordered": False}
            client[database].command({**command, "bypassDocumentValidation": True})

    def _build(self, task: TaskKey) -> None:
        if task not in [index_task(self.unit.id, name) for name in self.unit.built]:
            build_index(self.pair.target_client, self.filled, self.spec, task, self.folder)

    def _finish(self) -> None:
        finish(self.pair.target_client, self.unit, self.spec, (), self.folder)

    def _documents(self) -> list[object]:
        if self.unit.type == "view":
            return []
        database, collection = data_of(self.unit.id, self.unit.type)
        return list(self.pair.source_client[database][collection].find({}))

    @property
    def filled(self) -> Unit:
        return staged(self.unit, self.spec)

    def undo(self, *, force: bool = False, times: int = 1) -> list[Undone]:
        """From where it was left; each undo so many times."""
        undone: list[Undone] = []
        for step in self._undos(force=force)[self.undone :]:
            undone += [step() for _ in range(times)]
            self.undone += 1
        return undone

    def _undos(self, *, force: bool) -> list[Callable[[], Undone]]:
        client, spec_, folder = self.pair.target_client, self.spec, self.folder
        paths = [undo_path(folder, index_task(self.unit.id, i.name)) for i in self.unit.indexes]
        return [
            partial(undo_finish, client, self.unit, spec_, folder),
            *(partial(undo_catalogue, client, path, spec_) for path in reversed(paths)),
            partial(undo_create, client, self.filled, spec_, folder, self._unload, force=force),
        ]

    def _unload(self) -> Undone:
        """What the real one does by other means."""
        client, mine = self.pair.target_client, self._documents()
        found = there(client, self.filled.target)
        if found is None or found.type != self.unit.type or found.uuid != self.unit.target_uuid:
            return Undone()
        database, collection = data_of(found.name, found.type)
        ids = [each["_id"] for each in mine]  # type: ignore[index]
        command = {"delete": collection, "deletes": [{"q": {"_id": {"$in": ids}}, "limit": 0}]}
        return Undone(documents=client[database].command(command)["n"] if ids else 0)


def job_of(pair: Pair, tmp_path: Path, name: str = NAME, **settings: object) -> Job:
    made = spec(
        **{"undo": True, "on_conflict": "skip", "drop": False, "write_concern": "1", **settings}
    )
    return Job(pair, unit_of(pair.source_client, name), made, tmp_path / "job")


def kept(undone: list[Undone]) -> int:
    return sum(each.kept for each in undone)


Settings = dict[str, object]
Case = tuple[str, str, Settings]
CASES: list[Case] = [
    *(("nothing", ours, {}) for ours in OURS),
    ("empty", "collection", {}),
    ("documents", "collection", {}),
    *((lay, "collection", {"drop": True}) for lay in LAY),
    *(("documents", ours, {"drop": True}) for ours in ("view", "time series")),
    *((lay, lay, {"drop": True}) for lay in ("view", "time series")),
    *((lay, "collection", {"swap": "k5"}) for lay in LAY),
]


@dataclass
class Stage:
    """A target before a job, prepared anew for each try."""

    pair: Pair
    folder: Path
    case: Case
    tries: int = 0

    @property
    def now(self) -> dict[str, Held]:
        """Servers do not rename time series: what was one is made again."""
        return world(self.pair.target_client, uuids=self.case[0] != "time series")

    def prepare(self) -> tuple[Job, dict[str, Held]]:
        lay, ours, settings = self.case
        self.tries += 1
        if self.tries == 1:
            OURS[ours](self.pair.source_client.shop, "c1")
        self.pair.target_client.drop_database("shop")
        LAY[lay](self.pair.target_client.shop, "c1")
        job = job_of(self.pair, self.folder / str(self.tries), **settings)
        job.folder.mkdir(parents=True)
        return job, self.now

    def finished(self) -> tuple[Job, dict[str, Held]]:
        job, before = self.prepare()
        job.run()
        return job, before


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def stage(request: pytest.FixtureRequest, pair: Pair, tmp_path: Path) -> Stage:
    return Stage(pair, tmp_path, request.param)


@pytest.mark.parametrize("again", [False, True], ids=["died", "resumed"])
def test_the_target_is_as_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """I40, I39: dead at any step, and gone on or not; each undo twice."""
    for job, before in deaths(monkeypatch, stage.prepare, lambda prepared: prepared[0].run()):
        if again:
            job.run()
        assert kept(job.undo(times=2)) == 0
        assert stage.now == before


def test_dead_while_undoing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """I39, I40."""
    for job, before in deaths(monkeypatch, stage.finished, lambda made: made[0].undo()):
        assert kept(job.undo()) == 0
        assert stage.now == before
