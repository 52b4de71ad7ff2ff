"""What is done with one chunk: dumped, restored, copied, cut, compared."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from executors.chunkfile import DamagedFile
from executors.classify import SNAPSHOT_TOO_OLD
from executors.clients import Deployment
from executors.copy import copy
from executors.dump import dump
from executors.ends import Ends
from executors.errors import OtherCollection
from executors.export.place import Export
from executors.export.task import export_chunk
from executors.folder import inside
from executors.increments.dumping import dump_changed, is_changed
from executors.increments.model import Making
from executors.pace import Pace
from executors.protocol import Report, StopToken
from executors.restore import restore
from executors.select import USERS
from executors.sizing import Sizer, Sizers
from executors.split import split_chunk
from executors.transforms.heldback import Through
from executors.unchanged import Unchanged, mark_of
from executors.verify import verify, verify_dumped, verify_restored, verify_transformed
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit, transforms
from statemachine.stimuli import (
    Copied,
    Dumped,
    Progressed,
    Restored,
    Result,
    Verified,
)
from statemachine.words import TaskKind

NO_SUCH_NAMESPACE: Final = 26


class ChunkTasks:
    """Of one job."""

    def __init__(
        self,
        ends: Ends,
        spec: JobSpec,
        folder: Path,
        *,
        pace: Pace,
        sizers: Sizers,
        through: Through | None,
    ) -> None:
        """As of `executors.dispatch.MongoExecutor`."""
        self._ends = ends
        self._spec = spec
        self._folder = folder
        self._pace = pace
        self._sizers = sizers
        self._through = through
        self._unchanged = Unchanged() if ends.dump is None else ends.dump.unchanged

    def run(self, effect: Effect, unit: Unit, stop: StopToken, report: Report) -> Result:
        """`unit`: by the name that it has on the target now."""
        chunk, spec, ends, folder = effect.chunk, self._spec, self._ends, self._folder
        read, as_of = effect.read_preference, effect.cluster_time
        assert chunk is not None

        def tell(part: Restored | Copied) -> None:
            report(Progressed(effect.task, effect.attempt, effect.epoch, part))

        match effect.task.kind:
            case TaskKind.DUMP:
                into = ends.out.folder if ends.out is not None else folder
                if ends.export is not None:
                    return self._export(ends.export, effect, stop)
                if ends.making is not None:
                    return self._dump_increment(ends.making, effect, unit, chunk, stop)
                dumped = dump(
                    client_of(ends.source),
                    unit,
                    chunk,
                    spec,
                    into,
                    effect.attempt,
                    stop,
                    read_preference=read,
                    cluster_time=as_of,
                    since=effect.since,
                    pace=self._pace,
                    through=self._through,
                )
                path = inside(into, dumped.file)
                if ends.out is not None and ends.out.store is not None:
                    ends.out.store.put_file(dumped.file, path, stop)
                if ends.target is not None:
                    size, sha256 = dumped.file_bytes, dumped.sha256
                    self._unchanged.holds(path, 0, size, sha256, mark_of(path))
                return dumped
            case TaskKind.RESTORE:
                path = self._path(unit, chunk, stop)
                mine = ends.dump.mine(unit, stop) if ends.dump is not None else None
                target = client_of(ends.target)
                pace, sizer = self._pace, self._sizer(effect, report)
                how = (path, folder, stop, mine)
                parts = restore(
                    target,
                    unit,
                    chunk,
                    spec,
                    *how,
                    pace=pace,
                    sizer=sizer,
                    unchanged=self._unchanged,
                )
                return _last(parts, chunk, tell)
            case TaskKind.COPY:
                return copy(
                    client_of(ends.source),
                    client_of(ends.target),
                    unit,
                    chunk,
                    spec,
                    folder,
                    stop,
                    tell,
                    read_preference=read,
                    cluster_time=as_of,
                    since=effect.since,
                    pace=self._pace,
                    sizer=self._sizer(effect, report),
                )
            case TaskKind.SPLIT:
                return split_chunk(
                    client_of(ends.source), unit, chunk, spec, stop, read_preference=read
                )
            case TaskKind.VERIFY:
                return self._verify(effect, unit, chunk, stop)
        raise AssertionError(f"nobody does {effect.task.kind}")

    def _export(self, to: Export, effect: Effect, stop: StopToken) -> Dumped:
        source, spec = client_of(self._ends.source), self._spec
        pace, through = self._pace, self._through
        return export_chunk(
            source, effect, spec, to, self._folder, stop, pace=pace, through=through
        )

    def _sizer(self, effect: Effect, report: Report) -> Sizer:
        """Of the unit by its own names."""
        assert effect.unit is not None
        return self._sizers(effect.unit, report)

    def _dump_increment(
        self, making: Making, effect: Effect, unit: Unit, chunk: Chunk, stop: StopToken
    ) -> Dumped:
        """What changed, or a collection that is new to the chain, as of the increment's time."""
        source, spec = client_of(self._ends.source), self._spec
        read, as_of = effect.read_preference, effect.cluster_time
        with as_of_a_moment():
            if is_changed(making, unit):
                return dump_changed(
                    source,
                    unit,
                    chunk,
                    spec,
                    making,
                    effect.attempt,
                    stop,
                    read_preference=read,
                    cluster_time=as_of,
                )
            return dump(
                source,
                unit,
                chunk,
                spec,
                making.folder,
                effect.attempt,
                stop,
                read_preference=read,
                cluster_time=as_of,
                pace=self._pace,
            )

    def _verify(self, effect: Effect, unit: Unit, chunk: Chunk, stop: StopToken) -> Verified:
        spec, ends, read = self._spec, self._ends, effect.read_preference
        if transforms(spec) and unit.id not in USERS:
            path, target = self._path(unit, chunk, stop), client_of(ends.target)
            return verify_transformed(path, target, unit, chunk, spec, stop)
        if ends.dump is None:
            return verify(
                client_of(ends.source),
                client_of(ends.target),
                unit,
                chunk,
                spec,
                stop,
                read_preference=read,
                cluster_time=effect.cluster_time,
            )
        path = self._path(unit, chunk, stop)
        if ends.target is not None:
            mine = ends.dump.mine(unit, stop)
            return verify_restored(path, ends.target.client, unit, chunk, spec, stop, mine)
        return verify_dumped(
            client_of(ends.source), path, unit, chunk, spec, stop, read_preference=read
        )

    def _path(self, unit: Unit, chunk: Chunk, stop: StopToken) -> Path:
        """Of the chunk's file."""
        assert chunk.file is not None
        if self._ends.dump is None:
            return inside(self._folder, chunk.file.name)
        return self._ends.dump.path(unit, chunk.file, stop, pace=self._pace)


@contextmanager
def as_of_a_moment() -> Iterator[None]:
    """A collection that was renamed or dropped since an increment's time cannot be read as of then
    any more, whatever the server says to its name."""
    try:
        yield
    except OtherCollection as error:
        raise OperationFailure(str(error), SNAPSHOT_TOO_OLD) from error
    except OperationFailure as error:
        if error.code != NO_SUCH_NAMESPACE:
            raise
        raise OperationFailure(str(error), SNAPSHOT_TOO_OLD) from error


def client_of(deployment: Deployment | None) -> MongoClient[Any]:
    """Of an end that is a deployment: only tasks that need it come here."""
    assert deployment is not None
    return deployment.client


def _last(parts: Iterator[Restored], chunk: Chunk, tell: Callable[[Restored], None]) -> Restored:
    """All parts but the last are progress; the last is the result."""
    assert chunk.file is not None
    for part in parts:
        if part.position == chunk.file.file_bytes:
            return part
        tell(part)
    raise DamagedFile(f"{chunk.file.name} ends before its last block")
