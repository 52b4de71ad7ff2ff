"""Small administration of servers we own: initiating a replica set of one."""

import time
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

ALREADY_INITIATED = 23


def initiate(uri: str, name: str, host: str) -> None:
    """Make the server the only member of the replica set `name`."""
    with MongoClient[dict[str, Any]](uri, directConnection=True) as client:
        try:
            client.admin.command(
                "replSetInitiate", {"_id": name, "members": [{"_id": 0, "host": host}]}
            )
        except OperationFailure as error:
            if error.code != ALREADY_INITIATED:
                raise


def wait_for_primary(uri: str, timeout_s: float = 30) -> None:
    """Return once the server takes writes. Raises `TimeoutError`."""
    deadline = time.monotonic() + timeout_s
    with MongoClient[dict[str, Any]](
        uri, directConnection=True, serverSelectionTimeoutMS=1000
    ) as client:
        while time.monotonic() < deadline:
            try:
                if client.admin.command("hello").get("isWritablePrimary"):
                    return
            except PyMongoError:
                pass
            time.sleep(0.05)
    raise TimeoutError(f"no primary at {uri} after {timeout_s} s")
