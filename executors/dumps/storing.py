"""What a job dumped into an object store becomes a dump there: a claim first, a manifest last."""

from collections.abc import Iterator, Sequence

from executors.dumps.claim import CLAIM, OURS
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.form import Facts
from executors.dumps.manifest import MANIFEST, manifest_bytes
from executors.dumps.model import Dumped
from executors.dumps.stored import lying_in, read_stored, stored_facts
from executors.errors import OutExists
from executors.storage.errors import NoObject, ObjectExists
from executors.storage.names import is_probe
from executors.storage.protocol import Found, Store
from statemachine.effects import Effect
from statemachine.words import ChunkId


def refuse_existing_in(store: Store) -> None:
    """Raise `OutExists` where a new dump would come beside other objects. Raises `StoreError`."""
    if not all(is_probe(found.name) for found in store.list()):
        raise OutExists(store.url, "is not empty: objects lie beneath it")


def claim_in(store: Store, job: str) -> None:
    """Mark the prefix of a dump that is being made: of two jobs, one. Raises `OutExists` for what
    is another's, `DamagedDump` for a manifest that is none, `StoreError`."""
    try:
        store.put(CLAIM, job.encode())
    except ObjectExists:
        raise _taken(store) from None
    if (by := maker_in(store)) not in (None, job):
        store.remove([CLAIM])
        raise OutExists(store.url, f"holds the dump of job {by}")


def must_be_ours_in(store: Store, job: str) -> None:
    """Raises as `claim_in`."""
    if (by := maker_in(store)) not in (None, job):
        raise OutExists(store.url, f"holds the dump of job {by}")
    if holder_in(store) not in (None, job):
        raise _taken(store)


def maker_in(store: Store) -> str | None:
    """The job whose dump lies there. Raises `DamagedDump`, `StoreError`."""
    try:
        return stored_facts(store).job
    except NoDump:
        return None


def holder_in(store: Store) -> str | None:
    """The job that has claimed the prefix. Raises `StoreError`."""
    try:
        return store.get(CLAIM).decode(errors="replace")
    except NoObject:
        return None


def lost_in(store: Store, effect: Effect) -> Iterator[tuple[ChunkId, str]]:
    """Chunks whose objects are not there in their sizes, by one listing. Nobody reads them again:
    what a store acknowledged it holds, by checksums of its own."""
    sizes = {name: entry.bytes for name, entry in lying_in(store)}
    for chunk in effect.filed:
        file = chunk.file
        assert file is not None
        if file.name not in sizes:
            yield chunk.id, f"{file.name} is missing"
        elif sizes[file.name] != file.file_bytes:
            why = f"{file.name} has {sizes[file.name]} bytes, {file.file_bytes} were written"
            yield chunk.id, why


def put_manifest(
    store: Store, facts: Facts, namespaces: Sequence[Dumped], of_what: Sequence[str]
) -> str:
    """Make the chunk files beneath the store's URL a dump; returns the manifest's SHA-256. The
    objects of attempts that it does not name are gone before it is there.

    One that says the same stands: the process that put it died before it could tell; `of_what`:
    the facts that tell. One of another job is never replaced: raises `OutExists` then.
    """
    sha256 = _standing(store, facts, namespaces, of_what)
    if not sha256:
        _remove_unnamed(store, namespaces)
        data, sha256 = manifest_bytes(facts, namespaces)
        try:
            store.put(MANIFEST, data)
        except ObjectExists:
            must_be_ours_in(store, facts.job)
            store.put(MANIFEST, data, replace=True)
    store.remove([CLAIM])
    return sha256


def claimed_in(store: Store, job: str) -> list[Found]:
    """What lies there of a dump that the job claimed and did not finish; nothing of what is
    another's, or whole. Raises `StoreError`."""
    if holder_in(store) != job or maker_in(store) is not None:
        return []
    return [each for each in store.list() if _is_of_attempt(each.name) or each.name == CLAIM]


def remove_claimed(store: Store, job: str) -> None:
    """Of such a dump, which the job will not finish, all; the claim last. Raises `StoreError`."""
    names = [each.name for each in claimed_in(store, job)]
    store.remove(name for name in names if name != CLAIM)
    store.remove_drafts()
    store.remove(name for name in names if name == CLAIM)


def _standing(
    store: Store, facts: Facts, namespaces: Sequence[Dumped], of_what: Sequence[str]
) -> str:
    try:
        made, before = read_stored(store, alone=True)
    except (NoDump, DamagedDump):
        return ""
    wanted = tuple(sorted(namespaces, key=lambda each: each.namespace))
    same = made.namespaces == wanted and all(
        getattr(before, name) == getattr(facts, name) for name in of_what
    )
    return made.identity if same else ""


def _remove_unnamed(store: Store, namespaces: Sequence[Dumped]) -> None:
    """Chunk files of attempts that were killed, of units that were left, and what is half done.
    Nothing else is ours."""
    named = {part.file for each in namespaces for part in each.parts}
    store.remove(name for name, _ in lying_in(store) if name not in named and _is_of_attempt(name))
    store.remove_drafts()


def _is_of_attempt(name: str) -> bool:
    below = name.split("/")
    return len(below) == 2 and bool(OURS.fullmatch(below[1]))


def _taken(store: Store) -> OutExists:
    return OutExists(store.url, f"takes the dump of job {holder_in(store)} already")
