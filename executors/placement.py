"""Which documents belong to which of several targets: decided by `_id` alone, so that whoever asks
hears the same, of the full dump, of each increment, today or after a crash.

- `hash`: by SHA-256 of the key as `keyorder` writes it, so that 1 and 1.0, which are one key to a
  server, go to one place. Of every layout.
- `range`: each target has one part of a collection's key space, the first target the lowest keys.
  It is cut where chunks were cut by the link that holds the collection whole first, and stays so.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from executors.batches import Block
from executors.boundaries import from_key
from executors.dumps.errors import DamagedDump
from executors.dumps.model import Dump, Dumped, Part
from executors.fingerprint import key_of
from executors.increments.keyorder import order
from executors.rawbson import MALFORMED, documents
from executors.select import USERS
from statemachine.events import JobSpec

HASHED_BYTES: Final = 8
Mine = Callable[[bytes], bool]
"""Whether what has that `{_id: <value>}` belongs to the job's target."""


class Places:
    """Of one job: what of each collection belongs to its target."""

    def __init__(self, spec: JobSpec) -> None:
        self._how, _, place = spec.place.partition(":")
        index, _, of = place.partition("/")
        self._index, self._of = int(index or 0), int(of or 1)
        self._known: dict[tuple[str, int], Mine] = {}

    def mine(self, namespace: str, dumps: Sequence[Dump]) -> Mine | None:
        """Of a collection under the name that it has in the last of these: the full dump and the
        increments up to the one in question. `None`: all of it.

        Users and roles, which are merged, go everywhere. Raises `DamagedDump` where nothing of
        that name is there.
        """
        if not self._how or namespace in USERS:
            return None
        asked = (namespace, len(dumps))
        if asked not in self._known:  # two that find out at once find the same
            self._known[asked] = self._found(namespace, dumps)
        return self._known[asked]

    def _found(self, namespace: str, dumps: Sequence[Dump]) -> Mine:
        index, of = self._index, self._of
        if self._how == "hash":
            return lambda key: hashed(key, of) == index
        cut = cuts(_whole(namespace, dumps).parts, of)
        return lambda key: bisect_right(cut, order(key)) == index


def hashed(key: bytes, of: int) -> int:
    """Which of so many targets a key belongs to."""
    return int.from_bytes(sha256(order(key)).digest()[:HASHED_BYTES]) % of


def cuts(parts: Sequence[Part], of: int) -> list[bytes]:
    """Where the key space that these parts cover is cut, at boundaries between them, so that there
    are about as many documents in each piece: one piece less for each boundary that is missing."""
    # A collation has another order than ours; what belongs where is as clear in any.
    return sorted(_cuts(parts, of))


def _cuts(parts: Sequence[Part], of: int) -> Iterator[bytes]:
    total, before, cut = sum(part.documents for part in parts), 0, 0
    for part in parts:
        nearest = (2 * before + part.documents) * of >= 2 * total * (cut + 1)
        if part.lower is not None and before and nearest and cut < of - 1:
            cut += 1
            yield order(bytes(from_key(part.lower).raw))
        before += part.documents


def _whole(namespace: str, dumps: Sequence[Dump]) -> Dumped:
    """The collection in the first link that holds all of it, whatever its name was then."""
    now = _named(namespace, dumps[-1])
    for number, dump in enumerate(dumps):
        for each in dump.namespaces:
            same = each.uuid == now.uuid if now.uuid else each.namespace == namespace
            if same and (each.whole or not number):
                return each
    return now


def _named(namespace: str, dump: Dump) -> Dumped:
    for each in dump.namespaces:
        if each.namespace == namespace:
            return each
    raise DamagedDump(namespace, "the dump does not hold it any more", detail="EDUMP035")


def kept(block: Block, mine: Mine | None) -> Block:
    """The documents of a block that belong here. One whose `_id` nobody can read belongs where the
    lowest keys do, and is rejected there, once."""
    if mine is None:
        return block
    found = [each for each in documents(block.data) if belongs(mine, key_of(each))]
    return block if len(found) == block.documents else Block(b"".join(found), len(found))


def belongs(mine: Mine, key: bytes | None) -> bool:
    try:
        return mine(_LOWEST if key is None else key)
    except (*MALFORMED, KeyError, RecursionError):  # bytes of a dump that are no value
        return mine(_LOWEST)


_LOWEST: Final = b"\x0a\0\0\0\xff_id\0\0"
"""`{_id: MinKey}`."""
