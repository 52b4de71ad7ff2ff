"""The end of a job that followed its source: what it left is compared by a job of its own."""

import typer
from loguru import logger

from ferrylog.cli.options import Common
from ferrylog.cli.running import Sides, a_run
from ferrylog.cli.verify import compare, tell
from ferrylog.engine import Engine
from ferrylog.views.model import exit_code
from journal.sqlite import SqliteJournal
from statemachine.events import RunSettings
from statemachine.words import JobStatus


def end_followed(
    common: Common, journal: SqliteJournal, sides: Sides, settings: RunSettings, engine: Engine
) -> None:
    """After a cut-over nothing changes on the source: now the two sides can be compared. Leaves
    with an exit code where they differ; where they do not, or nothing was to be compared, the
    caller ends the job as any other."""
    spec, state = engine.state.spec, engine.state
    assert spec is not None
    ended_well = state.status is JobStatus.COMPLETED and exit_code(state) == 0
    if not (spec.follow and spec.verify and ended_well):
        return
    logger.info("cut over; source and target are compared")
    with a_run(common, journal, sides, settings) as run:
        report, code = compare(run, journal, engine.job, spec, metadata=False)
    if code:
        tell(common, report)
        raise typer.Exit(code)
