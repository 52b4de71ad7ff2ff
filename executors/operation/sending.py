"""One command, sent so that its trace can be found: a server goes on with it when whoever sent it
dies."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from bson import Binary
from pymongo import MongoClient
from pymongo.errors import OperationFailure, WTimeoutError

from executors.operation.actions import CODEC
from executors.operation.traits import as_sent, database_of, name_of
from executors.protocol import Stopped, StopToken

WRITE_CONCERN_TIMEOUT: Final = 64
LOOK_S: Final = 0.1
"""Between two looks at what still runs."""


def send(
    client: MongoClient[Any],
    database: str,
    command: Mapping[str, Any],
    note: Callable[[Binary], None],
) -> str:
    """Acknowledged by a majority; what it did, in words. `note` is called before it goes, with the
    session by which it can be found. Raises `PyMongoError`, and what `note` does."""
    where = client.get_database(database_of(command, database))
    with client.start_session(causal_consistency=False) as session:
        note(session.session_id["id"])
        reply = where.command(as_sent(command), codec_options=CODEC, session=session)
    _refuse_errors(reply)
    if "nModified" in reply:
        return f": {reply['n']} matched, {reply['nModified']} changed"
    return f": {reply['n']} documents" if name_of(command) in ("insert", "delete") else ""


def _refuse_errors(reply: Mapping[str, Any]) -> None:
    """Those of single writes and of acknowledgements, which a driver leaves in the reply."""
    if errors := reply.get("writeErrors"):
        raise OperationFailure(errors[0].get("errmsg", ""), errors[0].get("code"), reply)
    if concern := reply.get("writeConcernError"):
        kind = WTimeoutError if concern.get("code") == WRITE_CONCERN_TIMEOUT else OperationFailure
        raise kind(concern.get("errmsg", ""), concern.get("code"), reply)


def wait_out(client: MongoClient[Any], session: Binary | None, stop: StopToken) -> None:
    """Return when nothing of the session runs on the server any more, however long that takes: only
    then a look tells what became of it. Everybody may ask for his own. Raises `PyMongoError`,
    `Stopped`."""
    while session is not None and _runs(client, session):
        if stop.is_set():
            raise Stopped
        time.sleep(LOOK_S)


def _runs(client: MongoClient[Any], session: Binary) -> bool:
    mine: list[Mapping[str, Any]] = [
        {"$currentOp": {"allUsers": False, "idleSessions": False}},
        # The driver may look with that very session.
        {"$match": {"lsid.id": session, "ns": {"$ne": "admin.$cmd.aggregate"}}},
        {"$limit": 1},
    ]
    return bool(list(client.admin.aggregate(mine)))
