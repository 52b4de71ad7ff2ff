"""What a process sent before it died: a server goes on with it, and undoing beside it would leave
behind what it writes last."""

import time
from typing import Any, Final

from pymongo import MongoClient

from executors.clients import APP
from executors.protocol import Stopped, StopToken

LOOK_S: Final = 0.1
"""Between two looks; also what a server may take to read what lies in its connections."""
WRITES: Final = ("insert", "update", "remove")


def wait_for_the_dead(client: MongoClient[Any], stop: StopToken) -> None:
    """Return when every write of a program of this name that runs now has ended. Others of that
    name may go on with new ones. Everybody may ask for his own. Raises `PyMongoError`, `Stopped`.
    """
    left = _writing(client)
    time.sleep(LOOK_S)
    left |= _writing(client)
    while left:
        if stop.is_set():
            raise Stopped
        time.sleep(LOOK_S)
        left &= _writing(client)


def _writing(client: MongoClient[Any]) -> set[Any]:
    named = {"appName": APP, "active": True, "op": {"$in": [*WRITES]}}
    look: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": False, "idleSessions": False}},
        {"$match": named},
        {"$project": {"opid": 1}},
    ]
    return {each["opid"] for each in client.admin.aggregate(look)}
