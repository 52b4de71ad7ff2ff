"""An effect ended, or reports how far it came."""

from statemachine.decide.breakers import breaker_closed, breaker_opened
from statemachine.decide.found import files_lost
from statemachine.decide.increments import (
    CHAIN,
    collection_gone,
    moment_passed,
    of_a_moment,
    progress,
)
from statemachine.decide.isolation import cancelled, isolated, isolates, letter_of
from statemachine.decide.operations import operation_given_up, undo_failed
from statemachine.decide.results import completions, nothing_found, of_documents, released
from statemachine.events import (
    AnyEvent,
    Cancelled,
    CopyProgressed,
    DeadLettered,
    DumpInvalidated,
    JobFailed,
    JobSpec,
    PauseRequested,
    RequestRefused,
    RestoreProgressed,
    ResultIgnored,
    RetryScheduled,
    RunSettings,
    StopRequested,
    UnitSkipped,
)
from statemachine.policy import (
    LEAST_WAIT_MS,
    MAX_LOST,
    POOL_OF,
    US,
    backoff_ms,
    exhausted,
)
from statemachine.state import State, is_whole
from statemachine.stimuli import (
    Applying,
    Capturing,
    Failed,
    FileDamaged,
    Progressed,
    Restored,
    Succeeded,
    Unfiled,
)
from statemachine.words import (
    Cause,
    ChunkId,
    JobStatus,
    Millis,
    OperationId,
    Status,
    TaskKey,
    TaskKind,
    unit_of,
)


def succeeded(state: State, news: Succeeded) -> list[AnyEvent]:
    if news.task.kind is TaskKind.RELEASE:
        return released(state, news)
    if not _awaited(state, news):
        return [_ignored(state, news, "success")]
    if isinstance(news.result, Unfiled):
        return _lost(state, news, news.result)
    return [*completions(state, news.task, news.result), *breaker_closed(state, news)]


def _lost(state: State, news: Succeeded, lost: Unfiled) -> list[AnyEvent]:
    """What is lost of a dump is dumped again; lost again and again, an operator has to ask."""
    cancelled_, *again = files_lost(state, news, lost)
    if news.attempt < MAX_LOST:
        return [cancelled_, *again]
    cause, why = Cause.PERMANENT, f"files are lost again and again: {lost.chunks[0][1]}"
    letter = DeadLettered.of(news.task, attempt=news.attempt, cause=cause, code="EFILE001", why=why)
    return [letter, *again, *_give_up_once(state, letter)]


def progressed(state: State, news: Progressed) -> list[AnyEvent]:
    if not _awaited(state, news):
        return [_ignored(state, news, "progress")]
    if isinstance(news.result, Applying | Capturing):
        moved_on = progress(state, news)
        return [*moved_on, *breaker_closed(state, news)] or [_ignored(state, news, "progress")]
    entity, done = ChunkId(news.task.entity), news.result
    if done.position <= state.chunks[entity].done.position:
        return [_ignored(state, news, "progress")]
    counts = {
        "entity": entity,
        "attempt": news.attempt,
        "position": done.position,
        "documents": done.documents,
        "bytes": done.bytes,
        "present": done.present,
        "rejected": done.rejected,
    }
    moved = (
        RestoreProgressed.model_validate(counts)
        if isinstance(done, Restored)
        else CopyProgressed.model_validate({**counts, "last_key": done.last_key})
    )
    return [*of_documents(state, entity, done), moved, *breaker_closed(state, news)]


def failed(state: State, news: Failed, now: Millis) -> list[AnyEvent]:
    if news.task.kind is TaskKind.RELEASE:
        return released(state, news)
    if not _awaited(state, news):
        return [_ignored(state, news, "failure")]
    if news.cause is Cause.FATAL:
        if news.task.kind is TaskKind.UNDO:
            return undo_failed(state, news, ())
        return [cancelled(news), *_pause(state, f"{news.code}: {news.why}")]
    if of_a_moment(state, news):
        return moment_passed(state, news)
    return collection_gone(state, news) or _given_up(state, news, now) or _again(state, news, now)


def _given_up(state: State, news: Failed, now: Millis) -> list[AnyEvent]:
    """What becomes of a task for which no further attempt is made by itself; nothing of one that
    is tried again."""
    breaker = breaker_opened(state, news, now)
    over = _is_over(state, news)
    if over and news.task.kind is TaskKind.UNDO:
        return undo_failed(state, news, breaker)
    if over and news.cause is Cause.UNAVAILABLE:
        return [cancelled(news), *_outage(state, news)]
    if isolates(state, news.task, news.cause, news.code):
        return isolated(state, news, breaker)
    if news.task.kind is TaskKind.SURVEY and news.cause is Cause.PERMANENT and state.adding:
        refused = RequestRefused(by=US, request=0, verb="add", why=f"{news.code}: {news.why}")
        return [refused, nothing_found(state, news.task)]
    if news.cause is Cause.PERMANENT and (_reads_dump(state, news.task) or _ends(state, news)):
        return [letter_of(news), JobFailed(code=news.code, why=news.why)]
    if over:
        letter = letter_of(news)
        return [letter, *breaker, *_give_up_once(state, letter)]
    return []


def _again(state: State, news: Failed, now: Millis) -> list[AnyEvent]:
    assert state.settings is not None
    task = state.tasks[news.task]
    delay = backoff_ms(task, news.jitter, state.settings)
    if news.cause is Cause.UNAVAILABLE:
        asked = min(news.retry_after_ms, state.settings.retry_cap_ms)
        delay = Millis(max(delay, asked, LEAST_WAIT_MS))
    scheduled = RetryScheduled.of(
        news.task,
        attempt=news.attempt,
        cause=news.cause,
        code=news.code,
        why=news.why,
        delay_ms=delay,
        jitter=news.jitter,
        not_before_ms=Millis(now + delay),
    )
    return [scheduled, *breaker_opened(state, news, now)]


def _is_over(state: State, news: Failed) -> bool:
    """An operation of a group brings its own number of tries."""
    settings = state.settings
    assert settings is not None
    operation = state.operations.get(OperationId(news.task.entity))
    if operation is not None and news.task.kind is TaskKind.OPERATION:
        settings = settings.model_copy(update={"max_retries": operation.tries})
    breaker = state.breakers[POOL_OF[news.task.kind]]
    return exhausted(news.cause, state.tasks[news.task], breaker, settings)


def _reads_dump(state: State, task: TaskKey) -> bool:
    """Whether the task looks at a dump before anything is written: one that is not in order ends
    the job there. What is added later may be excluded again."""
    looks = state.from_dump and task.kind in (TaskKind.SURVEY, TaskKind.PLAN)
    return looks and not any(unit.created for unit in state.units.values())


def _ends(state: State, news: Failed) -> bool:
    """Whether nobody can go on behind this failure: an increment is applied whole or not at all
    (I34)."""
    return news.task.kind in CHAIN and state.phase is not None


def _outage(state: State, news: Failed) -> list[AnyEvent]:
    """Patience has ended with a deployment that serves nobody: no task is to blame, and none could
    do better."""
    assert state.settings is not None
    why = f"{news.code}: {news.why}"
    if state.settings.on_exhausted == "fail-job":
        return [JobFailed(code=news.code, why=why)]
    return _pause(state, why)


def file_damaged(state: State, news: FileDamaged) -> list[AnyEvent]:
    """The restore is free of blame; the dump starts again while its own budget lasts (I24)."""
    if not _awaited(state, news):
        return [_ignored(state, news, "damage")]
    assert state.settings is not None
    if state.from_dump:
        cause, code = Cause.PERMANENT, "EFILE001"
        gone = DeadLettered.of(
            news.task, attempt=news.attempt, cause=cause, code=code, why=news.why
        )
        return [gone, *_give_up_once(state, gone)]
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


def _give_up_once(state: State, letter: DeadLettered) -> list[AnyEvent]:
    """A job that is about to pause already is not asked again (I19)."""
    assert state.settings is not None and state.spec is not None
    given_up = give_up(letter, state.settings, state.spec)
    if state.status in (JobStatus.PAUSING, JobStatus.STOPPING):
        asked = PauseRequested | StopRequested
        return [event for event in given_up if not isinstance(event, asked)]
    return given_up


def give_up(letter: DeadLettered, settings: RunSettings, spec: JobSpec) -> list[AnyEvent]:
    """What a dead letter means for the job (A8). In direct mode nothing pauses by itself while
    anything is left to do. Where changes are to follow, no unit can be left behind.

    A failed index never fails the data; an outage that outlasted its attempts still pauses, for
    it says nothing about the index.
    """
    if letter.task.kind in (TaskKind.OPERATION, TaskKind.UNDO):
        return operation_given_up(letter, spec)
    outage = letter.cause is not Cause.PERMANENT and settings.on_exhausted == "pause"
    if letter.task.kind in (TaskKind.INDEX, TaskKind.FINISH) and not outage:
        return []
    why = f"{letter.task.kind} of {letter.entity} was given up: {letter.code}: {letter.why}"
    unit = unit_of(letter.task)
    match settings.on_exhausted:
        case "skip-unit" if unit is not None and not is_whole(spec):
            return [UnitSkipped(unit=unit, why=why)]
        case "fail-job":
            return [JobFailed(code=letter.code, why=why)]
        case _ if spec.mode == "direct" and unit is not None:
            return []
        case _:
            return [PauseRequested(by=US, why=why, request=0, immediate=False)]


def _pause(state: State, why: str) -> list[AnyEvent]:
    if state.status in (JobStatus.PAUSING, JobStatus.STOPPING):
        return []
    return [PauseRequested(by=US, why=why, request=0, immediate=False)]


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
