"""What is wrong around the jobs: the lease, what lies about, the disks, chains of dumps."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from executors.clients import Deployment
from executors.increments.chain import as_far_as_whole, links_lying
from ferrylog.cleanup.items import KINDS, Item, Left
from ferrylog.cleanup.sweep import Wanted, find
from ferrylog.health.issues import Issue, command
from ferrylog.health.jobs import AT_WORK, Looked
from ferrylog.views.spans import size
from journal.lease import held
from journal.opening import work_path
from statemachine.errors import FerrylogError, OperatorError
from statemachine.state import DUMP, State, is_stored, keeps_files

RESERVE_BYTES: Final = 64 << 20
"""That a journal may grow by before anybody looks again."""


ANY_AGE: Final = -(2**62)
"""Also of what a clock that was set back calls of the future."""


class Room(NamedTuple):
    """Bytes of a volume."""

    total: int
    free: int


def stale_lease(path: Path) -> Iterator[Issue]:
    """Whoever held it ended without giving it back."""
    lease = Path(f"{path}.lease")
    with suppress(OSError):
        if lease.stat().st_size and not held(path):
            yield Issue(
                "stale_lease",
                "degraded",
                1,
                0,
                (str(lease),),
                "the process that held the journal ended without giving it back: "
                "it was killed, or its host went down",
                command(path, "health", "--recover"),
            )


def orphans(
    looked: Looked, target: Deployment | None, held_since_ms: int | None
) -> Iterator[Issue]:
    """Files and collections that no job needs, however old. Raises `CannotLook`."""
    wanted = Wanted(
        only=("staging", "files", "groups"), older_than_ms=dict.fromkeys(KINDS, ANY_AGE)
    )
    items, left = find(looked.journal, target, wanted, looked.now_ms, held_since_ms=held_since_ms)
    found: list[Item | Left] = [*items, *left]
    count = sum(each.freed.files + each.freed.collections for each in found)
    if count > looked.limits.orphans:
        foreign = not items and any(isinstance(each, Left) for each in left)
        with_target = ("--target", target.where) if target is not None else ()
        words = ("cleanup", *with_target, *(("--foreign", "--dry-run") if foreign else ()))
        yield Issue(
            "orphans",
            "degraded",
            count,
            looked.limits.orphans,
            [each.what for each in found],
            f"{count} files and collections are left that no job needs, "
            f"{size(sum(each.freed.bytes for each in found))}",
            command(looked.path, *words),
        )


def disks(looked: Looked, room: Callable[[Path], Room]) -> Iterator[Issue]:
    """Volumes that are nearly full, or too full for what the jobs at work will still write."""
    for folder, need in _by_volume(_needs(looked)):
        with suppress(OSError):
            found = room(folder)
            free = 100 * found.free / found.total if found.total else 100.0
            if free >= looked.limits.free and found.free >= need:
                continue
            short = f", and the jobs at work need about {size(need)}" if need > found.free else ""
            yield Issue(
                "disk_space",
                "critical" if short else "degraded",
                round(free, 1),
                looked.limits.free,
                (str(folder),),
                f"{size(found.free)} are free where {folder} lies, {free:.1f} %{short}",
                command(looked.path, "cleanup"),
            )


def _by_volume(needs: dict[Path, int]) -> list[tuple[Path, int]]:
    """The first folder of each volume, and what all on it need."""
    volumes: dict[int, tuple[Path, int]] = {}
    for folder, need in needs.items():
        with suppress(OSError):
            there = _existing(folder)
            first, before = volumes.get(there.stat().st_dev, (there, 0))
            volumes[there.stat().st_dev] = first, before + need
    return list(volumes.values())


def on_disk(folder: Path) -> Room:
    """Raises `OSError`."""
    usage = shutil.disk_usage(folder)
    return Room(usage.total, usage.free)


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _needs(looked: Looked) -> dict[Path, int]:
    """Bytes that will still be written, by where: an estimate, from above."""
    own = work_path(looked.path)
    needs = {looked.path.parent: 0, own: 0}
    for standing in looked.jobs:
        state = standing.past.state
        if state.status not in AT_WORK or state.spec is None:
            continue
        needs[looked.path.parent] = RESERVE_BYTES
        on_disk_here = state.spec.target.startswith(DUMP) and state.spec.target != f"{DUMP}-"
        if keeps_files(state.spec) and on_disk_here:
            out = Path(state.spec.target.removeprefix(DUMP))
            needs[out] = needs.get(out, 0) + _to_come(state)
        named = state.settings.work_dir if state.settings is not None else ""
        work = Path(named) if named else own
        needs[work] = needs.get(work, 0) + _on_the_way(state)
    return needs


def _to_come(state: State) -> int:
    every = sum(unit.bytes_estimate for unit in state.units.values())
    return max(0, every - sum(unit.dumped_bytes for unit in state.units.values()))


def _on_the_way(state: State) -> int:
    """Chunk files between dump and restore, or on their way to a store or from there."""
    spec, settings = state.spec, state.settings
    if spec is None or settings is None:
        return 0
    files = 0
    if keeps_files(spec) and is_stored(spec.target):
        files = settings.dump_workers
    elif spec.kind == "migrate" and spec.mode != "direct":
        files = max(0, settings.files_ahead - state.files)
    elif spec.kind == "restore" and is_stored(spec.source):
        files = settings.files_ahead
    return min(_to_come(state), files * spec.chunk_bytes)


def chains(looked: Looked, roots: Sequence[Path]) -> Iterator[Issue]:
    """Links that are missing, altered, or do not follow the one before."""
    for root in roots:
        try:
            chain, broken = as_far_as_whole(root)
            if broken is None:
                continue
            lying = [each for each in links_lying(root) if each > len(chain.increments)]
        except OperatorError as error:
            broken_at: FerrylogError = error
            lying = []
        else:
            broken_at = broken
        yield Issue(
            "chain_gaps",
            "critical",
            max(1, len(lying)),
            0,
            [f"{root} link {number}" for number in lying] or [str(root)],
            f"{root}: {broken_at}"
            + (f"; {len(lying)} links behind that are of no use" if lying else ""),
            command(looked.path, "inspect", "chain", str(root), "--check"),
        )
