"""Who does what: one effect in, one outcome out, whatever the world does."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bson.errors import BSONError
from pymongo.errors import PyMongoError

from executors import metadata
from executors.boundaries import from_text
from executors.chunkfile import DamagedFile
from executors.classify import classify, retry_after_ms
from executors.clients import Deployment
from executors.copy import copy
from executors.dump import dump, must_be_same
from executors.errors import CannotMigrate, OtherCollection, TargetDiffers, TargetNotEmpty
from executors.folder import inside
from executors.foresee import foresee
from executors.plan import is_capped, plan
from executors.protocol import Report, Stopped, StopToken
from executors.restore import restore
from executors.split import split_chunk
from executors.survey import survey
from executors.verify import verify
from executors.write import Conflict, CountsDisagree
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit
from statemachine.stimuli import (
    Copied,
    Failed,
    FileDamaged,
    Outcome,
    Planned,
    Progressed,
    Released,
    Restored,
    Result,
    Succeeded,
)
from statemachine.words import Cause, TaskKind


class MongoExecutor:
    """Moves one job's chunks between two deployments; see `executors.protocol.Executor`."""

    def __init__(self, source: Deployment, target: Deployment, spec: JobSpec, folder: Path) -> None:
        """`folder`: where this job's chunk files lie; made when the first is written."""
        self._source = source.client
        self._target = target.client
        self._patient = target.patient
        self._spec = spec
        self._folder = folder

    def run(self, effect: Effect, stop: StopToken, report: Report) -> Outcome:
        task = (effect.task, effect.attempt, effect.epoch)
        try:
            return Succeeded(*task, self._do(effect, stop, report))
        except DamagedFile as error:
            return FileDamaged(*task, str(error))
        except (PyMongoError, BSONError, OSError) as error:
            return Failed(*task, *classify(error), retry_after_ms=retry_after_ms(error))
        except (CannotMigrate, OtherCollection, TargetDiffers, TargetNotEmpty) as error:
            return Failed(*task, Cause.PERMANENT, error.code, str(error))
        except Conflict as error:
            return Failed(*task, Cause.PERMANENT, "ECONFLICT001", str(error))
        except CountsDisagree as error:
            return Failed(*task, Cause.TRANSIENT, "EMONGO001", str(error))
        except ValueError as error:  # bytes that are no BSON, a reply of an unknown shape
            return Failed(*task, Cause.PERMANENT, "EBSON001", str(error))
        except Stopped:
            return Failed(*task, Cause.TRANSIENT, "ESTOP001", "stopped")

    def _do(self, effect: Effect, stop: StopToken, report: Report) -> Result:
        unit, spec = effect.unit, self._spec
        if effect.task.kind is TaskKind.SURVEY:
            return survey(self._source, spec.include, spec.exclude, added=effect.include, stop=stop)
        assert unit is not None
        match effect.task.kind:
            case TaskKind.CREATE:
                return metadata.create(self._target, unit, spec)
            case TaskKind.PLAN:
                return self._plan(unit, effect.read_preference, stop)
            case TaskKind.INDEX:
                return metadata.build_index(self._patient, unit, effect.task)
            case TaskKind.RELEASE:
                inside(self._folder, effect.file).unlink(missing_ok=True)
                return Released()
        return self._of_chunk(effect, stop, report)

    def _plan(self, unit: Unit, preference: str, stop: StopToken) -> Planned:
        """Of a dry run also what will go wrong; it plans views too, which have no chunks."""
        planned = Planned((), 0, natural=False)
        if unit.type == "collection":
            must_be_same(self._source, unit)
            capped = is_capped(from_text(unit.options))
            planned = plan(
                self._source, unit, self._spec, stop, capped=capped, read_preference=preference
            )
        if self._spec.kind != "plan":
            return planned
        conflicts = foresee(self._source, self._target, unit, self._spec)
        return replace(planned, conflicts=conflicts)

    def _of_chunk(self, effect: Effect, stop: StopToken, report: Report) -> Result:
        unit, chunk, spec, read = effect.unit, effect.chunk, self._spec, effect.read_preference
        source, target, folder = self._source, self._target, self._folder
        assert unit is not None and chunk is not None

        def tell(part: Restored | Copied) -> None:
            report(Progressed(effect.task, effect.attempt, effect.epoch, part))

        match effect.task.kind:
            case TaskKind.DUMP:
                number = effect.attempt
                return dump(source, unit, chunk, spec, folder, number, stop, read_preference=read)
            case TaskKind.RESTORE:
                return _last(restore(target, unit, chunk, spec, folder, stop), chunk, tell)
            case TaskKind.COPY:
                return copy(
                    source, target, unit, chunk, spec, folder, stop, tell, read_preference=read
                )
            case TaskKind.SPLIT:
                return split_chunk(source, unit, chunk, stop, read_preference=read)
            case TaskKind.VERIFY:
                return verify(source, target, unit, chunk, spec, stop, read_preference=read)
        raise AssertionError(f"nobody does {effect.task.kind}")


def _last(parts: Iterator[Restored], chunk: Chunk, tell: Callable[[Restored], None]) -> Restored:
    """All parts but the last are progress; the last is the result."""
    assert chunk.file is not None
    for part in parts:
        if part.position == chunk.file.file_bytes:
            return part
        tell(part)
    raise DamagedFile(f"{chunk.file.name} ends before its last block")
