"""The whole look: every issue, whatever of the journal can still be read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from executors.clients import Deployment, Role
from ferrylog.cleanup.sweep import held_since_ms
from ferrylog.health.issues import Issue, Limits, command
from ferrylog.health.jobs import Looked, issues_of_jobs, looked_at
from ferrylog.health.places import Room, chains, disks, on_disk, orphans, stale_lease
from ferrylog.wiring import deployment
from journal.sqlite import SqliteJournal
from statemachine.errors import FerrylogError, OperatorError
from statemachine.words import JobId

DAMAGE_EXIT = 4
"""What errors of damage end with."""


@dataclass(frozen=True)
class Asked:
    """What is looked at beside the journal, and what counts as an issue."""

    limits: Limits = field(default_factory=Limits)
    source: str | None = None
    target: str | None = None
    """Connection strings."""
    chains: Sequence[Path] = ()
    room: Callable[[Path], Room] = on_disk


@dataclass(frozen=True)
class Health:
    """What was found."""

    issues: tuple[Issue, ...]
    runs: JobId | None
    """The job that a process runs now."""
    jobs: int
    last_seq: int


def examine(path: Path, asked: Asked, now_ms: int) -> Health:
    """Look at everything; nothing is changed. Raises what opening a journal raises that cannot be
    reached, or is none."""
    try:
        with ExitStack() as stack:
            journal = stack.enter_context(SqliteJournal.read_only(path))
            return _examined(journal, asked, now_ms)
    except FerrylogError as error:
        if error.exit_code != DAMAGE_EXIT:
            raise
        return Health((_damage(path, error), *stale_lease(path)), None, 0, 0)


def _examined(journal: SqliteJournal, asked: Asked, now_ms: int) -> Health:
    since = held_since_ms(journal.path)
    journal.check_ends()
    looked = looked_at(journal, held=since is not None, now_ms=now_ms, limits=asked.limits)
    issues = [
        *issues_of_jobs(looked),
        *stale_lease(looked.path),
        *_of_servers(looked, asked, since),
        *disks(looked, asked.room),
        *chains(looked, asked.chains),
    ]
    return Health(tuple(issues), looked.runs, len(looked.jobs), journal.last_seq())


def _damage(path: Path, error: FerrylogError) -> Issue:
    message = f"{error}; nothing else of it was looked at"
    return Issue(
        "journal_damage", "critical", 1, 0, (str(path),), message, command(path, "inspect", "check")
    )


def _of_servers(looked: Looked, asked: Asked, since: int | None) -> Iterator[Issue]:
    """Whether each can be reached; what lies about on the target, and in the work folders."""
    with ExitStack() as stack:
        reached: dict[str, Deployment | None] = {}
        sides: tuple[tuple[Role, str | None], ...] = (
            ("source", asked.source),
            ("target", asked.target),
        )
        for role, uri in sides:
            try:
                reached[role] = stack.enter_context(deployment(role, uri))
            except OperatorError as error:
                yield _unreachable(looked, role, error)
        try:
            yield from orphans(looked, reached.get("target"), since)
        except OperatorError as error:
            yield _unreachable(looked, "target", error)
            yield from orphans(looked, None, since)


def _unreachable(looked: Looked, role: Role, error: OperatorError) -> Issue:
    message = f"[{error.code}] {error}"
    words = ("check", f"--{role}-uri-file", "FILE")
    return Issue("unreachable", "critical", 1, 0, (role,), message, command(looked.path, *words))
