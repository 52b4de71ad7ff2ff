"""How far a unit is, by what its job does with it: dumps, carries or compares it."""

from typing import NamedTuple

from statemachine.state import State, Unit


class Amount(NamedTuple):
    documents: int
    bytes: int


def done(state: State, unit: Unit) -> Amount:
    """What a dump or an export has in its files, what a comparison has read of the source, what
    lies on the target of all others. A comparison counts no bytes."""
    assert state.spec is not None
    match state.spec.kind:
        case "dump" | "export":
            return Amount(unit.dumped_documents, unit.dumped_bytes)
        case "verify":
            return Amount(unit.source_documents, 0)
        case _:
            return Amount(unit.restored_documents, unit.restored_bytes)


def estimate(state: State, unit: Unit) -> int:
    """Documents of the unit; a dump that does not tell is counted when it is planned."""
    if unit.documents_estimate or not state.from_dump or not state.stages:
        return unit.documents_estimate
    return unit.weight // len(state.stages)
