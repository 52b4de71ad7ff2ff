"""A timeline as text: narrow, plain ASCII, no colour needed."""

from collections.abc import Iterator

from ferrylog.redact import one_line
from ferrylog.views.spans import span
from ferrylog.views.timeline import CELLS, RunLine, StageLine, TimelineReport, UnitLine

MAX_UNITS = 20
"""Drawn; the others are counted, and `--json` has all of them."""
NAME = 24
"""Columns of a name."""
LEGEND = "c create  p plan  d dump  r restore  x copy  s split  i index  v verify  f finish"
RARE = (
    ("n", "census"),
    ("k", "capture"),
    ("h", "shape"),
    ("a", "apply"),
    ("t", "settle"),
    ("w", "follow"),
)
ENDS = {"gone": "gone without a word", "running": "running now"}


def timeline_text(report: TimelineReport) -> str:
    lasted = span(report.duration_ms)
    lines = [
        f"job {report.job} · {report.kind} · {report.events:,} events in {lasted}",
        f"  asked for by {report.asked_by}, {report.began} to {report.last}",
        "",
        f"  {'':{NAME}} |{'0':<{CELLS - 12}}{lasted:>12}|",
        *(_run_drawn(run) for run in report.runs[-MAX_UNITS:]),
        *(_unit_drawn(unit) for unit in report.units[:MAX_UNITS]),
        f"  {'':{NAME}}  {_legend(report)}",
        "",
        *(_run(run) for run in report.runs[-MAX_UNITS:]),
        *_pauses(report),
        "",
    ]
    for unit in report.units[:MAX_UNITS]:
        lines += [f"  {unit.namespace}: {unit.status}", *map(_stage, unit.stages)]
    hidden = len(report.units) - MAX_UNITS
    if hidden > 0:
        lines.append(f"  and {hidden:,} more units: see --json")
    return "\n".join(one_line(line).rstrip() for line in (*lines, *_odd(report)))


def _legend(report: TimelineReport) -> str:
    """Those of increments only where there are some."""
    stages = {stage.stage for unit in report.units for stage in unit.stages}
    return "  ".join([LEGEND, *(f"{letter} {word}" for letter, word in RARE if word in stages)])


def _name(text: str) -> str:
    shown = one_line(text)
    shown = shown if len(shown) <= NAME else shown[: NAME - 3] + "..."
    return f"{shown:<{NAME}}"


def _run_drawn(run: RunLine) -> str:
    length = max(1, run.last_cell - run.began_cell + 1)
    bar = " " * run.began_cell + "=" * length
    return f"  {_name(f'run {run.epoch}')} |{bar[:CELLS]:<{CELLS}}|"


def _unit_drawn(unit: UnitLine) -> str:
    return f"  {_name(unit.namespace)} |{unit.drawing}|"


def _run(run: RunLine) -> str:
    end = ENDS.get(run.end, run.end) + (f" {run.why}" if run.why else "")
    return (
        f"  run {run.epoch}: {run.began}, {run.by}, host {run.host}, process {run.pid}; "
        f"{span(run.duration_ms)}, seq {run.first_seq} to {run.last_seq}; {end}"
    )


def _pauses(report: TimelineReport) -> Iterator[str]:
    for pause in report.pauses:
        reached = f"reached {pause.reached}" if pause.reached else "never reached"
        resumed = f"over {pause.resumed}" if pause.resumed else "not over"
        asked = f"asked for {pause.asked} by {pause.by} ({pause.why})"
        yield f"  {pause.what}: {asked}, {reached}, {resumed}"


def _stage(stage: StageLine) -> str:
    odd = "".join(
        f", {number:,} {what}"
        for number, what in (
            (stage.retries, "retries"),
            (stage.lost, "cut off by the end of the process"),
            (stage.dead_letters, "given up"),
        )
        if number
    )
    return (
        f"    {stage.stage:<8} {stage.began} to {stage.last}  {span(stage.duration_ms):>11}  "
        f"{stage.completed:,} done in {stage.started:,} attempts{odd}"
    )


def _odd(report: TimelineReport) -> Iterator[str]:
    for silence in report.silences:
        lasted = span(silence.duration_ms)
        yield f"  silence: no event for {lasted} after seq {silence.after_seq}, {silence.began}"
    hidden = report.silences_total - len(report.silences)
    if hidden:
        yield f"  and {hidden:,} more silences"
    for back in report.steps_back:
        yield (
            f"  warning: the clock went back by {span(back.by_ms)} before seq {back.seq} "
            f"({back.before} to {back.at}); seq gives the order"
        )
    hidden = report.steps_back_total - len(report.steps_back)
    if hidden:
        yield f"  and {hidden:,} more steps back"
