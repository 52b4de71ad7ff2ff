"""What collections and indexes were at a time between two links (I33)."""

from pathlib import Path
from typing import Any

import bson
import pytest

from executors.boundaries import to_text
from executors.compare import differences
from executors.dumps.model import Dumped, NeverStops
from executors.increments.catalogue_at import catalogue_at
from executors.increments.errors import CannotCarry, UnknownChange
from executors.increments.log import LogWriter, log_parts
from executors.survey import catalogue, described, index_spec
from statemachine.state import Unit
from statemachine.words import UnitId
from tests.conftest import Pair
from tests.executors.increments.hearing import END, Hearing
from tests.executors.increments.test_ddl import STEPS, _index, a_spec

TTL = [
    lambda client: client.x.command({
        "create": "a", "clusteredIndex": {"key": {"_id": 1}, "unique": True},
        "expireAfterSeconds": 9,
    }),
    lambda client: client.x.command({
        "createIndexes": "b",
        "indexes": [_index({"t": 1}, "t", expireAfterSeconds=5), _index({"u": 1}, "u")],
    }),
    lambda client: client.x.command({"collMod": "a", "expireAfterSeconds": 50}),
    lambda client: client.x.command(
        {"collMod": "b", "index": {"name": "t", "expireAfterSeconds": 50}}
    ),
    lambda client: client.x.command(
        {"collMod": "b", "index": {"name": "u", "expireAfterSeconds": 60}}
    ),
    lambda client: client.x.command({"collMod": "a", "expireAfterSeconds": "off"}),
    lambda client: client.x.command({"collMod": "b", "index": {"name": "u", "hidden": True}}),
    lambda client: client.x.command({"collMod": "b", "index": {"name": "u", "hidden": False}}),
]  # fmt: skip


def _surveyed(client: Any) -> tuple[Dumped, ...]:
    found = []
    for entry in catalogue(client, a_spec(exclude=(f"{END}.*",))):
        indexes, options = described(client, entry)
        specs = tuple(map(index_spec, indexes))
        found.append(Dumped(entry.name, entry.type, options, specs, uuid=entry.uuid))  # type: ignore[arg-type]
    return tuple(found)


def _alike(one: tuple[Dumped, ...], other: tuple[Dumped, ...]) -> bool:
    assert [(e.namespace, e.type, e.uuid) for e in one] == [
        (e.namespace, e.type, e.uuid) for e in other
    ]
    for a, b in zip(one, other, strict=True):
        unit = Unit(
            UnitId(a.namespace), a.namespace, a.type, a.uuid, to_text(a.options), a.indexes, 0, 0
        )
        assert differences(unit, b.options, b.indexes, b.type) == ()
    return True


def _told(folder: Path, before: tuple[Dumped, ...], events: list[bytes]) -> tuple[Dumped, ...]:
    folder.mkdir()
    with LogWriter(folder, 1, "", "1.1") as writer:
        for event in events:
            writer.add(event)
        writer.flush()
    until = "4000000000.1"
    return catalogue_at(before, folder, log_parts(folder, until, NeverStops()), until, NeverStops())


@pytest.mark.parametrize("steps", [*STEPS, "expiry"])
def test_it_is_what_the_source_has(pair: Pair, tmp_path: Path, steps: str) -> None:
    """Behind each change, from the catalogue before it; and behind all, from nothing."""
    hearing, client = Hearing(pair.source_client), pair.source_client
    before, events = _surveyed(client), list[bytes]()
    for n, step in enumerate(TTL if steps == "expiry" else STEPS[steps]):
        step(client)
        heard = hearing.events()
        after = _surveyed(client)
        assert _alike(_told(tmp_path / str(n), before, heard), after)
        before = after
        events += heard
    assert _alike(_told(tmp_path / "all", (), events), before)


def test_nothing_behind_the_time(pair: Pair, tmp_path: Path) -> None:
    hearing = Hearing(pair.source_client)
    pair.source_client.x.command({"create": "a"})
    now = pair.source_client.admin.command("ping")["operationTime"]
    pair.source_client.x.command({"create": "b"})
    until = f"{now.time}.{now.inc}"
    with LogWriter(tmp_path, 1, "", "1.1") as writer:
        for event in hearing.events():
            writer.add(event)
        writer.flush()
    parts = log_parts(tmp_path, "4000000000.1", NeverStops())
    (only,) = catalogue_at((), tmp_path, parts, until, NeverStops())
    assert only.namespace == "x.a"


def test_a_time_series_is_told_by_name(pair: Pair, tmp_path: Path) -> None:
    """That it goes is told whole; what it is, is not."""
    client, hearing = pair.source_client, Hearing(pair.source_client)
    client.x.command({"create": "ts", "timeseries": {"timeField": "t"}})
    with pytest.raises(CannotCarry, match=r"x\.ts.*time series"):
        _told(tmp_path / "1", (), hearing.events())
    before = _surveyed(client)
    client.x.command({"drop": "ts"})
    assert [each.type for each in before] == ["timeseries"]
    assert _told(tmp_path / "2", before, hearing.events()) == ()


def test_kinds_of_events_of_others(tmp_path: Path) -> None:
    def event(kind: str) -> bytes:
        token = {"_data": "8200"}
        time = bson.Timestamp(5, 1)
        ns = {"db": "x", "coll": "a"}
        return bson.encode({"_id": token, "operationType": kind, "clusterTime": time, "ns": ns})

    assert _told(tmp_path / "1", (), [event("shardCollection")]) == ()
    with pytest.raises(UnknownChange, match="somethingNew"):
        _told(tmp_path / "2", (), [event("somethingNew")])
