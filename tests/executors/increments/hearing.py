"""Every event of a real server, raw, for tests of what replays them."""

from typing import Any

from bson import Int64, Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from executors.batches import RAW

STAGE: dict[str, Any] = {
    "showExpandedEvents": True,
    "allChangesForCluster": True,
    "showRawUpdateDescription": True,
}
END = "hearing_ends"


class Hearing:
    """Hears everything that happens on the server from now on."""

    def __init__(self, client: MongoClient[Any]) -> None:
        self._client = client
        now = client.admin.command("ping")["operationTime"]
        self._open({"startAtOperationTime": Timestamp(now.time, now.inc + 1)})

    def _open(self, where: dict[str, Any]) -> None:
        pipeline = [{"$changeStream": {**STAGE, **where}}]
        reply = self._say({"aggregate": 1, "pipeline": pipeline, "cursor": {}})
        self._cursor, self._waiting = Int64(reply["id"]), list(reply["firstBatch"])

    def _say(self, command: dict[str, Any]) -> Any:
        return self._client.admin.command(command, codec_options=RAW)["cursor"]

    def events(self) -> list[bytes]:
        """All since the last time, in order."""
        self._client[END]["c"].insert_one({})
        found: list[RawBSONDocument] = []
        while not any(event["ns"]["db"] == END for event in self._waiting):
            more = {"getMore": self._cursor, "collection": "$cmd.aggregate", "maxTimeMS": 1000}
            found += self._waiting
            self._waiting = list(self._say(more)["nextBatch"])
        found += self._waiting
        self._waiting = []
        return [bytes(event.raw) for event in found if event["ns"]["db"] != END]
