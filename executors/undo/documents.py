"""What was done to documents, taken back: exactly that, and nothing of what others did since."""

from pathlib import Path
from typing import Any

from pymongo import MongoClient

from executors.protocol import StopToken
from executors.undo.recording import erased, inserted, replaced
from statemachine.events import JobSpec
from statemachine.stimuli import Undone

__all__ = ["erased", "inserted", "replaced", "undo_documents"]


def undo_documents(client: MongoClient[Any], path: Path, spec: JobSpec, stop: StopToken) -> Undone:
    """Take back what the log at `path` tells of documents, from the last row to the first."""
    raise NotImplementedError
