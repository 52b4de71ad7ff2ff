"""What an export left that will not be: by the names of its files they are its own, and no manifest
names them."""

from executors.export.manifest import standing
from executors.export.names import CLAIM, job_of
from executors.export.place import holder
from executors.storage.protocol import Found, Store


def left_by(store: Store, job: str) -> list[Found]:
    """Nothing of one that has its manifest. Raises `BadManifest`, what the store raises."""
    before = standing(store)
    if before is not None and before.job == job:
        return []
    files = [found for found in store.list() if job_of(found.name) == job]
    claim = store.head(CLAIM) if holder(store) == job else None
    return [*files, *([claim] if claim is not None else [])]


def remove_left(store: Store, job: str) -> None:
    """The claim goes last. Raises as `left_by`."""
    names = [found.name for found in left_by(store, job)]
    if names:
        store.remove(name for name in names if name != CLAIM)
        store.remove_drafts(lambda name: job_of(name) == job)
        store.remove(name for name in names if name == CLAIM)
