"""What operators change while it goes; breakers and alerts."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from statemachine.events.base import Event, Priority
from statemachine.words import (
    Alert,
    Millis,
    Pool,
)


class SettingChanged(Event):
    """Somebody changed how the job runs, while it runs or rests."""

    kind: Literal["setting_changed"] = "setting_changed"
    by: str
    request: NonNegativeInt
    name: str
    """A field of `RunSettings`."""
    value: int | str
    was: int | str


class PriorityChanged(Event):
    """Somebody moved a unit or a chunk before or behind the others; 0 is where all begin."""

    kind: Literal["priority_changed"] = "priority_changed"
    by: str
    request: NonNegativeInt
    entity: str
    priority: Priority
    was: Priority

    @property
    def about(self) -> str:
        return self.entity


class NamespacesAdded(Event):
    """Somebody wants more of the source carried: it is surveyed again for these globs."""

    kind: Literal["namespaces_added"] = "namespaces_added"
    by: str
    request: NonNegativeInt
    include: tuple[str, ...]


class RequestRefused(Event):
    """Somebody asked for what does not fit; nothing was done."""

    kind: Literal["request_refused"] = "request_refused"
    by: str
    request: NonNegativeInt
    verb: str
    why: str


class BreakerOpened(Event):
    """So many failures in a row that nothing of this pool starts before `until_ms`; then one
    task probes."""

    kind: Literal["breaker_opened"] = "breaker_opened"
    pool: Pool
    failures: PositiveInt
    open_ms: PositiveInt
    until_ms: Millis
    why: str

    @property
    def about(self) -> str:
        return f"{self.pool} pool"


class BreakerClosed(Event):
    """Something of the pool succeeded."""

    kind: Literal["breaker_closed"] = "breaker_closed"
    pool: Pool

    @property
    def about(self) -> str:
        return f"{self.pool} pool"


class AlertRaised(Event):
    """Something is not as it should be; it lasts until the alert is cleared."""

    kind: Literal["alert_raised"] = "alert_raised"
    alert: Alert
    entity: str
    value: float
    limit: float
    why: str

    @property
    def about(self) -> str:
        return self.entity


class AlertCleared(Event):
    """It is as it should be again."""

    kind: Literal["alert_cleared"] = "alert_cleared"
    alert: Alert
    entity: str
    value: float

    @property
    def about(self) -> str:
        return self.entity
