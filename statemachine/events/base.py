"""What every event is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from statemachine.words import ChunkId, UnitId


class Value(BaseModel):
    """A part of an event."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Event(Value):
    """Something that happened."""

    kind: str

    @property
    def about(self) -> str:
        """The entity that the event is about, for filters and reports."""
        return "job"


Priority = Annotated[int, Field(ge=-9, le=9)]
"""Of units and chunks: the higher goes first."""


class OfUnit(Event):
    """Something that happened to a unit."""

    unit: UnitId

    @property
    def about(self) -> str:
        return self.unit


class OfChunk(Event):
    """Something that happened to a chunk."""

    chunk: ChunkId

    @property
    def about(self) -> str:
        return self.chunk
