"""A collection on two real servers, one range of it on the move, and what both hold."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

import executors.rebalance.actions  # noqa: F401 — enters its performers
from executors.boundaries import to_key
from executors.operation.perform import run_operation, undo_operation
from executors.rawbson import id_of
from executors.rebalance import placement
from executors.rebalance.model import COMPENSATIONS, Move, Plan, operations
from executors.rebalance.placement import Placed, Placement, key_of
from statemachine.state import Operation
from statemachine.stimuli import Operated, Undone

NS = "shop.orders"
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
Client = MongoClient[dict[str, Any]]
Content = dict[str, bytes]


class Token:
    """Says stop at the look with that number; 0: never."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.looks = at, 0

    def is_set(self) -> bool:
        self.looks += 1
        return self.at > 0 and self.looks >= self.at


def content(client: Client) -> Content:
    """Documents by key, to the byte."""
    found = client.shop.get_collection("orders", RAW).find()
    return {to_key(id_of(bytes(each.raw))): bytes(each.raw) for each in found}


@dataclass
class OnTheMove:
    """The range from 100 to 2000 of the documents of `a`, on its way to `b`."""

    a: Client
    b: Client
    folder: Path

    def __post_init__(self) -> None:
        self.file = self.folder / "placement.json"
        self.file.write_text("{}")
        placement.write(self.file, Placement(NS, (Placed(None, None, "a"),)))
        move = Move(NS, key_of(100), key_of(2000), "a", "b", 1900)
        self.operations = {
            each.id: Operation(each.id, each.forward, each.compensation)
            for each in operations(Plan(str(self.file), "", (move,)), 1)
        }
        (self.folder / "job").mkdir(exist_ok=True)

    def run(self, name: str, token: Token | None = None) -> Operated:
        return self._do(run_operation, name, token)

    def undo(self, name: str, token: Token | None = None) -> Undone:
        return self._do(undo_operation, name, token)

    def _do(self, how: Callable[..., Any], name: str, token: Token | None) -> Any:
        endpoints = {"": self.b, "a": self.a, "b": self.b}
        return how(endpoints, self.operations[name], token or Token(), self.folder / "job")

    def run_up_to(self, name: str) -> None:
        """All operations before that one."""
        for each in COMPENSATIONS:
            if each == name:
                return
            self.run(each)

    @property
    def world(self) -> tuple[Content, Content, Placement]:
        return content(self.a), content(self.b), placement.read(self.file)
