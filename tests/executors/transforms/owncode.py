"""Code as users may write it, good and bad; run in processes of its own."""

import ctypes
import os
import signal
import sys
import time
from typing import Any

from pydantic import BaseModel, field_validator

Document = dict[str, Any]
LEAVES = -1


class Numbered(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def small(cls, value: int) -> int:
        if value == LEAVES:
            sys.exit("no more")
        if value > 1_000_000:
            raise ValueError(f"{value} is large")
        return value


def same(document: Document) -> Document:
    return document


def marked(document: Document) -> Document:
    document["process"] = os.getpid()
    return document


def by_chance(document: Document) -> Document:
    """Another result each time, as of a salted hash."""
    document["salt"] = os.urandom(8)
    return document


def careful(document: Document) -> Document:
    if document.get("bad"):
        raise KeyError("bad")
    document["salt"] = os.urandom(8)
    return document


def as_told(document: Document) -> Any:
    """What becomes of a document stands in it."""
    do = document.get("do", "")
    if do in BECOMES:
        return BECOMES[do](document)
    document["seen"] = True
    return document


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError


def _interrupts(_: Document) -> None:
    raise KeyboardInterrupt


def _speechless(_: Document) -> None:
    raise Speechless


def slow(document: Document) -> Document:
    time.sleep(0.005)
    return document


async def awaited(document: Document) -> Document:
    return document


def pair(one: Document, other: Document) -> Document:
    return one | other


def _raises(document: Document) -> Document:
    raise ValueError(f"no 'quoted' {document['secret']} here")


def _deaf(_: Document) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    time.sleep(1000)


BECOMES = {
    "raise": _raises,
    "leave": lambda _: sys.exit(3),
    "interrupt": _interrupts,
    "speechless": _speechless,
    "none": lambda _: None,
    "list": lambda document: [document],
    "other_id": lambda document: {**document, "_id": "x"},
    "no_id": lambda _: {"a": 1},
    "set": lambda document: {**document, "s": {1}},
    "large": lambda document: {**document, "b": bytes(16 << 20)},
    "swell": lambda document: {**document, "b": bytes(9 << 20)},
    "exit": lambda _: os._exit(3),
    "vanish": lambda _: os._exit(0),
    "crash": lambda _: ctypes.string_at(0),
    "hang": lambda _: time.sleep(1000),
    "deaf": _deaf,
}
