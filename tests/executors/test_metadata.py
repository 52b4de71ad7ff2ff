"""Collections, views and indexes arrive with the very options they had (P10, I22).

One migration of a database that holds every kind; what both servers say of each is compared
byte by byte. A failing index fails nothing but itself.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, DESCENDING, GEO2D, GEOSPHERE, HASHED, TEXT, IndexModel, MongoClient
from pymongo.database import Database

from tests.conftest import Pair
from tests.program import ferrylog

pytestmark = pytest.mark.server

FERRYLOG = Path(sys.executable).with_name("ferrylog")
RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS
)
Client = MongoClient[Any]
Db = Database[Any]
BUCKETS = "system.buckets."


def migrate(pair: Pair, journal: Path, *more: str) -> subprocess.CompletedProcess[str]:
    ends = ("--source", pair.source.uri, "--target", pair.target.uri)
    return ferrylog("start", *ends, "--journal", journal, *more)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "ferrylog.db"


def status(journal: Path) -> dict[str, Any]:
    shown = ferrylog("status", "--json", "--journal", journal)
    assert shown.returncode == 0, shown.stderr
    report: dict[str, Any] = json.loads(shown.stdout)
    return report


# --- what a server says of a collection -----------------------------------------------------------


@dataclass
class Said:
    """Everything but its UUID."""

    type: str
    options: bytes
    indexes: dict[str, dict[str, Any]]
    natural: list[bytes]
    """The documents of a collection in the order in which they lie; of a time series, its
    buckets."""


def said(client: Client, database: str) -> dict[str, Said]:
    """All of a database."""
    db = client[database]
    reply = db.command({"listCollections": 1}, codec_options=RAW)["cursor"]
    assert not reply["id"]
    return {
        entry["name"]: Said(
            type=entry["type"],
            options=bytes(entry["options"].raw),
            indexes=_indexes(db, entry["name"]) if entry["type"] != "view" else {},
            natural=_documents(db, data_of(entry)) if entry["type"] != "view" else [],
        )
        for entry in reply["firstBatch"]
        if entry["name"] != "system.views" and not entry["name"].startswith(BUCKETS)
    }


def data_of(entry: Any) -> str:
    """Where the documents of a collection lie."""
    return (BUCKETS if entry["type"] == "timeseries" else "") + str(entry["name"])


def _indexes(db: Db, name: str) -> dict[str, dict[str, Any]]:
    found = db.command({"listIndexes": name, "cursor": {"batchSize": 1000}}, codec_options=RAW)
    return {
        index["name"]: {
            key: bytes(value.raw) if isinstance(value, RawBSONDocument) else value
            for key, value in index.items()
        }
        for index in found["cursor"]["firstBatch"]
    }


def _documents(db: Db, name: str) -> list[bytes]:
    found = db.command({"find": name, "batchSize": 100_000}, codec_options=RAW)["cursor"]
    return [bytes(document.raw) for document in found["firstBatch"]]


# --- one of each kind -----------------------------------------------------------------------------

KINDS: dict[str, Callable[[Db, str], object]] = {}
Maker = Callable[[Db, str], object]


def kind(name: str) -> Callable[[Maker], Maker]:
    """Register the maker of one collection or view."""

    def register(make: Maker) -> Maker:
        assert name not in KINDS
        KINDS[name] = make
        return make

    return register


def filled(db: Db, name: str, n: int = 20) -> None:
    db.command({"insert": name, "documents": [{"_id": i, "a": i, "b": [i, -i]} for i in range(n)]})


for odd_name in (
    *("plain", "Plain", "PLAIN", "with space", "dots.in.it", "dots..twice", "trailing.dot."),
    *("ünï.çødé 😀", "a#0", "a@b", "a%40b", "per%cent", "-rf", "CON", "quo'te\"", "star*[x]?"),
    *("back\\slash", "sl/ash", "new\nline", "tab\t", "n" * 200, "system.js"),
):
    kind(odd_name)(filled)

kind("empty")(lambda db, name: db.create_collection(name))


@kind("validated")
def _validated(db: Db, name: str) -> None:
    """Half of its documents violate the validator that came later."""
    filled(db, name)
    schema = {"bsonType": "object", "required": ["a"], "properties": {"a": {"maximum": 9}}}
    db.command({"collMod": name, "validator": {"$jsonSchema": schema}})


@kind("warned")
def _warned(db: Db, name: str) -> None:
    rule = {"a": {"$exists": True}, "$expr": {"$gt": ["$a", DatetimeMS(2**60)]}}
    db.create_collection(name, validator=rule, validationLevel="moderate", validationAction="warn")
    filled(db, name)


@kind("collated")
def _collated(db: Db, name: str) -> None:
    db.create_collection(name, collation={"locale": "de", "strength": 2, "numericOrdering": True})
    db[name].insert_many([{"_id": key} for key in ("b", "A", "ä", "10", "9")])
    db[name].create_indexes(
        [
            IndexModel("own"),
            IndexModel(
                "other", collation={"locale": "fr", "strength": 1}, unique=True, sparse=True
            ),
            IndexModel("simple", collation={"locale": "simple"}),
        ]
    )


@kind("collated with simple indexes")
def _simple(db: Db, name: str) -> None:
    """These kinds of index know no collation: in such a collection that has to be said."""
    simple = {"locale": "simple"}
    db.create_collection(name, collation={"locale": "en", "strength": 2})
    db[name].insert_one({"_id": 1, "t": "text", "p": [1, 2]})
    db[name].create_indexes(
        [
            IndexModel([("t", TEXT)], collation=simple),
            IndexModel([("p", GEO2D)], collation=simple),
            IndexModel("a", name="both"),
            IndexModel("a", name="ways", collation=simple),
        ]
    )


@kind("capped")
def _capped(db: Db, name: str) -> None:
    """The order of insertion, and it has gone round once."""
    db.create_collection(name, capped=True, size=1 << 20, max=700)
    db[name].insert_many([{"_id": i * 7919 % 1009, "pad": "x" * (i % 60)} for i in range(1_000)])


@kind("clustered")
def _clustered(db: Db, name: str) -> None:
    db.create_collection(
        name, clusteredIndex={"key": {"_id": 1}, "unique": True, "name": "own name"}
    )
    filled(db, name)
    db[name].create_index("a")


@kind("clustered and short-lived")
def _short_lived(db: Db, name: str) -> None:
    db.create_collection(
        name, clusteredIndex={"key": {"_id": 1}, "unique": True}, expireAfterSeconds=10**8
    )
    db[name].insert_one({"_id": datetime.now(UTC)})


@kind("images")
def _images(db: Db, name: str) -> None:
    db.create_collection(name, changeStreamPreAndPostImages={"enabled": True})
    filled(db, name)


@kind("stored otherwise")
def _stored(db: Db, name: str) -> None:
    engine = {"wiredTiger": {"configString": "block_compressor=zlib"}}
    db.create_collection(name, storageEngine=engine, indexOptionDefaults={"storageEngine": engine})
    filled(db, name)


@kind("time series")
def _points(db: Db, name: str) -> None:
    db.create_collection(
        name, timeseries={"timeField": "t", "metaField": "m"}, expireAfterSeconds=10**8
    )
    points = [{"t": datetime.now(UTC), "m": n % 3, "v": [n, {"x": -n}]} for n in range(100)]
    db[name].insert_many(points)
    db[name].create_index([("m", ASCENDING), ("t", DESCENDING)])


def view(on: str, *stages: dict[str, Any], **options: Any) -> Maker:
    return lambda db, name: db.command(
        {"create": name, "viewOn": on, "pipeline": list(stages), **options}
    )


kind("a view")(view("plain", {"$match": {"a": {"$gt": 3}}}, {"$project": {"a": 1}}))
kind("A view on a view")(view("a view", {"$limit": 2}))
kind("view of nothing")(view("not there"))
kind("view with collation")(view("plain", collation={"locale": "sv", "strength": 1}))
kind("view with a lookup")(
    view("plain", {"$lookup": {"from": "empty", "localField": "a", "foreignField": "x", "as": "y"}})
)
INDEXES: dict[str, list[IndexModel]] = {
    "single": [IndexModel("a")],
    "compound": [IndexModel([("a", ASCENDING), ("b", DESCENDING)])],
    "multikey": [IndexModel([("b", ASCENDING), ("a", ASCENDING)])],
    "text": [
        IndexModel(
            [("t", TEXT), ("u", TEXT), ("a", ASCENDING)],
            weights={"t": 10, "u": 2},
            default_language="german",
            language_override="lang",
        )
    ],
    "text over all": [IndexModel([("$**", TEXT)])],
    "2d": [IndexModel([("p", GEO2D)], bits=20, min=-500, max=500)],
    "2dsphere": [IndexModel([("g", GEOSPHERE), ("a", ASCENDING)])],
    "hashed": [IndexModel([("a", HASHED)]), IndexModel([("_id", HASHED)])],
    "hashed compound": [IndexModel([("a", ASCENDING), ("s.x", HASHED)])],
    "wildcard": [IndexModel([("$**", 1)], wildcardProjection={"a": 1, "b.c": 1})],
    "wildcard below": [IndexModel([("sub.$**", 1)])],
    "ttl": [IndexModel("at", expireAfterSeconds=10**8)],
    "partial": [IndexModel("a", partialFilterExpression={"a": {"$gt": 5, "$exists": True}})],
    "partial over dates": [
        IndexModel("a", partialFilterExpression={"at": {"$lt": DatetimeMS(2**60)}})
    ],
    "sparse": [IndexModel("a", sparse=True)],
    "hidden": [IndexModel("a", hidden=True)],
    "unique": [IndexModel("a", unique=True)],
    "unique among some": [
        IndexModel("c", unique=True, partialFilterExpression={"c": {"$exists": True}})
    ],
    "same keys, other collation": [
        IndexModel("a", name="one"),
        IndexModel("a", name="two", collation={"locale": "en", "strength": 2}),
    ],
    "odd names": [
        IndexModel("a", name="at@sign"),
        IndexModel("b", name="50%"),
        IndexModel("c", name="%40@#%"),
        IndexModel("d", name="a.$_1 ünïcode"),
        IndexModel("e", name="e" * 300),
    ],
    "made in the background": [IndexModel("a", background=True)],
    "as many as there can be": [IndexModel(f"f{n}") for n in range(63)],
}


def indexed(models: list[IndexModel]) -> Maker:
    def make(db: Db, name: str) -> None:
        place = {"type": "Point", "coordinates": [8.5, 47.4]}
        for n in range(5):
            document = {"_id": n, "a": n, "b": [n, {"c": -n}], "t": "Über den Wolken", "u": "und"}
            db[name].insert_one({**document, "p": [n, n], "g": place, "at": datetime.now(UTC)})
        db[name].create_indexes(models)

    return make


for kind_of_index, index_models in INDEXES.items():
    kind(f"index {kind_of_index}")(indexed(index_models))


@dataclass
class Both:
    ended: subprocess.CompletedProcess[str]
    source: dict[str, Said]
    target: dict[str, Said]


@pytest.fixture(scope="module")
def both(servers: Pair, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """One migration of all kinds; what was on each side afterwards."""
    servers.empty()
    for name, make in KINDS.items():
        make(servers.source_client["kinds"], name)
    ended = migrate(servers, tmp_path_factory.mktemp("kinds") / "ferrylog.db", "--quiet")
    found = Both(ended, said(servers.source_client, "kinds"), said(servers.target_client, "kinds"))
    servers.empty()
    return found


def test_it_ends_well(both: Both) -> None:
    """Nothing rejected, nothing different, nothing given up."""
    assert both.ended.returncode == 0, both.ended.stderr
    assert both.source.keys() == both.target.keys() == KINDS.keys()


@pytest.mark.parametrize("name", KINDS, ids=lambda name: ascii(name)[:40])
def test_arrives_as_it_was(both: Both, name: str) -> None:
    """Type, options to the byte, every index to the byte, documents in their order (I22)."""
    there, here = both.source[name], both.target[name]
    assert here.type == there.type
    assert here.options == there.options
    assert here.indexes == there.indexes
    assert sorted(here.natural) == sorted(there.natural)


def test_insertion_order_of_a_capped_collection(both: Both) -> None:
    natural = both.target["capped"].natural
    assert natural == both.source["capped"].natural
    assert [bson.decode(d)["_id"] for d in natural] == [i * 7919 % 1009 for i in range(300, 1_000)]


def test_documents_that_violate_the_validator(both: Both) -> None:
    assert len(both.target["validated"].natural) == 20


ODD_VALUES: list[dict[str, Any]] = [
    {"$numberDecimal": "none"},
    {"$binary": {}},
    {"$date": ""},
    {"$oid": "x"},
    {"$timestamp": {"t": "x"}},
    {"$regularExpression": {}},
    {"$dbPointer": {"$ref": "a"}},
    {"far": DatetimeMS(2**60)},
]


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: next(iter(value)))
def test_a_view_over_values_that_look_like_extended_json(
    pair: Pair, journal: Path, value: dict[str, Any]
) -> None:
    """I6: options travel through the journal as text, and come back to the byte."""
    view("c", {"$addFields": {"x": {"$literal": value}}})(pair.source_client.shop, "v")
    ended = migrate(pair, journal)
    assert ended.returncode == 0, ended.stderr
    assert said(pair.target_client, "shop") == said(pair.source_client, "shop")


# --- what is not carried --------------------------------------------------------------------------


def test_what_is_not_carried_is_said(pair: Pair, journal: Path) -> None:
    """Buckets without their time series are left, and named."""
    pair.source_client.shop.command({"create": "system.buckets.gone"})
    pair.source_client.shop.c.insert_one({"_id": 1})
    ended = migrate(pair, journal)
    assert ended.returncode == 0, ended.stderr
    (note,) = [
        note
        for line in ferrylog(
            "inspect", "events", "--json", "--journal", journal
        ).stdout.splitlines()
        if (event := json.loads(line))["kind"] == "survey_completed"
        for note in event["data"]["notes"]
    ]
    assert "shop.system.buckets.gone" in note
    assert pair.target_client.shop.list_collection_names() == ["c"]


def test_names_do_not_command_the_terminal(pair: Pair, tmp_path: Path) -> None:
    """A name may hold control characters; what is shown to people must not."""
    pair.source_client.shop["evil\x1b[31m\nname"].insert_one({"_id": 1})
    ended = migrate(pair, tmp_path / "ferrylog.db")
    assert ended.returncode == 0, ended.stderr
    shown = ferrylog("status", "--journal", tmp_path / "ferrylog.db")
    for text in (ended.stderr, shown.stdout):
        assert "\x1b[31m" not in text
        assert "[31m" in text
    assert "evil\x1b[31m\nname" in pair.target_client.shop.list_collection_names()


# --- indexes that fail ----------------------------------------------------------------------------


def test_an_index_of_that_name_with_other_keys(pair: Pair, journal: Path) -> None:
    """A8, A34: the index is given up and named; the data is whole, the other indexes stand."""
    pair.source_client.shop.c.insert_many([{"_id": n, "a": n, "b": n} for n in range(100)])
    pair.source_client.shop.c.create_index("a", name="odd@50%")
    pair.source_client.shop.c.create_index("b", name="good")
    pair.target_client.shop.c.create_index("z", name="odd@50%")

    ended = migrate(pair, journal)

    assert ended.returncode == 3, ended.stderr
    assert pair.target_client.shop.c.count_documents({}) == 100
    assert pair.target_client.shop.c.index_information().keys() == {"_id_", "good", "odd@50%"}
    report = status(journal)
    assert report["status"] == "completed"
    assert report["mismatched_chunks"] == 0
    (letter,) = report["dead_letters"]
    assert (letter["task"], letter["code"]) == ("index", "EMONGO086")
    assert letter["entity"].startswith("shop.c@odd")
    assert "odd@50%" in letter["why"]


def test_data_of_the_target_violates_a_unique_index(pair: Pair, journal: Path) -> None:
    """Merging into a target whose own documents share a value: only the index is missing."""
    pair.source_client.shop.c.insert_many([{"_id": n, "e": n, "b": n} for n in range(100)])
    pair.source_client.shop.c.create_index("e", unique=True, name="e_unique")
    pair.source_client.shop.c.create_index("b", name="good")
    pair.target_client.shop.c.insert_many([{"_id": n, "e": 7} for n in (1001, 1002)])

    ended = migrate(pair, journal, "--on-conflict", "skip", "--no-verify")

    assert ended.returncode == 3, ended.stderr
    assert pair.target_client.shop.c.count_documents({"_id": {"$lt": 1000}}) == 100
    assert pair.target_client.shop.c.index_information().keys() == {"_id_", "good"}
    shown = ferrylog("status", "--journal", journal)
    assert "index of shop.c@e_unique" in shown.stdout
    assert "EMONGO11000" in shown.stdout


def test_a_unique_index_stands_before_the_data(pair: Pair, journal: Path) -> None:
    """So a document that violates it is rejected by name, and the index is whole."""
    pair.source_client.shop.c.insert_many([{"_id": n, "e": n} for n in range(10)])
    pair.source_client.shop.c.create_index("e", unique=True)
    pair.target_client.shop.c.insert_one({"_id": 1001, "e": 7})

    ended = migrate(pair, journal, "--on-conflict", "skip", "--no-verify")

    assert ended.returncode == 3, ended.stderr
    report = status(journal)
    assert report["dead_letters"] == []
    assert report["totals"]["documents"]["rejected"] == 1
    assert pair.target_client.shop.c.index_information()["e_1"]["unique"]


# --- collections that are there -------------------------------------------------------------------


def test_an_empty_collection_of_the_same_kind_is_taken(pair: Pair, journal: Path) -> None:
    for client in (pair.source_client, pair.target_client):
        client.shop.create_collection("c", capped=True, size=4096)
    pair.source_client.shop.c.insert_one({"_id": 1})
    assert migrate(pair, journal).returncode == 0
    assert pair.target_client.shop.c.count_documents({}) == 1


@pytest.mark.parametrize("what", ["view", "capped", "collation"])
def test_something_else_of_that_name_is_refused(pair: Pair, journal: Path, what: str) -> None:
    """ETARGET002: named, and left as it is."""
    options: dict[str, dict[str, Any]] = {
        "view": {"viewOn": "x", "pipeline": []},
        "capped": {"capped": True, "size": 4096},
        "collation": {"collation": {"locale": "de"}},
    }
    pair.source_client.shop.c.insert_one({"_id": 1})
    pair.target_client.shop.command({"create": "c", **options[what]})
    before = said(pair.target_client, "shop")

    ended = migrate(pair, journal)

    assert ended.returncode in (1, 5), ended.stderr
    assert "ETARGET002" in ended.stderr
    assert "shop.c" in ended.stderr
    assert said(pair.target_client, "shop") == before


@pytest.mark.parametrize("what", ["collection", "view"])
def test_drop_replaces_all_of_it(pair: Pair, journal: Path, what: str) -> None:
    """`--drop`: documents, options and indexes of before are gone."""
    pair.source_client.shop.create_collection("c", capped=True, size=4096)
    pair.source_client.shop.c.insert_one({"_id": 1})
    pair.source_client.shop.c.create_index("a")
    if what == "view":
        pair.target_client.shop.command({"create": "c", "viewOn": "x", "pipeline": []})
    else:
        pair.target_client.shop.c.insert_many([{"_id": n} for n in range(10)])
        pair.target_client.shop.c.create_index("old")

    ended = migrate(pair, journal, "--drop")

    assert ended.returncode == 0, ended.stderr
    assert said(pair.target_client, "shop")["c"] == said(pair.source_client, "shop")["c"]


def test_a_view_that_is_there_already(pair: Pair, journal: Path) -> None:
    """The same one is fine, another one is refused."""
    for client, limit in ((pair.source_client, 1), (pair.target_client, 1)):
        client.shop.command({"create": "v", "viewOn": "c", "pipeline": [{"$limit": limit}]})
    assert migrate(pair, journal).returncode == 0
    pair.target_client.shop.command({"collMod": "v", "viewOn": "other", "pipeline": []})
    again = migrate(pair, journal.with_name("again.db"))
    assert again.returncode in (1, 5), again.stderr
    assert "ETARGET002" in again.stderr
