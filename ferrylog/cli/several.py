"""A restore to several targets: a job for each, one after the other, each with its own end."""

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Final, NoReturn

import typer

from executors.clients import Deployment
from ferrylog.cli.beginning import OF_ITS_TIME
from ferrylog.cli.failing import tell
from ferrylog.cli.options import Common
from ferrylog.errors import Usage
from ferrylog.jobs import spec_of
from ferrylog.past import Past
from ferrylog.recall import recall
from journal.audit import Wanted, find
from journal.sqlite import SqliteJournal
from statemachine.errors import OperatorError
from statemachine.events import JobSpec, PauseRequested, StopRequested
from statemachine.policy import US
from statemachine.words import JobId, JobStatus

RANK: Final = {0: 0, 3: 1, 5: 2}
"""Exit codes, the better first; all others are worse."""
MAX_TARGETS: Final = 1024
"""Nobody has more shards; each reads all of the dump."""


class Placement(StrEnum):
    HASH = "hash"
    RANGE = "range"


class Interrupted(typer.Exit):
    """Somebody wants it to rest: what was not begun is not."""


def places(targets: int, placement: Placement | None) -> list[str]:
    """What each of so many targets gets. Raises `Usage`."""
    if targets > MAX_TARGETS:
        raise Usage(f"{targets} targets are more than {MAX_TARGETS}")
    if targets > 1:
        how = placement or Placement.HASH
        return [f"{how}:{index}/{targets}" for index in range(targets)]
    if placement is not None:
        raise Usage("--placement is for several targets", remedy="give --target again and again")
    return [""]


def in_turn(
    common: Common, uris: Sequence[str], placed: Sequence[str], carry: Callable[[str, str], None]
) -> NoReturn:
    """Carry to each target, whatever became of those before it; leave with the worst exit code."""
    worst = 0
    for number, (uri, place) in enumerate(zip(uris, placed, strict=True), 1):
        _say(common, f"target {number} of {len(uris)}, {place}")
        code, interrupted = _ended(common, uri, place, carry)
        _say(common, f"target {number} of {len(uris)}: exit {code}")
        worst = max(worst, code, key=lambda each: RANK.get(each, len(RANK)))
        if interrupted:
            _say(common, "the same command goes on with this target and those behind it")
            break
    raise typer.Exit(worst)


def _say(common: Common, what: str) -> None:
    if not common.quiet:
        typer.echo(what, err=True)


def _ended(
    common: Common, uri: str, place: str, carry: Callable[[str, str], None]
) -> tuple[int, bool]:
    try:
        carry(uri, place)
    except typer.Exit as end:
        return end.exit_code, isinstance(end, Interrupted)
    except OperatorError as error:
        tell(error, as_json=common.json)
        return error.exit_code, False
    return 0, False


class Seen:
    """The targets so far: none may come twice."""

    def __init__(self) -> None:
        self._seen: list[Deployment] = []

    def add(self, target: Deployment) -> None:
        """Raises `Usage`."""
        for number, other in enumerate(self._seen, 1):
            if target.overlaps(other):
                raise Usage(
                    f"{target.where} is the deployment that was named as target {number} already",
                    remedy="name each target once",
                )
        self._seen.append(target)


def must_rest(journal: SqliteJournal, job: JobId) -> bool:
    """Whether somebody asked for the pause in which the job rests, and not the job itself."""
    asked = [
        event
        for kind in ("pause_requested", "stop_requested")
        for event in find(journal, Wanted(job, kind=kind), tail=1)
    ]
    last = max(asked, key=lambda each: each.seq, default=None)
    if last is None:
        return False
    assert isinstance(last.event, PauseRequested | StopRequested)
    return last.event.by != US


def completed(journal: SqliteJournal, spec: JobSpec) -> tuple[JobId, Past] | None:
    """The job that has done this already, unless another one came to that target behind it."""
    job = next(_of_target(journal, spec.target_id), None)
    if job is None or not _same(spec_of(journal, job), spec):
        return None
    past = recall(journal, job)
    return (job, past) if past.state.status is JobStatus.COMPLETED else None


def _of_target(journal: SqliteJournal, target_id: str) -> Iterator[JobId]:
    """Jobs that wrote there, the newest first."""
    for job in reversed(journal.jobs()):
        spec = spec_of(journal, job)
        if spec.kind in ("migrate", "restore") and spec.target_id == target_id:
            yield job


def _same(one: JobSpec, other: JobSpec) -> bool:
    return all(
        getattr(one, name) == getattr(other, name)
        for name in JobSpec.model_fields
        if name not in OF_ITS_TIME
    )
