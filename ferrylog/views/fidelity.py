"""How true what was carried is to the source: as of when, what was left, what cannot be read."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Literal

from ferrylog.clock import when
from ferrylog.views.shapes import DamageReport, StatusReport
from statemachine.events import DamageFound, MetadataDifference
from statemachine.state import State

READS: Final = ("migrate", "dump", "export")
"""Kinds of jobs that read documents of a deployment, to keep them."""
MAX_LINES: Final = 100
"""Differences that are shown; `--json` has more."""
MAX_VALUE: Final = 200
"""Characters of an option or index."""


def consistency(state: State) -> Literal["snapshot", "fuzzy"] | None:
    """Of the documents that the job carries; of a dump only what it tells."""
    if state.cluster_time:
        return "snapshot"
    assert state.spec is not None
    return "fuzzy" if state.spec.kind in READS and state.closed and not state.from_dump else None


def as_of(state: State) -> str | None:
    """The time of a snapshot; its cluster time is `seconds.increment`."""
    return moment(state.cluster_time)


def moment(cluster_time: str) -> str | None:
    """The time of day of `seconds.increment`."""
    seconds = cluster_time.partition(".")[0]
    return when(int(seconds) * 1000) if seconds.isdecimal() else None


def damaged_places(state: State) -> int:
    return state.damaged + sum(unit.damaged for unit in state.units.values())


def damage_reports(events: Sequence[DamageFound]) -> tuple[DamageReport, ...]:
    return tuple(
        DamageReport(
            namespace=event.unit,
            file=event.file,
            at=event.at,
            bytes=event.bytes,
            code=event.code,
            why=event.why,
        )
        for event in events
    )


# --- for people ---


def glance(report: StatusReport) -> Iterator[str]:
    """How much there is that `findings` names."""
    yield from islice(_differing(report), 1)
    yield from islice(_damage(report), 1)


def findings(report: StatusReport) -> Iterator[str]:
    """Differences and damage by name, and what is to be known beside them."""
    yield from _differing(report)
    yield from _damage(report)
    if repaired := report.totals.documents.repaired:
        yield (
            f"  {repaired:,} document{'s' * (repaired > 1)} with an empty timestamp, which the "
            "target had filled in, repaired"
        )
    if report.consistency == "snapshot":
        yield f"  a snapshot: all as of {report.as_of} (cluster time {report.cluster_time})"
    elif report.consistency == "fuzzy" and report.phase == "done":
        yield "  fuzzy: each document as of when it was read"
    if left := left_behind(report.left_behind.users, report.left_behind.roles):
        yield f"  {left}"
    yield from (f"  note: {note}" for note in report.notes)


def _differing(report: StatusReport) -> Iterator[str]:
    if report.differing_metadata:
        things = f"{report.differing_metadata:,} thing{'s' * (report.differing_metadata > 1)}"
        yield f"  source and target are described differently in {things}"
    named = [
        f"{unit.namespace}: {difference(each)}" for unit in report.units for each in unit.differing
    ]
    named += map(difference, report.differing)
    for line in named[:MAX_LINES]:
        yield f"    {line}"
    hidden = report.differing_metadata - min(len(named), MAX_LINES)
    if hidden > 0:
        yield f"    and {hidden:,} more: see `ferrylog inspect events --kind '*_completed'`"


def difference(each: MetadataDifference) -> str:
    """What differs, and how it is on either side."""
    return f"{each.what}: {_value(each.source)} on the source, {_value(each.target)} on the target"


def _value(text: str) -> str:
    shown = text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"
    return shown or "missing"


def _damage(report: StatusReport) -> Iterator[str]:
    if report.damaged_places:
        places = f"{report.damaged_places:,} place{'s' * (report.damaged_places > 1)}"
        yield f"  {places} of the dump cannot be read"
    for each in report.damage:
        yield (
            f"    {each.file}, offset {each.at:,}: {each.bytes:,} bytes passed over: "
            f"{each.code}: {each.why}"
        )
    hidden = report.damaged_places - len(report.damage)
    if hidden > 0:
        yield f"    and {hidden:,} more: see `ferrylog inspect events --kind damage_found`"


def left_behind(users: int, roles: int) -> str:
    """What of both the source keeps; empty for nothing."""
    counted = [
        f"{number:,} {word}{'s' * (number > 1)}"
        for number, word in ((users, "user"), (roles, "role"))
        if number
    ]
    if not counted:
        return ""
    one = users + roles == 1
    stay, them = ("stays", "it") if one else ("stay", "them")
    return f"{' and '.join(counted)} {stay} on the source: --users-and-roles carries {them}"
