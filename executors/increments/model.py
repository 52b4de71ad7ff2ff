"""What makes and reads of chains share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from executors.dumps.model import Dump, Part
from statemachine.words import BsonText

INCREMENTS = "increments"
"""The folder of a chain, beside the manifest of its full dump, that holds the others: each link
in a folder of its own, called after its number in four digits or more."""


@dataclass(frozen=True, slots=True)
class Increment:
    """One link of a chain: what changed after `since`, up to and with `until`."""

    number: int
    """From 1: 0 is the full dump."""
    digest: str
    """SHA-256 of its manifest."""
    parent: str
    """The same of the link before it."""
    since: str
    until: str
    """Cluster times, `seconds.increment`."""
    token: str
    """Resume token behind `until`, as text (`boundaries.to_text`): the next link begins there."""
    dump: Dump
    """Its namespaces are the whole catalogue as of `until`, with every UUID; their parts hold what
    changed. `root` is its own folder."""
    log: tuple[Part, ...] = ()
    """Every event of the stream, in order, where it was kept; names count from its folder."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """A full dump and its increments, in order, each checked against the one before it."""

    root: Path
    base: Dump
    digest: str
    """SHA-256 of the full dump's manifest."""
    since: str
    """The cluster time at which the first increment begins; empty: none can follow."""
    increments: tuple[Increment, ...] = ()
    notes: tuple[str, ...] = ()
    """What else lies among the links, in words."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The link that a new increment follows."""

    number: int
    digest: str
    base: str
    """SHA-256 of the full dump's manifest."""
    until: str
    """The cluster time at which the increment begins."""
    token: str
    """Empty behind a full dump: the stream begins at `until` then, and with it."""
    uuids: frozenset[str]
    """Of the collections and time-series buckets that the chain holds at its end, hexadecimal. A
    collection that is not among them is dumped whole."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Of them, by UUID: what was wanted of a collection went by its name."""


@dataclass(frozen=True, slots=True)
class Making:
    """An increment that is being made."""

    parent: Parent
    folder: Path
    """Of the link: its chunk files and, at the end, its manifest."""
    keys: Path
    """The database of changed keys (`keys.ChangedKeys`), in the job's work folder."""
    queries: tuple[tuple[str, BsonText], ...] = ()
    """As in the job's spec."""


def position_of(cluster_time: str) -> tuple[int, int]:
    """`seconds.increment` in an order that numbers have."""
    seconds, _, increment = cluster_time.partition(".")
    return int(seconds), int(increment)
