"""What lies in work folders and half-made dumps, and whose it is."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from executors.clients import Deployment
from executors.dumps.claim import CLAIM, OURS, holder, maker, release
from executors.folder import REJECTED, UNDO, remove_if_empty
from executors.increments.model import INCREMENTS
from executors.leftovers import named_in_logs
from executors.rejected import rejected_path
from executors.select import is_own, split
from ferrylog.cleanup.items import Found, Freed, Item, Left
from ferrylog.cleanup.standing import Standing, cannot_return, work_folders
from ferrylog.cleanup.stores import half_made_in_store
from ferrylog.jobs import spec_of
from journal.sqlite import SqliteJournal
from statemachine.state import DUMP, State, is_stored
from statemachine.words import JobId, JobStatus

JOB_FORM: Final = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}", re.ASCII)
"""What a job's folder is called; nothing else in a work folder is looked at."""
PRECIOUS: Final = (UNDO, REJECTED)
"""Folders in a job's folder with what may be the only copy of somebody's documents."""


@dataclass(frozen=True, slots=True)
class Lying:
    """A regular file, as it was when it was looked at."""

    path: Path
    bytes: int
    changed_ms: int


@dataclass(frozen=True, slots=True)
class Among:
    """Whose folders are known, and how others are looked at."""

    jobs: dict[JobId, Standing]
    others: frozenset[JobId]
    """Jobs of other journals that were named: nothing of theirs is touched."""
    foreign: bool
    """What no journal knows that was named may go wherever it lies, precious or not."""
    target: Deployment | None
    """That is looked at, too."""
    held_since_ms: int | None
    """Since when another process has held the journal: what it made since then may belong to a job
    that the journal does not know yet."""


def lying_files(journal: SqliteJournal, among: Among, now_ms: int) -> Found:
    """All that nobody needs in the work folders, and what stays there without need."""
    for work, shared in work_folders(journal, among.jobs):
        for folder in _job_folders(work):
            job = JobId(folder.name)
            if job in among.jobs:
                yield from _of_ended(among.jobs[job], folder, among.target, now_ms)
            elif job not in among.others:
                yield from _of_unknown(folder, among, now_ms, shared=shared)
    for standing in among.jobs.values():
        yield from _half_made_dumps(standing, now_ms)
        yield from half_made_in_store(standing, now_ms)


def _job_folders(work: Path) -> list[Path]:
    with suppress(OSError), os.scandir(work) as entries:
        found = [
            Path(each.path)
            for each in entries
            if JOB_FORM.fullmatch(each.name) and each.is_dir(follow_symlinks=False)
        ]
        return sorted(found)
    return []


def files_in(folder: Path) -> list[Lying]:
    """Regular files only; no link is followed."""
    found: list[Lying] = []
    for directory, _, names in os.walk(folder, followlinks=False):
        for name in sorted(names):
            path = Path(directory, name)
            with suppress(OSError):
                stat = path.lstat()
                if path.is_file() and not path.is_symlink():
                    found.append(Lying(path, stat.st_size, int(stat.st_mtime * 1000)))
    return found


# --- of a job that has ended ---


def _of_ended(standing: Standing, folder: Path, target: Deployment | None, now_ms: int) -> Found:
    if standing.live:
        return
    state, age_ms = standing.past.state, now_ms - standing.last_ms
    files = files_in(folder)
    undo = [each for each in files if each.path.is_relative_to(folder / UNDO)]
    rest = [each for each in files if not each.path.is_relative_to(folder / UNDO)]
    stays = staying(folder, state)
    gone = [each for each in rest if not stays(each.path)]
    if gone or not (rest or undo):
        why = f"job {standing.job} is {state.status} and needs them no more"
        yield _files(folder, gone, age_ms, why, job=standing.job)
    if not undo:
        return
    if state.committed and _names_kept(folder, state, target):
        why = f"they name what job {standing.job} keeps on its target: name that, or commit again"
        yield Left("groups", str(folder / UNDO), why, _sum(undo))
    elif cannot_return(state):
        why = f"job {standing.job} is {_settled(state)}: its undo logs serve nothing any more"
        yield _undo_logs(folder / UNDO, undo, age_ms, why, standing.job)
    elif state.status is JobStatus.ROLLED_BACK:
        why = f"the rollback of job {standing.job} left something as others had changed it"
        yield Left("groups", str(folder / UNDO), why, _sum(undo))


def _names_kept(folder: Path, state: State, target: Deployment | None) -> bool:
    """Whether the undo logs name collections on a target that is not looked at now."""
    assert state.spec is not None
    if target is not None and target.is_same_as(state.spec.target_id):
        return False
    return any(is_own(split(name)[1]) for name in named_in_logs(folder))


def staying(folder: Path, state: State) -> Callable[[Path], bool]:
    """Which files of a job that has ended stay: rejected documents that are still missing on the
    target, and what is needed to carry chunks again."""
    missing = [*state.flawed.values(), *state.chunks.values()]
    rejected = {rejected_path(folder, chunk.unit, chunk.id) for chunk in missing}
    packed = state.spec is not None and state.spec.kind == "dump"
    kept = state.kept > 0 or ((state.from_dump or packed) and bool(state.flawed))

    def stays(path: Path) -> bool:
        if path.is_relative_to(folder / REJECTED):
            return path in rejected
        return kept and path.suffix != ".tmp"

    return stays


def _settled(state: State) -> str:
    if state.committed:
        return "committed"
    rolled_back = state.status is JobStatus.ROLLED_BACK
    return "rolled back" if rolled_back else f"{state.status}, without a record of what it changed"


def _undo_logs(folder: Path, files: Sequence[Lying], age_ms: int, why: str, job: JobId) -> Item:
    remover = _remover(folder, files)
    return Item("groups", str(folder), age_ms, why, _sum(files), remover, job)


# --- of a job that the journal does not know ---


def _of_unknown(folder: Path, among: Among, now_ms: int, *, shared: bool) -> Found:
    """Its age is that of the youngest file. Other journals may have jobs in a folder that was
    named; in this journal's own, chunk files can be made again, documents cannot."""
    files = files_in(folder)
    youngest = max((each.changed_ms for each in files), default=_changed_ms(folder))
    if among.held_since_ms is not None and youngest >= among.held_since_ms:
        return
    age_ms, why = now_ms - youngest, f"no job of the journal is called {folder.name}"
    if among.foreign:
        yield _files(folder, files, age_ms, why)
        return
    if shared:
        told = f"{why}, but it may be another journal's: --other-journal names it, or say --foreign"
        yield Left("files", str(folder), told, _sum(files))
        return
    precious = [each for each in files if _is_precious(folder, each.path)]
    rest = [each for each in files if not _is_precious(folder, each.path)]
    if rest or not precious:
        yield _files(folder, rest, age_ms, why)
    if precious:
        told = f"{why}, but documents lie there that may lie nowhere else: say --foreign"
        yield Left("files", str(folder), told, _sum(precious))


def _is_precious(folder: Path, path: Path) -> bool:
    return path.relative_to(folder).parts[0] in PRECIOUS


def _changed_ms(folder: Path) -> int:
    with suppress(OSError):
        return int(folder.lstat().st_mtime * 1000)
    return 0


# --- of a dump that will not be ---


def _half_made_dumps(standing: Standing, now_ms: int) -> Found:
    """A dump that failed leaves a claim and chunk files where it was to lie; only with the claim in
    this job's name, and without a manifest, are they of no use to anybody."""
    spec = spec_of(standing.journal, standing.job)
    if spec.kind != "dump" or is_stored(spec.target):
        return
    for folder in claimed(Path(spec.target.removeprefix(DUMP)), standing.job):
        if standing.past.state.status is not JobStatus.FAILED:
            return
        files = [each for each in files_in(folder) if _is_of_attempt(folder, each.path)]
        why = f"job {standing.job} failed before its dump was whole"
        yield Item(
            "files",
            str(folder),
            now_ms - standing.last_ms,
            why,
            _sum(files),
            partial(release, folder, standing.job),
            standing.job,
        )


def claimed(root: Path, job: str) -> list[Path]:
    """The folder of a dump, and those of its increments, that the job claimed and did not finish.
    A link with a manifest is never among them, so none that a later one needs."""
    if not root.is_dir():
        return []
    links = sorted((root / INCREMENTS).glob("*")) if (root / INCREMENTS).is_dir() else []
    return [each for each in (root, *links) if _is_claimed(each, job)]


def _is_claimed(folder: Path, job: str) -> bool:
    with suppress(OSError):
        return folder.is_dir() and holder(folder) == job and maker(folder) is None
    return False


def _is_of_attempt(folder: Path, path: Path) -> bool:
    below = path.relative_to(folder).parts
    return below == (CLAIM,) or (len(below) == 2 and bool(OURS.fullmatch(below[1])))


# --- removing ---


def _files(
    folder: Path, files: Sequence[Lying], age_ms: int, why: str, job: JobId | None = None
) -> Item:
    remover = _remover(folder, files)
    return Item("files", str(folder), age_ms, why, _sum(files), remover, job)


def _remover(folder: Path, files: Sequence[Lying]) -> Callable[[], None]:
    """Removes these very files, and the directories that are empty then; what was changed since it
    was looked at stays."""

    def remove() -> None:
        for each in files:
            with suppress(FileNotFoundError):
                if int(each.path.lstat().st_mtime * 1000) == each.changed_ms:
                    each.path.unlink()
        for directory, _, _ in os.walk(folder, topdown=False, followlinks=False):
            remove_if_empty(Path(directory))
        if folder.name == UNDO:
            remove_if_empty(folder.parent)

    return remove


def _sum(files: Sequence[Lying]) -> Freed:
    return Freed(bytes=sum(each.bytes for each in files), files=len(files))
