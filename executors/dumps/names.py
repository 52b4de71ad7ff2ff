"""Names of collections as names of files, there and back, and what servers take for a name.

mongodump escapes a collection as Go's `url.QueryEscape` does, older versions as
`url.PathEscape`, the oldest not at all; a database's directory bears its plain name.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote, quote_plus, unquote_to_bytes

from executors.dumps.errors import DamagedDump

LONGEST: Final = 238
"""Bytes of an escaped name; with `.metadata.json.gz` it makes 255, what file systems take."""
_KEPT: Final = LONGEST - len("%24") - 27
"""Of a longer one; 27 are the SHA-1 in base64."""
BUCKETS: Final = "system.buckets."
_USERS: Final = ("admin.system.users", "admin.system.roles", "admin.system.version")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_ESCAPED: Final = re.compile(r"%20|[$&=:@]")
"""Never left by `QueryEscape`."""
_NOT_IN_DATABASE: Final = '/\\. "$\0'
_MAX_DATABASE: Final = 63
_MAX_NAMESPACE: Final = 255


def file_name(collection: str) -> str:
    """The name, less its extension, of the files that mongodump writes for a collection."""
    escaped = _query_escaped(collection)
    if len(escaped) <= LONGEST:
        return escaped
    digest = hashlib.sha1(collection.encode(), usedforsecurity=False).digest()
    return f"{escaped[:_KEPT]}%24{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def directory_name(database: str) -> str:
    """The name of a database's directory: its own. Raises `DamagedDump` for what is no name of
    a database: a server could send `../..`."""
    must_be_names(database, "c", file=database)
    return database


def may_be_called(collection: str) -> frozenset[str]:
    """Every name, less its extension, that some mongodump gave to a file of this collection."""
    return frozenset({file_name(collection), _path_escaped(collection), collection})


def is_cut(stem: str) -> bool:
    """Whether a file name may be one that was too long, of which a digest is left."""
    return len(stem.encode("utf-8", "surrogateescape")) == LONGEST and "%24" in stem


def collection_of(stem: str, metadata_name: str, *, file: str = "") -> str:
    """The collection whose files are called `stem`, less the extension.

    `metadata_name` is the `collectionName` of its metadata, or empty: it settles what the file
    name leaves open. Raises `DamagedDump`.
    """
    file = file or stem
    if metadata_name and stem in (file_name(metadata_name), _path_escaped(metadata_name)):
        return metadata_name
    if is_cut(stem):
        why = (
            f"its metadata names another collection, {metadata_name!r}"
            if metadata_name
            else "its metadata, which should tell the whole name (collectionName), does not"
        )
        raise DamagedDump(
            file,
            f"the file name is cut, and {why}",
            detail="EDUMP016",
            remedy="restore this file alone: name it, and its namespace with -d and -c",
        )
    return _unescaped(stem, file)


def must_be_names(database: str, collection: str, *, file: str = "") -> None:
    """Raise `DamagedDump` unless servers take this database and this collection."""
    why = _flaw_of_database(database) or _flaw_of_collection(database, collection)
    if why:
        raise DamagedDump(
            file or f"{database}.{collection}",
            why,
            detail="EDUMP013",
            remedy="rename it, or take it out of the dump",
        )


def must_differ(names: Iterable[str]) -> None:
    """Raise `DamagedDump` where two of the paths, or two of their directories, are one to a file
    system without case."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        for each in (name, *map(str, PurePosixPath(name).parents)):
            other = seen.setdefault(each.casefold(), each)
            if other != each:
                raise DamagedDump(
                    each,
                    f"this file system cannot keep it apart from {other}",
                    detail="EDUMP015",
                    remedy="write to a file system that knows upper and lower case, or write an "
                    "archive",
                )


def _query_escaped(name: str) -> str:
    return quote_plus(name, safe="", errors="surrogatepass")


def _path_escaped(name: str) -> str:
    return quote(name, safe="$&+=:@", errors="surrogatepass")


def _unescaped(stem: str, file: str) -> str:
    """Go's `QueryUnescape`, which makes a space of `+`; in what only `PathEscape` writes, `+` is
    itself."""
    if bad := _BAD_ESCAPE.search(stem):
        why = f"{stem[bad.start() : bad.start() + 3]!r} in the file name is no escape"
        raise _no_name(file, why)
    plain = stem if _PATH_ESCAPED.search(stem) else stem.replace("+", " ")
    try:
        return unquote_to_bytes(plain).decode()
    except UnicodeError:
        raise _no_name(file, "the file name is not UTF-8") from None


def _no_name(file: str, why: str) -> DamagedDump:
    return DamagedDump(file, why, detail="EDUMP012", remedy="rename the file as mongodump would")


def _flaw_of_database(database: str) -> str:
    if not database:
        return "the database has no name"
    if not _is_utf8(database):
        return "the database's name is not UTF-8"
    if bad := next((each for each in _NOT_IN_DATABASE if each in database), ""):
        return f"{database!r} is no name of a database: it holds {bad!r}"
    if len(_bytes(database)) > _MAX_DATABASE:
        return f"the database's name is longer than {_MAX_DATABASE} bytes"
    return ""


def _flaw_of_collection(database: str, collection: str) -> str:
    if not collection:
        return "the collection has no name"
    if "\0" in collection or "$" in collection or collection[0] == ".":
        return f"{collection!r} is no name of a collection: it holds NUL or '$', or begins with '.'"
    namespace = f"{database}.{collection}"
    if len(_bytes(namespace)) > _MAX_NAMESPACE:
        return f"database and collection together are longer than {_MAX_NAMESPACE} bytes"
    if collection.startswith("system.") and not _may_be_restored(namespace, collection):
        return f"{collection!r} is a name that servers keep to themselves"
    return ""


def _may_be_restored(namespace: str, collection: str) -> bool:
    buckets = collection.startswith(BUCKETS) and len(collection) > len(BUCKETS)
    return collection == "system.js" or buckets or namespace in _USERS


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in name)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
