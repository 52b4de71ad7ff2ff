"""A job's past from its newest snapshot and the events after it; and who takes the snapshots."""

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from loguru import logger

import statemachine
from ferrylog import past as folding
from ferrylog import rates
from ferrylog.engine import Engine
from ferrylog.past import Past, collector_at_rest
from ferrylog.rates import Rates
from journal import codec, upcast
from journal.errors import JournalUnreachable, WrongSnapshot
from journal.snapshots import Snapshot, Snapshots
from journal.sqlite import SqliteJournal
from statemachine.snapshot import freeze, thaw
from statemachine.state import digest
from statemachine.words import JobId

EVERY: Final = 20_000
"""Events between two snapshots: a tenth of a second of folding."""
AT_REST: Final = 1000
"""Events that make a last snapshot worthwhile when a run ends."""


def recall(journal: SqliteJournal, job: JobId, *, to_seq: int | None = None) -> Past:
    """The job's past up to `to_seq`, or all of it. Raises what `SqliteJournal.read` raises.

    The events before the snapshot are not read again: `inspect check` and `replay --check` do.
    """
    past = _remembered(journal, job, to_seq) or Past()
    return past.follow(journal.pages(job, after=past.position.version, to_seq=to_seq))


def _remembered(journal: SqliteJournal, job: JobId, to_seq: int | None) -> Past | None:
    newest = next(_kept(journal, job, to_seq), None)
    return thawed(newest) if newest is not None else None


def _kept(journal: SqliteJournal, job: JobId, to_seq: int | None = None) -> Iterator[Snapshot]:
    """The snapshots of this very history, the newest first."""
    for snapshot in Snapshots(journal.path, rules()).of(job, to_seq=to_seq):
        if journal.holds(job, snapshot.position):
            yield snapshot


def replayed(
    journal: SqliteJournal, job: JobId, *, to_seq: int | None = None, compare: bool = False
) -> Past:
    """The past from the events alone. `compare`: every snapshot on the way must equal it.

    Raises `WrongSnapshot` for one that differs, and what `SqliteJournal.read` raises.
    """
    past = Past()
    kept = [*_kept(journal, job, to_seq)] if compare else []
    for snapshot in reversed(kept):
        after = past.position.version
        past.follow(journal.pages(job, after=after, to_seq=snapshot.position.seq))
        found = thawed(snapshot)
        if found is None or (past.position, digest(past.state)) != (
            found.position,
            digest(found.state),
        ):
            raise WrongSnapshot(journal.path, job, snapshot.position.seq)
    return past.follow(journal.pages(job, after=past.position.version, to_seq=to_seq))


def thawed(snapshot: Snapshot) -> Past | None:
    """The past that was kept; `None` for data of another shape."""
    with collector_at_rest():
        try:
            data = json.loads(snapshot.data)
            state, sums = thaw(data["state"]), Rates.thawed(data["rates"])
            return Past(state, sums, snapshot.position, data["at_ms"])
        except (ValueError, KeyError, TypeError):
            return None


class Keeper:
    """Takes snapshots as the engine turns; its failures cost time, never the run."""

    def __init__(self, journal: SqliteJournal, job: JobId) -> None:
        self._snapshots = Snapshots(journal.path, rules())
        newest = next(_kept(journal, job), None)
        self._kept = newest.position.version if newest is not None else 0
        self._failed = False

    def __call__(self, engine: Engine) -> None:
        """After a turn. The more there is to keep, the more seldom."""
        new = engine.position.version - self._kept
        due = (
            AT_REST
            if engine.state.resting
            else EVERY + (len(engine.state.tasks) + len(engine.state.filed)) // 4
        )
        if new < due:
            return
        self._kept = engine.position.version
        try:
            self.keep(engine)
        except JournalUnreachable as error:
            if not self._failed:
                logger.warning("no snapshot of the state: {}; the next resume takes longer", error)
            self._failed = True

    def keep(self, engine: Engine) -> None:
        """Take one now. Raises `JournalUnreachable`."""
        now = engine.past
        with collector_at_rest():
            data = {"state": freeze(now.state), "rates": now.rates.frozen(), "at_ms": now.at_ms}
            text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
            self._snapshots.save(engine.job, now.position, text.encode("utf-8", "surrogatepass"))


@cache
def rules() -> str:
    """Fingerprint of the code that folds: a snapshot of other rules is not used."""
    folder = Path(str(statemachine.__file__)).parent
    beside = (codec, upcast, folding, rates)
    files = [*sorted(folder.rglob("*.py")), *(Path(str(module.__file__)) for module in beside)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:32]
