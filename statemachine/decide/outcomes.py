"""An effect ended, or reports how far it came."""

from typing import assert_never

from statemachine.events import (
    AnyEvent,
    Cancelled,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    CreateCompleted,
    DeadLettered,
    DocumentRejected,
    DumpCompleted,
    DumpInvalidated,
    IndexCompleted,
    JobFailed,
    PauseRequested,
    PlanCompleted,
    RestoreCompleted,
    RestoreProgressed,
    ResultIgnored,
    RetryScheduled,
    RunSettings,
    SurveyCompleted,
    UnitRegistered,
    UnitSkipped,
    VerifyCompleted,
)
from statemachine.policy import MAX_REPORTED, backoff_ms, exhausted
from statemachine.state import State
from statemachine.stimuli import (
    Built,
    Created,
    Dumped,
    Failed,
    FileDamaged,
    Planned,
    Progressed,
    Released,
    Restored,
    Result,
    Succeeded,
    Surveyed,
    Verified,
)
from statemachine.words import (
    Cause,
    ChunkId,
    JobStatus,
    Millis,
    Status,
    TaskKey,
    TaskKind,
    UnitId,
    unit_of,
)


def succeeded(state: State, news: Succeeded) -> list[AnyEvent]:
    if news.task.kind is TaskKind.RELEASE:
        return _released(state, news)
    if not _awaited(state, news):
        return [_ignored(state, news, "success")]
    return _completions(state, news.task, news.result)


def progressed(state: State, news: Progressed) -> list[AnyEvent]:
    if not _awaited(state, news):
        return [_ignored(state, news, "progress")]
    entity, done = ChunkId(news.task.entity), news.result
    if done.position <= state.chunks[entity].done.position:
        return [_ignored(state, news, "progress")]
    return [
        *_rejections(state, entity, done),
        RestoreProgressed(
            entity=entity,
            attempt=news.attempt,
            position=done.position,
            documents=done.documents,
            bytes=done.bytes,
            present=done.present,
            rejected=done.rejected,
        ),
    ]


def failed(state: State, news: Failed, now: Millis) -> list[AnyEvent]:
    if news.task.kind is TaskKind.RELEASE:
        return _released(state, news)
    if not _awaited(state, news):
        return [_ignored(state, news, "failure")]
    if news.cause is Cause.FATAL:
        return [
            Cancelled.of(
                news.task,
                attempt=news.attempt,
                code=news.code,
                why=news.why,
            ),
            *_pause(state, f"{news.code}: {news.why}"),
        ]
    assert state.settings is not None
    failures = state.tasks[news.task].failures + 1
    if not exhausted(news.cause, failures, state.settings):
        delay = backoff_ms(failures, news.jitter, state.settings)
        return [
            RetryScheduled.of(
                news.task,
                attempt=news.attempt,
                cause=news.cause,
                code=news.code,
                why=news.why,
                delay_ms=delay,
                jitter=news.jitter,
                not_before_ms=Millis(now + delay),
            )
        ]
    return _dead_letter(state, news)


def file_damaged(state: State, news: FileDamaged) -> list[AnyEvent]:
    """The restore is free of blame; the dump starts again while its own budget lasts (I24)."""
    if not _awaited(state, news):
        return [_ignored(state, news, "damage")]
    assert state.settings is not None
    dump = TaskKey(TaskKind.DUMP, news.task.entity)
    events: list[AnyEvent] = [
        Cancelled.of(news.task, attempt=news.attempt, code="EFILE001", why=news.why),
        DumpInvalidated.of(dump, why=news.why),
    ]
    if state.tasks[dump].failures + 1 < state.settings.max_retries:
        return events
    letter = DeadLettered.of(
        dump,
        attempt=state.tasks[dump].attempt,
        cause=Cause.PERMANENT,
        code="EFILE001",
        why=f"its file was damaged again: {news.why}",
    )
    return [*events, letter, *_give_up_once(state, letter)]


# --- giving up ---


def _dead_letter(state: State, news: Failed) -> list[AnyEvent]:
    letter = DeadLettered.of(
        news.task,
        attempt=news.attempt,
        cause=news.cause,
        code=news.code,
        why=news.why,
    )
    return [letter, *_give_up_once(state, letter)]


def _give_up_once(state: State, letter: DeadLettered) -> list[AnyEvent]:
    """A job that is about to pause already is not asked again (I19)."""
    assert state.settings is not None
    given_up = give_up(letter, state.settings)
    if state.status is JobStatus.PAUSING:
        return [event for event in given_up if not isinstance(event, PauseRequested)]
    return given_up


def give_up(letter: DeadLettered, settings: RunSettings) -> list[AnyEvent]:
    """What a dead letter means for the job (A8).

    A failed index never fails the data; an outage that outlasted its attempts still pauses, for
    it says nothing about the index.
    """
    outage = letter.cause is not Cause.PERMANENT and settings.on_exhausted == "pause"
    if letter.task.kind is TaskKind.INDEX and not outage:
        return []
    why = f"{letter.task.kind} of {letter.entity} was given up: {letter.code}: {letter.why}"
    unit = unit_of(letter.task)
    match settings.on_exhausted:
        case "skip-unit" if unit is not None:
            return [UnitSkipped(unit=unit, why=why)]
        case "fail-job":
            return [JobFailed(code=letter.code, why=why)]
        case _:
            return [PauseRequested(by="ferrylog", why=why)]


def _pause(state: State, why: str) -> list[AnyEvent]:
    if state.status is JobStatus.PAUSING:
        return []
    return [PauseRequested(by="ferrylog", why=why)]


# --- success, task by task ---


def _completions(state: State, task: TaskKey, result: Result) -> list[AnyEvent]:
    match result:
        case Surveyed():
            return _surveyed(task, result)
        case Created():
            return [CreateCompleted.of(task, built=result.built, uuid=result.uuid)]
        case Planned():
            return _planned(UnitId(task.entity), result)
        case Dumped():
            return [
                DumpCompleted(
                    entity=task.entity,
                    file=result.file,
                    documents=result.documents,
                    bytes=result.bytes,
                    file_bytes=result.file_bytes,
                    blocks=result.blocks,
                    sha256=result.sha256,
                )
            ]
        case Restored():
            return _restored(state, ChunkId(task.entity), result)
        case Built():
            return [IndexCompleted(entity=task.entity)]
        case Verified():
            return [
                VerifyCompleted(
                    entity=task.entity,
                    equal=result.equal,
                    source_documents=result.source_documents,
                    target_documents=result.target_documents,
                    source_digest=result.source_digest,
                    target_digest=result.target_digest,
                    rejected=result.rejected,
                    differing=result.differing,
                )
            ]
        case Released():
            raise AssertionError("a release has its own path")
        case _:
            assert_never(result)


def _surveyed(task: TaskKey, result: Surveyed) -> list[AnyEvent]:
    units: list[AnyEvent] = [
        UnitRegistered(
            unit=found.unit,
            target=found.target,
            type=found.type,
            uuid=found.uuid,
            options=found.options,
            indexes=found.indexes,
            documents=found.documents,
            bytes=found.bytes,
        )
        for found in result.units
    ]
    done = SurveyCompleted(entity=task.entity, units=len(units))
    return [*units, done]


def _planned(unit: UnitId, plan: Planned) -> list[AnyEvent]:
    edges = [None, *plan.boundaries, None]
    count = len(edges) - 1
    chunks: list[AnyEvent] = [
        ChunkPlanned(
            unit=unit,
            chunk=ChunkId(f"{unit}#{index}"),
            lower=edges[index],
            upper=edges[index + 1],
            documents=plan.documents // count,
            natural=plan.natural,
        )
        for index in range(count)
    ]
    return [*chunks, PlanCompleted(entity=unit, chunks=count)]


def _restored(state: State, chunk_id: ChunkId, done: Restored) -> list[AnyEvent]:
    return [
        *_rejections(state, chunk_id, done),
        RestoreCompleted(
            entity=chunk_id,
            documents=done.documents,
            bytes=done.bytes,
            present=done.present,
            rejected=done.rejected,
        ),
    ]


def _rejections(state: State, chunk_id: ChunkId, done: Restored) -> list[AnyEvent]:
    room = max(0, MAX_REPORTED - state.chunks[chunk_id].done.rejected)
    return [
        DocumentRejected(chunk=chunk_id, key=each.key, code=each.code, why=each.why)
        for each in done.rejections[:room]
    ]


def _released(state: State, news: Succeeded | Failed) -> list[AnyEvent]:
    chunk = ChunkId(news.task.entity)
    if state.terminal or news.epoch != state.epoch or chunk not in state.releasing:
        return []
    if isinstance(news, Failed):
        return [ChunkKept(chunk=chunk, why=f"{news.code}: {news.why}")]
    return [ChunkReleased(chunk=chunk)]


# --- late news ---


def _awaited(state: State, news: Succeeded | Progressed | Failed | FileDamaged) -> bool:
    task = state.tasks.get(news.task)
    return (
        not state.terminal
        and task is not None
        and task.status is Status.PROCESSING
        and (task.attempt, task.epoch) == (news.attempt, news.epoch)
        and news.epoch == state.epoch  # else the job has left meanwhile
    )


def _ignored(
    state: State, news: Succeeded | Progressed | Failed | FileDamaged, what: str
) -> ResultIgnored:
    return ResultIgnored(
        task=news.task.kind,
        entity=news.task.entity,
        attempt=news.attempt,
        epoch=state.epoch,
        what=f"{what} of epoch {news.epoch}",
    )
