"""Who is who: the only place that joins journal, executors, engine and views."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from executors.clients import Deployment, connect, secrets_of
from executors.dispatch import MongoExecutor
from executors.folder import inside, prepare_folder, remove_folder, remove_if_empty
from executors.preflight import examine, examine_deployments, examine_resume
from executors.rejected import rejected_path
from ferrylog import __version__, clock
from ferrylog.drive import Drive
from ferrylog.engine import Engine
from ferrylog.jobs import operator
from ferrylog.past import Past
from ferrylog.recall import Keeper
from ferrylog.redact import learn
from ferrylog.views.live import Live
from journal.errors import JobMoved
from journal.inbox import Inbox
from journal.opening import work_path
from journal.sqlite import SqliteJournal
from statemachine.errors import OperatorError
from statemachine.events import JobSpec, RunSettings
from statemachine.state import State
from statemachine.stimuli import JobAsked, RunBegan, Stimulus
from statemachine.words import JobId, JobStatus

CLOCK_SLACK_MS: Final = 1000
"""A clock that is being corrected goes back by less."""


@contextmanager
def deployments(source_uri: str, target_uri: str) -> Iterator[tuple[Deployment, Deployment]]:
    """Both sides, reached and known; closed at the end. Their secrets are never shown."""
    for uri in (source_uri, target_uri):
        learn(secrets_of(uri))
    source = connect("source", source_uri)
    try:
        target = connect("target", target_uri)
        try:
            yield source, target
        finally:
            target.close()
    finally:
        source.close()


@dataclass(frozen=True)
class Run:
    """One run of one job, from the lease to the last event."""

    journal: SqliteJournal
    source: Deployment
    target: Deployment
    settings: RunSettings
    live: Live

    def start(self, job: JobId, spec: JobSpec) -> Engine:
        """A new job, after everything that can be known before was asked."""
        raise_first(examine_deployments(self.source, self.target, spec))
        raise_first(examine(self.source, self.target, spec))
        return self._drive(Engine(self.journal, job), spec, [JobAsked(operator(), spec)])

    def resume(self, job: JobId, past: Past) -> Engine:
        """Go on with a job of the journal."""
        if past.state.status is JobStatus.MOVED:
            raise JobMoved(job, past.state.why)
        engine = Engine(self.journal, job, past)
        assert engine.state.spec is not None
        if not engine.state.terminal:
            raise_first(examine_resume(self.source, self.target, engine.state))
        return self._drive(engine, engine.state.spec, [])

    def _drive(self, engine: Engine, spec: JobSpec, first: list[Stimulus]) -> Engine:
        warn_of_clock(self.journal)
        settings = self.settings
        if not settings.work_dir and engine.state.settings is not None:
            settings = settings.model_copy(update={"work_dir": engine.state.settings.work_dir})
        beside = work_path(self.journal.path)
        folder = inside(Path(settings.work_dir) if settings.work_dir else beside, engine.job)
        if spec.kind == "migrate":
            prepare_folder(folder)
        executor = MongoExecutor(self.source, self.target, spec, folder)
        began = RunBegan(
            by=operator(),
            host=platform.node(),
            pid=os.getpid(),
            version=__version__,
            settings=settings,
        )
        observers = (self.live, Keeper(self.journal, engine.job))
        drive = Drive(engine, executor, Inbox(self.journal.path), observers)
        with self.live:
            left_by = drive.run([*first, began])
        if engine.state.terminal:
            _tidy(folder, engine.state)
            remove_if_empty(beside)
        if left_by:
            logger.error("left at once; what ran is in doubt: ferrylog resume {}", engine.job)
            raise SystemExit(128 + left_by)
        return engine


def _tidy(folder: Path, state: State) -> None:
    """What a job leaves at its end: rejected documents only where they are still missing on the
    target; of chunks that were carried since they would be stale copies."""
    missing = [*state.flawed.values(), *state.chunks.values()]
    rejected = {rejected_path(folder, chunk.unit, chunk.id) for chunk in missing}
    remove_folder(folder, keep_files=state.kept > 0, keep_rejected=rejected)


def warn_of_clock(journal: SqliteJournal) -> None:
    """Say it once when the clock stands before the journal's last event: the times of events will
    contradict their order then, which is that of seq."""
    last = journal.query("SELECT recorded_at_ms FROM events ORDER BY seq DESC LIMIT 1")
    now = clock.now_ms()
    if last and last[0][0] > now + CLOCK_SLACK_MS:
        logger.warning(
            "the clock stands at {}, {} s before the journal's last event: is it right? Going on; "
            "events keep their order by seq",
            clock.when(now),
            (last[0][0] - now) // 1000,
        )


def raise_first(findings: Sequence[OperatorError]) -> None:
    """Raise the first finding; the others are told with it."""
    if findings:
        first, *others = findings
        for other in others:
            first.add_note(f"[{other.code}] {other}")
        raise first
