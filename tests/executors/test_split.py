"""A chunk cut in two: every document lies in exactly one half, and both are counted (I21)."""

import threading
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import MaxKey, MinKey

import executors.split
from executors.batches import Range, read_range
from executors.boundaries import to_key
from executors.clients import connect
from executors.dispatch import MongoExecutor
from executors.ends import Ends
from executors.protocol import Stopped
from executors.rawbson import documents
from executors.split import split_chunk
from statemachine.effects import Effect
from statemachine.state import Unit
from statemachine.stimuli import Split, Succeeded
from statemachine.words import Key, TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.examples import Client, chunk_of, fill, spec, there, unit_of
from tests.executors.test_ranges import CLUSTERED, KINDS, SHARES, as_documents, bad_utf8, mixed

pytestmark = pytest.mark.server


def key(value: Any) -> Key:
    return to_key(bson.encode({"_id": value}))


@pytest.fixture
def source(pair: Pair) -> Client:
    return pair.source_client


def halves(
    client: Client, unit: Unit, lower: Key | None = None, upper: Key | None = None
) -> tuple[Split, list[list[bytes]]]:
    """The split of a range, and what lies in its parts."""
    found = split_chunk(client, unit, chunk_of(unit, lower, upper), spec(), threading.Event())
    edges = [lower, *found.boundaries, upper]
    parts = [
        read(client, Range("shop", "c", edges[n], edges[n + 1])) for n in range(len(edges) - 1)
    ]
    assert list(found.documents) == [len(part) for part in parts]
    return found, parts


def read(client: Client, what: Range) -> list[bytes]:
    blocks = read_range(client, what, threading.Event())
    return [document for block in blocks for document in documents(block.data)]


@pytest.mark.parametrize("n", [2, 3, 10, 2_501])
def test_halves(source: Client, n: int) -> None:
    source.shop.c.insert_many([{"_id": k} for k in range(n)])
    found, parts = halves(source, unit_of(source))
    assert found == Split((key(n // 2),), (n // 2, n - n // 2))
    assert parts[0] + parts[1] == there(source)


def test_what_cannot_be_cut(source: Client) -> None:
    source.shop.c.insert_many([{"_id": 50}, {"_id": 90}])
    unit = unit_of(source)
    assert halves(source, unit, key(50), key(90))[0] == Split((), (1,))
    assert halves(source, unit, key(60), key(70))[0] == Split((), (0,))


@pytest.mark.parametrize("name", KINDS)
def test_every_type_of_key(source: Client, name: str) -> None:
    source.shop.c.insert_many(as_documents(KINDS[name](SHARES.get(name, 60))))
    _, parts = halves(source, unit_of(source))
    assert parts[0] + parts[1] == there(source)
    assert abs(len(parts[0]) - len(parts[1])) <= 1


@pytest.mark.parametrize("options", [{}, CLUSTERED, {"collation": {"locale": "sv"}}])
def test_down_to_single_documents(source: Client, options: dict[str, Any]) -> None:
    """I21 after any sequence of splits, over all types, down to what cannot be cut."""
    source.shop.create_collection("c", **options)
    fill(source, [*as_documents(mixed(150)), *map(bad_utf8, range(3))])
    unit, found = unit_of(source), []
    open_ranges: list[tuple[Key | None, Key | None]] = [(None, None)]
    while open_ranges:
        lower, upper = open_ranges.pop()
        split, parts = halves(source, unit, lower, upper)
        if split.boundaries:
            (edge,) = split.boundaries
            open_ranges += [(edge, upper), (lower, edge)]
        else:
            assert split.documents == (1,)
            found += parts[0]
    assert found == there(source)


def test_between_the_ends_of_all_keys(source: Client) -> None:
    source.shop.c.insert_many([{"_id": MinKey()}, {"_id": MaxKey()}])
    found, _ = halves(source, unit_of(source))
    assert found == Split((key(MaxKey()),), (1, 1))
    assert halves(source, unit_of(source), key(MaxKey()))[0] == Split((), (1,))


def test_a_lower_edge_that_ties_with_a_key(source: Client) -> None:
    """1 and 1.0 are one place in the index."""
    source.shop.c.insert_many([{"_id": 1}, {"_id": 2}, {"_id": 3}])
    found, _ = halves(source, unit_of(source), key(1.0), key(3.0))
    assert found == Split((key(2),), (1, 1))


@pytest.mark.parametrize("limits", [{"MAX_HELD": 16}, {"MAX_HELD_BYTES": 500}])
def test_memory_is_bounded_and_counts_are_exact(
    source: Client, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit every second key is let go: the cut may leave the middle a little."""
    for name, value in limits.items():
        monkeypatch.setattr(executors.split, name, value)
    source.shop.c.insert_many([{"_id": n} for n in range(3_333)])
    found, parts = halves(source, unit_of(source))
    assert parts[0] + parts[1] == there(source)
    assert abs(found.documents[0] - 1_666) <= 3_333 // 8


def test_huge_keys_are_cut_too(source: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys are always held."""
    monkeypatch.setattr(executors.split, "MAX_HELD_BYTES", 5 << 19)
    source.shop.c.insert_many([{"_id": f"{n}" + "x" * (1 << 20)} for n in range(3)])
    _, parts = halves(source, unit_of(source))
    assert sorted(map(len, parts)) == [1, 2]


def test_documents_are_not_read(source: Client) -> None:
    """The index alone tells: a document that cannot be read cannot spoil the search for it."""
    source.shop.c.insert_many([{"_id": n, "pad": "x" * 1_000} for n in range(2_000)])
    unit, before = unit_of(source), scanned(source)
    assert split_chunk(source, unit, chunk_of(unit), spec(), threading.Event()).boundaries
    assert scanned(source) - before < 100


def scanned(client: Client) -> int:
    return int(client.admin.command("serverStatus")["metrics"]["queryExecutor"]["scannedObjects"])


def test_it_stops(source: Client) -> None:
    source.shop.c.insert_one({"_id": 1})
    unit, stop = unit_of(source), threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        split_chunk(source, unit, chunk_of(unit), spec(), stop)


def test_as_an_effect(pair: Pair, tmp_path: Path) -> None:
    pair.source_client.shop.c.insert_many([{"_id": n} for n in range(4)])
    unit = unit_of(pair.source_client)
    source, target = connect("source", pair.source.uri), connect("target", pair.target.uri)
    executor = MongoExecutor(Ends(source, target), spec(), tmp_path)
    chunk = chunk_of(unit)
    effect = Effect(TaskKey(TaskKind.SPLIT, chunk.id), 1, 1, unit=unit, chunk=chunk)
    outcome = executor.run(effect, threading.Event(), lambda _: None)
    source.close()
    target.close()
    assert isinstance(outcome, Succeeded)
    assert outcome.result == Split((key(2),), (2, 2))
