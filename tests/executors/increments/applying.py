"""What tests of applying share: rows, a target, and increments for it."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
from bson import Timestamp

from executors.batches import Block
from executors.chunkfile import write_chunk_file
from executors.increments.apply import apply
from executors.increments.keyorder import order
from executors.increments.row import erased, key_of
from executors.source import data_of
from statemachine.events import JobSpec
from statemachine.state import Applied, ChunkFile, Shard
from statemachine.stimuli import Applying
from statemachine.words import ShardId, UnitType
from tests.executors.examples import Client, Looks, spec, there

CHECKED = spec(kind="restore", write_concern="majority", verify=True)
UNCHECKED = CHECKED.model_copy(update={"verify": False})
EMPTY = Timestamp(0, 0)


def doc(key: Any, /, **fields: Any) -> bytes:
    return bson.encode({"_id": key, **fields})


def gone(key: Any) -> bytes:
    return erased(bson.encode({"_id": key}))


class Bench:
    """A target, and increments to apply to it."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client, self.folder = client, folder
        self.stop: threading.Event | Looks = threading.Event()
        self.kind: UnitType = "collection"

    def shard(self, *rows: bytes, block: int = 1000) -> Shard:
        """The rows in the order of their keys, `block` of them in a block."""
        inside = sorted(rows, key=lambda row: order(key_of(row)))
        blocks = (inside[at : at + block] for at in range(0, len(inside), block))
        made = (Block(b"".join(each), len(each)) for each in blocks)
        written = write_chunk_file(self.folder / "a.flb", made, "zstd")
        whole = (written.documents, written.bytes, written.file_bytes, written.sha256)
        file = ChunkFile("a.flb", *whole, place="dump")
        return Shard(ShardId("shop.c#0"), "shop.c", "shop.c", self.kind, None, None, file)

    def news(
        self, shard: Shard, asked: JobSpec = CHECKED, client: Client | None = None
    ) -> Iterator[Applying]:
        path = self.folder / shard.file.name
        return apply(client or self.client, shard, asked, path, self.stop)

    def send(self, *rows: bytes, asked: JobSpec = CHECKED) -> Applying:
        """The last news of rows in one block."""
        return list(self.news(self.shard(*rows), asked))[-1]

    def there(self) -> list[bytes]:
        database, collection = data_of("shop.c", self.kind)
        return there(self.client, f"{database}.{collection}")


def after(shard: Shard, news: Applying) -> Shard:
    """The shard as the journal has it after these news."""
    done = Applied(news.position, news.documents, news.erased, news.bytes, news.last_key)
    return replace(shard, done=done)


CASELESS = {"locale": "en", "strength": 2}


def unique(bench: Bench, *fields: str, **options: Any) -> None:
    keys = [(name, 1) for name in fields]
    bench.client.shop.c.create_index(keys, unique=True, **options)


def by_key(rows: Sequence[bytes]) -> list[bytes]:
    return sorted((row for row in rows if row[5]), key=lambda row: order(key_of(row)))
