"""How an attempt ended, or how far it is."""

from dataclasses import dataclass

from statemachine.stimuli.results import Applying, Capturing, Copied, Restored, Result
from statemachine.words import (
    Cause,
    TaskKey,
)


@dataclass(frozen=True, slots=True)
class Succeeded:
    task: TaskKey
    attempt: int
    epoch: int
    result: Result


@dataclass(frozen=True, slots=True)
class Progressed:
    """Part of a restore, a copy, a shard or a capture is durable; more follows."""

    task: TaskKey
    attempt: int
    epoch: int
    result: Restored | Copied | Applying | Capturing


@dataclass(frozen=True, slots=True)
class Failed:
    """The world said no."""

    task: TaskKey
    attempt: int
    epoch: int
    cause: Cause
    code: str
    why: str
    jitter: float = 0.5
    """Drawn by the shell, in 0..1: the rules know no chance."""
    retry_after_ms: int = 0
    """What a throttling server asked for."""


@dataclass(frozen=True, slots=True)
class FileDamaged:
    """A restore found its chunk file cut, changed or missing, before it wrote anything of it."""

    task: TaskKey
    attempt: int
    epoch: int
    why: str


Outcome = Succeeded | Failed | FileDamaged
