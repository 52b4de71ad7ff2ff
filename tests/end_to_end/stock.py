"""What a source of the trials of chains holds: documents with `_id`s of many types, and options."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from bson import Binary, Decimal128, Int64
from pymongo import MongoClient

WORDS = Random(0).randbytes(1 << 16).hex()
BIG_SHARES = {"shop.orders": 0.3, "shop.customers": 0.25, "depot.events": 0.3, "depot.parcels": 0.1}
SMALL_SHARES = {"shop.labels": 0.03, "odd.names": 0.02}
VOLATILE = ("ddl.alpha", "ddl.beta", "ddl.gamma", "ddl.delta")
"""Renamed, dropped and created again under the writer's eyes."""
Document = dict[str, Any]


def id_of(name: str, n: int, rng: Random) -> Any:
    """The `_id` of the nth document: of many types, by its collection."""
    match name:
        case "shop.orders":  # one number in three types, so that a new one may differ in type alone
            return rng.choice((int, Int64, float))(n * 3) if n % 5 == 0 else n * 3 + n % 2
        case "shop.customers":
            return f"kunde-{n:07d}"
        case "depot.events":
            return {"day": n // 1000, "at": [n % 1000, f"{n:x}"]}
        case "depot.parcels":
            return Binary(n.to_bytes(5) + bytes((n % 9,)), n % 2 * 128)
        case "shop.labels":  # the collation takes both spellings for one
            return rng.choice((f"label{n:06d}", f"LABEL{n:06d}"))
        case "odd.names":
            return (
                Decimal128(f"{n}.5")
                if n % 3
                else datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=n)
            )
    return n


def document(name: str, n: int, rng: Random) -> Document:
    """The nth document, new: 230 bytes to 4 KB."""
    size = rng.randrange(600, 3_600) if name == "depot.parcels" else rng.randrange(20, 400)
    at = rng.randrange(len(WORDS) - size)
    made: Document = {
        "_id": id_of(name, n, rng),
        "n": n,
        "state": rng.randrange(8),
        "total": rng.random() * 1000,
        "tags": rng.sample(("red", "green", "blue", "gift", "bulk"), 3),
        "address": {"city": rng.randrange(900), "lines": [{"no": rng.randrange(99)}, {"no": 2}]},
        "when": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**7)),
        "text": WORDS[at : at + size],
    }
    if name == "shop.customers":
        made["mail"] = f"{n}@example.org"
    if name == "odd.names":
        made |= {"a.b": n, "$set": {"c.d": [n], "$x": 1}, "": "empty", "ключ": None}
    return made


def change(n: int, rng: Random) -> Document:
    """Operators of one update: flat, nested, arrays."""
    match rng.randrange(7):
        case 0:
            return {"$set": {"state": rng.randrange(8), "address.city": rng.randrange(900)}}
        case 1:
            return {"$inc": {"total": 1, "visits": 1}, "$unset": {"extra": ""}}
        case 2:
            return {"$push": {"tags": {"$each": [f"t{rng.randrange(99)}"], "$slice": -6}}}
        case 3:
            return {"$set": {"address.lines.0.no": rng.randrange(10**6), "extra": {"deep": [n]}}}
        case 4:
            return {"$pull": {"tags": "red"}, "$set": {"text": WORDS[: rng.randrange(300)]}}
        case 5:
            return {"$rename": {"extra": "former"}, "$currentDate": {"seen": True}}
    return {"$set": {f"more.f{rng.randrange(20)}": rng.random(), "total": Decimal128("1.10")}}


def load(uri: str, documents: int, seed: int) -> None:
    """Fill an empty deployment with so many documents, options and indexes."""
    rng = Random(seed)
    with MongoClient[Document](uri) as client:
        shop, depot = client["shop"], client["depot"]
        shop.create_collection("labels", collation={"locale": "en", "strength": 2})
        shop.create_collection("customers", validator={"state": {"$lt": 99}})
        for name, count in counts_of(documents).items():
            _fill(client, name, range(count), rng)
        for name in VOLATILE:
            _fill(client, name, range(documents // 200), rng)
        shop["customers"].create_index("mail", unique=True)
        shop["orders"].create_index([("state", 1), ("total", -1)])
        depot["events"].create_index("address.city")
        shop["labels"].create_index("n", unique=True, name="by number")
        shop.create_collection("open", viewOn="orders", pipeline=[{"$match": {"state": 1}}])
        depot.create_collection("readings", timeseries={"timeField": "at", "metaField": "of"})
        depot["readings"].insert_many([reading(n, rng) for n in range(200)])


def counts_of(documents: int) -> dict[str, int]:
    shares = BIG_SHARES | SMALL_SHARES
    return {name: max(20, int(documents * share)) for name, share in shares.items()}


def _fill(client: MongoClient[Document], name: str, numbers: range, rng: Random) -> None:
    for first in numbers[::5_000]:
        some = range(first, min(first + 5_000, numbers.stop))
        target = client.get_database(name.partition(".")[0])[name.partition(".")[2]]
        target.insert_many([document(name, n, rng) for n in some], ordered=False)


def reading(n: int, rng: Random) -> Document:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n * 7)
    return {"at": at, "of": n % 5, "value": rng.random()}
