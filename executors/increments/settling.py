"""A link's collections on the target, settled behind its documents: what could not be built before
them is built, and at the end of a job the last touch is given.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pymongo import MongoClient

from executors.boundaries import from_text
from executors.commands import acknowledged, concern, there
from executors.compare import fields, wanted_index, wanted_options
from executors.expiry import AFTER, seconds_of, sleeps
from executors.finish import finish
from executors.increments.ahead import NO_SUCH_INDEX, Ahead
from executors.increments.catalogue import (
    Entry,
    Step,
    before_link,
    entries_of,
    fits_as_is,
    reindexed,
    step_to,
)
from executors.increments.catalogue_at import catalogue_at
from executors.increments.model import Chain
from executors.increments.position import close_position, position_at
from executors.increments.shaping import Target
from executors.metadata import build
from executors.protocol import Stopped, StopToken
from executors.select import USERS, carried, split
from executors.survey import raw_indexes
from executors.users import merge
from statemachine.events import IndexSpec, JobSpec, MetadataDifference
from statemachine.state import Unit
from statemachine.stimuli import Settled


def settle(
    client: MongoClient[Any],
    spec: JobSpec,
    job: str,
    chain: Chain,
    number: int,
    stop: StopToken,
    ahead: Ahead | None = None,
    *,
    last: bool,
) -> Settled:
    """The link's documents are on the target: its new indexes are built. At the `last` link of the
    job expiry is switched on, users and roles are merged, and all is compared if the job asks for
    that.

    `client` should be a patient one. What was done is done again and changes nothing. Raises
    `OtherPosition`, `AnotherAtWork`, `OperatorError` as `step_to`, `PyMongoError`, `Stopped`.
    """
    step = step_to(chain, number, spec)
    position = position_at(client, job, chain, number)
    Target(client, spec, step, stop).must_hold(step.after, position.collections)
    changes = tuple(_built(client, spec, step, stop, ahead))
    _hide(client, spec, step)
    differing: tuple[MetadataDifference, ...] = ()
    if last:
        units = [each.unit(position.collections.get(each.dumped.uuid, "")) for each in step.after]
        differing = tuple(_finished(client, spec, chain, units, stop, ahead))
    close_position(client, job, chain, number)
    return Settled(differing, changes)


def settle_log(
    client: MongoClient[Any],
    spec: JobSpec,
    job: str,
    chain: Chain,
    number: int,
    stop: StopToken,
    ahead: Ahead | None = None,
) -> Settled:
    """The link's log is replayed up to `spec.at`: as `settle` at the last link, but nothing is left
    to build. Raises `DamagedDump`, `UnknownChange`, and as `settle`.
    """
    position = position_at(client, job, chain, number)
    link = chain.increments[number - 1]
    before = before_link(chain, number)
    there = catalogue_at(before, link.dump.root, link.log, spec.at, stop)
    entries = entries_of(there, spec)
    units = [each.unit(position.collections.get(each.dumped.uuid, "")) for each in entries]
    differing = tuple(_finished(client, spec, chain, units, stop, ahead))
    close_position(client, job, chain, number)
    stay = [each.namespace for each in before if each.type == "timeseries"]
    told = tuple(f"{name} is as of the link before: a log does not show it" for name in stay)
    return Settled(differing, told)


def _hide(client: MongoClient[Any], spec: JobSpec, step: Step) -> None:
    """Unique indexes that are hidden: applying shows one for the moment in which it looks who holds
    a value, and a killed process leaves it so."""
    for each in step.after:
        for name, index in each.indexes.items():
            if index.unique and fields(from_text(index.spec)).get("hidden"):
                database, collection = split(each.target)
                hidden = {"collMod": collection, "index": {"name": name, "hidden": True}}
                asked = {**hidden, "writeConcern": concern(spec)}
                db = client.get_database(database)
                acknowledged(db.command(asked, allowable_errors=[NO_SUCH_INDEX]))


def _built(
    client: MongoClient[Any], spec: JobSpec, step: Step, stop: StopToken, ahead: Ahead | None
) -> Iterator[str]:
    """Builds what the link has anew; tells which, but of new collections."""

    def build_one(entry: Entry, index: IndexSpec) -> None:
        if stop.is_set():
            raise Stopped
        build(client, entry.unit(), index, spec, ahead)

    for each in step.made:
        for index in each.indexes.values():
            build_one(each, index)
    for pair in step.kept:
        entry = pair[1]
        for name, changed in reindexed(pair, spec).items():
            if changed is not None and not fits_as_is(pair, name, spec):
                build_one(entry, changed)
                yield f"built index {name} of {entry.target}"


def _finished(
    client: MongoClient[Any],
    spec: JobSpec,
    chain: Chain,
    units: Sequence[Unit],
    stop: StopToken,
    ahead: Ahead | None,
) -> Iterator[MetadataDifference]:
    """The last touch of everything; what differs, with the name it has on the source."""
    for unit in units:
        if stop.is_set():
            raise Stopped
        if spec.metadata or unit.expires:
            if ahead is not None and unit.type != "view":
                _wakes(client, unit, spec, ahead)
            for one in finish(client, unit, spec).differing:
                yield one.model_copy(update={"what": f"{unit.id}: {one.what}"})
    yield from _merged(client, spec, chain, ahead)


def _wakes(client: MongoClient[Any], unit: Unit, spec: JobSpec, ahead: Ahead) -> None:
    """Writes down which expiry is about to be switched on."""
    found = there(client, unit.target)
    if found is None or found.uuid != unit.target_uuid:
        return
    options = wanted_options(unit)
    if AFTER in options and AFTER not in fields(found.options):
        ahead.options(found, {AFTER: options[AFTER]})
    stand = {each["name"]: each for each in map(fields, raw_indexes(client, found))}
    for index in unit.indexes:
        wanted = wanted_index(index, legacy=spec.legacy_indexes)
        seconds, stands = seconds_of(wanted), stand.get(index.name)
        if seconds is not None and stands is not None and sleeps(stands, wanted):
            ahead.index(found, stands, {**stands, AFTER: seconds})


def _merged(
    client: MongoClient[Any], spec: JobSpec, chain: Chain, ahead: Ahead | None
) -> Iterator[MetadataDifference]:
    """Users and roles as of the full dump: no increment brings any."""
    for each in chain.base.namespaces:
        if each.namespace in USERS and carried(each.namespace, spec):
            yield from merge(client, Entry(each, each.namespace).unit(), ahead)
