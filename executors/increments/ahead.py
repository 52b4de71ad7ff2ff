"""What a task of an increment writes down before it changes the target (write-ahead).

Beside the rows of `executors.undo.recording`, of more than one collection here, each behind the
last row that names one, and those of `executors.undo.aside`:

    {k: "mark", before}    the job's mark on the target (`position`); `null`: none

A command that takes back a change of what others may change, too, is of use where it stands as we
left it: `if: {ns, uuid, options, before}` or `if: {ns, uuid, name, ours, before}`, of an index.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

from executors.commands import NO_SUCH_NAMESPACE
from executors.compare import GONE_INDEX_FIELDS, fields
from executors.expiry import AFTER
from executors.increments.catalogue import ADJUSTABLE, NONE_OF, adjustable
from executors.protocol import StopToken
from executors.rows import rows as found_rows
from executors.survey import Namespace
from executors.undo.aside import CatalogueLog, index_row, inverse
from executors.undo.log import UndoLog, rows, undo_path
from executors.undo.recording import erased, head, inserted, replaced
from statemachine.words import ShardId, TaskKey, TaskKind, UnitType

OFF: Final = "off"
"""No expiry, in a change of a collection."""
NO_SUCH_INDEX: Final = 27
HELD_BYTES: Final = 8 << 20
"""Of rows that wait to be synced, about."""
UNSAID: Final = {**NONE_OF, AFTER: OFF}
"""What an option that can be changed is where nobody says."""
OF_DOCUMENTS: Final = ("documents", "inserted", "stamped", "replaced", "erased")
"""Kinds of rows."""


def moved_by(shard: ShardId) -> TaskKey:
    """Whose log takes the documents that gave way to those of a shard. They are of other shards,
    too: they are put back when all of these are undone, with the link's shape."""
    return TaskKey(TaskKind.SHAPE, shard)


class Ahead(CatalogueLog):
    """The undo log of one task of an increment. For one thread."""

    def __init__(self, folder: Path, task: TaskKey) -> None:
        """`folder`: the job's own."""
        path = undo_path(folder, task)
        UndoLog.__init__(self, path)
        self._there = path
        self.told = [fields(bytes(row.raw)) for row in rows(path) if row["k"] not in OF_DOCUMENTS]
        self._about: tuple[str, str] | None = None
        self._held = 0
        self.make()

    # --- documents: durable when `sync` returns ---

    def begin(self) -> None:
        """A run in which no document comes twice: what it says is taken back as one."""
        self._about = None

    def inserted(self, namespace: str, kind: UnitType, documents: Iterable[bytes]) -> None:
        """Documents under whose `_id`s nothing lies."""
        self._tell(namespace, kind, inserted(documents))

    def replaced(self, namespace: str, kind: UnitType, ours: bytes, before: bytes) -> None:
        self._tell(namespace, kind, [replaced(ours, before)])

    def erased(self, namespace: str, kind: UnitType, documents: Iterable[bytes]) -> None:
        self._tell(namespace, kind, map(erased, documents))

    def _tell(self, namespace: str, kind: UnitType, told: Iterable[bytes]) -> None:
        for row in told:
            if self._about != (namespace, kind):
                self._about = (namespace, kind)
                self.add(head(namespace, kind))
            self.add(row)
            self._held += len(row)
            if self._held >= HELD_BYTES:
                self.sync()

    def sync(self) -> None:
        super().sync()
        self._held = 0

    def emptied(self, client: MongoClient[Any], found: Namespace, stop: StopToken) -> None:
        """All documents of a collection that servers let nobody rename. Durable when this returns.
        Raises `PyMongoError`, `OSError`, `Stopped`."""
        every = found_rows(client, found.database, {"find": found.collection}, stop)
        self.erased(found.name, "collection", every)
        self.sync()

    # --- the catalogue: durable when each returns ---

    def mark(self, before: Mapping[str, Any] | None) -> None:
        """Once: what an earlier attempt found is what lay there before."""
        if not any(row["k"] == "mark" for row in self.told):
            self.note({"k": "mark", "before": before})

    def renamed(self, found: Namespace, to: str) -> None:
        self.note({"k": "renamed", "ns": found.name, "as": to, "uuid": found.uuid})

    def options(self, found: Namespace, change: Mapping[str, Any]) -> None:
        """`change`: of a `collMod`, but of an index."""
        there = fields(found.options)
        before = {name: there.get(name, UNSAID.get(name)) for name in change}
        said = f"put back {', '.join(change)} of {found.name}"
        undo = {"collMod": found.collection, **before}
        told = {"options": dict(change), "before": before}
        self._command(found, undo, said, told)

    def index(
        self, found: Namespace, before: Mapping[str, Any], ours: Mapping[str, Any] | None
    ) -> None:
        """An index as it stands, and what becomes of it; `None`: it goes."""
        name = before["name"]
        if ours is not None and adjustable(dict(ours), dict(before)):
            change = {
                field: before.get(field, False)
                for field in ADJUSTABLE
                if before.get(field, False) != ours.get(field, False)
            }
            undo = {"collMod": found.collection, "index": {"name": name, **change}}
            so = {"name": name, "ours": ours, "before": before}
            self._command(found, undo, f"put back index {name} of {found.name}", so)
            return
        self._index_again(found, before)
        if ours is not None:
            self.note(index_row(found, ours))

    def _index_again(self, found: Namespace, before: Mapping[str, Any]) -> None:
        name = before["name"]
        wanted = {field: value for field, value in before.items() if field not in GONE_INDEX_FIELDS}
        if "collation" in fields(found.options):  # else it would inherit the collection's
            wanted.setdefault("collation", {"locale": "simple"})
        undo = {"createIndexes": found.collection, "indexes": [wanted]}
        said = f"put back index {name} of {found.name}"
        self._command(found, undo, said, {"name": name, "ours": None, "before": before})

    def hidden(self, namespace: str, index: str) -> None:
        """A hidden index that is shown for a moment: whoever is killed meanwhile leaves it so."""
        database, _, collection = namespace.partition(".")
        undo = {"collMod": collection, "index": {"name": index, "hidden": True}}
        ok = (NO_SUCH_NAMESPACE, NO_SUCH_INDEX)
        self.note(inverse(database, undo, f"hid index {index} of {namespace}", ok=ok))

    def _command(
        self, found: Namespace, undo: Mapping[str, Any], said: str, so: Mapping[str, Any]
    ) -> None:
        told = {"ns": found.name, "uuid": found.uuid, **so}
        ok = (NO_SUCH_NAMESPACE, NO_SUCH_INDEX)
        self.note(inverse(found.database, undo, said, ok=ok, **told))
