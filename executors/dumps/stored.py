"""A dump that lies in an object store, as whoever reads it finds it.

It is the same dump as in a folder, object by file: the same manifest, the same names, the same
bytes. What it names is compared with one listing; its chunk files are fetched one by one, and
looked into when they are there: nobody reads terabytes twice over a network.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Final

from executors.chunkfile import DamagedFile, check_chunk_file
from executors.dumps.beneath import Entry
from executors.dumps.errors import NoDump
from executors.dumps.form import DumpForm, IncrementForm
from executors.dumps.manifest import (
    MANIFEST,
    Facts,
    must_be_full,
    must_not_be_too_large,
    opened,
    parsed,
)
from executors.dumps.model import Dump
from executors.increments.model import INCREMENTS
from executors.protocol import StopToken
from executors.storage.errors import NoObject
from executors.storage.names import is_probe
from executors.storage.protocol import Store

NOWHERE: Final = Path("/nowhere")
"""The root of a dump that lies in no folder."""


def read_stored(store: Store, *, alone: bool = False) -> tuple[Dump, Facts]:
    """The dump beneath the store's URL, and where it comes from; as `read_manifest`: its manifest
    is whole and its own, and each chunk file it names is there, of the right size. `alone`: nobody
    looked whether they are.

    Raises `NoDump`, `DamagedDump`, `StoreError`.
    """
    form, identity = _manifest(store)
    must_be_full(form)
    lying = None if alone else partial(in_store, store)
    dump = opened(NOWHERE, form, identity, lying, (MANIFEST, INCREMENTS), url=store.url)
    return dump, form.facts


def stored_facts(store: Store) -> Facts:
    """Where the dump in a store comes from. Raises as `read_stored`."""
    return _manifest(store)[0].facts


def lying_in(store: Store) -> Iterator[tuple[str, Entry]]:
    """Every whole object, by its name; not what a look at the store left."""
    for found in store.list():
        if is_probe(found.name):
            continue
        yield found.name, Entry(found.name, "file", found.size)


def in_store(store: Store, folders: AbstractSet[str]) -> Iterator[tuple[str, Entry]]:
    """As `fileset.in_folder`: of other folders there is but the name."""
    others: set[str] = set()
    for name, entry in lying_in(store):
        top, below, _ = name.partition("/")
        if top in folders or not below:
            yield name, entry
        elif top not in others:
            others.add(top)
            yield top, Entry(top, "directory", 0)


def holds_chain(store: Store) -> bool:
    """Whether increments lie beside the dump."""
    return next(iter(store.list(f"{INCREMENTS}/")), None) is not None


def fetch_chunk(
    store: Store, name: str, into: Path, stop: StopToken, *, file_bytes: int, sha256: str
) -> None:
    """The chunk file of that name at `into`, whole and as the manifest names it, or nothing.

    Raises `DamagedFile` where the object is gone or another one, `StoreError`, `OSError`,
    `Stopped`.
    """
    into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = into.with_name(
        f"{into.name}.{get_ident()}.tmp"
    )  # an attempt that hangs has its own
    try:
        store.fetch(name, temporary, stop)
        check_chunk_file(temporary, file_bytes=file_bytes, sha256=sha256, stop=stop)
        temporary.rename(into)
    except NoObject:
        _must_be_reachable(store)
        raise DamagedFile(f"{store.url}/{name} is missing") from None
    except DamagedFile as error:
        raise DamagedFile(f"{store.url}/{name}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _manifest(store: Store) -> tuple[DumpForm | IncrementForm, str]:
    found = store.head(MANIFEST)
    must_not_be_too_large(found.size if found is not None else 0)
    try:
        return parsed(store.get(MANIFEST))
    except NoObject:
        raise NoDump(
            store.url,
            f"no {MANIFEST} beneath it: no dump of ferrylog's own layout, or one not finished",
            remedy="an export of JSON lines and a dump of another layout are read from a disk: "
            "copy it there",
        ) from None


def _must_be_reachable(store: Store) -> None:
    """Raise `StoreError` where it is the whole bucket that is gone: a listing tells it, of one
    object nobody does."""
    next(iter(store.list()), None)
