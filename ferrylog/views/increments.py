"""How far a chain is restored, or a source is followed."""

from collections.abc import Iterator
from typing import Final

from ferrylog.views.fidelity import moment
from ferrylog.views.shapes import ChainReport, FollowReport, IncrementReport, StatusReport
from statemachine.state import State
from statemachine.words import THE_JOB, Status, TaskKey, TaskKind

SILENT_MS: Final = 5000


def follows(state: State) -> bool:
    """Whether the bulk copy is done and changes are carried over."""
    follow = TaskKey(TaskKind.FOLLOW, THE_JOB) in state.tasks
    return follow and state.closed and not state.open_units


def follow_report(state: State, silent_ms: int = 0) -> FollowReport | None:
    """`silent_ms`: since the journal's last event. A round takes about a second; who has been
    silent for longer may be that much further behind."""
    if not follows(state):
        return None
    behind_ms = state.lag_ms + (silent_ms if silent_ms > SILENT_MS and not state.terminal else 0)
    return FollowReport(
        applied=state.reached or None,
        as_of=moment(state.reached) if state.reached else None,
        lag_s=round(behind_ms / 1000, 3),
        documents=state.upserted,
        erased=state.erased,
        cutover=state.cutover,
    )


def chain_report(state: State) -> ChainReport | None:
    if state.phase is None:
        return None
    return ChainReport(
        phase=state.phase,
        increments=len(state.links),
        applied=state.applied,
        documents=state.upserted,
        erased=state.erased,
        increment=_increment(state),
    )


def _increment(state: State) -> IncrementReport | None:
    if state.increment == state.applied:
        return None
    left, shards = len(state.shards), state.shards_planned
    done = 100 * (shards - left) / shards if shards else 0.0
    return IncrementReport(
        number=state.increment,
        until=state.links[state.increment - 1].until,
        shards=shards,
        applied=shards - left,
        in_flight=state.size(TaskKind.APPLY, Status.PROCESSING),
        percent=min(99.9, round(done, 1)),
    )


def lines(report: StatusReport) -> Iterator[str]:
    if report.chain is not None:
        yield _chain_line(report.chain)
    if report.follow is not None:
        told = report.follow
        over = ", cutting over" if told.cutover else ""
        yield (
            f"  follows: {told.lag_s:.1f} s behind, as of {told.as_of or 'the bulk copy'}, "
            f"{told.documents:,} documents written, {told.erased:,} deleted{over}"
        )


def _chain_line(chain: ChainReport) -> str:
    line = f"  chain: {chain.phase}, {chain.applied} of {chain.increments} increments applied"
    one = chain.increment
    if one is not None:
        line += (
            f"; increment {one.number}: {one.applied} of {one.shards} shards, "
            f"{one.in_flight} in flight"
        )
    return f"{line}; {chain.documents:,} documents written, {chain.erased:,} deleted"
