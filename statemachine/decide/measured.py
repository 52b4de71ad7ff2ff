"""What the shell measured: alerts raised and cleared, each once; the size of write commands."""

from statemachine.events import AlertCleared, AlertRaised, AnyEvent, BatchResized
from statemachine.state import State
from statemachine.stimuli import Gauge, Measured, Resized


def measured(state: State, news: Measured) -> list[AnyEvent]:
    """An alert lasts from the first gauge above its limit to the first that is not, or that is
    not told any more; a job that rests has none."""
    if state.spec is None:
        return []
    gauges = {(each.alert, each.entity): each for each in news.gauges}
    if state.resting:
        gauges = {}
    raised: list[AnyEvent] = [
        AlertRaised(
            alert=each.alert,
            entity=each.entity,
            value=each.value,
            limit=each.limit,
            why=each.why,
        )
        for key, each in gauges.items()
        if each.value > each.limit and key not in state.alerts
    ]
    cleared = [
        AlertCleared(alert=key[0], entity=key[1], value=_value(gauges.get(key)))
        for key in state.alerts
        if key not in gauges or gauges[key].value <= gauges[key].limit
    ]
    return [*raised, *cleared]


def resized(state: State, news: Resized) -> list[AnyEvent]:
    """What the journal says already, and news of a job that rests, is no news."""
    unit = state.units.get(news.unit)
    if state.resting or unit is None:
        return []
    was = unit.batch_documents, unit.batch_bytes
    if was == (news.documents, news.bytes):
        return []
    return [
        BatchResized(
            unit=news.unit,
            documents=news.documents,
            bytes=news.bytes,
            was_documents=was[0],
            was_bytes=was[1],
            cause=news.cause,
            batch_ms=news.batch_ms,
        )
    ]


def _value(gauge: Gauge | None) -> float:
    return gauge.value if gauge is not None else 0.0
