"""One collection or view of each kind, as makers: what has to arrive as it was."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bson import Decimal128, Int64
from bson.datetime_ms import DatetimeMS
from pymongo.database import Database

Db = Database[Any]
Maker = Callable[[Db, str], object]
AGES_AGO = datetime(1999, 12, 31, tzinfo=UTC)
GERMAN = {"locale": "de", "strength": 2}
PLACE = {"type": "Point", "coordinates": [8.5, 47.4]}
DOCUMENT = {
    "a": 1, "b": [1, {"c": -1}], "t": "Über den Wolken", "u": "und", "p": [1, 2], "g": PLACE,
    "at": AGES_AGO, "s": {"x": 1},
}  # fmt: skip


def created(*, documents: int = 3, **options: Any) -> Maker:
    def make(db: Db, name: str) -> None:
        db.command({"create": name, **options})
        if documents:
            filled = [{"_id": n, **DOCUMENT, "a": n} for n in range(documents)]
            db.command({"insert": name, "documents": filled, "bypassDocumentValidation": True})

    return make


def indexed(*indexes: dict[str, Any], **options: Any) -> Maker:
    def make(db: Db, name: str) -> None:
        created(**options)(db, name)
        named = [{"name": f"i{n}", **index} for n, index in enumerate(indexes)]
        db.command({"createIndexes": name, "indexes": named})

    return make


def measured(*indexes: dict[str, Any], expire: int = 0, **timeseries: Any) -> Maker:
    def make(db: Db, name: str) -> None:
        expiry = {"expireAfterSeconds": Int64(expire)} if expire else {}
        db.command({"create": name, "timeseries": {"timeField": "t", **timeseries}, **expiry})
        db[name].insert_many([{"t": AGES_AGO, "m": {"k": n % 3}, "v": n} for n in range(20)])
        for n, index in enumerate(indexes):
            command = {"createIndexes": name, "indexes": [{"name": f"i{n}", **index}]}
            db.command(command)

    return make


STRICT = {"$jsonSchema": {"bsonType": "object", "required": ["never"]}}
ZLIB = {"wiredTiger": {"configString": "block_compressor=zlib"}}
CLUSTERED = {"key": {"_id": 1}, "unique": True, "name": "own name"}

COLLECTIONS: dict[str, Maker] = {
    "plain": created(),
    "empty": created(documents=0),
    "validator": created(validator=STRICT),
    "validator that warns": created(
        validator={"a": {"$gt": DatetimeMS(2**60)}},
        validationLevel="moderate",
        validationAction="warn",
    ),
    "collation": created(collation=GERMAN),
    "capped": created(capped=True, size=4096, max=100),
    "clustered": created(clusteredIndex=CLUSTERED),
    "images": created(changeStreamPreAndPostImages={"enabled": True}),
    "storage engine": created(storageEngine=ZLIB, indexOptionDefaults={"storageEngine": ZLIB}),
    "old _id index": created(idIndex={"key": {"_id": 1}, "name": "_id_", "v": 1}),
}
VIEWS: dict[str, Maker] = {
    "view": created(documents=0, viewOn="c", pipeline=[{"$match": {"a": {"$gt": 1.0}}}]),
    "view with collation": created(documents=0, viewOn="c", pipeline=[], collation=GERMAN),
    "view of odd values": created(
        documents=0,
        viewOn="c",
        pipeline=[{"$addFields": {"x": {"$literal": {"$date": "", "far": DatetimeMS(2**60)}}}}],
    ),
}
SERIES: dict[str, Maker] = {
    "time series": measured(),
    "time series with meta": measured(metaField="m", granularity="hours"),
    "time series with indexes": measured(
        {"key": {"m.k": 1, "t": -1}},
        {"key": {"v": 1}},
        {"key": {"m.k": 1}, "partialFilterExpression": {"m.k": {"$gt": 1}}},
        {"key": {"t": 1}, "hidden": True},
        metaField="m",
    ),
}
EXPIRING: dict[str, Maker] = {
    "ttl": indexed({"key": {"at": 1}, "expireAfterSeconds": 1}),
    "ttl of a fraction": indexed({"key": {"at": 1}, "expireAfterSeconds": 1.5}),
    "ttl, partial": indexed(
        {
            "key": {"at": 1},
            "expireAfterSeconds": 1,
            "partialFilterExpression": {"at": {"$gt": AGES_AGO}},
        }
    ),
    "ttl, unique": indexed(
        {"key": {"at": 1}, "expireAfterSeconds": 1, "unique": True}, documents=1
    ),
    "ttl beside another": indexed(
        {"key": {"at": 1}, "expireAfterSeconds": 1}, {"key": {"x": 1}, "expireAfterSeconds": 5}
    ),
    "clustered, expiring": created(
        documents=0, clusteredIndex=CLUSTERED, expireAfterSeconds=Int64(1)
    ),
    "time series, expiring": measured(expire=1),
}
INDEXES: dict[str, Maker] = {
    "odd numbers": indexed(
        {"key": {"a": 1.0, "b": Int64(-1), "c": -1.0, "d": 2.5, "e": Decimal128("1")}}
    ),
    "text": indexed(
        {
            "key": {"_fts": "text", "_ftsx": 1, "a": 1},
            "weights": {"t": 10, "u": 2},
            "default_language": "german",
            "language_override": "lang",
            "textIndexVersion": 2,
        }
    ),
    "text over all": indexed({"key": {"$**": "text"}}),
    "2d": indexed({"key": {"p": "2d"}, "bits": 20, "min": -500, "max": 500.5}),
    "2dsphere": indexed({"key": {"g": "2dsphere", "a": 1}, "2dsphereIndexVersion": 2}),
    "hashed": indexed({"key": {"a": "hashed"}}, {"key": {"a": 1, "s.x": "hashed"}}),
    "wildcard": indexed({"key": {"$**": 1}, "wildcardProjection": {"a": 1, "b.c": True}}),
    "wildcard below": indexed({"key": {"s.$**": 1}}),
    "partial": indexed({"key": {"a": 1}, "partialFilterExpression": {"a": {"$gt": 1.0}}}),
    "sparse": indexed({"key": {"a": 1}, "sparse": True}, {"key": {"b": 1}, "sparse": False}),
    "hidden": indexed({"key": {"a": 1}, "hidden": True}),
    "unique": indexed({"key": {"a": 1}, "unique": True}),
    "preparing to be unique": indexed({"key": {"a": 1}, "prepareUnique": True}),
    "collation of its own": indexed(
        {"key": {"a": 1}, "collation": GERMAN}, collation={"locale": "sv"}
    ),
    "no collation": indexed(
        {"key": {"a": 1}, "collation": {"locale": "simple"}}, collation={"locale": "sv"}
    ),
    "version 1": indexed({"key": {"a": 1}, "v": 1}),
    "background": indexed({"key": {"a": 1}, "background": True}),
    "storage engine": indexed({"key": {"a": 1}, "storageEngine": ZLIB}),
    "expiry that is no number": indexed({"key": {"at": 1}, "expireAfterSeconds": float("nan")}),
}
KINDS: dict[str, Maker] = {
    **COLLECTIONS, **VIEWS, **SERIES, **EXPIRING, **{f"index: {k}": v for k, v in INDEXES.items()},
}  # fmt: skip
