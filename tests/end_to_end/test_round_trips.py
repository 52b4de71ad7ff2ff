"""Dumps that cross over: ferrylog's restored by mongorestore, mongodump's by ferrylog."""

import shutil
from collections.abc import Iterator

import pytest

from tests.conftest import Pair
from tests.counts import count
from tests.end_to_end.round_trips import (
    CAREFUL,
    FEATURES,
    FROM_US,
    IN_PARTS,
    OURS,
    TO_US,
    TOOLS,
    Traveller,
    Way,
    empty,
    load,
)

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS),
    reason="mongodump and mongorestore are not on PATH",
)
SHORT = (FROM_US[2], TO_US[1])
WAYS = [
    pytest.param(way, marks=[] if way in SHORT else pytest.mark.deep, id=str(way))
    for way in (*FROM_US, *TO_US)
]


@pytest.fixture(scope="module")
def traveller(servers: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traveller]:
    """From the session's source, which is full, to its target."""
    for client in (servers.source_client, servers.target_client):
        empty(client)
    load(servers.source_client)
    yield Traveller(tmp_path_factory.mktemp("ways"), servers)
    for client in (servers.source_client, servers.target_client):
        empty(client)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_by_us(way: Way, traveller: Traveller) -> None:
    """I22: type, options, indexes and documents of every namespace, users and roles, to the byte;
    where mongorestore leaves something else, it leaves the same of mongodump's own dump."""
    trip = traveller.go(way)
    assert trip.codes == (0, 0), trip.told[-3000:]
    assert OURS not in trip.verdicts.values(), trip.unequal()
    count("round trips with mongodump and mongorestore")


@pytest.mark.deep
def test_mongorestore_keeps_all_that_we_dump_if_it_is_told_to(traveller: Traveller) -> None:
    """What it loses otherwise is there, in our dump."""
    trip = traveller.go(CAREFUL)
    assert trip.codes == (0, 0), trip.told[-3000:]
    assert trip.unequal() == []
    count("round trips with mongodump and mongorestore")


@pytest.mark.deep
@pytest.mark.parametrize("way", IN_PARTS, ids=str)
def test_a_part_of_a_dump_crosses_over(way: Way, traveller: Traveller) -> None:
    """One database, one collection, one file: that, all of that, and nothing else."""
    trip, wanted = traveller.go(way), IN_PARTS[way][1::2]
    assert trip.codes == (0, 0), trip.told[-3000:]
    lost = {name for (name, _), told in trip.verdicts.items() if told == OURS}
    assert not any(_is_of(name, wanted) for name in lost), trip.unequal()
    assert trip.found and all(_is_of(name, wanted) for name in trip.found)
    count("round trips with mongodump and mongorestore")


def _is_of(namespace: str, wanted: tuple[str, ...]) -> bool:
    return f"{namespace}.".startswith(f"{'.'.join(wanted)}.")


@pytest.mark.deep
def test_the_judge_sees_what_is_lost(traveller: Traveller) -> None:
    """Whatever direction it is lost in."""
    left = ("--ns-exclude", "names.x")
    for way in (
        FROM_US[0]._replace(dump=(*FROM_US[0].dump, *left)),
        TO_US[0]._replace(restore=(*TO_US[0].restore, *left)),
    ):
        trip = traveller.go(way)
        lost = [key for key, told in trip.verdicts.items() if told == OURS]
        assert sorted(lost) == [("names.x", feature) for feature in sorted(FEATURES)]
