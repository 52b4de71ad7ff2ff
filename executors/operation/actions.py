"""What operations of a group can do: one performer for each kind of action."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import MongoClient

from executors.protocol import StopToken
from statemachine.stimuli import Operated, Undone

Endpoints = Mapping[str, MongoClient[Any]]
"""By name; the empty name is the job's target."""
Action = Mapping[str, Any]
"""A forward action or a compensation: a document whose `do` names the performer."""

CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)
"""Of actions and of replies that are compared with them: no value is changed on the way."""


class Performer(Protocol):
    """Does an action, and takes it back. Both may run again after any crash, as often as it takes,
    and leave the world as one run would; what must be known for that lies in `folder`, which is
    this operation's alone and empty at first.

    Failures of the world are raised: `PyMongoError`, `OSError`, `OperatorError`; and `Stopped`.
    """

    def run(
        self, endpoints: Endpoints, action: Action, stop: StopToken, folder: Path
    ) -> Operated: ...

    def undo(
        self,
        endpoints: Endpoints,
        action: Action,
        forward: Action,
        stop: StopToken,
        folder: Path,
    ) -> Undone:
        """`action` is the compensation. Where `forward` was never applied, nothing is done."""
        ...


ACTIONS: Final[dict[str, Performer]] = {}
"""By the word under `do`; a module of performers enters its own when it is imported."""
