"""One document among many: a chunk that fails is cut in two until it is found (decision 7)."""

from statemachine.events import (
    AnyEvent,
    Cancelled,
    ChunkDropped,
    DeadLettered,
    SplitRequested,
)
from statemachine.policy import (
    BISECTED,
    MAX_SUSPECTS,
    NO_DOCUMENTS_FAULT,
    US,
)
from statemachine.state import Chunk, State
from statemachine.stimuli import (
    Failed,
)
from statemachine.words import (
    Cause,
    ChunkId,
    TaskKey,
)


def isolates(state: State, key: TaskKey, cause: Cause, code: str) -> bool:
    """Whether this failure makes the chunk a suspect: one document in it may spoil the rest.

    What was cut off a suspect is cut again at its next failure; what holds one document only
    keeps its attempts, and is then given up alone.
    """
    chunk = state.chunks.get(ChunkId(key.entity))
    if key.kind not in BISECTED or chunk is None or code in NO_DOCUMENTS_FAULT:
        return False
    if not divisible(state, chunk):
        return False
    if cause not in (Cause.PERMANENT, Cause.TRANSIENT):
        return False
    assert state.settings is not None
    if state.suspects >= MAX_SUSPECTS:
        return False
    last = cause is Cause.PERMANENT or state.tasks[key].failures + 1 >= state.settings.max_retries
    if chunk.bisected and chunk.documents <= 1:
        return cause is Cause.PERMANENT  # time may heal what it is else
    return chunk.bisected or last or state.settings.retry == "none"


def divisible(state: State, chunk: Chunk) -> bool:
    """Whether there is a source that can be asked where to cut, and a document may be left out: a
    link of a chain without it would be wrong for all that follow."""
    linked = state.spec is not None and state.spec.incremental
    return not chunk.natural and not state.from_dump and not linked


def isolated(state: State, news: Failed, breaker: list[AnyEvent]) -> list[AnyEvent]:
    """The chunk, not the deployment, is to blame for all but the last of such failures."""
    chunk = state.chunks[ChunkId(news.task.entity)]
    if chunk.bisected and chunk.documents <= 1:
        return [letter_of(news), *breaker, *alone(chunk, f"{news.code}: {news.why}")]
    return [cancelled(news), suspect(chunk.id, f"{news.code}: {news.why}")]


def suspect(chunk: ChunkId, why: str) -> SplitRequested:
    return SplitRequested(chunk=chunk, by=US, request=0, why=why)


def alone(chunk: Chunk, why: str) -> list[AnyEvent]:
    """The one document that was looked for: the job goes on without it (decision 7)."""
    return [ChunkDropped(chunk=chunk.id, by=US, request=0, documents=not_carried(chunk), why=why)]


def not_carried(chunk: Chunk) -> int:
    """Documents of the chunk of which nothing is known but that they were there; an estimate."""
    file = chunk.file
    documents = file.documents + file.rejected if file is not None else chunk.documents
    return max(0, documents - chunk.done.documents - chunk.done.rejected)


def letter_of(news: Failed) -> DeadLettered:
    return DeadLettered.of(
        news.task,
        attempt=news.attempt,
        cause=news.cause,
        code=news.code,
        why=news.why,
    )


def cancelled(news: Failed) -> Cancelled:
    return Cancelled.of(news.task, attempt=news.attempt, code=news.code, why=news.why)
