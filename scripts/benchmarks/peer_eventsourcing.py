"""The `eventsourcing` library on SQLite, doing what the journal does: append, replay.

usage: PYTHON peer_eventsourcing.py append|replay FILE EVENTS PER_COMMIT

Runs under an interpreter that has the library; needs nothing of ferrylog. One aggregate, one
event of the size of ours each time, `synchronous=FULL` (the default of SQLite), a commit for
every PER_COMMIT events. Prints one JSON object.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from uuid import UUID, uuid5

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

NAME = UUID("00000000-0000-0000-0000-000000000001")


class Chunks(Aggregate):
    def __init__(self) -> None:
        self.position = 0

    @staticmethod
    def create_id() -> UUID:
        return uuid5(NAME, "job")

    @event("Progressed")
    def progress(  # its arguments become the event
        self, entity: str, attempt: int, position: int, documents: int, size: int, rejected: int
    ) -> None:
        self.position = position


def main() -> None:
    step, file, events, per_commit = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5])
    os.environ |= {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(file)}
    app: Application[UUID] = Application()
    began = time.perf_counter()
    if step == "append":
        chunks = Chunks()
        for n in range(events):
            chunks.progress(f"shop.orders#{n}", 1, n * 1000, n, n * 100, 0)
            if (n + 1) % per_commit == 0:
                app.save(chunks)
    else:
        app.repository.get(Chunks.create_id())
    seconds = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


main()
