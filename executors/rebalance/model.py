"""One range on its way from one endpoint to another, and the four operations that bring it there.

    copy_range        its documents to the new place       | delete_copied   exactly those, there
    verify_range      both places hold the same            | nothing
    switch_placement  the file names the new owner         | switch_back     the old one
    delete_range      what was copied goes at the old one  | copy_back       from the new place

Each waits for the one before it. The names on the right are those of the compensations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import bson

from executors.boundaries import from_text, to_text
from executors.rebalance.placement import said
from statemachine.stimuli import PlannedOperation
from statemachine.words import BsonText, Key, OperationId

COPY: Final = "copy_range"
VERIFY: Final = "verify_range"
SWITCH: Final = "switch_placement"
DELETE: Final = "delete_range"
COMPENSATIONS: Final = {
    COPY: "delete_copied",
    VERIFY: "nothing",
    SWITCH: "switch_back",
    DELETE: "copy_back",
}
"""By the operation that each takes back, in the order of applying."""
TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Move:
    namespace: str
    lower: Key | None
    upper: Key | None
    source: str
    """The endpoint that holds the range."""
    target: str
    """The endpoint that is to hold it."""
    documents: int = 0
    """Counted when it was planned."""

    @classmethod
    def of(cls, action: Mapping[str, Any]) -> Self:
        """What an operation of this module is about."""
        return cls(
            action["ns"],
            action["lower"],
            action["upper"],
            action["from"],
            action["to"],
            action["documents"],
        )

    @property
    def title(self) -> str:
        return f"rebalance {self.what} {self.source}→{self.target}"

    @property
    def what(self) -> str:
        return f"{self.namespace} {said(self.lower, self.upper)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All ranges of one rebalance, in the order in which they are moved."""

    file: str
    """The placement file, absolute."""
    asked: str
    """What somebody wanted, in words that tell one wish from another."""
    moves: tuple[Move, ...]


def operations(plan: Plan, number: int) -> tuple[PlannedOperation, ...]:
    """The group that moves the range of that number, from 1. The first one holds the whole plan."""
    move = plan.moves[number - 1]
    about = {**_entry(move), "ns": move.namespace, "file": plan.file}
    whole = {"asked": plan.asked, "plan": [_entry(each) for each in plan.moves]}
    planned: list[PlannedOperation] = []
    for forward, compensation in COMPENSATIONS.items():
        more = whole if number == 1 and forward == COPY else {}
        planned.append(
            PlannedOperation(
                id=OperationId(forward),
                forward=to_text(bson.encode({"do": forward, **about, **more})),
                compensation=to_text(bson.encode({"do": compensation, **about})),
                wait_for=(planned[-1].id,) if planned else (),
                target=move.source if forward == DELETE else move.target,
                tries=TRIES,
            )
        )
    return tuple(planned)


def plan_of(forward: BsonText) -> Plan | None:
    """The plan that the first operation of a first group holds; `None` for any other."""
    found = bson.decode(from_text(forward))
    if found.get("do") != COPY or "plan" not in found:
        return None
    moves = (Move.of({**each, "ns": found["ns"]}) for each in found["plan"])
    return Plan(found["file"], found["asked"], tuple(moves))


def _entry(move: Move) -> dict[str, Any]:
    return {
        "lower": move.lower,
        "upper": move.upper,
        "from": move.source,
        "to": move.target,
        "documents": move.documents,
    }
