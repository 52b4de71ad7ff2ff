"""Opening a dump: which of the layouts lies at a path, and what is in it."""

from pathlib import Path

from executors.dumps.archive import MAGIC
from executors.dumps.beneath import not_regular, open_file
from executors.dumps.errors import NoDump
from executors.dumps.exported import is_export, is_text, read_export, read_text
from executors.dumps.gunzip import is_gzip, plain
from executors.dumps.manifest import MANIFEST, read_manifest
from executors.dumps.model import Dump
from executors.dumps.mongodump import read_directory, read_file
from executors.dumps.names import must_be_names
from executors.dumps.pairs import kind_of


def open_dump(
    path: Path,
    *,
    database: str | None = None,
    collection: str | None = None,
    salvage: bool = False,
) -> Dump:
    """The dump at `path`: ferrylog's own, mongodump's directory, an export of JSONL, or one `.bson`
    or JSONL file.

    `database` and `collection` say what of a directory to read, and what a single file is.
    Names, metadata and the set of files are in order when this returns; no document was looked
    at; to `salvage` a dump of ours, chunk files may be missing. Raises `NoDump`, `DamagedDump`.
    """
    if collection is not None and database is None:
        raise NoDump(str(path), "a collection without its database", remedy="name it with -d")
    if database is not None:
        must_be_names(database, collection or "c", file=str(path))
    if not path.exists():
        raise NoDump(str(path), "no such file or directory")
    if not path.is_dir():
        return _open_file(path.resolve(), database, collection)
    if (path / MANIFEST).is_file():
        return read_manifest(path, alone=salvage)
    if is_export(path):
        return read_export(path, salvage=salvage)
    return read_directory(path, database=database, collection=collection)


def _open_file(path: Path, database: str | None, collection: str | None) -> Dump:
    if not path.is_file():
        raise not_regular(str(path))
    if kind_of(path.name)[1] != "data" and not is_text(path.name):
        raise _no_bson(path)
    if database is None or collection is None:
        raise NoDump(
            str(path),
            "one file does not say what it is of",
            remedy="name database and collection with -d and -c",
        )
    if is_text(path.name):
        return read_text(path, database=database, collection=collection)
    return read_file(path, database=database, collection=collection)


def _no_bson(path: Path) -> NoDump:
    with open_file(path.parent, path.name) as file:
        archive = plain(file, is_gzip(file), path.name).read(len(MAGIC)) == MAGIC
    if archive:
        return NoDump(str(path), "an archive of mongodump", remedy=f"name it with --archive {path}")
    return NoDump(
        str(path),
        "a file that does not have .bson extension, nor one of JSONL, where a directory is "
        "expected",
    )
