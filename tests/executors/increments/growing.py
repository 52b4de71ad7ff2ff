"""A chain that grows with a real source, and a target beside it: what tests of links share.

The catalogue of the source is read between changes of it: each reading is a link.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import bson

from executors.boundaries import from_text
from executors.dumps.model import Dump, Dumped, NeverStops
from executors.increments.catalogue import entries_of
from executors.increments.model import INCREMENTS, Chain, Increment
from executors.increments.position import PLACE
from executors.increments.settling import settle
from executors.increments.shaping import shape
from executors.metadata import build, create
from executors.survey import described, index_spec, namespaces
from statemachine.events import JobSpec
from statemachine.stimuli import Settled, Shaped
from tests.conftest import OWN, Pair
from tests.executors.examples import Client, spec

ROOT = Path("/chain")
JOB = "j1"
SPEC = spec(kind="restore", include=(), exclude=(), metadata=True)
ASKED = SPEC.model_dump()
RUN = NeverStops()


def dumped(client: Client) -> tuple[Dumped, ...]:
    """The whole catalogue, as a dump has it."""
    names = [each for each in sorted(client.list_database_names()) if each not in OWN]
    found = []
    for entry in (each for name in names for each in namespaces(client, name)):
        indexes, options = described(client, entry)
        specs = tuple(map(index_spec, indexes))
        found.append(Dumped(entry.name, entry.type, options, specs, entry.uuid))  # type: ignore[arg-type]
    return tuple(found)


class Growing:
    """A chain that grows with its source."""

    def __init__(self, client: Client) -> None:
        self.client = client
        base = Dump(ROOT, "chunks", dumped(client))
        self.chain = Chain(ROOT, base, "d0", "1.1")

    def grow(self) -> int:
        """A link of what changed since the last one; returns its number."""
        before = self.chain.increments
        last = before[-1].dump if before else self.chain.base
        known = {each.uuid for each in last.namespaces}
        now = tuple(
            replace(each, whole=each.type == "timeseries" or each.uuid not in known)
            if each.type != "view"
            else each
            for each in dumped(self.client)
        )
        number = len(before) + 1
        dump = Dump(ROOT / INCREMENTS / f"{number:04d}", "chunks", now)
        link = Increment(
            number, f"d{number}", f"d{number - 1}", f"{number}.1", f"{number + 1}.1", "", dump
        )
        self.chain = replace(self.chain, increments=(*before, link))
        return number


def restore(pair: Pair, chain: Chain, wanted: JobSpec = SPEC) -> None:
    """The full dump, without its documents, expiry asleep."""
    for each in entries_of(chain.base.namespaces, wanted):
        unit = each.unit()
        built = create(pair.target_client, unit, wanted).built
        for index in each.dumped.indexes:
            if index.name not in built:
                build(pair.target_client, unit, index, wanted)


def shaped(pair: Pair, chain: Chain, number: int, wanted: JobSpec = SPEC) -> Shaped:
    return shape(pair.target_client, wanted, JOB, chain, number, RUN)


def settled(pair: Pair, chain: Chain, number: int, wanted: JobSpec = SPEC) -> Settled:
    last = number == len(chain.increments)
    return settle(pair.target_client, wanted, JOB, chain, number, RUN, last=last)


def mark(pair: Pair) -> dict[str, Any] | None:
    return pair.target_client.ferrylog.position.find_one({"_id": JOB})


def said(client: Client) -> dict[str, tuple[str, bytes, list[bytes]]]:
    """What stands there, but for UUIDs and the mark, as the server tells it."""
    return {
        each.namespace: (
            each.type,
            bson.encode(
                {**bson.decode(each.options), "validationLevel": "", "validationAction": ""}
            ),
            sorted(from_text(index.spec) for index in each.indexes),
        )
        for each in dumped(client)
        if each.namespace != PLACE
    }


def follow(pair: Pair, growing: Growing) -> tuple[str, ...]:
    """Shape and settle the target to what the source is now; returns what was told."""
    number = growing.grow()
    told = shaped(pair, growing.chain, number).changes
    done = settled(pair, growing.chain, number)
    assert done.differing == ()
    assert said(pair.target_client) == said(pair.source_client)
    return (*told, *done.changes)


def filled(pair: Pair, *names: str) -> None:
    """Each collection on the target holds its own name."""
    for name in names:
        pair.target_client.shop[name].insert_one({"_id": 1, "is": name})


def holds(pair: Pair, name: str) -> str:
    found = pair.target_client.shop[name].find_one({"_id": 1})
    return found["is"] if found else ""


def rename(client: Client, one: str, other: str) -> None:
    client.admin.command({"renameCollection": f"shop.{one}", "to": f"shop.{other}"})


def seconds(client: Client, name: str = "a") -> Any:
    return client.shop[name].index_information()["at_1"].get("expireAfterSeconds")


def renaming(*pairs: tuple[str, str], **fields: Any) -> JobSpec:
    return SPEC.model_copy(update={"renames": pairs, **fields})
