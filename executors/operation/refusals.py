"""What no group may hold: commands that mean nothing outside their session, that no compensation
follows, or that would leave a secret in the journal."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from executors.clients import secrets_of
from executors.operation.predicate import READS, WRITING_STAGES
from executors.operation.traits import OF_ADMIN, name_of
from executors.select import split

OF_A_SESSION: Final = frozenset(
    {
        "abortTransaction", "commitTransaction", "coordinateCommitTransaction", "endSessions",
        "getMore", "killAllSessions", "killAllSessionsByPattern", "killCursors", "killSessions",
        "prepareTransaction", "refreshSessions", "startSession",
    }
)  # fmt: skip
LOGS_IN: Final = frozenset({"authenticate", "getnonce", "logout", "saslContinue", "saslStart"})
ENDS_SERVERS: Final = frozenset(
    {"fsync", "fsyncUnlock", "replSetFreeze", "replSetResizeOplog", "replSetStepDown", "shutdown"}
)
OWN_DATABASES: Final = ("admin", "config", "local")
SECRETS: Final = ("pwd", "passwordHash", "credentials", "key_password")
WITH_DATABASE: Final = re.compile(r"[^\0/\\. \"$]{1,63}\Z")


class Refusal(NamedTuple):
    why: str
    remedy: str


def refusals(command: Mapping[str, Any], database: str) -> Iterator[Refusal]:
    """Of a forward command or one of a compensation."""
    name = name_of(command)
    if name in OF_A_SESSION or name in LOGS_IN:
        yield Refusal(f"{name} means nothing outside its own session", "leave it out")
    if name in ENDS_SERVERS:
        yield Refusal(f"{name} takes the server away that the group needs", "do it by hand")
    if name == "dropDatabase" and database in OWN_DATABASES:
        yield Refusal(f"dropDatabase of {database}", "name the database that is to go")
    if name in ("renameCollection", "moveCollection") and command.get("dropTarget"):
        yield Refusal(
            "dropTarget destroys what nothing brings back",
            "rename that collection aside by an operation of its own",
        )
    if name in OF_ADMIN and not all(split(str(each))[1] for each in _whole_names(command)):
        yield Refusal(
            f"{name} takes whole names, database and collection",
            "write db.collection, or give the operation its `database`",
        )
    if _is_weak(command.get("writeConcern")):
        yield Refusal(
            "a write concern that may lose what was acknowledged", "leave writeConcern out"
        )
    yield from _secrets(command)


def refusals_of_check(command: Mapping[str, Any]) -> Iterator[Refusal]:
    name = name_of(command)
    stages = command.get("pipeline")
    writes = isinstance(stages, list) and any(
        isinstance(stage, Mapping) and stage.keys() & set(WRITING_STAGES) for stage in stages
    )
    if name not in READS or writes:
        yield Refusal(
            f"a check only reads, and {name} does more", f"one of {', '.join(sorted(READS))}"
        )
    yield from _secrets(command)


def is_database(name: str) -> bool:
    return bool(WITH_DATABASE.match(name)) and len(name.encode()) < 64


def _whole_names(command: Mapping[str, Any]) -> Iterator[Any]:
    yield command[name_of(command)]
    if name_of(command) == "renameCollection":
        yield command.get("to", "")


def _is_weak(concern: Any) -> bool:
    if not isinstance(concern, Mapping):
        return concern is not None
    w = concern.get("w", "majority")
    return (isinstance(w, int) and w < 2) or concern.get("j") is False


def _secrets(command: Mapping[str, Any]) -> Iterator[Refusal]:
    """What is in a group stands in the journal for ever."""
    name = name_of(command)
    if any(field in command for field in SECRETS):
        yield Refusal(
            f"{name} holds a password, and the journal would keep it for ever",
            "make that user by hand, outside the group",
        )
    elif any("://" in text and secrets_of(text) for text in _texts(command)):
        yield Refusal(
            f"{name} holds a connection string with credentials, and the journal would keep them",
            "do this by hand, outside the group",
        )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
