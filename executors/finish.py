"""The last touch of a unit: expiry is switched on, and what stands there is compared."""

from collections.abc import Collection
from typing import Any

from pymongo import MongoClient

from executors.batches import TOLERANT
from executors.compare import compared, fields, wanted_index, wanted_options
from executors.expiry import AFTER, seconds_of, sleeps
from executors.metadata import acknowledged, concern
from executors.select import USERS, split
from executors.survey import Namespace, namespaces, raw_indexes
from executors.users import merge
from statemachine.events import JobSpec, MetadataDifference
from statemachine.state import Unit
from statemachine.stimuli import Finished


def finish(
    client: MongoClient[Any], unit: Unit, spec: JobSpec, given_up: Collection[str] = ()
) -> Finished:
    """Switch on what this job left without expiry, merge users and roles, and tell how the target
    differs from what the source was surveyed to be, if the job asks for that.

    A job that writes answers for what it carried: indexes that were given up are known to be
    missing, and what else the target holds is its own. Nothing is switched on twice, nor where
    something else stands. Raises `PyMongoError`.
    """
    writes = spec.kind in ("migrate", "restore")
    if unit.id in USERS:
        return Finished(merge(client, unit) if writes else ())
    if writes and unit.type != "view":
        database, collection = split(unit.target)
        for found in namespaces(client, database, name=collection):
            if found.type == unit.type and unit.target_uuid in ("", found.uuid):
                _switch_on(client, found, unit, spec)
    if not spec.metadata:
        return Finished()
    differing = compared(client, unit, legacy=spec.legacy_indexes)
    if writes:
        differing = tuple(one for one in differing if one.source and not _is_of(one, given_up))
    return Finished(differing)


def _is_of(difference: MetadataDifference, indexes: Collection[str]) -> bool:
    """Whether it is about one of these indexes."""
    names = tuple(f"index {name}" for name in indexes)
    return difference.what in names or difference.what.startswith(
        tuple(f"{name}:" for name in names)
    )


def _switch_on(client: MongoClient[Any], found: Namespace, unit: Unit, spec: JobSpec) -> None:
    changes: list[dict[str, Any]] = []
    options = wanted_options(unit)
    if AFTER in options and AFTER not in fields(found.options):
        changes.append({AFTER: options[AFTER]})
    there = [fields(raw) for raw in raw_indexes(client, found)]
    for index in unit.indexes:
        wanted = wanted_index(index, legacy=spec.legacy_indexes)
        seconds = seconds_of(wanted)
        if seconds is not None and any(sleeps(each, wanted) for each in there):
            changes.append({"index": {"name": index.name, AFTER: seconds}})
    db = client.get_database(found.database)
    for change in changes:
        command = {"collMod": found.collection, **change, "writeConcern": concern(spec)}
        acknowledged(db.command(command, codec_options=TOLERANT))
