"""The last touch of a unit: expiry is switched on, what stands there is compared, and what was
filled under a name between takes its own."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

from executors.batches import TOLERANT
from executors.commands import acknowledged, concern, there
from executors.compare import compared, fields, wanted_index, wanted_options
from executors.expiry import AFTER, FAR, seconds_of, sleeps
from executors.select import USERS
from executors.survey import Namespace, raw_indexes
from executors.undo.aside import CatalogueLog, catalogue_log, inverse, staged, take_name
from executors.users import merge
from statemachine.events import JobSpec, MetadataDifference
from statemachine.state import Unit
from statemachine.stimuli import Finished
from statemachine.words import TaskKey, TaskKind

OFF: Final = "off"
"""No expiry, in a change of a collection."""


def finish(
    client: MongoClient[Any],
    unit: Unit,
    spec: JobSpec,
    given_up: Collection[str] = (),
    folder: Path | None = None,
) -> Finished:
    """Switch on what this job left without expiry, merge users and roles, and tell how the target
    differs from what the source was surveyed to be, if the job asks for that.

    A job that writes answers for what it carried: indexes that were given up are known to be
    missing, and what else the target holds is its own. Nothing is switched on twice, nor where
    something else stands. `unit` has its own name, wherever it lies until then (`staged`). With
    the job's `folder`, if the job records what it does, all of it can be taken back. Raises
    `OtherCollection`, `TooLargeToKeep`, `PyMongoError`, `OSError`.
    """
    if spec.kind not in ("migrate", "restore"):
        return Finished(_compared(client, unit, spec))
    with catalogue_log(folder, spec, TaskKey(TaskKind.FINISH, unit.id)) as log:
        if unit.id in USERS:
            return Finished(merge(client, unit, log))
        filled = _where(client, unit, spec)
        if unit.type != "view":
            _wake(client, filled, spec, log)
        differing = _compared(client, filled, spec)
        take_name(client, unit, spec, log)
    return Finished(tuple(d for d in differing if d.source and not _is_of(d, given_up)))


def _compared(
    client: MongoClient[Any], unit: Unit, spec: JobSpec
) -> tuple[MetadataDifference, ...]:
    if not spec.metadata or unit.id in USERS:
        return ()
    return compared(client, unit, legacy=spec.legacy_indexes)


def _where(client: MongoClient[Any], unit: Unit, spec: JobSpec) -> Unit:
    """The unit under the name that it has: its own, once it took that."""
    between = staged(unit, spec)
    return between if there(client, between.target) is not None else unit


def _is_of(difference: MetadataDifference, indexes: Collection[str]) -> bool:
    """Whether it is about one of these indexes."""
    names = tuple(f"index {name}" for name in indexes)
    return difference.what in names or difference.what.startswith(
        tuple(f"{name}:" for name in names)
    )


@dataclass(frozen=True, slots=True)
class _Waking:
    """An expiry that is switched on: of an index, or, without a name, of the collection."""

    index: str
    seconds: Any

    def command(self, collection: str, seconds: Any) -> dict[str, Any]:
        change = {AFTER: seconds}
        if self.index:
            return {"collMod": collection, "index": {"name": self.index, **change}}
        return {"collMod": collection, **change}


def _wake(client: MongoClient[Any], unit: Unit, spec: JobSpec, log: CatalogueLog | None) -> None:
    found = there(client, unit.target)
    if found is None or found.type != unit.type or unit.target_uuid not in ("", found.uuid):
        return
    db = client.get_database(found.database)
    for each in _sleeping(client, found, unit, spec):
        if log is not None:
            log.note(_row(found, each))
        command = each.command(found.collection, each.seconds)
        asked = {**command, "writeConcern": concern(spec)}
        acknowledged(db.command(asked, codec_options=TOLERANT))


def _row(found: Namespace, woken: _Waking) -> dict[str, Any]:
    undo = woken.command(found.collection, FAR if woken.index else OFF)
    what = f"index {woken.index} of {found.name}" if woken.index else found.name
    so = {"ns": found.name, "uuid": found.uuid, "expiry": woken.index, "seconds": woken.seconds}
    return dict(inverse(found.database, undo, f"switched off the expiry of {what}", **so))


def _sleeping(
    client: MongoClient[Any], found: Namespace, unit: Unit, spec: JobSpec
) -> Iterator[_Waking]:
    """What was left without expiry."""
    options = wanted_options(unit)
    if AFTER in options and AFTER not in fields(found.options):
        yield _Waking("", options[AFTER])
    stand = [fields(raw) for raw in raw_indexes(client, found)]
    for index in unit.indexes:
        wanted = wanted_index(index, legacy=spec.legacy_indexes)
        seconds = seconds_of(wanted)
        if seconds is not None and any(sleeps(each, wanted) for each in stand):
            yield _Waking(index.name, seconds)
