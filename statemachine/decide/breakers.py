"""Failures in a row open the breaker of their pool; a success closes it (F4, I43)."""

from statemachine.events import (
    AnyEvent,
    BreakerClosed,
    BreakerOpened,
)
from statemachine.policy import (
    COUNTED,
    POOL_OF,
    open_ms,
)
from statemachine.state import State
from statemachine.stimuli import (
    Failed,
    Progressed,
    Succeeded,
)
from statemachine.words import (
    Millis,
)


def breaker_opened(state: State, news: Failed, now: Millis) -> list[AnyEvent]:
    """The breaker of the task's pool opens with the N-th failure in a row, and again with each
    probe that fails (F4, I43)."""
    assert state.settings is not None
    pool = POOL_OF[news.task.kind]
    breaker = state.breakers[pool]
    again = breaker.opened > 0
    failures = breaker.failures + 1
    if news.cause not in COUNTED or (again and breaker.probe != news.task):
        return []
    if not again and failures < state.settings.breaker_failures:
        return []
    stays = open_ms(breaker.opened, state.settings)
    return [
        BreakerOpened(
            pool=pool,
            failures=failures,
            open_ms=stays,
            until_ms=Millis(now + stays),
            why=f"{news.code}: {news.why}",
        )
    ]


def breaker_closed(state: State, news: Succeeded | Progressed) -> list[AnyEvent]:
    pool = POOL_OF[news.task.kind]
    return [BreakerClosed(pool=pool)] if state.breakers[pool].opened else []
