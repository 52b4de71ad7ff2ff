"""A source that changes: what it held at each cluster time, and what changed between two of them.

Collections are known by their UUIDs: they are renamed, dropped, and made anew under an old name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from statemachine.words import UnitId

Documents = dict[int, str]
GONE = ""
"""In place of a document that is there no more."""
MOST = 40
"""Moments."""
FEW = 5
"""Documents that change together."""


@dataclass(frozen=True)
class Moment:
    """What stood there at one cluster time, by UUID."""

    names: Mapping[str, UnitId]
    held: Mapping[str, Documents]

    @property
    def by_name(self) -> dict[UnitId, Documents]:
        return {name: self.held[uuid] for uuid, name in self.names.items()}


@dataclass
class Past:
    """All moments; a moment's cluster time is its number."""

    moments: list[Moment]
    oldest: int = 0
    """The source cannot be read as of before."""
    frozen: bool = False
    """Nobody writes any more."""
    read: set[int] = field(default_factory=set)
    """The moments whose changes a capture has kept."""
    furthest: int = 0
    """Up to where anything of a followed source was carried."""
    follower: int = 0
    """Who carries it: an older one is told to stop."""

    _rows: dict[tuple[int, int], dict[str, Documents]] = field(default_factory=dict)
    """Of earlier questions."""

    @property
    def now(self) -> int:
        return len(self.moments) - 1

    @property
    def end(self) -> Moment:
        return self.moments[-1]

    def write(self, random: Random) -> None:
        if not self.frozen and self.now < MOST:
            self.moments.append(_changed(self.end, random, len(self.moments)))

    def rows(self, start: int, end: int) -> dict[str, Documents]:
        """By UUID, in the order of keys: all documents that ever changed since the start, as they
        are at the end, or `GONE`. Of a collection that is new these are all."""
        if (start, end) not in self._rows:
            self._rows[start, end] = self._between(start, end)
        return self._rows[start, end]

    def _between(self, start: int, end: int) -> dict[str, Documents]:
        last = self.moments[end]
        touched: dict[str, set[int]] = {uuid: set() for uuid in last.names}
        for before, after in pairwise(self.moments[start : end + 1]):
            for uuid in touched:
                old, new = before.held.get(uuid, {}), after.held.get(uuid, {})
                touched[uuid] |= {key for key in old | new if old.get(key) != new.get(key)}
        return {
            uuid: {key: last.held[uuid].get(key, GONE) for key in sorted(keys)}
            for uuid, keys in touched.items()
        }

    def rows_by_name(self, start: int, end: int) -> dict[UnitId, Documents]:
        names = self.moments[end].names
        return {names[uuid]: rows for uuid, rows in self.rows(start, end).items()}


def first_moment(source: Mapping[UnitId, Documents], but: set[UnitId]) -> Moment:
    """What stands there before anything changes, without what is not carried."""
    names = {f"u{number}": name for number, name in enumerate(source) if name not in but}
    return Moment(names, {uuid: dict(source[name]) for uuid, name in names.items()})


def _changed(before: Moment, random: Random, now: int) -> Moment:
    names = dict(before.names)
    held = {uuid: dict(documents) for uuid, documents in before.held.items()}
    for uuid in list(names):
        _write(held[uuid], random, now)
    for _ in range(random.choice((0, 0, 1, 2))):
        random.choice((_drop, _create, _rename, _swap))(names, held, random, now)
    return Moment(names, held)


def _write(documents: Documents, random: Random, now: int) -> None:
    """Some are changed, some erased, some inserted; perhaps where one was erased before."""
    keys = sorted(documents)
    for key in random.sample(keys, min(len(keys), random.randint(0, FEW))):
        if random.random() < 0.5:
            documents[key] = f"{key}@{now}"
        else:
            del documents[key]
    for _ in range(random.randint(0, FEW)):
        key = random.randint(0, 80)
        documents[key] = f"{key}@{now}"


def _drop(names: dict[str, UnitId], held: dict[str, Documents], random: Random, _now: int) -> None:
    if names:
        uuid = random.choice(list(names))
        del names[uuid], held[uuid]


def _create(names: dict[str, UnitId], held: dict[str, Documents], random: Random, now: int) -> None:
    """Under a name that is free; it may have been another's."""
    free = [name for name in _names() if name not in names.values()]
    if free:
        uuid = f"n{now}.{len(names)}"
        names[uuid] = random.choice(free)
        held[uuid] = {key: f"{key}@{now}" for key in range(random.randint(0, 9))}


def _rename(
    names: dict[str, UnitId], held: dict[str, Documents], random: Random, _now: int
) -> None:
    free = [name for name in _names() if name not in names.values()]
    if names and free:
        names[random.choice(list(names))] = random.choice(free)


def _swap(names: dict[str, UnitId], held: dict[str, Documents], random: Random, _now: int) -> None:
    if len(names) > 1:
        one, two = random.sample(list(names), 2)
        names[one], names[two] = names[two], names[one]


def _names() -> Iterator[UnitId]:
    return (UnitId(f"db.c{number}") for number in range(6))


# --- a target ---


@dataclass
class Mark:
    """What a target tells of itself: which link it is at, and which of its collections are
    those of the source."""

    link: int = 0
    open: bool = False
    names: dict[str, UnitId] = field(default_factory=dict)


def shape_once(target: dict[UnitId, Documents], names: dict[str, UnitId], goal: Moment) -> bool:
    """One change towards the collections of `goal`; whether there was one to make."""
    for uuid, name in names.items():
        if uuid not in goal.names:
            del target[name], names[uuid]
            return True
    holders = {name: uuid for uuid, name in names.items()}
    for uuid, name in names.items():
        wanted = goal.names[uuid]
        if name != wanted:
            moved = holders.get(wanted, uuid)  # who stands in the way steps aside first
            to = wanted if moved == uuid else UnitId(f"aside.{moved}")
            target[to] = target.pop(names[moved])
            names[moved] = to
            return True
    for uuid, name in goal.names.items():
        if uuid not in names:
            target[name], names[uuid] = {}, name
            return True
    return False


def put(documents: Documents, rows: Mapping[int, str]) -> None:
    """So often as anybody likes."""
    for key, text in rows.items():
        if text == GONE:
            documents.pop(key, None)
        else:
            documents[key] = text
