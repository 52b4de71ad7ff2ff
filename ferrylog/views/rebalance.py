"""How a rebalance stands, for people and machines."""

from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import Field

from executors.rebalance.model import Move, Plan
from executors.rebalance.placement import as_json, said, shown
from ferrylog.errors import Usage
from ferrylog.rebalance import Range, Rebalance
from ferrylog.redact import one_line
from ferrylog.views.shapes import Report
from statemachine.words import Key


class RangeReport(Report):
    number: int
    lower: Any
    """A boundary, as in the placement file; null is open."""
    upper: Any
    source: str
    target: str
    documents: int
    status: str
    job: str | None
    """The last group that was begun for it."""
    groups: int
    code: str
    why: str
    """Of its last failure."""


class RangeCounts(Report):
    """By where they stand; those after the total sum to it."""

    total: int
    pending: int
    running: int
    done: int
    rolled_back: int
    failed: int


class RebalanceReport(Report):
    schema_: Literal["ferrylog.rebalance/1"] = Field("ferrylog.rebalance/1", alias="schema")
    rebalance: str
    ns: str
    dry_run: bool
    asked: str
    ranges: RangeCounts
    documents: int
    documents_done: int
    percent: float
    """Of the documents."""
    moves: tuple[RangeReport, ...]
    placement: dict[str, Any]
    """As it is now."""


def rebalance_report(found: Rebalance, *, dry_run: bool = False) -> RebalanceReport:
    standings = [each.standing for each in found.ranges]
    total = sum(each.move.documents for each in found.ranges)
    done = sum(each.move.documents for each in found.ranges if each.standing == "done")
    return RebalanceReport(
        rebalance=found.id,
        ns=found.placement.namespace,
        dry_run=dry_run,
        asked=found.plan.asked,
        ranges=RangeCounts(
            total=len(standings),
            pending=standings.count("pending"),
            running=standings.count("running"),
            done=standings.count("done"),
            rolled_back=standings.count("rolled_back"),
            failed=standings.count("failed"),
        ),
        documents=total,
        documents_done=done,
        percent=_percent(done, total, nothing_left=not found.left),
        moves=tuple(map(_range_report, found.ranges)),
        placement=as_json(found.placement),
    )


def _percent(done: int, total: int, *, nothing_left: bool) -> float:
    """100 when nothing is left, and only then."""
    if nothing_left:
        return 100.0
    return min(99.9, round(100 * done / total, 1)) if total else 0.0


def _range_report(found: Range) -> RangeReport:
    code, why = found.failure
    return RangeReport(
        number=found.number,
        lower=shown(found.move.lower),
        upper=shown(found.move.upper),
        source=found.move.source,
        target=found.move.target,
        documents=found.move.documents,
        status=found.standing,
        job=found.job,
        groups=found.groups,
        code=code,
        why=why,
    )


def range_line(found: Range, total: int) -> str:
    """What became of one."""
    code, why = found.failure
    because = f": {code}: {why}" if code and found.standing != "done" else ""
    status = found.standing.replace("_", " ")
    return one_line(
        f"range {found.number} of {total}, {found.job or 'not begun'}, {found.move.what} "
        f"{found.move.source}→{found.move.target}, {found.move.documents:,} documents: "
        f"{status}{because}"
    )


def rebalance_text(found: Rebalance) -> str:
    return "\n".join(_lines(found))


def _lines(found: Rebalance) -> Iterator[str]:
    report = rebalance_report(found)
    counts = report.ranges
    yield (
        f"rebalance {report.rebalance} of {report.ns}: {report.percent} % of "
        f"{report.documents:,} documents, {counts.done} of {counts.total} ranges done"
        if found.ranges
        else f"{report.ns}: nothing to move"
    )
    for each in found.ranges:
        if each.standing != "pending":
            yield f"  {range_line(each, counts.total)}"
    if counts.pending:
        yield f"  {counts.pending} ranges are not begun"
    yield "placement now:"
    for placed in found.placement.ranges:
        yield one_line(f"  {said(placed.lower, placed.upper)} on {placed.endpoint}")


# --- for a sharded cluster ---

MAX_COMMANDS: Final = 1000
"""Of one group, as of `ops run`."""


def as_commands(plan: Plan) -> dict[str, Any]:
    """A file for `ops run`: the same ranges as commands for a mongos. Raises `Usage`."""
    if not 0 < len(plan.moves) <= MAX_COMMANDS:
        raise Usage(
            f"{len(plan.moves)} ranges are to be moved: a group has 1 to {MAX_COMMANDS} commands",
            remedy="look at --dry-run; a greater --chunk-docs makes fewer ranges",
        )
    operations = [
        {
            "id": f"range-{number:04}",
            "forward": _move_range(move, move.target),
            "compensation": _move_range(move, move.source),
        }
        for number, move in enumerate(plan.moves, 1)
    ]
    return {"title": f"rebalance {plan.moves[0].namespace}", "operations": operations}


def _move_range(move: Move, shard: str) -> dict[str, Any]:
    return {
        "moveRange": move.namespace,
        "min": {"_id": _bound(move.lower, "$minKey")},
        "max": {"_id": _bound(move.upper, "$maxKey")},
        "toShard": shard,
    }


def _bound(key: Key | None, end: str) -> Any:
    if key is None:
        return {end: 1}
    value = shown(key)
    if isinstance(value, dict) and "$bson" in value:
        raise Usage(f"Extended JSON cannot say the boundary {key}", remedy="move other ranges")
    return value
