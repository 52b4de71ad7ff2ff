"""What dumps that others made say, read with nothing but `bson` and `json`; and a server that is
made to hold it by plain commands. It shares no code with what it judges."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

import bson
from bson import json_util
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import PyMongoError

MAGIC: Final = b"\x6d\xe2\x99\x81"
END: Final = b"\xff\xff\xff\xff"
TOLERANT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(unicode_decode_error_handler="replace")
"""A server quotes what it refuses, text that is none included."""
BUCKETS: Final = "system.buckets."
GONE: Final = ("ns", "safe", "dropDups")
"""What old servers kept of an index, and no server of today does."""
KEPT_BACK: Final = ("admin.system.", "config.", "local.")
"""What servers keep for themselves, and no restore touches unless it is told to."""


class Unreadable(Exception):
    """What should be a dump is damaged."""


class Said(NamedTuple):
    """One namespace of a dump."""

    database: str
    collection: str
    metadata: dict[str, Any]
    documents: list[bytes]


class Told(NamedTuple):
    """What a whole dump says."""

    version: tuple[int, ...]
    """Major and minor, of the server that was dumped; empty where nothing tells it."""
    namespaces: list[Said]


def documents(data: bytes) -> list[bytes]:
    """Those of a file of documents in a row. Raises `Unreadable` unless it ends with one."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little", signed=True)
        document = data[at : at + max(size, 0)]
        if not 5 <= size == len(document) or document[-1]:
            raise Unreadable(f"offset {at}: length {size}")
        found.append(document)
        at += size
    return found


def content(path: Path) -> bytes:
    """Unpacked. Raises `Unreadable`."""
    data = path.read_bytes()
    try:
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(str(error)) from None


def directory(root: Path) -> Told:
    """A dump directory. Raises `Unreadable`."""
    found = []
    for folder in sorted(each for each in root.iterdir() if each.is_dir()):
        names = {path.name.removesuffix(".gz"): path for path in folder.iterdir()}
        stems = {name.removesuffix(".metadata.json") for name in names if ".metadata." in name}
        stems |= {name.removesuffix(".bson") for name in names if name.endswith(".bson")}
        for stem in sorted(stems):
            told = names.get(f"{stem}.metadata.json")
            metadata = _metadata(content(told)) if told else {}
            data = content(names[f"{stem}.bson"]) if f"{stem}.bson" in names else b""
            name = metadata.get("collectionName") or unquote_plus(stem)
            found.append(Said(folder.name, name, metadata, documents(data)))
    preludes = sorted((*root.glob("prelude.json*"), *root.glob("*/prelude.json*")))
    versions = [_version(json.loads(content(path)).get("ServerVersion", "")) for path in preludes]
    return Told(next(filter(None, versions), ()), carried(found))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(".")[:2]) if text[:1].isdigit() else ()


def archive(path: Path) -> Told:
    """An archive. Raises `Unreadable`."""
    data = content(path)
    if data[:4] != MAGIC:
        raise Unreadable("no archive")
    try:
        sections = list(_sections(data[4:]))
        (header, *prelude), blocks = sections[0], sections[1:]
        version = _version(bson.decode(header)["server_version"])
        found = {}
        for raw in prelude:
            entry = bson.decode(raw)
            name = (entry["db"], entry["collection"])
            found[name] = Said(*name, _metadata(entry["metadata"].encode()), [])
        for head, *rest in blocks:
            told = bson.decode(head)
            found[told["db"], told["collection"]].documents.extend(rest)
    except (BSONError, KeyError, ValueError, IndexError) as error:
        raise Unreadable(str(error)) from None
    return Told(version, carried(list(found.values())))


def _sections(data: bytes) -> Iterator[list[bytes]]:
    """Documents up to each end mark."""
    section: list[bytes] = []
    at = 0
    while at < len(data):
        if data[at : at + 4] == END:
            yield section
            section, at = [], at + 4
            continue
        size = int.from_bytes(data[at : at + 4], "little", signed=True)
        if size < 5 or at + size > len(data):
            raise Unreadable(f"offset {at}: length {size}")
        section.append(data[at : at + size])
        at += size
    if section:
        raise Unreadable("no end mark")


def _metadata(text: bytes) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found: dict[str, Any] = json_util.loads(text, json_options=CANONICAL_JSON_OPTIONS)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    return found


def carried(told: list[Said]) -> list[Said]:
    """What a restore restores."""
    return [each for each in told if not f"{each.database}.{each.collection}".startswith(KEPT_BACK)]


def make(client: MongoClient[Any], said: Said) -> list[str]:
    """Make the namespace on an empty server; the names of indexes that it refused."""
    db = client.get_database(said.database)
    if not said.collection.startswith(BUCKETS):
        db.command({"create": said.collection, **said.metadata.get("options", {})})
    for each in said.documents:
        insert(db, said.collection, each)
    refused = []
    for index in said.metadata.get("indexes", ()):
        spec = {key: value for key, value in index.items() if key not in GONE}
        if spec["name"] == "_id_" or "clustered" in spec:
            continue
        try:
            db.command("createIndexes", said.collection, indexes=[spec])
        except PyMongoError:
            refused.append(spec["name"])
    return refused


def insert(db: Any, collection: str, document: bytes) -> bool:
    """Whether the server takes these bytes."""
    raw = RawBSONDocument(document)
    try:
        reply = db.command(
            {"insert": collection, "documents": [raw], "bypassDocumentValidation": True},
            codec_options=TOLERANT,
        )
    except PyMongoError:
        return False
    return bool(reply["n"])


def without_id(document: bytes) -> bytes:
    """Less the `_id` that a server put before everything else."""
    of_server = 1 + len(b"_id\0") + 12
    return (len(document) - of_server).to_bytes(4, "little") + document[4 + of_server :]
