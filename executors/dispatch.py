"""Who does what: one effect in, one outcome out, whatever the world does."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bson.errors import BSONError
from pymongo.errors import PyMongoError

from executors import metadata
from executors.beyond import beyond_on_source, beyond_on_target
from executors.boundaries import from_text
from executors.chunkfile import DamagedFile
from executors.chunktasks import ChunkTasks, as_of_a_moment, client_of
from executors.classify import classify, retry_after_ms
from executors.dump import as_called
from executors.dumps.errors import DamagedDump
from executors.dumps.making import make_dump, refuse_unpackable
from executors.dumps.restoring import DumpSource
from executors.ends import Ends
from executors.errors import OtherCollection
from executors.export.ending import end_export
from executors.export.errors import Miscounted, NoConverter, PlaceTaken
from executors.finish import finish
from executors.folder import inside
from executors.foresee import foresee
from executors.increments.dumping import is_changed, plan_changed
from executors.increments.follow import refuse_unfollowable
from executors.pace import UNLIMITED, Pace
from executors.plan import is_capped, plan
from executors.preflight import examine_restore
from executors.protocol import Report, Stopped, StopToken
from executors.select import USERS
from executors.sizing import Sizers, whole_blocks
from executors.storage.errors import StoreError
from executors.survey import survey
from executors.transforms.feasibility import foresee_rejections, refuse_time_series
from executors.transforms.heldback import Through
from executors.undo.aside import staged
from executors.write import Conflict, CountsDisagree
from statemachine.effects import OF_INCREMENTS, Effect
from statemachine.errors import OperatorError
from statemachine.events import JobSpec, MetadataDifference
from statemachine.state import Unit, is_whole, restores_chain
from statemachine.stimuli import (
    Censused,
    Failed,
    FileDamaged,
    Finished,
    Outcome,
    Planned,
    PlannedFiles,
    Released,
    Result,
    Succeeded,
    Surveyed,
)
from statemachine.words import Cause, TaskKind

if TYPE_CHECKING:
    from executors.increments.tasks import IncrementTasks
    from executors.undo.tasks import UndoTasks

WRITE_CONFLICT: Final = "EMONGO112"
LEAVES_OPEN: Final = (TaskKind.APPLY, TaskKind.FOLLOW, TaskKind.UNDO, TaskKind.OPERATION)
"""Tasks that write in transactions: a killed process leaves one open for a minute."""


class MongoExecutor:
    """Moves one job's chunks from one end to the other; see `executors.protocol.Executor`."""

    def __init__(
        self,
        ends: Ends,
        spec: JobSpec,
        folder: Path,
        *,
        pace: Pace = UNLIMITED,
        sizers: Sizers = whole_blocks,
        through: Through | None = None,
    ) -> None:
        """`folder`: where this job's chunk files lie; made when the first is written. `through`:
        code of the user's own that the documents go through as they are dumped."""
        self._through = through
        self._pace = pace
        self._chunks = ChunkTasks(ends, spec, folder, pace=pace, sizers=sizers, through=through)
        self._ends = ends
        self._spec = spec
        self._folder = folder

    @cached_property
    def _increments(self) -> "IncrementTasks":
        from executors.increments.tasks import IncrementTasks  # noqa: PLC0415 — few jobs have any

        ends = self._ends
        return IncrementTasks(
            self._spec, self._folder.name, ends.source, ends.target, ends.making, self._folder
        )

    @cached_property
    def _undo(self) -> "UndoTasks":
        from executors.undo.tasks import UndoTasks  # noqa: PLC0415 — as above

        ends = self._ends
        places = {name: each.client for name, each in ends.endpoints.items()}
        if ends.target is not None:
            places[""] = ends.target.client
        return UndoTasks(self._spec, self._folder, ends.source, ends.target, ends.dump, places)

    def run(self, effect: Effect, stop: StopToken, report: Report) -> Outcome:
        task = (effect.task, effect.attempt, effect.epoch)
        try:
            return Succeeded(*task, self._do(effect, stop, report))
        except DamagedFile as error:
            return FileDamaged(*task, str(error))
        except (PyMongoError, BSONError, OSError, StoreError) as error:
            cause, code, why = classify(error)
            if code == WRITE_CONFLICT and effect.task.kind in LEAVES_OPEN:
                cause = Cause.UNAVAILABLE  # what a killed process left open lives on for a minute
            return Failed(*task, cause, code, why, retry_after_ms=retry_after_ms(error))
        except DamagedDump as error:
            return Failed(*task, Cause.PERMANENT, error.detail, error.told)
        except PlaceTaken as error:  # for every chunk: nobody looks for the one that spoils it
            return Failed(*task, Cause.FATAL, error.code, str(error))
        except OperatorError as error:
            moved = self._spec.follow and isinstance(error, OtherCollection)  # renamed just now
            cause = Cause.TRANSIENT if moved or isinstance(error, NoConverter) else Cause.PERMANENT
            return Failed(*task, cause, error.code, self._said(error))
        except Conflict as error:
            return Failed(*task, Cause.PERMANENT, "ECONFLICT001", str(error))
        except CountsDisagree as error:
            return Failed(*task, Cause.TRANSIENT, "EMONGO001", str(error))
        except Miscounted as error:  # of some document: the others are exported
            return Failed(*task, Cause.PERMANENT, error.code, str(error))
        except ValueError as error:  # bytes that are no BSON, a reply of an unknown shape
            return Failed(*task, Cause.PERMANENT, "EBSON001", str(error))
        except Stopped:
            return Failed(*task, Cause.TRANSIENT, "ESTOP001", "stopped")

    def _said(self, error: OperatorError) -> str:
        """Of increments with what to do: nothing but the journal will tell it."""
        told = is_whole(self._spec) and error.remedy
        return f"{error} → {error.remedy}" if told else str(error)

    def _do(self, effect: Effect, stop: StopToken, report: Report) -> Result:
        match effect.task.kind:
            case kind if kind in OF_INCREMENTS:
                return self._increments.run(effect, stop, report)
            case TaskKind.UNDO:
                return self._undo.run(effect, stop)
            case TaskKind.OPERATION:
                from executors.operation.perform import run_operation  # noqa: PLC0415 — as above

                assert effect.operation is not None
                return run_operation(self._undo.endpoints, effect.operation, stop, self._folder)
            case TaskKind.SURVEY | TaskKind.MANIFEST:
                return self._of_job(effect, stop)
            case _:
                return self._of_unit(effect, stop, report)

    def _of_job(self, effect: Effect, stop: StopToken) -> Result:
        spec, ends = self._spec, self._ends
        if effect.task.kind is TaskKind.MANIFEST and ends.export is not None:
            return end_export(ends.export, spec, effect, stop)
        if effect.task.kind is TaskKind.MANIFEST:
            assert ends.out is not None
            return make_dump(ends.out, spec, effect, stop, making=ends.making)
        if ends.dump is not None:
            return self._survey_dump(ends.dump, effect, stop)
        found = survey(client_of(ends.source), spec, added=effect.include, stop=stop)
        if ends.out is not None:
            refuse_unpackable(spec, found)
        if spec.follow:
            refuse_unfollowable(client_of(ends.source), spec)
        if self._through is not None and spec.kind != "plan":  # added, or made since it was asked
            refuse_time_series(found.units)
        return found

    def _of_unit(self, effect: Effect, stop: StopToken, report: Report) -> Result:
        """Until a unit has its own name, the target has it under another."""
        unit, spec, ends = effect.unit, self._spec, self._ends
        assert unit is not None
        between = unit if unit.swapped else staged(unit, spec)
        match effect.task.kind:
            case TaskKind.CREATE:
                return metadata.create(client_of(ends.target), between, spec, self._folder)
            case TaskKind.PLAN:
                return self._plan(effect, unit, stop)
            case TaskKind.INDEX:
                assert ends.target is not None
                patient = ends.target.patient
                return metadata.build_index(patient, between, spec, effect.task, self._folder)
            case TaskKind.FINISH:
                return self._finish(effect, unit, stop)
            case TaskKind.CENSUS:
                return self._census(effect, unit, stop)
            case TaskKind.RELEASE if ends.export is not None:
                return Released()  # what is not named any more goes before the manifest is written
            case TaskKind.RELEASE:
                inside(self._folder, effect.file).unlink(missing_ok=True)
                return Released()
        return self._chunks.run(effect, between, stop, report)

    def _census(self, effect: Effect, unit: Unit, stop: StopToken) -> Censused:
        from executors.export.census import census  # noqa: PLC0415 — few jobs take one

        source = client_of(self._ends.source)
        return census(
            source,
            as_called(source, unit, self._spec),
            self._spec,
            stop,
            read_preference=effect.read_preference,
            cluster_time=effect.cluster_time,
            through=self._through,
            pace=self._pace,
        )

    def _survey_dump(self, dump: DumpSource, effect: Effect, stop: StopToken) -> Surveyed:
        """What an archive holds is known only now: what is asked of other dumps before a job
        begins is asked here, and nothing was written yet."""
        found = dump.survey(stop, effect.include)
        spec, target = self._spec, self._ends.target
        asked = spec.layout != "archive" or spec.kind == "verify" or bool(effect.include)
        if target is not None and not asked:
            for finding in examine_restore(dump.opened(stop), target, spec):
                raise finding
        if restores_chain(spec):
            return replace(found, links=self._increments.accepted(stop))
        return found

    def _finish(self, effect: Effect, unit: Unit, stop: StopToken) -> Finished:
        """A dump without ranges is compared as a whole, once; of a job that only compares,
        whatever else it was asked for."""
        ends, spec = self._ends, self._spec
        finished = finish(
            client_of(ends.target or ends.source), unit, spec, effect.given_up, self._folder
        )
        if ends.target is None:  # the dump, which tells what is wanted, is not the source here
            finished = Finished(tuple(map(_the_other_way, finished.differing)))
        if ends.dump is None or not (spec.metadata or spec.kind == "verify"):
            return finished
        if unit.type == "view" or ends.dump.knows_ranges(stop):
            return finished
        return Finished((*finished.differing, *self._beyond(ends.dump, effect, unit, stop)))

    def _beyond(
        self, dump: DumpSource, effect: Effect, unit: Unit, stop: StopToken
    ) -> tuple[MetadataDifference, ...]:
        """What lies beside what the dump holds; a merge leaves on the target what was there."""
        again, target, spec = dump.again(unit, stop), self._ends.target, self._spec
        if target is None:
            source, read = client_of(self._ends.source), effect.read_preference
            return beyond_on_source(source, unit, spec, again, stop, read_preference=read)
        if spec.on_conflict != "stop" or unit.id in USERS:
            return ()
        return beyond_on_target(target.client, unit, again, stop)

    def _plan(self, effect: Effect, unit: Unit, stop: StopToken) -> Planned | PlannedFiles:
        """Of a dry run also what will go wrong; it plans views too, which have no chunks."""
        if self._ends.dump is not None:
            files = self._ends.dump.plan(unit, stop)
            if self._spec.kind != "plan":
                return files
            foreseen = foresee(None, client_of(self._ends.target), unit, self._spec)
            return replace(files, conflicts=foreseen)
        making = self._ends.making
        if making is not None and is_changed(making, unit):
            return plan_changed(making, unit, self._spec)
        source, planned = client_of(self._ends.source), Planned((), 0, natural=False)
        if unit.type != "view":
            with as_of_a_moment() if making is not None else nullcontext():
                planned = plan(
                    source,
                    as_called(source, unit, self._spec),
                    self._spec,
                    stop,
                    capped=is_capped(from_text(unit.options)),
                    read_preference=effect.read_preference,
                )
        if self._spec.kind != "plan":
            return planned
        conflicts = foresee(source, client_of(self._ends.target), unit, self._spec)
        if self._through is not None:
            conflicts += foresee_rejections(source, unit, self._spec, self._through)
        return replace(planned, conflicts=conflicts)


def _the_other_way(found: MetadataDifference) -> MetadataDifference:
    return MetadataDifference(what=found.what, source=found.target, target=found.source)
