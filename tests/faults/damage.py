"""One file is not what it was: a bit flipped, its end cut off, or an older copy put back.

A lot is named `kind/seed/n`, and `python -m tests.faults damage flip/1/40` repeats it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from random import Random
from typing import Final, Literal
from unittest.mock import patch

from tests.faults.disk import PATH, Build, Image, Promise
from tests.faults.images import Cut
from tests.faults.verdict import Verdict, verdict
from tests.faults.workload import record

Kind = Literal["flip", "cut", "old"]
FILES: Final = tuple(f"{PATH}{suffix}" for suffix in ("", "-wal", ".tip"))


def damaged(kind: Kind, seed: int, n: int, *, large: bool = False) -> tuple[str, Verdict]:
    """The file that was damaged, and what the product said.

    Half of the disks are those of a run in the middle, half those of one that has ended.
    """
    draw = Random(f"{kind}/{seed}/{n}")
    older, running, ended = states(seed)
    image, promise = draw.choice((running, ended))
    name = draw.choice([name for name in FILES if image.get(name)])
    with large_journal() if large else nullcontext():
        new = HOW[kind](image[name], older[0].get(name, b""), draw)
        where = name.removeprefix(str(PATH)) or "db"
        if where == "-wal" and _spared(seed):
            where = "-wal, all of it in the database"
        return where, verdict({**image, name: new}, promise)


@cache
def _spared(seed: int) -> bool:
    """Whether a checkpoint had just brought the whole log into the database: a log that breaks off
    before its first commit takes nothing away then."""
    image, promise = states(seed)[1]
    return (
        verdict({name: raw for name, raw in image.items() if name != FILES[1]}, promise) == "whole"
    )


def shorter_pages(seed: int) -> Iterator[tuple[Image, Promise]]:
    """Of the disk that has ended: each leaf of an index or table, without its last entry."""
    image, promise = states(seed)[2]
    database = image[FILES[0]]
    for start in range(4096, len(database), 4096):
        entries = int.from_bytes(database[start + 3 : start + 5], "big")
        if database[start] in (0x0A, 0x0D) and entries:
            page = bytearray(database)
            page[start + 3 : start + 5] = (entries - 1).to_bytes(2, "big")
            yield {**image, FILES[0]: bytes(page)}, promise


@contextmanager
def large_journal() -> Iterator[None]:
    """As if the journal were too large for a check of all pages at its opening."""
    with (
        patch("journal.opening.INTEGRITY_BYTES", 0),
        patch("journal.reading.READ_ROWS", 20),
    ):
        yield


def _flip(raw: bytes, _: bytes, draw: Random) -> bytes:
    flipped = bytearray(raw)
    flipped[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def _cut(raw: bytes, _: bytes, draw: Random) -> bytes:
    return raw[: draw.randrange(len(raw))]


def _old(_: bytes, older: bytes, __: Random) -> bytes:
    return older


HOW: Final[dict[Kind, Callable[[bytes, bytes, Random], bytes]]] = {
    "flip": _flip,
    "cut": _cut,
    "old": _old,
}


@cache
def states(seed: int) -> tuple[tuple[Image, Promise], ...]:
    """A disk early in a run, one with a long log later on, and the last; nothing in flight."""
    run = record(seed, Build())
    cut, found = Cut({}, Build(), Promise()), list[tuple[Image, Promise]]()
    for op in run.trace:
        cut.move(op)
        if isinstance(op, Promise) and op.kept and not op.batch:
            found.append((cut.everything(), op))
    early = found[Random(seed).randrange(5, 30)]
    running = max(found[30:], key=lambda state: len(state[0].get(FILES[1], b"")))
    return early, running, (cut.everything(), cut.promise)


def repeat(lot: str) -> str:
    kind, seed, n = lot.split("/")
    answers = [damaged(kind, int(seed), int(n), large=large) for large in (False, True)]  # type: ignore[arg-type]
    return f"{answers[0]}; as a large journal {answers[1]}"
