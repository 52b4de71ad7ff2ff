"""A link's collections on the target: shaped before its documents come, settled behind them.

Collections are known by their UUIDs, of the source and of the target, whatever they are called at
the moment. Every step looks at what stands there and leaves alone what is right already, so that
a shaping that was killed is begun again from the start. Once it is over (`Position.shaped`) it
only makes sure that all is still there: documents may have come.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pymongo import MongoClient

from executors.batches import TOLERANT
from executors.boundaries import from_text
from executors.compare import fields, is_index, wanted_index
from executors.errors import TargetDiffers
from executors.expiry import AFTER, delayed
from executors.finish import finish
from executors.increments.catalogue import (
    ADJUSTABLE,
    NONE_OF,
    Entry,
    Pair,
    Step,
    adjustable,
    altered,
    before_link,
    entries_of,
    fits_as_is,
    reindexed,
    shards_of,
    step_to,
    told,
)
from executors.increments.catalogue_at import catalogue_at
from executors.increments.model import Chain
from executors.increments.position import (
    OtherPosition,
    close_position,
    open_position,
    position_at,
    save,
)
from executors.metadata import acknowledged, build, concern, create, drop
from executors.protocol import Stopped, StopToken
from executors.select import USERS, carried, split
from executors.survey import Namespace, namespaces, raw_indexes
from statemachine.events import IndexSpec, JobSpec, MetadataDifference
from statemachine.stimuli import Settled, Shaped

OFF = "off"
"""No expiry, in a change of a collection."""


INDEX_NOT_FOUND: Final = 27
"""It was given up in the full dump."""


def shape(
    client: MongoClient[Any], spec: JobSpec, job: str, chain: Chain, number: int, stop: StopToken
) -> Shaped:
    """The target's collections, views, options and indexes become those of the link, but for new
    indexes, which wait for the documents. Expiry sleeps. Where it was done, again, it is checked.

    Raises `OtherPosition`, `AnotherAtWork`, `TargetDiffers`, `TargetNotEmpty`, `OperatorError` as
    `step_to`, `PyMongoError`, `Stopped`.
    """
    step = step_to(chain, number, spec)
    target = Target(client, spec, step, stop)
    position = open_position(client, job, chain, number, first=lambda: target.of(step.before))
    if position.shaped:
        target.must_hold(step.after, position.collections)
    else:
        made = target.shaped(position.collections)
        save(client, job, replace(position, shaped=True, collections=made))
    return Shaped(tuple(shards_of(chain, number, step)), told(step, spec))


def shape_log(
    client: MongoClient[Any], spec: JobSpec, job: str, chain: Chain, number: int, stop: StopToken
) -> None:
    """The link's log is to be replayed, which shapes collections itself, in the order of time.
    Raises as `shape`."""
    before = entries_of(before_link(chain, number), spec)
    target = Target(client, spec, Step(before, before, (), (), ()), stop)
    open_position(client, job, chain, number, first=lambda: target.of(before))


def settle(
    client: MongoClient[Any],
    spec: JobSpec,
    job: str,
    chain: Chain,
    number: int,
    stop: StopToken,
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
    changes = tuple(_built(client, spec, step, stop))
    _hide(client, spec, step)
    differing: tuple[MetadataDifference, ...] = ()
    if last:
        differing = tuple(_finished(client, spec, chain, step.after, position.collections, stop))
    close_position(client, job, chain, number)
    return Settled(differing, changes)


def settle_log(
    client: MongoClient[Any], spec: JobSpec, job: str, chain: Chain, number: int, stop: StopToken
) -> Settled:
    """The link's log is replayed up to `spec.at`: as `settle` at the last link, but nothing is left
    to build. Raises `DamagedDump`, `UnknownChange`, and as `settle`.
    """
    position = position_at(client, job, chain, number)
    link = chain.increments[number - 1]
    before = before_link(chain, number)
    there = catalogue_at(before, link.dump.root, link.log, spec.at, stop)
    entries = entries_of(there, spec)
    differing = tuple(_finished(client, spec, chain, entries, position.collections, stop))
    close_position(client, job, chain, number)
    stay = [each.namespace for each in before if each.type == "timeseries"]
    told = tuple(f"{name} is as of the link before: a log does not show it" for name in stay)
    return Settled(differing, told)


# --- shaping ---


@dataclass(slots=True)
class Target:
    """What stands on the target while a step is taken, by name."""

    client: MongoClient[Any]
    spec: JobSpec
    step: Step
    stop: StopToken
    _there: dict[str, Namespace] | None = None

    @property
    def there(self) -> dict[str, Namespace]:
        if self._there is None:
            entries = (*self.step.before, *self.step.after)
            self._there = {each.name: each for each in _standing(self.client, entries)}
        return self._there

    def of(self, entries: tuple[Entry, ...]) -> dict[str, str]:
        """The target's UUIDs of collections that stand under their names, by those of the source.

        Raises `OtherPosition` where one does not.
        """
        return {
            each.dumped.uuid: self._at(each, each.target).uuid
            for each in entries
            if not each.is_view
        }

    def must_hold(self, entries: tuple[Entry, ...], collections: Mapping[str, str]) -> None:
        """Raises `OtherPosition` where something is not there, or not what was there before."""
        for each in entries:
            found = self._at(each, each.target)
            if not each.is_view and found.uuid != collections.get(each.dumped.uuid):
                raise OtherPosition(f"another {each.target} than this job left", "that one")

    def shaped(self, collections: Mapping[str, str]) -> dict[str, str]:
        """Take the step; returns what `of` would then. `collections`: those before it."""
        names = {found.uuid: name for name, found in self.there.items() if found.uuid}
        kept = [pair for pair in self.step.kept if not pair[1].is_view]
        held: dict[str, str] = {}
        for one, other in kept:
            held[other.dumped.uuid] = uuid = collections.get(one.dumped.uuid, "")
            if uuid not in names:
                raise OtherPosition(f"no {one.target} as this job left it", "it")
        for each in self.step.gone:
            self._drop(each, names.get(collections.get(each.dumped.uuid, ""), ""))
        self._rename({held[other.dumped.uuid]: other.target for _, other in kept})
        for pair in kept:
            self._alter(pair)
        for each in self.step.made:
            self._look()
            uuid = create(self.client, each.unit(), self.spec).uuid
            if not each.is_view:
                held[each.dumped.uuid] = uuid
        return held

    def _look(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _at(self, entry: Entry, name: str) -> Namespace:
        found = self.there.get(name)
        if found is None or found.type != entry.dumped.type:
            what = f"no {name}" if found is None else f"{name}, a {found.type}"
            raise OtherPosition(what, f"a {entry.dumped.type} of that name")
        return found

    def _drop(self, entry: Entry, name: str) -> None:
        """A collection, whatever its name is now; a view, unless a collection has its name."""
        name = entry.target if entry.is_view else name
        found = self.there.get(name)
        if found is not None and (found.type == "view") == entry.is_view:
            self._look()
            drop(self.client, name, self.spec)
            del self.there[name]

    def _rename(self, wanted: Mapping[str, str]) -> None:
        """Each collection, by UUID, to its name; those that wait for one another in a circle by
        a name between, under which a repetition finds them too."""
        moving = {
            name: wanted[found.uuid]
            for name, found in self.there.items()
            if wanted.get(found.uuid, name) != name
        }
        while moving:
            free = next((one for one, to in moving.items() if to not in moving), "")
            one = free or next(iter(moving))
            to = moving.pop(one)
            if free:
                self._move(one, to)
                continue
            aside = f"{split(one)[0]}.ferrylog.{self.there[one].uuid}"
            self._move(one, aside)
            moving[aside] = to

    def _move(self, one: str, to: str) -> None:
        self._look()
        if to in self.there:
            if not self.spec.drop:
                raise TargetDiffers(to, f"which is not of this chain, and {one} becomes that")
            drop(self.client, to, self.spec)
        command = {"renameCollection": one, "to": to, "writeConcern": concern(self.spec)}
        acknowledged(self.client.admin.command(command))
        self.there[to] = replace(self.there.pop(one), collection=split(to)[1])

    def _alter(self, pair: Pair) -> None:
        """Options and indexes of a collection that stands under its new name."""
        found = self.there[pair[1].target]
        options = altered(pair)
        change = {
            name: NONE_OF[name] if value is None else value
            for name, value in options.items()
            if name != AFTER
        }
        if AFTER in options and AFTER in fields(found.options):
            change[AFTER] = OFF
        if change:
            self._modify(found, change)
        indexes = reindexed(pair, self.spec)
        if indexes:
            for raw in raw_indexes(self.client, found):
                there = fields(raw)
                if there["name"] in indexes:
                    self._reindex(found, there, indexes[there["name"]])

    def _reindex(self, found: Namespace, there: dict[str, Any], index: IndexSpec | None) -> None:
        """An index that changed: adjusted, or dropped, unless it is the new one already."""
        name = there["name"]
        asked = None
        if index is not None:
            asked = delayed(wanted_index(index, legacy=self.spec.legacy_indexes))
            if is_index(asked, there):
                return
        if asked is None or not adjustable(asked, there):
            self._look()
            command = {"dropIndexes": found.collection, "index": name}
            command["writeConcern"] = concern(self.spec)
            acknowledged(self.client.get_database(found.database).command(command))
            return
        change = {
            field: asked.get(field, False)
            for field in ADJUSTABLE
            if asked.get(field, False) != there.get(field, False)
        }
        self._modify(found, {"index": {"name": name, **change}})

    def _modify(self, found: Namespace, change: dict[str, Any]) -> None:
        self._look()
        command = {"collMod": found.collection, **change, "writeConcern": concern(self.spec)}
        db = self.client.get_database(found.database)
        acknowledged(db.command(command, codec_options=TOLERANT))


def _standing(client: MongoClient[Any], entries: tuple[Entry, ...]) -> Iterator[Namespace]:
    """All of the databases that these are in."""
    for database in sorted({split(each.target)[0] for each in entries}):
        yield from namespaces(client, database)


# --- settling ---


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
                acknowledged(db.command(asked, allowable_errors=[INDEX_NOT_FOUND]))


def _built(client: MongoClient[Any], spec: JobSpec, step: Step, stop: StopToken) -> Iterator[str]:
    """Builds what the link has anew; tells which, but of new collections."""
    for each in step.made:
        for index in each.indexes.values():
            _build(client, spec, each, index, stop)
    for pair in step.kept:
        entry = pair[1]
        for name, changed in reindexed(pair, spec).items():
            if changed is not None and not fits_as_is(pair, name, spec):
                _build(client, spec, entry, changed, stop)
                yield f"built index {name} of {entry.target}"


def _build(
    client: MongoClient[Any], spec: JobSpec, entry: Entry, index: IndexSpec, stop: StopToken
) -> None:
    if stop.is_set():
        raise Stopped
    build(client, entry.unit(), index, spec)


def _finished(
    client: MongoClient[Any],
    spec: JobSpec,
    chain: Chain,
    entries: tuple[Entry, ...],
    collections: Mapping[str, str],
    stop: StopToken,
) -> Iterator[MetadataDifference]:
    """The last touch of everything; what differs, with the name it has on the source."""
    for each in entries:
        if stop.is_set():
            raise Stopped
        unit = each.unit(collections.get(each.dumped.uuid, ""))
        if spec.metadata or unit.expires:
            for one in finish(client, unit, spec).differing:
                yield one.model_copy(update={"what": f"{unit.id}: {one.what}"})
    yield from _merged(client, spec, chain)


def _merged(client: MongoClient[Any], spec: JobSpec, chain: Chain) -> Iterator[MetadataDifference]:
    """Users and roles as of the full dump: no increment brings any."""
    for each in chain.base.namespaces:
        if each.namespace in USERS and carried(each.namespace, spec):
            yield from finish(client, Entry(each, each.namespace).unit(), spec).differing
