"""Does an operation of a group and takes it back, whatever kind of action it is."""

from pathlib import Path
from typing import Any

import bson

import executors.rebalance.actions  # noqa: F401 — enters its performers
from executors.boundaries import from_text
from executors.chunkfile import sync_directory
from executors.folder import UNDO, folder_name
from executors.operation.actions import ACTIONS, CODEC, Action, Endpoints, Performer
from executors.operation.commands import Commands
from executors.protocol import StopToken
from statemachine.state import Operation
from statemachine.stimuli import Operated, Undone
from statemachine.words import BsonText, TaskKind

ACTIONS["command"] = Commands()


def run_operation(
    endpoints: Endpoints, operation: Operation, stop: StopToken, folder: Path
) -> Operated:
    """`folder`: the job's own. Durable when it returns; may run again after any crash.

    Raises `PyMongoError`, `OSError`, `OperatorError`, `Stopped`.
    """
    forward = _action(operation.forward)
    return _performer(forward).run(endpoints, forward, stop, _own(folder, operation))


def undo_operation(
    endpoints: Endpoints, operation: Operation, stop: StopToken, folder: Path
) -> Undone:
    """What was never applied is not undone. Raises what `run_operation` does."""
    forward, compensation = _action(operation.forward), _action(operation.compensation)
    own = _own(folder, operation)
    return _performer(compensation).undo(endpoints, compensation, forward, stop, own)


def _action(text: BsonText) -> Action:
    document: dict[str, Any] = bson.decode(from_text(text), CODEC)
    return document


def _performer(action: Action) -> Performer:
    """Raises `ValueError` for an action that this version does not know."""
    if (found := ACTIONS.get(action["do"])) is None:
        raise ValueError(f"nobody knows how to do {action['do']!r}")
    return found


def _own(folder: Path, operation: Operation) -> Path:
    """The folder of this operation alone, there with a durable name."""
    own = folder / UNDO / TaskKind.OPERATION / folder_name(operation.id)
    for directory in (own.parent.parent, own.parent, own):
        if not directory.is_dir():
            directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(directory.parent)
    return own
