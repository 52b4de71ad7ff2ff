"""One unit of a job between two real servers, as far as the catalogue goes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
from tests.executors.kinds import VIEWS, Maker, created, indexed, measured

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
        for step in self.tasks()[self.done :]:
            step()
            self.done += 1

    def tasks(self) -> list[Callable[[], object]]:
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


def told(undone: list[Undone]) -> list[str]:
    return [line for each in undone for line in each.changes]


def job_of(pair: Pair, tmp_path: Path, name: str = NAME, **settings: object) -> Job:
    (tmp_path / "job").mkdir(parents=True, exist_ok=True)
    made = spec(
        **{"undo": True, "on_conflict": "skip", "drop": False, "write_concern": "1", **settings}
    )
    return Job(pair, unit_of(pair.source_client, name), made, tmp_path / "job")


def kept(undone: list[Undone]) -> int:
    return sum(each.kept for each in undone)
