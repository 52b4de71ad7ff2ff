"""Who is who: the only place that joins journal, executors, engine and views."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from loguru import logger

from executors import users
from executors.clients import Deployment, Role, connect, secrets_of
from executors.dispatch import MongoExecutor
from executors.dumps.claim import claim, release, take_over
from executors.dumps.making import Out, out_of, refuse_existing
from executors.dumps.manifest import Facts
from executors.dumps.named import must_be_the_same, open_archive, open_named
from executors.dumps.restoring import DumpSource
from executors.dumps.storing import claim_in
from executors.ends import Ends
from executors.errors import OtherDeployment
from executors.folder import UNDO, inside, prepare_folder, remove_folder, remove_if_empty
from executors.increments.making import increment_to_make
from executors.increments.position import clear_position
from executors.preflight import (
    examine,
    examine_deployments,
    examine_dump_source,
    examine_restore,
    examine_resume,
)
from executors.pressure import load_of
from executors.rejected import rejected_path
from executors.sizing import LiveSizers, Surroundings
from executors.undo.catalogue import free_own
from ferrylog import __version__, clock
from ferrylog.drive import Drive, Observer
from ferrylog.engine import Engine
from ferrylog.errors import Usage
from ferrylog.exports import (
    converting,
    export_to,
    refuse_existing_export,
    take_place,
    written_in,
)
from ferrylog.governing import heap
from ferrylog.governing.governor import Governor
from ferrylog.jobs import operator
from ferrylog.learned import learned_sizes
from ferrylog.owncode import OwnCode, own_code
from ferrylog.past import Past
from ferrylog.recall import Keeper
from ferrylog.redact import learn
from ferrylog.rollbacks import TakingBack, first_stimuli, going_on
from ferrylog.views.live import Live
from journal.errors import JobMoved
from journal.inbox import Inbox
from journal.opening import work_path
from journal.sqlite import SqliteJournal
from statemachine.decide.operations import TAKES_BACK
from statemachine.errors import OperatorError
from statemachine.events import JobSpec, RunSettings
from statemachine.state import State, reads_dump, restores_chain
from statemachine.stimuli import (
    GroupAsked,
    JobAsked,
    PlannedOperation,
    RollbackAsked,
    RunBegan,
    Stimulus,
)
from statemachine.words import THE_JOB, JobId, JobStatus, Status, TaskKey, TaskKind

CLOCK_SLACK_MS: Final = 1000
"""A clock that is being corrected goes back by less."""


@contextmanager
def deployment(role: Role, uri: str | None) -> Iterator[Deployment | None]:
    """One side, reached and known; closed at the end. Its secrets are never shown. None for a side
    that is a dump."""
    if uri is None:
        yield None
        return
    learn(secrets_of(uri))
    heap.share_one()  # before the driver's threads begin
    reached = connect(role, uri)
    try:
        yield reached
    finally:
        reached.close()


@contextmanager
def deployments(source_uri: str, target_uri: str) -> Iterator[tuple[Deployment, Deployment]]:
    """Both sides."""
    learn(secrets_of(target_uri))  # before anything is said of the source
    with deployment("source", source_uri) as source, deployment("target", target_uri) as target:
        assert source is not None and target is not None
        yield source, target


@dataclass(frozen=True)
class Run:
    """One run of one job, from the lease to the last event."""

    journal: SqliteJournal
    source: Deployment | None
    target: Deployment | None
    settings: RunSettings
    live: Live
    endpoints: Mapping[str, Deployment] = field(default_factory=dict)
    """Of a group whose operations run at several places, by name."""

    def start(
        self, job: JobId, spec: JobSpec, *, anew: bool = False, malformed: float = 0
    ) -> Engine:
        """A new job, after everything that can be known before was asked. `anew`: in the place of a
        link that another job left unfinished. `malformed`: percent of a sample that code of the
        user's own may reject."""
        raise_first(self._examined(spec))
        engine, asked = Engine(self.journal, job), JobAsked(operator(), spec)
        with own_code(spec, self.settings) as code:
            if code is not None and spec.kind != "plan":  # which tells it with all else
                assert self.source is not None
                code.must_be_feasible(self.source, spec, malformed)
            return self._drive(engine, spec, [asked], anew=anew, code=code)

    def resume(self, job: JobId, past: Past) -> Engine:
        """Go on with a job of the journal."""
        if past.state.status is JobStatus.MOVED:
            raise JobMoved(job, past.state.why)
        engine = Engine(self.journal, job, past)
        assert engine.state.spec is not None
        if going_on(engine.state):
            return self.rollback(engine, TakingBack(operator(), engine.state.why))
        if not engine.state.terminal:
            raise_first(self._other_places(engine.state.spec))
            raise_first(examine_resume(self.source, self.target, engine.state))
            must_be_the_same(engine.state.spec, self._folder(job, engine.state))
        ended = engine.state.terminal
        with own_code(engine.state.spec, self.settings, ended=ended) as code:
            return self._drive(engine, engine.state.spec, [], code=code)

    def group(self, job: JobId, spec: JobSpec, operations: tuple[PlannedOperation, ...]) -> Engine:
        """A new group of operations; one that fails is taken back at once."""
        asked = GroupAsked(operator(), spec, operations)
        return self._drive(Engine(self.journal, job), spec, [asked])

    def rollback(self, engine: Engine, how: TakingBack) -> Engine:
        """Take back what a job did, or go on with that. Raises `Refused`, `Usage`,
        `OtherDeployment`: elsewhere there is nothing to be undone, and that would be believed."""
        assert engine.state.spec is not None
        raise_first(self._other_places(engine.state.spec))
        first = first_stimuli(self.journal, engine, how)
        return self._drive(engine, engine.state.spec, first)

    def _other_places(self, spec: JobSpec) -> list[OperatorError]:
        """What is not the deployment that the job writes to."""
        return [
            *examine_deployments(None, self.target, spec),
            *(
                OtherDeployment(f"endpoint {name}", where, self.endpoints[name].where)
                for (name, where), began in zip(spec.endpoints, spec.endpoint_ids, strict=False)
                if name in self.endpoints and not self.endpoints[name].is_same_as(began)
            ),
        ]

    def _examined(self, spec: JobSpec) -> Sequence[OperatorError]:
        findings = examine_deployments(self.source, self.target, spec)
        if findings:
            return findings
        if spec.kind == "verify" and reads_dump(spec):
            must_be_the_same(spec)
            return []
        if spec.kind == "export":
            assert self.source is not None
            refuse_existing_export(spec, work_path(self.journal.path))
            return examine_dump_source(self.source, spec)
        if spec.kind == "dump":
            assert self.source is not None
            if not spec.incremental:
                refuse_existing(spec)
            return examine_dump_source(self.source, spec)
        if reads_dump(spec):
            assert self.target is not None
            dump = open_named(spec) if spec.layout != "archive" else None
            return examine_restore(dump, self.target, spec)
        assert self.source is not None
        return examine(self.source, self.target, spec)

    def _drive(
        self,
        engine: Engine,
        spec: JobSpec,
        first: list[Stimulus],
        *,
        anew: bool = False,
        code: OwnCode | None = None,
    ) -> Engine:
        warn_of_clock(self.journal)
        settings = self.settings
        if code is not None:
            settings = code.told(settings, engine.state)
        if not settings.work_dir and engine.state.settings is not None:
            settings = settings.model_copy(update={"work_dir": engine.state.settings.work_dir})
        folder = self._folder(engine.job, engine.state)
        self._must_hold_undos(engine.job, engine.state, folder)
        ends = self._ends(engine.job, spec, folder, made=_made(engine.state))
        if spec.kind == "export":
            export = export_to(engine, spec, self.source, folder, settings)
            ends = replace(ends, export=export)
        writes = spec.kind in (*TAKES_BACK, "export") or ends.dump is not None or spec.incremental
        undoes = going_on(engine.state) or any(isinstance(each, RollbackAsked) for each in first)
        if writes and not (
            undoes and folder.is_dir()
        ):  # most undos write nothing there: disks fill
            prepare_folder(folder)
        if ends.out is not None and not _made(engine.state):
            _take(ends.out, engine.job, spec, anew=anew)
        if ends.export is not None and not _made(engine.state):
            take_place(ends.export, spec, begins=engine.state.spec is None)
        sizers = self._sizers(engine, spec)
        governor = self._governor(settings, spec, folder, ends, sizers)
        through = code.through if code is not None else None
        executor = MongoExecutor(ends, spec, folder, pace=governor, sizers=sizers, through=through)
        began = RunBegan(
            by=operator(),
            host=platform.node(),
            pid=os.getpid(),
            version=__version__,
            settings=settings,
        )
        observers: list[Observer] = [self.live, Keeper(self.journal, engine.job), governor]
        if code is not None:
            observers.append(code)
        inbox = Inbox(self.journal.path)
        ended_before = engine.state.terminal
        with self.live, governor, converting(ends.export):
            drive = Drive(engine, executor, inbox, observers, governor.gauges)
            left_by = drive.run([*first, began])
            if not left_by and engine.state.status is JobStatus.STOPPED and going_on(engine.state):
                drive.join()
                how = TakingBack(operator(), engine.state.why)
                back = [*first_stimuli(self.journal, engine, how), began]
                left_by = Drive(engine, executor, inbox, observers, governor.gauges).run(back)
        if engine.state.terminal:
            self._clear(engine, spec, ends, folder, ended_before=ended_before)
        if left_by:
            logger.error("left at once; what ran is in doubt: ferrylog resume {}", engine.job)
            raise SystemExit(128 + left_by)
        return engine

    def _clear(
        self, engine: Engine, spec: JobSpec, ends: Ends, folder: Path, *, ended_before: bool
    ) -> None:
        """Of a job that has ended: nothing of its own stays."""
        if ends.making is not None and engine.state.status is JobStatus.FAILED:
            release(ends.making.folder, engine.job)
        if spec.users and self.target is not None and not ended_before:
            for place in users.clear(self.target.client, spec):
                logger.warning("{} could not be removed from the target: drop it", place)
        if restores_chain(spec) and self.target is not None:
            clear_position(self.target.client, engine.job)  # its own, whoever is at work there
            if engine.state.status is JobStatus.COMPLETED:
                free_own(self.target.client, folder)
        _tidy(folder, engine.state)
        remove_if_empty(work_path(self.journal.path))

    def _sizers(self, engine: Engine, spec: JobSpec) -> LiveSizers:
        """Sizes of write commands follow the settings as they are in the engine's state."""

        def settings() -> RunSettings:
            return engine.state.settings or self.settings

        learned = learned_sizes(self.journal, engine.job, spec)
        return LiveSizers(Surroundings(settings, clock.monotonic_s, logger.debug, learned))

    def _governor(
        self, settings: RunSettings, spec: JobSpec, folder: Path, ends: Ends, sizers: LiveSizers
    ) -> Governor:
        """Until the first turn it goes by `settings`."""
        files = folder if ends.out is None else ends.out.folder
        if ends.export is not None:
            files = written_in(spec, folder)
        filled = self.target if spec.kind in ("migrate", "restore") else None
        load = partial(load_of, filled.client) if filled is not None else None
        return Governor(settings, [files], load, sizers.pressed)

    def _folder(self, job: JobId, state: State) -> Path:
        return job_folder(self.journal, job, state, self.settings.work_dir)

    def _must_hold_undos(self, job: JobId, state: State, folder: Path) -> None:
        """Undo logs in two folders are no record of the whole. Raises `Usage`."""
        before = job_folder(self.journal, job, state)
        if before != folder and (before / UNDO).is_dir():
            raise Usage(
                f"the undo logs of job {job} lie in {before}, not in {folder}",
                remedy=f"leave out --work-dir, or move {before} there first",
            )

    def _ends(self, job: JobId, spec: JobSpec, folder: Path, *, made: bool) -> Ends:
        """`made`: the job's dump stands, and nothing is added to it."""
        dump = out = making = None
        if reads_dump(spec):
            dump = DumpSource(spec, folder, partial(open_archive, spec, sys.stdin.buffer))
        if spec.kind == "dump":
            out = out_of(spec, folder, partial(self._facts, job, spec), sys.stdout.buffer)
        if spec.incremental and out is not None and not made:
            making = increment_to_make(spec, folder)
            out = replace(out, folder=making.folder)
        return Ends(self.source, self.target, dump, out, making, self.endpoints)

    def _facts(self, job: JobId, spec: JobSpec) -> Facts:
        assert self.source is not None
        return Facts(
            tool_version=__version__,
            job=job,
            created=clock.when(clock.now_ms()),
            source=spec.source,
            source_id=spec.source_id,
            server_version=self.source.version,
            consistency=spec.consistency,
            include=spec.include,
            exclude=spec.exclude,
            queries=spec.queries,
            users=spec.users,
        )


def job_folder(journal: SqliteJournal, job: JobId, state: State, named: str = "") -> Path:
    """The job's work folder: as named now, as named before, or beside the journal."""
    before = state.settings.work_dir if state.settings is not None else ""
    path = named or before
    return inside(Path(path) if path else work_path(journal.path), job)


def _take(out: Out, job: JobId, spec: JobSpec, *, anew: bool) -> None:
    """Make the folder that takes a dump, for that job alone; of a store, the prefix."""
    folder = out.folder
    if spec.incremental:
        prepare_folder(folder.parent)
    prepare_folder(folder)
    if spec.incremental and anew:
        take_over(folder, job)
    elif out.store is not None:
        claim_in(out.store, job)
    elif spec.layout == "chunks":
        claim(folder, job, link=spec.incremental)


def _made(state: State) -> bool:
    """Whether the job's dump stands."""
    task = state.tasks.get(TaskKey(TaskKind.MANIFEST, THE_JOB))
    return state.terminal or (task is not None and task.status is Status.COMPLETED)


def _tidy(folder: Path, state: State) -> None:
    """What a job leaves at its end: rejected documents only where they are still missing on the
    target; of chunks that were carried since they would be stale copies."""
    missing = [*state.flawed.values(), *state.chunks.values()]
    rejected = {rejected_path(folder, chunk.unit, chunk.id) for chunk in missing}
    packed = state.spec is not None and state.spec.kind == "dump"
    kept = state.kept > 0 or ((state.from_dump or packed) and bool(state.flawed))
    undo = not (state.committed or wholly_taken_back(state))
    remove_folder(folder, keep_files=kept, keep_rejected=rejected, keep_undo=undo)


def wholly_taken_back(state: State) -> bool:
    """Nothing is left for which an undo log could be of use."""
    left = state.rolled_to or state.undo_kept or state.skipped
    return state.status is JobStatus.ROLLED_BACK and not left


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
