"""The undo of each kind of operation: who does it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

from executors.clients import Deployment
from executors.commands import there
from executors.dumps.restoring import DumpSource
from executors.operation.perform import undo_operation
from executors.protocol import StopToken
from executors.select import USERS
from executors.undo.aside import staged
from executors.undo.catalogue import OF_LINKS, undo_catalogue, undo_create, undo_finish
from executors.undo.documents import undo_documents
from executors.undo.increments import undo_increment
from executors.undo.loaded import Origin, take_out, unload
from executors.undo.log import is_empty, undo_path
from executors.undo.quiet import wait_for_the_dead
from statemachine.effects import Effect
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.state import Undo, Unit, transforms
from statemachine.stimuli import Undone
from statemachine.words import TaskKey, TaskKind

WITH_ITS_COLLECTION: Final = Undone(changes=("its documents go with their collection",))
FOLLOWED: Final = Undone(
    changes=("what was followed is not recorded: its collections go with them, or stay",)
)


class LogMissing(OperatorError):
    """Nobody knows any more what is to be undone."""

    code = "EUNDO002"

    def __init__(self, undo: Undo, path: Path) -> None:
        super().__init__(
            f"{undo.task} of {undo.entity} changed the target, and what brings that back is gone: "
            f"there is no {path}, or nothing in it",
            remedy="put the file back, or look after it yourself and leave this undo out: "
            "`ferrylog dead-letters drop`",
        )


@dataclass(frozen=True)
class UndoTasks:
    """Of one job."""

    spec: JobSpec
    folder: Path
    """The job's own."""
    source: Deployment | None = None
    target: Deployment | None = None
    dump: DumpSource | None = None
    endpoints: Mapping[str, MongoClient[Any]] = field(default_factory=dict)
    _quiet: list[bool] = field(default_factory=list)
    """Nothing of a process that died runs on the target any more: looked at once."""

    def run(self, effect: Effect, stop: StopToken) -> Undone:
        """Take back what one operation did; again, it does nothing.

        Raises `OperatorError`, `PyMongoError`, `OSError`, `Stopped`.
        """
        undo, unit = effect.undo, effect.unit
        assert undo is not None
        if undo.task is TaskKind.OPERATION:
            assert effect.operation is not None
            return undo_operation(self.endpoints, effect.operation, stop, self.folder)
        if undo.task is TaskKind.FOLLOW:
            return FOLLOWED
        self._must_have_log(undo, unit)
        assert self.target is not None
        client = self.target.patient
        if not self._quiet:
            wait_for_the_dead(self.target.client, stop)
            self._quiet.append(True)
        path = undo_path(self.folder, TaskKey(undo.task, undo.entity))
        if undo.task in (TaskKind.SHAPE, TaskKind.APPLY, TaskKind.SETTLE):
            force = effect.force
            return undo_increment(client, self.spec, self.folder, undo, stop, force=force)
        assert unit is not None
        match undo.task:
            case TaskKind.CREATE:
                return self._create(client, effect, unit, stop)
            case TaskKind.FINISH:
                return undo_finish(client, unit, self.spec, self.folder)
            case TaskKind.INDEX:
                return undo_catalogue(client, path, self.spec, force=effect.force)
        return self._chunk(client, effect, unit, path, stop)

    def _must_have_log(self, undo: Undo, unit: Unit | None) -> None:
        """Without its log nobody knows what an operation did that came about: "nothing" would be a
        lie. One that told nothing may have died before it wrote a row, and did nothing then."""
        ours = undo.chunk is not None and unit is not None and unit.found != "documents"
        ours = ours and not transforms(self.spec)
        users = unit is not None and unit.id in USERS
        path = undo_path(self.folder, TaskKey(undo.task, undo.entity))
        if not undo.acknowledged or ours or users:
            return
        cut = undo.task in OF_LINKS  # what is undone is off the log
        if not path.is_file() or (not cut and is_empty(path)):
            raise LogMissing(undo, path)

    def _chunk(
        self, client: MongoClient[Any], effect: Effect, unit: Unit, path: Path, stop: StopToken
    ) -> Undone:
        if unit.id in USERS:
            return WITH_ITS_COLLECTION
        if unit.found == "documents":
            return undo_documents(client, path, self.spec, stop)
        if transforms(self.spec):
            called = self._as_called(client, unit).target
            return undo_documents(client, path, self.spec, stop, called)
        if not effect.chunks:
            return WITH_ITS_COLLECTION
        now = self._as_called(client, unit)
        return take_out(client, now, effect.chunks[0], self.spec, self._origin(effect), stop)

    def _as_called(self, client: MongoClient[Any], unit: Unit) -> Unit:
        """With the name that its collection has: its last touch may be taken back or not."""
        found = there(client, unit.target)
        ours = found is not None and found.uuid == unit.target_uuid
        return unit if ours else staged(unit, self.spec)

    def _origin(self, effect: Effect) -> Origin:
        source = self.source.client if self.source is not None else None
        return Origin(self.folder, self.dump, source, effect.read_preference)

    def _create(
        self, client: MongoClient[Any], effect: Effect, unit: Unit, stop: StopToken
    ) -> Undone:
        """What was merged into is not ours; of a view nothing is to be proven."""
        between = staged(unit, self.spec)
        proven = None
        if unit.found != "documents" and unit.type != "view" and unit.created:
            proven = partial(
                unload,
                client,
                between,
                effect.chunks,
                self.spec,
                self._origin(effect),
                stop,
                force=effect.force,
            )
        return undo_create(client, between, self.spec, self.folder, proven, force=effect.force)
