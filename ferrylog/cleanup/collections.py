"""Collections of ferrylog's own on a target: who names them, and whether anybody needs them.

A collection has no time of creation. Its age is that of the job that named it; one that no job of
this journal names has none, and may be another journal's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from executors.clients import Deployment
from executors.folder import inside
from executors.leftovers import Leftover, drop, leftovers, named_in_logs, would_name
from ferrylog.cleanup.items import Found, Freed, Item, Kind, Left
from ferrylog.cleanup.standing import Standing, cannot_return, work_folders
from ferrylog.jobs import spec_of
from journal.sqlite import SqliteJournal
from statemachine.words import JobId

CHANGES: Final = ("migrate", "restore", "group")
"""Kinds of jobs that make collections on a target."""


def lying_collections(
    journal: SqliteJournal,
    jobs: dict[JobId, Standing],
    target: Deployment,
    now_ms: int,
    *,
    foreign: bool,
    others: Sequence[tuple[SqliteJournal, dict[JobId, Standing]]] = (),
) -> Found:
    """All of ferrylog's own that nobody needs, and those that stay without need. What a job of
    `others` names is nobody's business here. Raises `CannotLook`."""
    lying = list(leftovers(target.client))
    if not lying:
        return
    mine = _naming(journal, jobs)
    theirs = [each for other, its in others for each in _naming(other, its)]
    for each in lying:
        by = [one.standing for one in mine if one.names(each)]
        if any(one.names(each) for one in theirs):
            continue
        if not by:
            yield _unknown(target, each, foreign=foreign)
        elif all(cannot_return(one.past.state) for one in by):
            yield _of_ended(target, each, max(by, key=lambda one: one.last_ms), now_ms)


@dataclass(frozen=True, slots=True)
class _Naming:
    """A job that makes collections, and those that its logs name."""

    standing: Standing
    in_logs: frozenset[str]

    def names(self, found: Leftover) -> bool:
        """Also where no log tells it any more."""
        job, state = self.standing.job, self.standing.past.state
        spec = spec_of(self.standing.journal, job)
        return found.namespace in self.in_logs or any(
            would_name(job, spec, unit, found) for unit in state.units.values()
        )


def _naming(journal: SqliteJournal, jobs: dict[JobId, Standing]) -> list[_Naming]:
    folders = [work for work, _ in work_folders(journal, jobs)]
    changing = [each for each in jobs.values() if spec_of(journal, each.job).kind in CHANGES]
    return [_Naming(each, _in_logs(each, folders)) for each in changing]


def _in_logs(standing: Standing, folders: list[Path]) -> frozenset[str]:
    found = (named_in_logs(inside(folder, standing.job)) for folder in folders)
    return frozenset().union(*found)


def _of_ended(target: Deployment, each: Leftover, by: Standing, now_ms: int) -> Item | Left:
    state, freed = by.past.state, _freed(each)
    if each.kind == "kept" and not state.committed:
        why = (
            f"job {by.job} kept it, is {state.status} and did not put it back: documents lie there "
            "that may lie nowhere else; look at it, then drop or rename it by hand"
        )
        return Left("groups", each.namespace, why, freed)
    kind: Kind = "groups" if each.kind == "kept" else "staging"
    committed = "committed" if state.committed else state.status
    why = f"job {by.job} is {committed} and needs it no more"
    remover = partial(drop, target.client, each.namespace)
    return Item(kind, each.namespace, now_ms - by.last_ms, why, freed, remover, by.job)


def _unknown(target: Deployment, each: Leftover, *, foreign: bool) -> Item | Left:
    kind: Kind = "groups" if each.kind == "kept" else "staging"
    why = "no job of the journal names it"
    if not foreign:
        told = f"{why}, but it may be another journal's, which nobody here can tell: say --foreign"
        return Left(kind, each.namespace, told, _freed(each))
    remover = partial(drop, target.client, each.namespace)
    return Item(kind, each.namespace, None, why, _freed(each), remover)


def _freed(each: Leftover) -> Freed:
    return Freed(bytes=each.bytes, collections=1)
