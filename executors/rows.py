"""Documents that a plain command finds. The driver's collections refuse names that servers take
(`a..b`), and look into what is asked."""

from collections.abc import Iterator, Mapping
from typing import Any

from bson import Int64
from pymongo import MongoClient, ReadPreference

from executors.batches import RAW
from executors.members import choose
from executors.protocol import Stopped, StopToken


def rows(
    client: MongoClient[Any],
    database: str,
    command: Mapping[str, Any],
    stop: StopToken,
    *,
    read_preference: str = "",
) -> Iterator[bytes]:
    """The documents of a `find` or an `aggregate`, raw, as they come: of the primary as it stands,
    or what a majority has, read as preferred.

    Raises `PyMongoError`, `Stopped`.
    """
    member: Any = ReadPreference.PRIMARY
    asked = dict(command)
    if read_preference:
        member, asked["readConcern"] = choose(client, read_preference)
    db, collection = client.get_database(database), next(iter(command.values()))
    with client.start_session(causal_consistency=False) as session:
        while True:
            if stop.is_set():
                raise Stopped
            reply = db.command(asked, codec_options=RAW, session=session, read_preference=member)
            cursor = reply["cursor"]
            for each in cursor.get("firstBatch") or cursor.get("nextBatch") or ():
                yield bytes(each.raw)
            if not cursor["id"]:
                return
            asked = {"getMore": Int64(cursor["id"]), "collection": collection}
