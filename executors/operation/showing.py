"""Actions for people: the exact commands, as a server gets them."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import bson
from bson import json_util
from bson.json_util import RELAXED_JSON_OPTIONS

from executors.boundaries import from_text
from executors.operation.actions import CODEC
from executors.operation.traits import as_sent, database_of
from statemachine.words import BsonText


class Sent(NamedTuple):
    database: str
    command: str
    """Relaxed Extended JSON."""


def commands_of(action: BsonText) -> Iterator[Sent]:
    """Of a forward action or a compensation, in order; of one that is no command, its document."""
    found = bson.decode(from_text(action), CODEC)
    if found["do"] != "command":
        yield Sent("", _json(found))
        return
    for command in found["commands"]:
        database = found["database"]
        yield Sent(database_of(command, database), _json(as_sent(command)))


def _json(document: object) -> str:
    plain = json_util.dumps(document, json_options=RELAXED_JSON_OPTIONS)
    return json.dumps(json.loads(plain), ensure_ascii=False)
