"""What tests of operations share: operations of every kind, with the world that they need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson
from pymongo.database import Database

from executors.boundaries import to_text
from statemachine.state import Operation
from statemachine.words import OperationId

Db = Database[Any]
Command = dict[str, Any]
LIVE: Command = {
    "validator": {"n": {"$type": "int"}},
    "validationLevel": "strict",
    "validationAction": "error",
}
"""All that a server tells once it was asked to change any of it."""


def nothing(_: Db) -> None:
    pass


def empty(db: Db) -> None:
    db.create_collection("empty")


def orders(db: Db) -> None:
    db.create_collection("orders", **LIVE)
    db["orders"].insert_many([{"_id": n, "n": n % 7} for n in range(20)])
    db["orders"].create_index("n", expireAfterSeconds=3600)


@dataclass(frozen=True)
class Case:
    name: str
    forward: Command
    compensation: Sequence[Command]
    before: Callable[[Db], None] = orders
    database: str = "shop"
    applied: dict[str, Any] | None = None
    undone: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def operation(self) -> Operation:
        return operation(self)


def operation(case: Case) -> Operation:
    base = {"do": "command", "on": "", "database": case.database}
    forward = {**base, "commands": [case.forward]}
    back = {**base, "commands": list(case.compensation), **case.more}
    if case.applied is not None:
        forward["applied"] = {"database": "shop", **case.applied}
    if case.undone is not None:
        back["undone"] = {"database": "shop", **case.undone}
    texts = (to_text(bson.encode(each)) for each in (forward, back))
    return Operation(OperationId("Op/1"), *texts)


COUNTED = Case(
    "an update that counts on what it finds",
    {"update": "orders", "updates": [{"q": {}, "u": {"$inc": {"n": 1}}, "multi": True}]},
    [{"update": "orders", "updates": [{"q": {}, "u": {"$inc": {"n": -1}}, "multi": True}]}],
)
CHECKED = Case(
    "the same with checks",
    {
        "update": "orders",
        "updates": [{"q": {}, "u": {"$inc": {"n": 1}, "$set": {"up": 1}}, "multi": True}],
    },
    [
        {
            "update": "orders",
            "updates": [{"q": {}, "u": {"$inc": {"n": -1}, "$unset": {"up": 1}}, "multi": True}],
        }
    ],
    applied={"command": {"count": "orders", "query": {"up": 1}}, "expect": {"n": 20}},
    undone={"command": {"count": "orders", "query": {"up": 1}}, "expect": {"n": 0}},
)
CASES = (
    Case(
        "a collection",
        {"create": "new", "capped": True, "size": 1000, "collation": {"locale": "de"}},
        [{"drop": "new"}],
    ),
    Case("a view", {"create": "v", "viewOn": "orders", "pipeline": []}, [{"drop": "v"}]),
    Case(
        "a time series",
        {"create": "t", "timeseries": {"timeField": "at", "metaField": "by"}},
        [{"drop": "t"}],
        before=nothing,
    ),
    Case(
        "indexes",
        {
            "createIndexes": "orders",
            "indexes": [
                {"key": {"a": 1, "b": -1}, "name": "ab"},
                {"key": {"t": "text"}, "name": "words"},
            ],
        },
        [{"dropIndexes": "orders", "index": ["ab", "words"]}],
    ),
    Case(
        "a collection on the side",
        {"createIndexes": "new", "indexes": [{"key": {"a": 1}, "name": "a"}]},
        [{"dropIndexes": "new", "index": {"a": 1}}, {"drop": "new"}],
    ),
    Case(
        "a validator",
        {"collMod": "orders", "validator": {"n": {"$gte": 0}}, "validationLevel": "moderate"},
        [{"collMod": "orders", **LIVE}],
    ),
    Case(
        "an index of its collection",
        {"collMod": "orders", "index": {"name": "n_1", "expireAfterSeconds": 60}},
        [{"collMod": "orders", "index": {"keyPattern": {"n": 1}, "expireAfterSeconds": 3600}}],
    ),
    Case(
        "a name",
        {"renameCollection": "shop.orders", "to": "shop.old"},
        [{"renameCollection": "shop.old", "to": "shop.orders"}],
    ),
    Case(
        "an update",
        {
            "update": "orders",
            "updates": [{"q": {"n": 3}, "u": {"$set": {"three": True}}, "multi": True}],
        },
        [
            {
                "update": "orders",
                "updates": [{"q": {"three": True}, "u": {"$unset": {"three": 1}}, "multi": True}],
            }
        ],
    ),
    Case(
        "documents",
        {"insert": "orders", "documents": [{"_id": "a", "n": 1}, {"_id": "b", "n": 2}]},
        [{"delete": "orders", "deletes": [{"q": {"_id": {"$in": ["a", "b"]}}, "limit": 0}]}],
    ),
    Case(
        "a collection that goes",
        {"drop": "orders"},
        [
            {"create": "orders", **LIVE},
            {"insert": "orders", "documents": [{"_id": n, "n": n % 7} for n in range(20)]},
            {
                "createIndexes": "orders",
                "indexes": [{"key": {"n": 1}, "name": "n_1", "expireAfterSeconds": 3600}],
            },
        ],
    ),
    CHECKED,
)
DATABASE = Case("a database", {"dropDatabase": 1}, [{"create": "empty"}], before=empty)
