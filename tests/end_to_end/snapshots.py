"""An independent judge of chains: what a source held at one cluster time, what a target holds now.

It imports nothing of the program it judges: only pymongo, and the bytes that servers return.

    python -m tests.end_to_end.snapshots --uri URI [--at SECONDS.INCREMENT]

A server tells documents as of a past cluster time, but not names, options and indexes as of then.
And it refuses documents of a collection that was renamed or dropped since, or, under its old
name, says that there are none. So a reference is taken while the writer that is the only one to
change the catalogue (`workload.py`) holds renames and drops back, and nothing else: documents,
transactions, new collections, indexes and options go on. The catalogue comes from the writer's
diary, which holds it as it was behind each change, with the change's place in the oplog. Without
a diary the catalogue is read before and after and must be the same.
"""

import argparse
import hashlib
import json
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import Binary, Timestamp, json_util
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
OWN = ("admin", "config", "local")
"""Databases of the server itself; in them only traces of the program are looked for."""
PROGRAM = "ferrylog"
BATCH = 10_000
SHOWN = 3
"""Documents named per collection that differs."""
HISTORY_S = 3_600
"""How long servers of trials keep what a snapshot read needs."""

Catalogue = dict[str, dict[str, Any]]
"""By namespace: type, uuid, options and indexes, in canonical Extended JSON."""


class Ambiguous(Exception):
    """There is no reference as of this time: the catalogue changed around it."""


@dataclass
class Kept:
    """One collection, as of one moment."""

    type: str
    options: Mapping[str, str]
    indexes: Mapping[str, Mapping[str, str]]
    count: int = 0
    digest: str = ""
    """SHA-256 of all documents, in the order of `_id`."""
    rows: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    """`_id` to digest, to name what differs."""

    def told(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("type", "count", "digest")} | {
            "options": self.options,
            "indexes": self.indexes,
        }


@dataclass
class Reference:
    at: str
    collections: dict[str, Kept]

    @property
    def documents(self) -> int:
        return sum(each.count for each in self.collections.values())


def keep_history(uri: str) -> None:
    """Let snapshot reads reach back far enough."""
    with MongoClient[dict[str, Any]](uri) as client:
        client.admin.command("setParameter", 1, minSnapshotHistoryWindowInSeconds=HISTORY_S)


def now(uri: str) -> str:
    """The cluster time behind everything that was acknowledged."""
    with MongoClient[dict[str, Any]](uri) as client:
        at = client.admin.command("ping")["operationTime"]
    return f"{at.time}.{at.inc}"


def position(cluster_time: str) -> tuple[int, int]:
    seconds, _, increment = cluster_time.partition(".")
    return int(seconds), int(increment)


# --- the catalogue ----------------------------------------------------------------------------


def catalogue(client: MongoClient[Any]) -> Catalogue:
    """Everything users keep, by name, as it is now."""
    return {
        f"{database}.{entry['name']}": _entry(client, database, entry)
        for database in sorted(client.list_database_names())
        if database not in OWN
        for entry in client[database].list_collections()
        if entry["name"] != "system.views"
    }


def _entry(client: MongoClient[Any], database: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    uuid = entry["info"].get("uuid")
    listed: Sequence[Mapping[str, Any]] = []
    if entry["type"] == "collection":
        listed = list(client[database][entry["name"]].list_indexes())
    options = {name: _text(value) for name, value in entry["options"].items()}
    return {
        "type": entry["type"],
        "uuid": uuid.hex() if uuid else "",
        "options": options,
        "indexes": {each["name"]: {k: _text(v) for k, v in each.items()} for each in listed},
    }


def _text(value: object) -> str:
    return json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS)


def as_of(diary: Sequence[Mapping[str, Any]], at: str) -> Catalogue:
    """The catalogue at a cluster time. Raises `Ambiguous` where the time lies in a change."""
    before = [entry for entry in diary if position(entry["first"]) <= position(at)]
    if not before or position(before[-1]["last"]) > position(at):
        raise Ambiguous(f"{at} lies within a change of the catalogue, or before the first")
    found: Catalogue = before[-1]["catalogue"]
    return found


# --- a reference ------------------------------------------------------------------------------


def reference(uri: str, at: str, diary: Sequence[Mapping[str, Any]] = ()) -> Reference:
    """Everything as of `at`. Raises `Ambiguous`, and `OperationFailure` (246) where a collection
    was renamed or dropped since."""
    with MongoClient[dict[str, Any]](uri) as client:
        names = as_of(diary, at) if diary else catalogue(client)
        found = {name: _kept(client, name, entry, at) for name, entry in names.items()}
        now = {each["uuid"]: name for name, each in catalogue(client).items() if each["uuid"]}
        for name, entry in names.items():
            if entry["uuid"] and now.get(entry["uuid"]) != name:
                raise Ambiguous(f"{name} was renamed or dropped after {at}")
        if not diary and catalogue(client) != names:
            raise Ambiguous("the catalogue changed while it was read")
    return Reference(at, found)


def present(uri: str) -> Reference:
    """Everything that is there now; nobody writes."""
    with MongoClient[dict[str, Any]](uri) as client:
        names = catalogue(client)
        found = {name: _kept(client, name, entry, "") for name, entry in names.items()}
    return Reference("", found)


def _kept(client: MongoClient[Any], name: str, entry: Mapping[str, Any], at: str) -> Kept:
    kept = Kept(entry["type"], entry["options"], entry["indexes"])
    if kept.type != "collection":
        return kept
    digest = hashlib.sha256()
    for raw in _documents(client, name, entry["uuid"], at):
        digest.update(raw)
        kept.rows[_id_of(raw)] = hashlib.blake2b(raw, digest_size=8).digest()
        kept.count += 1
    kept.digest = digest.hexdigest()
    return kept


def _documents(client: MongoClient[Any], name: str, uuid: str, at: str) -> Iterator[bytes]:
    """Raw documents in the order of `_id`; of a past moment of the very collection."""
    database, _, collection = name.partition(".")
    find: dict[str, Any] = {"find": collection, "sort": {"_id": 1}, "batchSize": BATCH}
    find["allowDiskUse"] = True
    if at:
        time = Timestamp(*position(at))
        find["readConcern"] = {"level": "snapshot", "atClusterTime": time}
        find["collectionUUID"] = Binary(bytes.fromhex(uuid), 4)
    with client.start_session(causal_consistency=False) as session:
        reply = _ask(client, database, find, session)
        batch = "firstBatch"
        while True:
            yield from (bytes(raw.raw) for raw in reply["cursor"][batch])
            if not (cursor := reply["cursor"]["id"]):
                return
            batch = "nextBatch"
            more = {"getMore": cursor, "collection": collection, "batchSize": BATCH}
            reply = _ask(client, database, more, session)


def _ask(client: MongoClient[Any], database: str, command: dict[str, Any], session: Any) -> Any:
    return client[database].command(command, codec_options=RAW, session=session)


FIXED = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
FIXED |= {0x7F: 0, 0xFF: 0}
"""BSON element types whose value has one size."""


def _id_of(raw: bytes) -> bytes:
    """Type byte and value of `_id`, which servers store first; the BSON specification's sizes."""
    kind = raw[4]
    size = FIXED.get(kind)
    if raw[5:9] != b"_id\0":
        return raw
    if size is None:
        length = struct.unpack_from("<i", raw, 9)[0]
        size = length + {0x03: 0, 0x04: 0, 0x0F: 0, 0x05: 5}.get(kind, 4)
    return raw[4:5] + raw[9 : 9 + size]


# --- the verdict ------------------------------------------------------------------------------


def judge(target_uri: str, expected: Reference) -> list[str]:
    """Everything on which a target is not the reference, in words; empty when it is (I33)."""
    return differences(expected, present(target_uri)) + traces(target_uri)


def differences(expected: Reference, found: Reference) -> list[str]:
    mine, theirs = expected.collections, found.collections
    told = [f"{name}: missing" for name in sorted(mine.keys() - theirs.keys())]
    told += [f"{name}: nobody asked for it" for name in sorted(theirs.keys() - mine.keys())]
    for name in sorted(mine.keys() & theirs.keys()):
        told += [f"{name}: {what}" for what in _of_one(mine[name], theirs[name])]
    return told


def _of_one(mine: Kept, theirs: Kept) -> Iterator[str]:
    for what in ("type", "options", "count", "digest"):
        if getattr(mine, what) != getattr(theirs, what):
            yield f"{what}: {getattr(mine, what)} expected, {getattr(theirs, what)} found"
    for name in sorted(mine.indexes.keys() | theirs.indexes.keys()):
        one, two = mine.indexes.get(name), theirs.indexes.get(name)
        if one != two:
            yield f"index {name}: {one} expected, {two} found"
    if mine.digest != theirs.digest:
        yield from _of_documents(mine.rows, theirs.rows)


def _of_documents(mine: dict[bytes, bytes], theirs: dict[bytes, bytes]) -> Iterator[str]:
    lost = [key for key in mine if key not in theirs]
    extra = [key for key in theirs if key not in mine]
    other = [key for key, row in mine.items() if theirs.get(key, row) != row]
    for what, keys in (("lost", lost), ("extra", extra), ("other", other)):
        if keys:
            some = ", ".join(key.hex() for key in keys[:SHOWN])
            yield f"{len(keys)} documents {what}, with _id (type and value) {some}"
    if not (lost or extra or other):
        yield "the same documents in another order"


def traces(uri: str) -> list[str]:
    """What the program left in the server's own databases."""
    with MongoClient[dict[str, Any]](uri) as client:
        return [
            f"{database}.{name}: left behind"
            for database in OWN
            for name in client[database].list_collection_names()
            if PROGRAM in name
        ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uri", required=True)
    parser.add_argument("--at", default="")
    options = parser.parse_args()
    found = reference(options.uri, options.at) if options.at else present(options.uri)
    told = {name: each.told() for name, each in found.collections.items()}
    json.dump({"at": found.at, "collections": told}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
