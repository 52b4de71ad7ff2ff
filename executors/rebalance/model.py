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

from executors.boundaries import to_text
from executors.rebalance.placement import said
from statemachine.stimuli import PlannedOperation
from statemachine.words import Key, OperationId

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


def operations(move: Move, file: str) -> tuple[PlannedOperation, ...]:
    """The group that moves the range; `file`: the placement file, absolute."""
    planned: list[PlannedOperation] = []
    for forward, compensation in COMPENSATIONS.items():
        about = {
            "ns": move.namespace,
            "lower": move.lower,
            "upper": move.upper,
            "from": move.source,
            "to": move.target,
            "documents": move.documents,
            "file": file,
        }
        planned.append(
            PlannedOperation(
                id=OperationId(forward),
                forward=to_text(bson.encode({"do": forward, **about})),
                compensation=to_text(bson.encode({"do": compensation, **about})),
                wait_for=(planned[-1].id,) if planned else (),
                target=move.source if forward == DELETE else move.target,
                tries=TRIES,
            )
        )
    return tuple(planned)


def move_of(forward: bytes) -> Move | None:
    """The move that an operation belongs to; `None` for one of another kind of group."""
    action = bson.decode(forward)
    return Move.of(action) if action.get("do") in COMPENSATIONS else None
