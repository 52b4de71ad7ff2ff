"""Dumps as hostile hands would leave them: what they hold, and every way to spoil it.

Made by hand from the descriptions of the formats; only ferrylog's own layout is written by the
writers of the product, whose bytes are spoiled afterwards.
"""

import argparse
import gzip
import hashlib
import json
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from executors.batches import Block
from executors.chunkfile import write_chunk_file
from executors.dumps.jsonmeta import EMPTY
from executors.dumps.manifest import MANIFEST, Facts, write_manifest
from executors.dumps.model import Dumped, Part
from ferrylog.embedded import Mongod
from statemachine.words import Key
from tests.end_to_end import large_salvage
from tests.executors.dumps import archives

COUNT: Final = 1000
GOOD: Final = 50
"""Documents of `shop.c`, which is spoiled, and of `shop.a` and `zoo.z`, which are not."""
WHERE: Final = 980
"""The number of the document that is spoiled."""


def document(n: int, more: bytes = b"") -> bytes:
    """All without `more` are of one size."""
    body = b"\x10_id\0" + struct.pack("<i", n) + b"\x02t\0\x0e\0\0\0document %04d\0" % n + more
    return struct.pack("<i", len(body) + 5) + body + b"\0"


SIZE: Final = len(document(0))
AT: Final = WHERE * SIZE
DATA: Final = b"".join(map(document, range(COUNT)))
FEW: Final = b"".join(map(document, range(GOOD)))
LEFT: Final = {"shop.a": GOOD, "shop.c": COUNT, "zoo.z": GOOD}


def with_length(length: int) -> bytes:
    """The document in the middle says that it is so long."""
    return DATA[:AT] + struct.pack("<i", length) + DATA[AT + 4 :]


def instead(spoiled: bytes) -> bytes:
    """Another document in the place of the one in the middle."""
    return DATA[:AT] + spoiled + DATA[AT + SIZE :]


def nested(depth: int) -> bytes:
    """An element of so many documents in one another."""
    inner = b"\x05\0\0\0\0"
    for _ in range(depth - 1):
        inner = struct.pack("<i", len(inner) + 8) + b"\x03d\0" + inner + b"\0"
    return b"\x03d\0" + inner


# --- mongodump's directory ------------------------------------------------------------------------


def metadata(collection: str = "c", **more: Any) -> bytes:
    index = {"v": {"$numberInt": "2"}, "key": {"_id": {"$numberInt": "1"}}, "name": "_id_"}
    said = {"indexes": [index], "collectionName": collection, "type": "collection"} | more
    return json.dumps(said).encode()


def directory(
    folder: Path, data: bytes = DATA, *, meta: bytes | None = None, zipped: bool = False
) -> list[str]:
    """`shop.c` with these bytes, between two sound collections."""
    for database, collection, content in (
        ("shop", "a", FEW),
        ("shop", "c", data),
        ("zoo", "z", FEW),
    ):
        place = folder / "dump" / database
        said = meta if meta is not None and collection == "c" else metadata(collection)
        put(place, f"{collection}.bson", content, zipped=zipped)
        put(place, f"{collection}.metadata.json", said, zipped=zipped)
    return ["--from", str(folder / "dump")]


def put(place: Path, name: str, content: bytes, *, zipped: bool = False) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    path = place / (name + ".gz" * zipped)
    path.write_bytes(gzip.compress(content, 1) if zipped else content)
    return path


def spoiled_gzip(folder: Path, spoil: Callable[[bytes], bytes]) -> list[str]:
    """Its gzip is spoiled, not what is in there."""
    words = directory(folder, zipped=True)
    path = folder / "dump/shop/c.bson.gz"
    path.write_bytes(spoil(path.read_bytes()))
    return words


def bomb() -> bytes:
    """200 MB of zeros in 200 KB."""
    return gzip.compress(bytes(200 << 20), 9)


def in_place_of(folder: Path, name: str, make: Callable[[Path], object]) -> list[str]:
    """A sound directory in which something else has the name of a file."""
    words = directory(folder)
    path = folder / "dump" / name
    path.unlink()
    make(path)
    return words


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def a_link(path: Path) -> None:
    path.with_name("kept").write_bytes(DATA)
    path.symlink_to("kept")


def a_device(path: Path) -> None:
    os.mknod(path, 0o020600, os.makedev(1, 5))  # /dev/zero


# --- archives -------------------------------------------------------------------------------------


def archive_bytes(data: bytes = DATA, *, crc: bytes | None = None, meta: bytes = b"") -> bytes:
    told = (meta or metadata("c")).decode()
    crc = data if crc is None else crc
    return b"".join(
        [
            archives.prelude(
                archives.entry("shop.a", metadata("a").decode()),
                archives.entry("shop.c", told),
                archives.entry("zoo.z", metadata("z").decode()),
            ),
            archives.block("shop.a", FEW) + archives.end("shop.a", FEW),
            archives.block("shop.c", data) + archives.end("shop.c", crc),
            archives.block("zoo.z", FEW) + archives.end("zoo.z", FEW),
        ]
    )


WHOLE: Final = archive_bytes()


def archive(folder: Path, content: bytes = WHOLE, *, zipped: bool = False) -> list[str]:
    content = gzip.compress(content, 1) if zipped else content
    put(folder, "x.archive", content)
    return ["--archive", str(folder / "x.archive")]


# --- ferrylog's own layout ------------------------------------------------------------------------


def chunks(folder: Path, data: bytes = DATA) -> list[str]:
    """Three collections; `shop.c` in two chunks of several blocks each, the second spoiled."""
    root, first = folder / "dump", CUT * SIZE
    one, two = ("", _key(CUT), data[:first], CUT), (_key(CUT), "", data[first:], COUNT - CUT)
    few = ("", "", FEW, GOOD)
    rows = [("shop.a", [few]), ("shop.c", [one, two]), ("zoo.z", [few])]
    write_manifest(root, Facts(tool_version="0"), [_dumped(root, *each) for each in rows])
    return ["--from", str(root)]


CUT: Final = 250
"""Documents of the first chunk."""
FIRST, SECOND = "shop.c/0-1.flb", "shop.c/1-1.flb"
_Piece = tuple[str, str, bytes, int]


def _key(n: int) -> str:
    return f'{{"$numberInt":"{n}"}}'


def _dumped(root: Path, namespace: str, pieces: list[_Piece]) -> Dumped:
    parts = tuple(_part(root, f"{namespace}/{n}-1.flb", each) for n, each in enumerate(pieces))
    documents, size = sum(each.documents for each in parts), sum(each.bytes for each in parts)
    return Dumped(namespace, "collection", EMPTY, (), parts=parts, documents=documents, bytes=size)


def _part(root: Path, name: str, piece: _Piece) -> Part:
    lower, upper, data, documents = piece
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    done = write_chunk_file(root / name, _blocks(data, documents), "zstd")
    return Part(
        name,
        0,
        done.file_bytes,
        documents,
        len(data),
        done.sha256,
        Key(lower) if lower else None,
        Key(upper) if upper else None,
    )


def _blocks(data: bytes, documents: int) -> Iterator[Block]:
    """Blocks of a hundred documents; the last one takes what is left, whatever it is."""
    while documents > 100:
        yield Block(data[: 100 * SIZE], 100)
        data, documents = data[100 * SIZE :], documents - 100
    yield Block(data, documents)


def spoiled_chunks(folder: Path, spoil: Callable[[Path], object]) -> list[str]:
    words = chunks(folder)
    spoil(folder / "dump")
    return words


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def swap(root: Path) -> None:
    (root / FIRST).rename(root / "x")
    (root / SECOND).rename(root / FIRST)
    (root / "x").rename(root / SECOND)


def retell(root: Path, old: str, new: str) -> None:
    """Another manifest, with the digest that it should have."""
    body = (root / MANIFEST).read_text().rpartition('"sha256"')[0].replace(old, new)
    digest = hashlib.sha256(body.encode()).hexdigest()
    (root / MANIFEST).write_text(f'{body}"sha256": "{digest}"}}\n')


# --- cases ----------------------------------------------------------------------------------------


Make = Callable[[Path], list[str]]
"""Leaves the dump in the folder; the words behind `restore`."""


@dataclass(frozen=True)
class Case:
    """One bad dump, and how it must end."""

    name: str
    make: Make
    exit: int
    code: str
    """Stands in what is said; a beginning is enough."""
    words: tuple[str, ...] = ()
    """Must be said, too."""
    left: dict[str, int] | None = None
    """Documents on the target by collection, when it is over; `None`: it was not touched."""
    deep: bool = False
    """Much like others."""


def main() -> None:
    """Print what a salvage of a large file costs."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--gigabyte", action="store_true", help="else 20 MB")
    size = 1 << 30 if options.parse_args().gigabyte else 20 << 20
    with tempfile.TemporaryDirectory(prefix="ferrylog-salvage-") as name:
        folder = Path(name)
        with Mongod(folder / "target", name="target") as target:
            print(large_salvage.play(size, target.uri, folder))


if __name__ == "__main__":
    main()
