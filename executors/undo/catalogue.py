"""What an operation did to the catalogue, taken back; and what was kept for that, freed.

The rows are those of `aside`, undone from the last to the first. Each looks at what stands there:
what is undone already is no news, what others changed since stays as it is and is told.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.batches import TOLERANT
from executors.commands import (
    NAMESPACE_EXISTS,
    NO_SUCH_NAMESPACE,
    acknowledged,
    concern,
    holds_documents,
    is_refused,
    listed_indexes,
    rename,
    there,
)
from executors.compare import accepted, fields, is_index
from executors.expiry import AFTER, FAR, delayed
from executors.fingerprint import digest_of
from executors.select import STAGED, STAGING, USERS, split
from executors.survey import Namespace, namespaces
from executors.undo.aside import GONE, CatalogueLog, Row
from executors.undo.log import UNDO, rows, undo_path
from executors.undo.saved import bring_back
from executors.users import clear_place, now_of
from statemachine.events import JobSpec
from statemachine.state import Unit
from statemachine.stimuli import Undone
from statemachine.words import TaskKey, TaskKind

NAMING: Final = (
    TaskKind.CREATE,
    TaskKind.FINISH,
    TaskKind.SHAPE,
    TaskKind.APPLY,
    TaskKind.SETTLE,
)
"""Operations that put aside what bears a name."""
OF_LINKS: Final = (TaskKind.SHAPE, TaskKind.APPLY, TaskKind.SETTLE)
NOTHING: Final = Undone()


def undo_create(
    client: MongoClient[Any],
    unit: Unit,
    spec: JobSpec,
    folder: Path,
    unload: Callable[[], Undone] | None = None,
    *,
    force: bool = False,
) -> Undone:
    """Take back a creation, after all else of its unit: what bore the name before bears it again.

    `unit` has the name under which it was filled (`aside.staged`). `unload` takes out of the
    collection what this job brought, or drops it: a collection that we made stays when others
    wrote to it, unless by `force`. Raises what `unload` raises, `PyMongoError`, `OSError`.
    """
    if unit.id in USERS:
        clear_place(client, STAGED[unit.id])
        return NOTHING
    unloaded = unload() if unload is not None else NOTHING
    path = undo_path(folder, TaskKey(TaskKind.CREATE, unit.id))
    undoing = _Undoing(client, spec, path, force=force, told=unloaded.kept > 0)
    return _sum(unloaded, undoing.run())


def undo_finish(client: MongoClient[Any], unit: Unit, spec: JobSpec, folder: Path) -> Undone:
    """Take back a last touch. Users go before the roles they have: dropping a role changes them."""
    first = NOTHING
    if unit.id == USERS[1]:
        first = undo_catalogue(client, undo_path(folder, _finish(USERS[0])), spec)
    return _sum(first, undo_catalogue(client, undo_path(folder, _finish(unit.id)), spec))


def undo_catalogue(
    client: MongoClient[Any], path: Path, spec: JobSpec, *, force: bool = False
) -> Undone:
    """Take back what the log at `path` tells of the catalogue; again, it does nothing. Rows of
    documents are passed over. `force`: what was made is dropped, whatever lies in it.

    Raises `PyMongoError`, `OSError`.
    """
    return _Undoing(client, spec, path, force=force).run()


def _finish(unit: str) -> TaskKey:
    return TaskKey(TaskKind.FINISH, unit)


def _sum(one: Undone, other: Undone) -> Undone:
    return Undone(
        one.documents + other.documents,
        one.kept + other.kept,
        (*one.changes, *other.changes),
    )


@dataclass(slots=True)
class _Undoing:
    client: MongoClient[Any]
    spec: JobSpec
    path: Path
    force: bool = False
    told: bool = False
    """That a collection we made holds what others wrote."""
    kept: int = 0
    changes: list[str] = field(default_factory=list)
    documents: int = 0
    _rows: list[Row] = field(default_factory=list)
    _dealt: set[str] = field(default_factory=set)
    """Names whose last word of what we made is dealt with."""

    def run(self) -> Undone:
        self._rows = CatalogueLog(self.path).told
        for row in reversed(self._rows):
            self._undo(row)
        return Undone(self.documents, self.kept, tuple(self.changes))

    def _undo(self, row: Row) -> None:
        match row["k"]:
            case "made" if row["ns"] not in self._dealt:
                self._dealt.add(row["ns"])
                self._made(row)
            case "unmade":
                self._dealt.add(row["ns"])
            case "kept" | "renamed":
                self._name_again(row)
            case "saved":
                self._bring_back(row)
            case "command":
                self._command(row)

    def _keep(self, what: str) -> None:
        self.kept += 1
        self.changes.append(f"kept: {what}")

    # --- what we made ---

    def _made(self, row: Row) -> None:
        name = row["ns"]
        found = there(self.client, name)
        if other := self._renamed(found, row):
            self._keep(f"{other}, which this job made as {name}: others renamed it")
        if found is None or self._was_before(found):
            return
        if not self._is_ours(found, row):
            self._keep(f"{name}: this {found.type} is not the one that this job made")
        elif holds_documents(self.client, found) and not (self.force and row.get("uuid")):
            self.kept += not self.told
            self.changes.append(f"kept: {name}, which this job made: others wrote to it")
        elif self._drop(found):
            self.changes.append(f"dropped {name}")

    def _is_ours(self, found: Namespace, row: Row) -> bool:
        """Where the process died before it knew its UUID, it is by its looks, and empty."""
        if found.type != row["type"]:
            return False
        if uuid := row.get("uuid"):
            return bool(found.uuid == uuid)
        return accepted(fields(bytes(row["options"].raw)), fields(found.options))

    def _renamed(self, found: Namespace | None, row: Row) -> str:
        uuid = row.get("uuid", "")
        if found is not None and found.uuid == uuid:
            return ""
        return self._name_of(uuid, row["ns"]) if uuid else ""

    def _was_before(self, found: Namespace) -> bool:
        """Whether it is what bore the name before: then all this was undone once already."""
        for row in self._rows:
            so = row["if"] if row["k"] == "command" and "if" in row else {}
            if row["k"] == "kept" and found.uuid and found.uuid == row["uuid"]:
                return True
            if "view" in so and so["ns"] == found.name and _is_view(found, so["view"]):
                return True
            if row["k"] == "saved" and row["ns"] == found.name and not self._is_made(found):
                return _is_as(found, row)
        return False

    def _is_made(self, found: Namespace) -> bool:
        return any(row["k"] == "made" and row.get("uuid") == found.uuid for row in self._rows)

    def _drop(self, found: Namespace) -> bool:
        """Of `system.js` only under another name; a server that does not rename it keeps it,
        empty."""
        name = found.collection
        if name.startswith("system."):
            name = f"{STAGING}{found.uuid[:12]}"
            try:
                rename(self.client, found.name, f"{found.database}.{name}", self.spec)
            except OperationFailure as error:
                if not is_refused(error):
                    raise
                self._keep(f"{found.name}, empty: the server does not let it be dropped")
                return False
        command = {"drop": name, "writeConcern": concern(self.spec)}
        db = self.client.get_database(found.database)
        acknowledged(db.command(command, allowable_errors=[NO_SUCH_NAMESPACE]))
        return True

    # --- names ---

    def _name_again(self, row: Row) -> None:
        """What was renamed takes its name back, unless somebody else has it now."""
        name, other = row["ns"], row["as"]
        found = there(self.client, other)
        if found is None or found.uuid != row["uuid"]:
            self._must_have(row)
            return
        try:
            rename(self.client, other, name, self.spec)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
            self._keep(f"{other}, which was {name} before: something else has that name now")
        else:
            self.changes.append(f"renamed {other} to {name}")

    def _must_have(self, row: Row) -> None:
        """Nothing of it bears the other name: undone already, never done, or gone."""
        name, uuid = row["ns"], row["uuid"]
        found = there(self.client, name)
        if (found is None or found.uuid != uuid) and not self._name_of(uuid, name):
            self._gone(f"gone: what was {name} and became {row['as']}")

    def _gone(self, what: str) -> None:
        """What somebody replaced cannot be brought back, and that is no success."""
        self.kept += 1
        self.changes.append(what)

    def _name_of(self, uuid: str, once: str) -> str:
        """What is called otherwise by now; empty: nothing of that database has this UUID."""
        every = namespaces(self.client, split(once)[0])
        return next((each.name for each in every if uuid and each.uuid == uuid), "")

    def _bring_back(self, row: Row) -> None:
        found = there(self.client, row["ns"])
        if found is not None and found.uuid == row["uuid"]:
            return  # it was never dropped
        file = self.path.with_name(row["file"])
        if found is not None and (self._is_made(found) or not _is_as(found, row)):
            self._keep(f"{file} with the buckets of {row['ns']}: something else has that name now")
            return
        brought = bring_back(self.client, row, file, self.spec)
        self.documents += brought
        if brought:
            self.changes.append(f"made {row['ns']} again, with {brought} buckets")

    # --- commands ---

    def _command(self, row: Row) -> None:
        undo = fields(bytes(row["undo"].raw))
        if "if" in row:
            so = fields(bytes(row["if"].raw))
            if between := self._between(so):
                so, undo = {**so, "ns": between}, {**undo, "dropIndexes": split(between)[1]}
            changed = self._changed(so)
            if changed is not None:
                if changed:
                    self._keep(changed)
                return
        db = self.client.get_database(row["db"])
        command = {**undo, "writeConcern": concern(self.spec)}
        allowed = [int(code) for code in row["ok"]]
        reply = db.command(command, codec_options=TOLERANT, allowable_errors=allowed)
        if acknowledged(reply).get("ok"):
            self.changes.append(row["said"])

    def _between(self, so: Row) -> str:
        """The name that what has the index bears again, where its own one was taken back before:
        the index was asked for once more when it had that."""
        found = there(self.client, so["ns"]) if "index" in so else None
        if "index" not in so or (found is not None and found.uuid == so["uuid"]):
            return ""
        other = self._name_of(so["uuid"], so["ns"])
        return other if other and split(other)[1].startswith(STAGING) else ""

    def _changed(self, so: Row) -> str | None:
        """How what stands there differs from what was left there; empty: it is undone already, or
        gone; `None`: in nothing."""
        if "user" in so or "role" in so:
            return self._changed_user(so)
        name = so["ns"]
        found = there(self.client, name)
        if "view" in so:
            if found is None:
                return None
            again = _is_view(found, so["view"])
            return "" if again else f"the {found.type} {name}, where a view was before"
        if found is None or found.uuid != so["uuid"]:
            other = self._name_of(so["uuid"], name)
            return f"what was changed of {name}: others call it {other} by now" if other else ""
        return self._changed_expiry(found, so) if "expiry" in so else self._changed_index(found, so)

    def _changed_index(self, found: Namespace, so: Row) -> str | None:
        asked = fields(bytes(so["index"].raw))
        index = listed_indexes(self.client, found).get(asked["name"])
        if index is None:
            return ""
        stands = fields(bytes(index.raw))
        if is_index(asked, stands) or is_index(delayed(asked), stands):
            return None
        return f"index {asked['name']} of {found.name}: it is another one by now"

    def _changed_expiry(self, found: Namespace, so: Row) -> str | None:
        name, seconds = so["expiry"], so["seconds"]
        if name:
            index = listed_indexes(self.client, found).get(name)
            now = index.get(AFTER) if index is not None else FAR
            off = now == FAR
        else:
            now = fields(found.options).get(AFTER)
            off = now is None
        if off:
            return ""
        what = f"index {name} of {found.name}" if name else found.name
        return None if now == seconds else f"the expiry of {what}: it is another one by now"

    def _changed_user(self, so: Row) -> str | None:
        what = "user" if "user" in so else "role"
        now, held = now_of(self.client, what, so[what])
        if now is None:
            return ""
        if digest_of(now) != bytes(so["sum"]):
            return f"{what} {so[what]}: it was changed since"
        return f"role {so[what]}: others have it by now" if held else None


def _is_as(found: Namespace, saved: Row) -> bool:
    """Whether it may be what was saved, made again before the process died."""
    return found.type == "timeseries" and found.options == bytes(saved["options"].raw)


def _is_view(found: Namespace, options: RawBSONDocument) -> bool:
    return found.type == "view" and found.options == bytes(options.raw)


# --- commit ---


def kept_by(folder: Path) -> list[tuple[str, str]]:
    """What a job replaced and keeps: its name, and the one it has since. Raises `OSError`."""
    return list(dict.fromkeys((row["ns"], row["as"]) for row in _named(folder, "kept")))


def free(client: MongoClient[Any], folder: Path) -> tuple[str, ...]:
    """Drop what a job keeps to be taken back, and what it left under names between; then its undo
    logs. Again, it drops what is left. In words. Raises `PyMongoError`, `OSError`."""
    freed = [
        f"{row['as']}, which was {row['ns']} before"
        for row in _named(folder, "kept")
        if _free(client, row["as"], row["uuid"])
    ]
    freed += [
        f"{row['ns']}, which never got its own name"
        for row in _named(folder, "made")
        if split(row["ns"])[1].startswith(STAGING) and _free(client, row["ns"], row.get("uuid"))
    ]
    if (folder / UNDO).is_dir():
        shutil.rmtree(folder / UNDO)
    return tuple(freed)


def free_own(client: MongoClient[Any], folder: Path) -> tuple[str, ...]:
    """Drop what the increments of a chain put aside of collections that the job itself had made:
    a rollback as a whole needs nothing of them. What lay there before stays until `free`. Again,
    it drops what is left. In words. Raises `PyMongoError`, `OSError`.
    """
    made = {row["uuid"] for row in _named(folder, "made") if row.get("uuid")}
    return tuple(
        f"{row['as']}, which was {row['ns']} before"
        for row in _named(folder, "kept", OF_LINKS)
        if row["uuid"] in made and _free(client, row["as"], row["uuid"])
    )


def _named(folder: Path, kind: str, tasks: Sequence[TaskKind] = NAMING) -> Iterator[Row]:
    for task in tasks:
        for path in sorted((folder / UNDO / task).glob("*.bson")):
            yield from (fields(bytes(row.raw)) for row in rows(path) if row["k"] == kind)


def _free(client: MongoClient[Any], name: str, uuid: str | None) -> bool:
    found = there(client, name)
    if found is None or uuid not in (None, found.uuid):
        return False
    command = {"drop": found.collection, "writeConcern": {"w": "majority"}}
    acknowledged(client.get_database(found.database).command(command, allowable_errors=[*GONE]))
    return True
