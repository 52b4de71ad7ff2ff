"""Names, options and indexes of a source as they change, on a target; and what is called how there.

Up to an event of the stream the target has the names that the source had then. What an event says
besides is a reason to look: collections become what those of the same UUID are on the source by
now (`alike`), and those whose documents no event tells of are carried whole.
"""

from collections.abc import Iterator
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import TOLERANT
from executors.boundaries import from_text
from executors.compare import fields, shown
from executors.finish import finish
from executors.increments.alike import at, drop, indexes_of, make_alike, unit_of, whereabouts
from executors.increments.carry import Carrier, Gone
from executors.increments.change import Change
from executors.increments.ddl import apply_ddl, is_carried
from executors.increments.errors import Unfollowable
from executors.metadata import NO_SUCH_NAMESPACE, acknowledged, concern
from executors.select import CARRIED_SYSTEM, USERS, query_of, renamed, split, targets_of
from executors.survey import Namespace, catalogue
from statemachine.events import JobSpec, MetadataDifference
from statemachine.state import Unit

ASIDE: Final = "ferrylog.aside"
"""Where a collection of the database lies while it is carried whole."""


class Mirror:
    """Makes changes of the catalogue on the target, and tells them in words."""

    def __init__(
        self,
        source: MongoClient[Any],
        target: MongoClient[Any],
        spec: JobSpec,
        carrier: Carrier,
    ) -> None:
        self._source = source
        self._target = target
        self._spec = spec
        self._carrier = carrier
        self._known: set[tuple[str, str]] = set()
        """Collections, by UUID and name, that the target has: looked at once."""
        self.changes: list[str] = []

    def place(self, uuid: str, namespace: str, renaming: Change | None) -> str:
        """Where the documents of a collection belong that is called so before `renaming`, which
        ends the round; empty when the source has it no more.

        A target that has it not under its name has been here before: then the rename is done. Or
        it was never there: then it is carried whole. Raises as `apply`.
        """
        name = self._name(namespace)
        if (uuid, name) not in self._known and not self._has(name):
            after = self._name(renaming.renamed) if renaming and renaming.uuid == uuid else ""
            if after and self._has(after):
                return after
            if not self._whole(uuid, namespace):
                return ""
        self._known.add((uuid, name))
        return name

    def apply(self, change: Change) -> None:
        """Raises `Unfollowable`, `OperatorError`, `PyMongoError`, `Stopped`."""
        self._known.clear()
        match change.kind:
            case "rename":
                self._rename(change)
            case "drop" | "create" | "modify" if not change.uuid and self._is_ours(change):
                self._view(change.namespace)
            case "create" | "createIndexes" | "modify" if self._is_ours(change):
                self._change(change)
            case "dropIndexes" if self._is_ours(change):
                self._drop_indexes(change)
            case _:
                self._tell(apply_ddl(self._target, change.raw, self._spec))

    def settle(self, entry: Namespace) -> Iterator[MetadataDifference]:
        """Everything has come: what is missing of options and indexes is made, expiry is switched
        on, users and roles are merged; how the target differs if the job asks for that, and which
        indexes it will not have in any case. Raises as `apply`."""
        name = entry.name
        if name not in USERS:
            name = renamed(name, self._spec.renames)
            self._complete(entry, name)
        unit = unit_of(self._source, entry, name)
        differing = finish(self._target, unit, self._spec).differing
        if not self._spec.metadata:
            differing = (*differing, *self._missing(unit))
        for each in differing:
            yield each.model_copy(update={"what": f"{name}: {each.what}"})

    def _complete(self, entry: Namespace, name: str) -> None:
        drop(self._target, f"{split(name)[0]}.{ASIDE}", self._spec)
        if entry.type == "collection" and not self._has(name):
            self._whole(entry.uuid, entry.name)
        elif entry.collection in CARRIED_SYSTEM:  # no stream tells of it
            self._carrier.keys(entry.uuid, entry.name, name, self._carrier.all_keys(name))
            self._carrier.whole(entry, entry.name, name)
        self._tell(*make_alike(self._target, unit_of(self._source, entry, name), self._spec))

    def _missing(self, unit: Unit) -> Iterator[MetadataDifference]:
        there = indexes_of(self._target, unit.target)
        for index in unit.indexes:
            if index.name not in there:
                source = shown(fields(from_text(index.spec)))
                yield MetadataDifference(what=f"index {index.name}", source=source, target="")

    def _name(self, namespace: str) -> str:
        """On the target; empty if it is not selected."""
        return renamed(namespace, self._spec.renames) if is_carried(namespace, self._spec) else ""

    def _is_ours(self, change: Change) -> bool:
        return is_carried(change.namespace, self._spec)

    def _has(self, name: str) -> bool:
        found = at(self._target, name)
        return found is not None and found.type == "collection"

    def _tell(self, *changes: str) -> None:
        self.changes += filter(None, changes)

    def _now(self, uuid: str, namespace: str) -> Namespace | None:
        """What the source has of this UUID, whatever it is called; None when it is gone."""
        database = namespace.partition(".")[0]
        while now := whereabouts(self._source, database, uuid):
            entry = at(self._source, now)
            if entry is not None and entry.uuid == uuid:
                must_be_followable([entry], now=True)
                return entry
        return None

    # --- views ---

    def _view(self, namespace: str) -> None:
        """They have no UUID, and no documents: what the name means by now is what counts, but for
        collections, whose own events come."""
        name = self._name(namespace)
        entry, there = at(self._source, namespace), at(self._target, name)
        if there is not None and there.type == "collection":
            return
        if entry is not None and entry.type != "collection":
            must_be_followable([entry], now=True)
            self._tell(*make_alike(self._target, unit_of(self._source, entry, name), self._spec))
        elif there is not None and drop(self._target, name, self._spec):
            self._tell(f"{name} dropped")

    # --- collections ---

    def _change(self, change: Change) -> None:
        """Of one that is not there yet it is its creation; or it is renamed already."""
        name = self._name(change.namespace)
        if change.kind == "create" or self._has(name):
            self._alike(change.uuid, change.namespace)

    def _alike(self, uuid: str, namespace: str, aside: str = "") -> Namespace | None:
        """The collection on the target, or what is to become it, becomes what it is on the source;
        what that is."""
        entry = self._now(uuid, namespace)
        if entry is None:
            return None
        unit = self._described(entry, aside or self._name(namespace))
        if unit is None:
            return self._alike(uuid, namespace, aside)
        self._refuse_two(namespace)
        changes = list(make_alike(self._target, unit, self._spec))
        if not aside:
            self._tell(*changes)
        return entry

    def _described(self, entry: Namespace, name: str) -> Unit | None:
        """None: the name may have had another meaning by then, or none."""
        try:
            unit = unit_of(self._source, entry, name)
        except OperationFailure as error:
            if error.code != NO_SUCH_NAMESPACE:
                raise
            return None
        same = whereabouts(self._source, entry.database, entry.uuid) == entry.name
        return unit if same else None

    def _refuse_two(self, namespace: str) -> None:
        """Raises `TwoBecomeOne`."""
        if self._spec.renames:
            names = {entry.name for entry in catalogue(self._source, self._spec)}
            targets_of(sorted(names | {namespace}), self._spec)

    def _drop_indexes(self, change: Change) -> None:
        """Also those that have come again, maybe with another key."""
        self._tell(apply_ddl(self._target, change.raw, self._spec))
        if self._has(self._name(change.namespace)):
            self._alike(change.uuid, change.namespace)

    def _whole(self, uuid: str, namespace: str) -> bool:
        """The collection under the name that `namespace` has on the target, with all documents.

        It gets the name when all of them are there: one that is there is whole.
        """
        name = self._name(namespace)
        aside = f"{split(name)[0]}.{ASIDE}"
        while True:
            drop(self._target, aside, self._spec)
            entry = self._alike(uuid, namespace, aside)
            if entry is None:
                return False
            try:
                self._carrier.whole(entry, namespace, aside)
            except Gone:
                continue
            self._move(aside, name)
            self._tell(f"{name} carried whole")
            return True

    def _rename(self, change: Change) -> None:
        """One that was done is seen by the old name, which is gone."""
        before, after = self._name(change.namespace), self._name(change.renamed)
        if before == after:
            return
        if after and self._has(after):
            self._refuse_two(change.renamed)
        queries = self._spec.queries
        same = query_of(change.namespace, queries) == query_of(change.renamed, queries)
        if before and after and same and self._has(before):
            self._move(before, after)
            self._tell(f"{before} renamed to {after}")
        elif not after:
            self._drop(before)
        elif not before or not same or not self._has(after):
            self._drop(before)
            if not self._whole(change.uuid, change.renamed):
                self._drop(after)

    def _drop(self, name: str) -> None:
        if name and drop(self._target, name, self._spec):
            self._tell(f"{name} dropped")

    def _move(self, before: str, after: str) -> None:
        there = at(self._target, after)
        if there is not None and there.type == "view":
            self._drop(after)
        command = {"renameCollection": before, "to": after, "dropTarget": True}
        whole = {**command, "writeConcern": concern(self._spec)}
        acknowledged(self._target.admin.command(whole, codec_options=TOLERANT))


def must_be_followable(entries: list[Namespace], *, now: bool = False) -> None:
    """Raises `Unfollowable`: what inserts into a time series is in no change stream, and servers
    remove the oldest of a capped collection without a word. `now`: while it is followed."""
    refused = [
        f"{entry.name} ({'time series' if entry.type == 'timeseries' else 'capped'})"
        for entry in entries
        if entry.type == "timeseries" or fields(entry.options).get("capped")
    ]
    if refused:
        raise Unfollowable(refused, now=now)
