"""A link's collections on the target: shaped before its documents come.

Collections are known by their UUIDs, of the source and of the target, whatever they are called at
the moment. Every step looks at what stands there and leaves alone what is right already, so that
a shaping that was killed is begun again from the start. Once it is over (`Position.shaped`) it
only makes sure that all is still there: documents may have come.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pymongo import MongoClient

from executors.batches import TOLERANT
from executors.commands import acknowledged, concern, drop, rename
from executors.compare import fields, is_index, wanted_index
from executors.errors import TargetDiffers
from executors.expiry import AFTER, delayed
from executors.increments.ahead import OFF, Ahead
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
    reindexed,
    shards_of,
    step_to,
    told,
)
from executors.increments.model import Chain
from executors.increments.position import (
    OtherPosition,
    open_position,
    save,
)
from executors.metadata import create_in
from executors.protocol import Stopped, StopToken
from executors.select import is_own, split
from executors.survey import Namespace, namespaces, raw_indexes
from executors.undo.aside import put_aside
from statemachine.events import IndexSpec, JobSpec
from statemachine.stimuli import Shaped


def shape(
    client: MongoClient[Any],
    spec: JobSpec,
    job: str,
    chain: Chain,
    number: int,
    stop: StopToken,
    ahead: Ahead | None = None,
) -> Shaped:
    """The target's collections, views, options and indexes become those of the link, but for new
    indexes, which wait for the documents. Expiry sleeps. Where it was done, again, it is checked.
    `ahead` takes what brings back how it was.

    Raises `OtherPosition`, `AnotherAtWork`, `TargetDiffers`, `TargetNotEmpty`, `OperatorError` as
    `step_to`, `PyMongoError`, `Stopped`.
    """
    step = step_to(chain, number, spec)
    target = Target(client, spec, step, stop, ahead)
    note = ahead.mark if ahead is not None else None
    position = open_position(client, job, chain, number, lambda: target.of(step.before), note)
    if position.shaped:
        target.must_hold(step.after, position.collections)
    else:
        made = target.shaped(position.collections)
        save(client, job, replace(position, shaped=True, collections=made))
    return Shaped(tuple(shards_of(chain, number, step)), told(step, spec))


def shape_log(
    client: MongoClient[Any],
    spec: JobSpec,
    job: str,
    chain: Chain,
    number: int,
    stop: StopToken,
    ahead: Ahead | None = None,
) -> None:
    """The link's log is to be replayed, which shapes collections itself, in the order of time.
    Raises as `shape`."""
    before = entries_of(before_link(chain, number), spec)
    target = Target(client, spec, Step(before, before, (), (), ()), stop)
    note = ahead.mark if ahead is not None else None
    open_position(client, job, chain, number, lambda: target.of(before), note)


# --- shaping ---


@dataclass(slots=True)
class Target:
    """What stands on the target while a step is taken, by name."""

    client: MongoClient[Any]
    spec: JobSpec
    step: Step
    stop: StopToken
    ahead: Ahead | None = None
    _there: dict[str, Namespace] | None = None

    @property
    def there(self) -> dict[str, Namespace]:
        if self._there is None:
            entries = (*self.step.before, *self.step.after)
            every = _standing(self.client, entries)
            self._there = {each.name: each for each in every if not is_own(each.collection)}
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
            uuid = self._make(each)
            if not each.is_view:
                held[each.dumped.uuid] = uuid
        return held

    def _make(self, entry: Entry) -> str:
        """Its UUID, if it has one."""
        spec, found = self.spec, self.there.get(entry.target)
        if found is not None and spec.drop and _is_servers(found):
            self._remove(found)
            spec = spec.model_copy(update={"drop": False})
        return create_in(self.client, entry.unit(), spec, self.ahead).uuid

    def _remove(self, found: Namespace) -> None:
        """Of what servers let nobody drop or rename, all documents."""
        self._look()
        if not _is_servers(found):
            put_aside(self.client, found, self.spec, self.ahead)
            return
        if self.ahead is not None:
            self.ahead.emptied(self.client, found, self.stop)
        drop(self.client, found.name, self.spec)

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
            self._remove(found)
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
            self._remove(self.there[to])
        if self.ahead is not None:
            self.ahead.renamed(self.there[one], to)
        rename(self.client, one, to, self.spec)
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
            if self.ahead is not None:
                self.ahead.options(found, change)
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
            if self.ahead is not None:
                self.ahead.index(found, there, None)
            command = {"dropIndexes": found.collection, "index": name}
            command["writeConcern"] = concern(self.spec)
            acknowledged(self.client.get_database(found.database).command(command))
            return
        change = {
            field: asked.get(field, False)
            for field in ADJUSTABLE
            if asked.get(field, False) != there.get(field, False)
        }
        if self.ahead is not None:
            self.ahead.index(found, there, {**there, **change})
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


def _is_servers(found: Namespace) -> bool:
    return found.collection.startswith("system.")
