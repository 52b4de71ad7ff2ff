"""One collection of each kind that a server knows, and a judge that reads both servers by plain
commands: it shares no code with what it judges."""

import struct
from datetime import UTC, datetime
from typing import Any

import bson
from bson import SON, Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson import Timestamp as Ts
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
OWN = ("admin", "config", "local")
LONG = "l" * 200


def load(client: MongoClient[Any]) -> None:
    """Fill databases `kinds`, `files` and `odd`."""
    _indexed(client.kinds)
    _optioned(client.kinds)
    _named(client)
    _documents(client.odd)
    files = client.files
    files["fs.files"].insert_one({"_id": 1, "length": 600_000, "chunkSize": 261_120})
    files["fs.chunks"].insert_many(
        [{"_id": n, "files_id": 1, "n": n, "data": Binary(bytes([n]) * 200_000)} for n in range(3)]
    )
    files["fs.chunks"].create_index([("files_id", 1), ("n", 1)], unique=True)


def _indexed(db: Any) -> None:
    documents = [
        {
            "_id": n,
            "a": n % 7,
            "b": {"c": [n, n + 1], "d": str(n)},
            "text": f"word{n} shared",
            "place": [n % 90, n % 45],
            "point": {"type": "Point", "coordinates": [n % 90, n % 45]},
            "when": datetime(2099, 1, 1, tzinfo=UTC),
            "name": f"N{n}",
        }
        for n in range(500)
    ]
    db.indexed.insert_many(documents)
    db.command(
        "createIndexes",
        "indexed",
        indexes=[
            {"key": SON([("a", 1), ("b.d", -1)]), "name": "compound"},
            {"key": {"b.c": 1.0}, "name": "multikey"},
            {"key": {"a": "hashed"}, "name": "hashed"},
            {"key": {"b.$**": 1}, "name": "wildcard"},
            {"key": {"place": "2d"}, "name": "flat", "bits": 20, "min": -200.0, "max": 200.0},
            {"key": {"point": "2dsphere"}, "name": "sphere"},
            {"key": {"when": 1}, "name": "expires", "expireAfterSeconds": 3600},
            {"key": {"name": 1}, "name": "partial", "partialFilterExpression": {"a": {"$gt": 3}}},
            {"key": {"missing": 1}, "name": "sparse", "sparse": True},
            {"key": {"b.d": 1}, "name": "hidden", "hidden": True},
            {"key": {"name": -1}, "name": "folded", "collation": {"locale": "de", "strength": 1}},
            {"key": {"name": 1, "a": 1}, "name": "only", "unique": True},
            {
                "key": SON([("text", "text"), ("b.d", "text")]),
                "name": "words",
                "weights": {"text": 3},
                "default_language": "german",
            },
        ],
    )
    db.wild.insert_many([{"_id": n, "x": {"y": n}} for n in range(20)])
    db.command(
        "createIndexes",
        "wild",
        indexes=[{"key": {"$**": 1}, "name": "all", "wildcardProjection": {"x": 1}}],
    )


def _optioned(db: Any) -> None:
    db.create_collection("valid", validator={"a": {"$type": "int"}}, validationAction="error")
    db.command(
        "insert", "valid", documents=[{"_id": 1, "a": 1}, {"_id": 2}], bypassDocumentValidation=True
    )
    db.create_collection("folded", collation={"locale": "en", "strength": 2})
    db.folded.insert_many([{"_id": name} for name in ("a", "B", "c")])
    db.folded.create_index("name")
    db.create_collection("capped", capped=True, size=1 << 20, max=1000)
    db.capped.insert_many([{"_id": 999 - n} for n in range(300)])
    db.command(
        "create", "clustered", clusteredIndex={"key": {"_id": 1}, "unique": True, "name": "mine"}
    )
    db.clustered.insert_many([{"_id": n} for n in range(300)])
    db.create_collection("images", changeStreamPreAndPostImages={"enabled": True})
    db.images.insert_one({"_id": 1})
    db.create_collection(
        "stored", storageEngine={"wiredTiger": {"configString": "block_compressor=zlib"}}
    )
    db.create_collection("empty")
    db.create_collection("view", viewOn="indexed", pipeline=[{"$match": {"a": {"$gt": 2}}}])
    db.create_collection("again", viewOn="view", pipeline=[{"$project": {"a": 1}}])
    db.create_collection(
        "weather",
        timeseries={"timeField": "at", "metaField": "where", "granularity": "minutes"},
        expireAfterSeconds=600_000_000,
    )
    db.weather.insert_many(
        [
            {"at": datetime(2026, 1, 1 + n % 28, tzinfo=UTC), "where": n % 3, "t": n * 0.5}
            for n in range(300)
        ]
    )
    db.weather.create_index([("where", 1), ("at", -1)])
    db["system.js"].insert_one({"_id": "twice", "value": Code("function(x) { return 2 * x }")})


def _named(client: MongoClient[Any]) -> None:
    for name in (LONG, "café", "a/b", "a%2Fb", "sp ace", "A", "a", "-rf", "CON", "x\ny", "a..b"):
        client.get_database("odd").command("insert", name, documents=[{"_id": name}])


def raw(*elements: tuple[int, bytes, bytes]) -> RawBSONDocument:
    """A document with the very bytes of its elements: type, name, value."""
    body = b"".join(bytes([kind]) + name + b"\0" + value for kind, name, value in elements)
    return RawBSONDocument(struct.pack("<i", len(body) + 5) + body + b"\0")


def text(value: bytes) -> bytes:
    return struct.pack("<i", len(value) + 1) + value + b"\0"


def _documents(db: Any) -> None:
    number = iter(range(1000))

    def own(*elements: tuple[int, bytes, bytes]) -> RawBSONDocument:
        return raw((0x10, b"_id", struct.pack("<i", next(number))), *elements)

    documents = [
        own((0x10, b"a", struct.pack("<i", 1)), (0x10, b"a", struct.pack("<i", 2))),
        own((0x02, b"bad", text(b"\xff\xfe\xc3("))),
        own((0x01, b"nan", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))),
        own((0x01, b"zero", struct.pack("<d", -0.0))),
        own((0x09, b"far", struct.pack("<q", 2**62))),
        own((0x02, b"$set", text(b"x")), (0x02, b"a.b", text(b"y")), (0x02, b"", text(b"z"))),
        own((0x06, b"undefined", b"")),
        own((0x0C, b"pointer", text(b"db.c") + bytes(12))),
        own((0x0E, b"symbol", text(b"sym"))),
        own((0x13, b"decimal", bytes(15) + b"\x7c")),
        own((0x05, b"old", struct.pack("<ib", 8, 2) + struct.pack("<i", 4) + b"abcd")),
        own((0x11, b"empty", bytes(8)), (0x11, b"other", bytes(8))),
        own((0x03, b"inner", raw((0x11, b"empty", bytes(8))).raw)),
        own((0x02, b"big", text(b"b" * (16 * 1024 * 1024 - 100)))),
    ]
    deep: Any = 1
    for _ in range(150):
        deep = {"d": deep}
    documents.append(RawBSONDocument(bson.encode({"_id": "deep", "d": deep})))
    every = {
        "_id": "every",
        "int": 1,
        "long": Int64(2**40),
        "double": 1.5,
        "decimal": Decimal128("1.10"),
        "id": ObjectId(),
        "binary": Binary(b"x", 128),
        "regex": Regex("^a", "ix"),
        "code": Code("f()", {"x": 1}),
        "min": MinKey(),
        "max": MaxKey(),
        "ts": Ts(7, 8),
        "null": None,
        "ref": DBRef("c", 1, "d"),
    }
    documents.append(RawBSONDocument(bson.encode(every)))
    for document in documents:
        db.command("insert", "documents", documents=[document])
    # A server fills in empty timestamps when it inserts: as an operator would have put them back.
    empty = {"empty": Ts(0, 0), "other": Ts(0, 0)}
    db.documents.update_one({"_id": 11}, [{"$set": empty}])
    for value in (1.5, "1", Int64(2), MinKey(), MaxKey(), None, True, {"a": 1}, Binary(b"k")):
        db.command("insert", "ids", documents=[{"_id": value}])


def read(client: MongoClient[Any]) -> dict[str, Any]:
    """All that a server holds: by namespace type, options, indexes, and documents as bytes."""
    found: dict[str, Any] = {}
    for name in client.list_database_names():
        if name in OWN:
            continue
        db = client.get_database(name)
        reply = db.command("listCollections", codec_options=RAW)
        for entry in reply["cursor"]["firstBatch"]:
            collection = str(entry["name"])
            if collection == "system.views":
                continue
            found[f"{name}.{collection}"] = _described(db, collection, entry)
    return found


def _described(db: Any, collection: str, entry: Any) -> dict[str, Any]:
    described = {"type": entry["type"], "options": bytes(entry["options"].raw)}
    if entry["type"] == "view":
        return described
    indexes = db.command("listIndexes", collection, codec_options=RAW)["cursor"]["firstBatch"]
    described["indexes"] = sorted(bytes(each.raw) for each in indexes)
    if entry["type"] == "timeseries":
        return described
    rows = db.command("find", collection, batchSize=100_000, codec_options=RAW)
    cursor, documents = rows["cursor"], []
    while True:
        batch = cursor.get("firstBatch") or cursor.get("nextBatch") or []
        documents += [bytes(each.raw) for each in batch]
        if not cursor["id"]:
            break
        more = {"getMore": Int64(cursor["id"]), "collection": collection}
        cursor = db.command(more, codec_options=RAW)["cursor"]
    capped = bool(bson.decode(described["options"]).get("capped"))
    described["documents"] = documents if capped else sorted(documents)
    return described


def differences(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """By namespace and feature; nothing when they are equal."""
    found = [f"{name}: on one side only" for name in sorted(one.keys() ^ two.keys())]
    for name in sorted(one.keys() & two.keys()):
        features = sorted(one[name].keys() | two[name].keys())
        found += [f"{name}: {f}" for f in features if one[name].get(f) != two[name].get(f)]
    return found
