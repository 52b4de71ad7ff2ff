"""What tests of undoing share: all that a deployment holds, to the byte, and processes that die."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from executors.batches import RAW
from executors.source import BUCKETS
from tests.executors.examples import Client

T = TypeVar("T")
WRITES = (
    "create", "drop", "renameCollection", "createIndexes", "dropIndexes", "collMod", "insert",
    "delete", "update", "dropUser", "dropRole", "_mergeAuthzCollections",
)  # fmt: skip


@dataclass(frozen=True)
class Held:
    """One collection or view; made anew, it has another UUID."""

    type: str
    options: bytes
    indexes: tuple[bytes, ...]
    documents: tuple[bytes, ...]
    uuid: str = ""


def world(client: Client, *, uuids: bool = True) -> dict[str, Held]:
    """All that is not the server's own."""
    databases = set(client.list_database_names()) - {"admin", "config", "local"}
    return {
        f"{database}.{entry['name']}": _held(client[database], entry, uuids=uuids)
        for database in sorted(databases)
        for entry in _cursor(client[database], {"listCollections": 1})
        if not entry["name"].startswith(BUCKETS) and entry["name"] != "system.views"
    }


def _held(db: Database[Any], entry: Any, *, uuids: bool) -> Held:
    name, kind, uuid = entry["name"], entry["type"], entry["info"].get("uuid")
    options = bytes(entry["options"].raw)
    if kind == "view":
        return Held(kind, options, (), ())
    lie = BUCKETS + name if kind == "timeseries" else name
    indexes = sorted(bytes(each.raw) for each in _cursor(db, {"listIndexes": name}))
    documents = sorted(bytes(each.raw) for each in _cursor(db, {"find": lie}))
    known = bytes(uuid).hex() if uuids and uuid is not None else ""
    return Held(kind, options, tuple(indexes), tuple(documents), known)


def _cursor(db: Database[Any], command: dict[str, Any]) -> list[RawBSONDocument]:
    large = {"batchSize": 10_000}
    more = large if "find" in command else {"cursor": large}
    reply = db.command({**command, **more}, codec_options=RAW)
    assert not reply["cursor"]["id"]
    return list(reply["cursor"]["firstBatch"])


@contextmanager
def nothing_expires(*clients: Client) -> Iterator[None]:
    """In time: what is compared is not to go by itself."""
    for client in clients:
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    yield
    for client in clients:
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})


class Died(BaseException):
    """The process is no more; nothing catches that."""


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: int, *, done: bool) -> Iterator[None]:
    """The process dies with its `at`th command that writes: before it, or when it is `done`."""
    real: Callable[..., Any] = Database.command
    left = at

    def command(self: Database[Any], asked: Any, *args: Any, **more: Any) -> Any:
        nonlocal left
        writes = next(iter(asked), "") in WRITES if not isinstance(asked, str) else False
        if writes and left == 0 and not done:
            raise Died
        reply = real(self, asked, *args, **more)
        if writes and left == 0:
            raise Died
        left -= writes
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(Database, "command", command)
        yield


def deaths(
    monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], T], work: Callable[[T], object]
) -> Iterator[T]:
    """Prepare, and do the work up to each point at which the process can die, one after the other;
    the last time it gets through."""
    for at in count():
        for done in (False, True):
            prepared = prepare()
            try:
                with dying(monkeypatch, at, done=done):
                    work(prepared)
            except Died:
                yield prepared
            else:
                yield prepared
                return
