"""A chain of dumps on one screen: its links, what is wrong with it, the times it leads to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

from pydantic import Field

from executors.dumps.manifest import Facts
from executors.dumps.model import Dump, Part
from executors.increments.model import Chain, Increment, position_of
from executors.increments.times import restorable
from ferrylog.clock import when
from ferrylog.redact import one_line
from ferrylog.views.shapes import Report
from ferrylog.views.spans import size
from statemachine.errors import FerrylogError

State = Literal["whole", "damaged", "behind damage"]
SHORT: Final = 12
"""Characters of a digest that people are shown."""
HEADS: Final = (
    "link", "made", "since", "until", "until as a time", "documents", "erased", "bytes", "shards",
    "log", "digest", "state",
)  # fmt: skip
_TEXTS: Final = ("made", "until as a time", "log", "digest", "state")
"""Columns that begin where their head begins; numbers end where it ends."""


class LinkLine(Report):
    link: int
    """0 is the full dump."""
    made: str
    since: str
    """Cluster time; empty of the full dump."""
    until: str
    """As of when its documents are; of a full dump that is fuzzy, where the first increment
    begins."""
    since_at: str | None
    until_at: str | None
    """The same as times of day."""
    documents: int
    erased: int
    bytes: int
    """Of documents and keys, uncompressed."""
    file_bytes: int
    shards: int
    """Chunk files."""
    log: bool
    digest: str
    """SHA-256 of its manifest."""
    state: State
    notes: tuple[str, ...]


class TimeLine(Report):
    """A stretch of time that can be restored to, both ends included; without a log, a point."""

    first: str
    last: str
    first_at: str | None
    last_at: str | None


class Problem(Report):
    code: str
    message: str
    remedy: str


class ChainReport(Report):
    schema_: Literal["ferrylog.chain/1"] = Field("ferrylog.chain/1", alias="schema")
    chain: str
    whole: bool
    checked: bool
    """Every file was read."""
    source: str
    source_id: str
    consistency: str
    """Of the full dump."""
    links: tuple[LinkLine, ...]
    """As far as each follows the one before it."""
    beyond: tuple[int, ...]
    """Links that lie there, from the first on that does not follow."""
    times: tuple[TimeLine, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def chain_report(
    chain: Chain,
    facts: Sequence[Facts],
    lying: Sequence[int],
    broken: FerrylogError | None,
    damage: Mapping[int, FerrylogError] | None,
) -> ChainReport:
    """`facts` of each link from the full dump on; `lying`: numbers of all increments that lie
    there; `damage` by link, `None` when no file was read."""
    damage, checked = damage or {}, damage is not None
    problems = [*damage.values(), *([broken] if broken else [])]
    first_bad = min(damage, default=len(facts))
    return ChainReport(
        chain=str(chain.root),
        whole=not problems,
        checked=checked,
        source=facts[0].source,
        source_id=facts[0].source_id,
        consistency=chain.base.consistency,
        links=tuple(
            _link(chain, number, each.created, _state(number, first_bad, damage))
            for number, each in enumerate(facts)
        ),
        beyond=tuple(number for number in lying if number > len(chain.increments)),
        times=_times(replace(chain, increments=chain.increments[: first_bad - 1]))
        if first_bad
        else (),
        problems=tuple(
            Problem(code=each.code, message=str(each), remedy=each.remedy) for each in problems
        ),
        notes=(*chain.base.notes, *chain.notes),
    )


def _state(number: int, first_bad: int, damage: Mapping[int, FerrylogError]) -> State:
    if number in damage:
        return "damaged"
    return "behind damage" if number > first_bad else "whole"


def _link(chain: Chain, number: int, made: str, state: State) -> LinkLine:
    increment = chain.increments[number - 1] if number else None
    since, until = (increment.since, increment.until) if increment else ("", chain.since)
    parts = _parts(increment.dump if increment else chain.base)
    log = increment.log if increment else ()
    return LinkLine(
        link=number,
        made=made,
        since=since,
        until=until,
        since_at=_time_of_day(since),
        until_at=_time_of_day(until),
        documents=sum(part.documents for part in parts),
        erased=sum(part.erased for part in parts),
        bytes=sum(part.bytes for part in parts),
        file_bytes=sum(part.file_bytes for part in (*parts, *log)),
        shards=len(parts),
        log=bool(log),
        digest=increment.digest if increment else chain.digest,
        state=state,
        notes=_notes(increment),
    )


def _parts(dump: Dump) -> tuple[Part, ...]:
    return tuple(part for each in dump.namespaces for part in each.parts)


def _notes(increment: Increment | None) -> tuple[str, ...]:
    return increment.notes if increment else ()


def _times(chain: Chain) -> tuple[TimeLine, ...]:
    return tuple(
        TimeLine(first=first, last=last, first_at=_time_of_day(first), last_at=_time_of_day(last))
        for first, last in restorable(chain)
    )


def _time_of_day(cluster_time: str) -> str | None:
    return when(position_of(cluster_time)[0] * 1000) if cluster_time else None


# --- as text ---------------------------------------------------------------------------------


def chain_text(report: ChainReport) -> str:
    """A table, then what is wrong, then what can be restored."""
    return "\n".join(one_line(line).rstrip() for line in _lines(report))


def _lines(report: ChainReport) -> Iterator[str]:
    of = f", of {report.source}" if report.source else ""
    yield f"{report.chain}: a full dump and {len(report.links) - 1} increments{of}"
    yield from _table([HEADS, *(_row(each) for each in report.links)])
    if report.beyond:
        yield f"  not applicable: {_numbers(report.beyond)}"
    yield from (f"  problem: [{each.code}] {each.message}" for each in report.problems)
    for each in report.links:
        yield from (f"  note: link {each.link}: {note}" for note in each.notes)
    yield from (f"  note: {note}" for note in report.notes)
    yield from _restorable(report)
    yield _verdict(report)


def _row(each: LinkLine) -> tuple[str, ...]:
    return (
        str(each.link),
        each.made,
        each.since or "-",
        each.until or "-",
        each.until_at or "-",
        f"{each.documents:,}",
        f"{each.erased:,}",
        size(each.bytes),
        f"{each.shards:,}",
        "yes" if each.log else "no",
        each.digest[:SHORT],
        each.state,
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            f"{cell:<{width}}" if head in _TEXTS else f"{cell:>{width}}"
            for cell, width, head in zip(row, widths, HEADS, strict=True)
        )
        yield "  " + "  ".join(cells)


def _numbers(numbers: Sequence[int]) -> str:
    return f"link{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _restorable(report: ChainReport) -> Iterator[str]:
    if not report.times:
        yield "  no time can be restored to"
        return
    yield "  times that can be restored to (--at):"
    for each in report.times:
        alone = each.first == each.last
        until = "" if alone else f" to {each.last}  {each.last_at}"
        yield f"    {each.first}  {each.first_at}{until}"


def _verdict(report: ChainReport) -> str:
    if not report.whole:
        return "  the chain is BROKEN"
    looked = "every file was read" if report.checked else "--check reads every file"
    return f"  the chain is whole: numbers, parents, times and sizes; {looked}"
