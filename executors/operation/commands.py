"""Actions that are commands: `{"do": "command", "on", "database", "commands": [...]}`, with
`applied` in a forward action and `undone` in a compensation where the user gave a check."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.classify import classify
from executors.operation.actions import Action, Endpoints
from executors.operation.errors import InDoubt, NoRecord, PartlyThere
from executors.operation.looks import indexes_there, is_so
from executors.operation.predicate import holds
from executors.operation.record import Record, Step
from executors.operation.sending import send, wait_out
from executors.operation.traits import ALREADY, may_repeat, name_of, shown
from executors.protocol import Stopped, StopToken
from statemachine.stimuli import Operated, Undone
from statemachine.words import Cause

Command = Mapping[str, Any]


class Commands:
    """See `actions.Performer`."""

    def run(self, endpoints: Endpoints, action: Action, stop: StopToken, folder: Path) -> Operated:
        client, record = endpoints[action["on"]], Record(folder)
        words = _shown(action)
        if record.step == "done":
            return Operated((words,))
        wait_out(client, record.session, stop)
        applied = _applied(client, action, in_doubt=record.step == "sent")
        if record.step == "already" or (record.step != "sent" and applied):
            record.note("already")
            return Operated((f"{words}: it was so before; nothing was done",))
        if record.step == "sent" and applied:
            record.note("done")
            return Operated((f"{words}: a look after the crash shows that it is done",))
        told = _send_forward(client, action, record, stop, unclear=applied is None)
        return Operated((f"{words}{told}",))

    def undo(
        self,
        endpoints: Endpoints,
        action: Action,
        forward: Action,
        stop: StopToken,
        folder: Path,
    ) -> Undone:
        record, client = Record(folder), endpoints[action["on"]]
        if record.undoing is None and not record.undone:
            wait_out(endpoints[forward["on"]], record.session, stop)
            why = _never_applied(endpoints[forward["on"]], forward, record)
            if why:
                return Undone(changes=(f"{_shown(forward)}: {why}",))
        wait_out(client, record.session, stop)
        if "undone" in action and holds(client, action["undone"]):
            return Undone(changes=("the check says that it is undone",))
        commands = action["commands"][record.undone :]
        changes = [
            _send_undo(client, action, command, number, record, stop)
            for number, command in enumerate(commands, record.undone)
        ]
        return Undone(changes=tuple(changes))


def _applied(client: MongoClient[Any], action: Action, *, in_doubt: bool) -> bool | None:
    if "applied" in action:
        return holds(client, action["applied"])
    (command,) = action["commands"]
    return is_so(client, action["database"], command, in_doubt=in_doubt)


def _send_forward(
    client: MongoClient[Any], action: Action, record: Record, stop: StopToken, *, unclear: bool
) -> str:
    """What the server told. Raises `InDoubt`, `PartlyThere`, `PyMongoError`, `Stopped`."""
    (command,) = action["commands"]
    in_doubt = record.step in ("sent", "partly")
    if in_doubt and unclear and not may_repeat(command):
        raise InDoubt(_shown(action))
    if not in_doubt and name_of(command) == "createIndexes":
        _refuse_partly_there(client, action["database"], command)
    if stop.is_set():
        raise Stopped
    try:
        told = send(client, action["database"], command, partial(record.note, "sent", 0))
    except OperationFailure as error:
        # Where an attempt before this one is in doubt, a refusal may be that one's doing.
        if not in_doubt and (step := _told_by(error)):
            record.note(step)
        raise
    record.note("done")
    return told


def _never_applied(client: MongoClient[Any], forward: Action, record: Record) -> str:
    """Why there is nothing to undo; empty when there is. Raises `InDoubt`, `NoRecord`."""
    match record.step:
        case "done" | "partly":
            return ""
        case "already":
            return "it was so before the group; nothing to undo"
        case "refused":
            return "it was refused; nothing to undo"
    applied = _applied(client, forward, in_doubt=record.step is not None)
    if applied is False:
        return "it was never applied; nothing to undo"
    if record.step is None:
        if applied is None:
            return f"it was never sent, says {record.path}; nothing to undo"
        raise NoRecord(_shown(forward), record.path)
    (command,) = forward["commands"]
    if applied is None and not may_repeat(command):
        raise InDoubt(_shown(forward))
    return ""


def _send_undo(
    client: MongoClient[Any],
    action: Action,
    command: Command,
    number: int,
    record: Record,
    stop: StopToken,
) -> str:
    """One command of the compensation, unless it is so already. Raises as `_send_forward`."""
    database = action["database"]
    words, so = shown(command, database), is_so(client, database, command)
    if so:
        record.note("undone", number)
        return f"{words}: it is so already"
    only = "undone" in action and len(action["commands"]) == 1  # the check has told: it is not
    if record.undoing == number and so is None and not (only or may_repeat(command)):
        raise InDoubt(words)
    if stop.is_set():
        raise Stopped
    try:
        told = send(client, database, command, partial(record.note, "undoing", number))
    except OperationFailure as error:
        if error.code not in (*ALREADY.get(name_of(command), ()), *action.get("ok", ())):
            raise
        told = ": it is so already"
    record.note("undone", number)
    return f"{words}{told}"


def _told_by(error: OperationFailure) -> Step | None:
    """How far it came, where an error tells."""
    reply = error.details or {}
    if reply.get("writeErrors"):
        return "partly" if reply.get("n") else "refused"
    said_no = not reply.get("ok") and classify(error)[0] in (Cause.PERMANENT, Cause.FATAL)
    return "refused" if said_no else None


def _refuse_partly_there(client: MongoClient[Any], database: str, command: Command) -> None:
    if there := indexes_there(client, database, command):
        raise PartlyThere(shown(command, database), ", ".join(there))


def _shown(action: Action) -> str:
    return shown(action["commands"][0], action["database"])
