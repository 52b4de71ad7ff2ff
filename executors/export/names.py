"""What the objects of an export are called."""

import re
from dataclasses import dataclass
from typing import Final

from executors.folder import folder_name
from statemachine.state import Chunk

MANIFEST: Final = "_manifest.json"
SUCCESS: Final = "_SUCCESS"
"""There when all documents are, and only then; empty."""
CLAIM: Final = "_export"
"""There while an export is being made: the job that makes it."""
OURS: Final = re.compile(
    r"[^/]+/(?:[^/]+=[^/]*/)?"
    r"part-\d{6,}-(?P<job>[\w-]+?)-\d+-\d+\.(?:parquet|jsonl(?:\.\w+)?)"
)
"""Names of files, and whose: in the folder of a collection, or of a partition in it. What lies
deeper belongs to an export that lies there, and is not touched."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Of an attempt at a chunk: no other one has the names of its files."""

    folder: str
    number: int
    job: str
    epoch: int
    attempt: int
    suffix: str

    def name(self, partition: str = "") -> str:
        """`partition` with a slash at its end."""
        file = f"part-{self.number:06}-{self.job}-{self.epoch}-{self.attempt}{self.suffix}"
        return f"{self.folder}/{partition}{file}"


def attempt_at(chunk: Chunk, job: str, epoch: int, attempt: int, suffix: str) -> Attempt:
    number = int(chunk.id.rpartition("#")[2])
    return Attempt(folder_name(chunk.unit), number, job, epoch, attempt, suffix)


def job_of(name: str) -> str | None:
    """The job whose file this is; `None`: no file of an export."""
    found = OURS.fullmatch(name)
    return found["job"] if found else None
