"""Whether a store does what a job will ask of it, by a probe that is gone afterwards."""

from contextlib import suppress
from uuid import uuid4

from executors.classify import classify
from executors.storage.errors import (
    IgnoresConditions,
    NotWhatWasPut,
    ObjectExists,
    StoreError,
    StoreRefused,
)
from executors.storage.names import PROBE
from executors.storage.protocol import Store


def check_store(store: Store) -> list[StoreError]:
    """Put, list, look at, read, put again with other bytes, remove: what went wrong; empty: a job
    may use it. Of what stands in `WARNINGS` a job need not be afraid."""
    name = f"{PROBE}{uuid4().hex}"
    try:
        return _asked(store, name)
    except StoreError as error:
        return [error]
    except OSError as error:
        return [StoreRefused(store.url, classify(error)[2])]
    finally:
        with suppress(StoreError, OSError):
            store.remove([name])


def _asked(store: Store, name: str) -> list[StoreError]:
    where, data = f"{store.url}/{name}", name.encode()
    store.put(name, data)
    found: list[StoreError] = []
    if store.get(name) != data or store.read(name, 1, 3) != data[1:4]:
        found.append(NotWhatWasPut(where, "other bytes came back"))
    if store.head(name) is None or name not in [each.name for each in store.list(name)]:
        found.append(NotWhatWasPut(where, "it is not listed"))
    with suppress(ObjectExists):
        store.put(name, b"other")
        found.append(IgnoresConditions(store.url))
    store.remove([name])
    if store.head(name) is not None:
        found.append(NotWhatWasPut(where, "it is still there after its removal"))
    return found
