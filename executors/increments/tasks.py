"""The tasks of increments: which of them is whose."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from executors.chunkfile import DamagedFile
from executors.clients import Deployment
from executors.dumps.errors import OtherDump
from executors.dumps.named import dump_path
from executors.folder import inside
from executors.increments.ahead import Ahead, moved_by
from executors.increments.apply import apply
from executors.increments.capture import capture
from executors.increments.catalogue import Step, before_link, step_to
from executors.increments.catalogue_at import catalogue_at
from executors.increments.chain import check_link, links_to_apply, open_chain
from executors.increments.follow import Follower, settle_followed
from executors.increments.log import LOG, replay
from executors.increments.model import INCREMENTS, Chain, Increment, Making
from executors.increments.position import must_be_alone
from executors.increments.settling import settle, settle_log
from executors.increments.shaping import shape, shape_log
from executors.placement import Places
from executors.preflight import in_the_way
from executors.privileges import Needed
from executors.protocol import Report, StopToken
from statemachine.effects import Effect
from statemachine.events import ChainLink, JobSpec
from statemachine.state import ChunkFile, Link, Shard
from statemachine.stimuli import (
    Applying,
    Captured,
    Capturing,
    Followed,
    FoundShard,
    Progressed,
    Settled,
    Shaped,
)
from statemachine.words import THE_JOB, TaskKey, TaskKind


class IncrementTasks:
    """Does what a job asks of increments: makes one, applies those of a chain, or follows."""

    def __init__(
        self,
        spec: JobSpec,
        job: str,
        source: Deployment | None,
        target: Deployment | None,
        making: Making | None,
        folder: Path | None = None,
    ) -> None:
        """`folder`: the job's own, for undo logs."""
        self._folder = folder
        self._spec = spec
        self._job = job
        self._source = source
        self._target = target
        self._making = making
        self._lock = Lock()
        self._chain: Chain | None = None
        self._follower: Follower | None = None
        self._places = Places(spec)

    def run(
        self, effect: Effect, stop: StopToken, report: Report
    ) -> Captured | Shaped | Applying | Settled | Followed:
        """Raises what the modules of the tasks raise."""
        match effect.task.kind:
            case TaskKind.CAPTURE:
                return self._capture(effect, stop, report)
            case TaskKind.SHAPE:
                return self._shape(effect, stop)
            case TaskKind.APPLY:
                return self._apply(effect, stop, report)
            case TaskKind.SETTLE:
                return self._settle(effect, stop)
            case TaskKind.FOLLOW:
                return self._follow(effect, stop)
        raise AssertionError(f"{effect.task.kind} is no task of increments")

    def chain(self) -> Chain:
        """The chain that the job restores, opened once. Raises as `open_chain`."""
        with self._lock:
            if self._chain is None:
                links = self._spec.links + bool(self._spec.at)
                self._chain = open_chain(Path(dump_path(self._spec)), upto=links)
            return self._chain

    def accepted(self, stop: StopToken) -> tuple[ChainLink, ...]:
        """The increments that follow the full dump, every byte of their files looked at, every
        change of collections foreseen (Y1).

        Raises as `open_chain` and `step_to`, and `AlteredLink`, `AnotherAtWork`, `Stopped`.
        """
        chain = self.chain()
        wanted = links_to_apply(chain, self._spec.links, self._spec.at)
        if self._target is not None:
            must_be_alone(self._target.client, self._job)
        for link in wanted:
            increment = chain.increments[link.number - 1]
            check_link(increment, stop)
            if link.log:
                before, folder = before_link(chain, link.number), increment.dump.root
                catalogue_at(before, folder, increment.log, link.until, stop)
            elif self._target is not None:
                self._must_have_room(self._target, step_to(chain, link.number, self._spec))
        return wanted

    def _must_have_room(self, target: Deployment, step: Step) -> None:
        """What a link makes or renames finds its name free on the target: the full dump's own names
        were looked at by its restore. Raises `TargetNotEmpty`, `TargetDiffers`."""
        before = {each.target for each in step.before}
        for each in () if self._spec.drop else step.after:
            if each.target not in before:
                needed = Needed(each.dumped.namespace, each.target, each.dumped.type)
                for finding in in_the_way(target, needed):
                    raise finding

    def _capture(self, effect: Effect, stop: StopToken, report: Report) -> Captured:
        assert self._source is not None and self._making is not None
        told = _told(effect, report)
        return capture(self._source.client, self._spec, self._making, effect, stop, told)

    def _shape(self, effect: Effect, stop: StopToken) -> Shaped:
        """A log shapes collections itself, in the order of its events."""
        assert effect.link is not None and self._target is not None
        chain, link = self.chain(), effect.link
        increment = chain.increments[link.number - 1]
        if increment.digest != link.digest:
            raise OtherDump(str(increment.dump.root))
        patient = self._target.patient
        with self._ahead(effect.task) as ahead:
            if link.log:
                shape_log(patient, self._spec, self._job, chain, link.number, stop, ahead)
                return Shaped((_log_shard(increment),))
            return shape(patient, self._spec, self._job, chain, link.number, stop, ahead)

    def _apply(self, effect: Effect, stop: StopToken, report: Report) -> Applying:
        shard, link = effect.shard, effect.link
        assert shard is not None and link is not None
        told = _told(effect, report)
        with self._ahead(effect.task) as ahead:
            if link.log:
                return _last(self._replay(link, stop, ahead), shard, told)
            with self._ahead(moved_by(shard.id)) as moved:
                return _last(self._rows(shard, link, stop, ahead, moved), shard, told)

    def _replay(self, link: Link, stop: StopToken, ahead: Ahead | None) -> Iterator[Applying]:
        assert self._target is not None
        increment = self.chain().increments[link.number - 1]
        folder, log, patient = increment.dump.root, increment.log, self._target.patient
        return replay(patient, self._spec, self._job, folder, log, link.until, stop, ahead)

    def _rows(
        self,
        shard: Shard,
        link: Link,
        stop: StopToken,
        ahead: Ahead | None,
        moved: Ahead | None,
    ) -> Iterator[Applying]:
        assert self._target is not None
        path = inside(self.chain().root, shard.file.name)
        links = self.chain().increments[: link.number]
        dumps = (self.chain().base, *(each.dump for each in links))
        return apply(
            self._target.client,
            shard,
            self._spec,
            path,
            stop,
            unique=_unique_of(links[-1], shard.namespace),
            mine=self._places.mine(shard.namespace, dumps),
            ahead=ahead,
            moved=moved,
        )

    @contextmanager
    def _ahead(self, task: TaskKey) -> Iterator[Ahead | None]:
        """The undo log of a task; `None` where the job keeps none."""
        if self._folder is None or not self._spec.undo:
            yield None
            return
        with Ahead(self._folder, task) as ahead:
            yield ahead

    def _settle(self, effect: Effect, stop: StopToken) -> Settled:
        assert self._target is not None
        if effect.task.entity == THE_JOB:
            assert self._source is not None
            source, target = self._source.client, self._target.patient
            return settle_followed(source, target, self._spec, stop)
        assert effect.link is not None
        chain, link, patient = self.chain(), effect.link, self._target.patient
        number, last = link.number, effect.last
        with self._ahead(effect.task) as ahead:
            if link.log:
                return settle_log(patient, self._spec, self._job, chain, number, stop, ahead)
            return settle(patient, self._spec, self._job, chain, number, stop, ahead, last=last)

    def _follow(self, effect: Effect, stop: StopToken) -> Followed:
        """One round at a time: the open cursor stays from round to round."""
        assert self._source is not None and self._target is not None
        if self._follower is None:
            source, target = self._source.client, self._target.client
            self._follower = Follower(source, target, self._spec)
        return self._follower.round(effect, stop)


def _unique_of(increment: Increment, namespace: str) -> frozenset[str]:
    """Names of the unique indexes that its documents satisfy: one that only the target has says
    nothing of which document is to give way."""
    named = (each for each in increment.dump.namespaces if each.namespace == namespace)
    return frozenset(index.name for each in named for index in each.indexes if index.unique)


def _log_shard(increment: Increment) -> FoundShard:
    """One for the whole log: it is replayed in the order of time."""
    log = increment.log
    file = ChunkFile(
        name=f"{INCREMENTS}/{increment.dump.root.name}/{LOG}",
        documents=sum(part.documents for part in log),
        bytes=sum(part.bytes for part in log),
        file_bytes=sum(part.file_bytes for part in log),
        sha256="",
        place="dump",
    )
    return FoundShard(LOG, LOG, "collection", None, None, file)


def _told(effect: Effect, report: Report) -> Callable[[Applying | Capturing], None]:
    def tell(part: Applying | Capturing) -> None:
        report(Progressed(effect.task, effect.attempt, effect.epoch, part))

    return tell


def _last(
    parts: Iterator[Applying], shard: Shard, tell: Callable[[Applying | Capturing], None]
) -> Applying:
    """All parts but the last are progress; the last is the result."""
    for part in parts:
        if part.position == shard.file.file_bytes:
            return part
        tell(part)
    raise DamagedFile(f"{shard.file.name} ends before its last block")
