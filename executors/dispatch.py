"""Who does what: one effect in, one outcome out, whatever the world does."""

from pathlib import Path

from bson.errors import BSONError
from pymongo.errors import PyMongoError

from executors import metadata
from executors.boundaries import from_text
from executors.chunkfile import DamagedFile
from executors.classify import classify
from executors.clients import Deployment
from executors.dump import dump, must_be_same
from executors.errors import CannotMigrate, OtherCollection, TargetDiffers, TargetNotEmpty
from executors.folder import inside
from executors.plan import is_capped, plan
from executors.protocol import Report, Stopped, StopToken
from executors.restore import Conflict, CountsDisagree, restore
from executors.survey import survey
from executors.verify import verify
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.stimuli import (
    Failed,
    FileDamaged,
    Outcome,
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
            return Failed(*task, *classify(error))
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
        unit, chunk, spec = effect.unit, effect.chunk, self._spec
        kind = effect.task.kind
        if kind is TaskKind.SURVEY:
            return survey(self._source, spec.include, spec.exclude)
        assert unit is not None
        match kind:
            case TaskKind.CREATE:
                return metadata.create(self._target, unit, spec)
            case TaskKind.PLAN:
                must_be_same(self._source, unit)
                capped = is_capped(from_text(unit.options))
                return plan(self._source, unit, spec, capped=capped)
            case TaskKind.INDEX:
                return metadata.build_index(self._patient, unit, effect.task)
            case TaskKind.RELEASE:
                inside(self._folder, effect.file).unlink(missing_ok=True)
                return Released()
        assert chunk is not None
        match kind:
            case TaskKind.DUMP:
                return dump(self._source, unit, chunk, spec, self._folder, effect.attempt, stop)
            case TaskKind.RESTORE:
                return self._restore(effect, stop, report)
            case TaskKind.VERIFY:
                return verify(self._source, self._target, unit, chunk, spec, stop)
        raise AssertionError(f"nobody does {kind}")

    def _restore(self, effect: Effect, stop: StopToken, report: Report) -> Restored:
        """All parts but the last are progress; the last is the result."""
        assert effect.unit is not None and effect.chunk is not None
        assert effect.chunk.file is not None
        for part in restore(
            self._target, effect.unit, effect.chunk, self._spec, self._folder, stop
        ):
            if part.position == effect.chunk.file.file_bytes:
                return part
            report(Progressed(effect.task, effect.attempt, effect.epoch, part))
        raise DamagedFile(f"{effect.chunk.file.name} ends before its last block")
