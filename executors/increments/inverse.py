"""What an increment did to the documents of a collection, taken back.

By key: what lay there before the first of the rows lies there again, if what lies there now is
what one of them left. So rows may be taken back again, and what others changed since stays.
Shards were applied at once and are taken back one by one, so a document may meet one of another
shard that holds its unique value until that one is taken back, too: it waits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from executors.boundaries import to_key
from executors.increments.apply import Target, odd_ones
from executors.increments.holders import DUPLICATE_KEY, OTHER_ID
from executors.protocol import StopToken
from executors.rawbson import documents, id_of
from executors.rejected import shown
from executors.undo.recording import SUM_BYTES, comparable, sum_of
from executors.undo.there import There
from statemachine.events import JobSpec
from statemachine.words import UnitType

MAX_NAMED: Final = 10
"""Documents that stay, by name."""
MOST_WAITING: Final = 1000
"""Documents that wait for one another and are brought at once."""
NOTHING: Final = b""
"""Left by what erases."""
About = tuple[str, UnitType]
"""A namespace, and what it is."""


@dataclass(slots=True)
class Step:
    """What rows did under one key."""

    ours: set[bytes] = field(default_factory=set)
    """Sums of the documents that they left, or `NOTHING`."""
    before: bytes | None = None
    """What lay there before the first of them."""


Steps = dict[bytes, Step]
"""By `{_id}`."""


@dataclass(slots=True)
class Tally:
    last: bool = False
    """Nothing else is to come."""
    done: int = 0
    """Documents removed or put back."""
    changed: int = 0
    """That others changed: they stay."""
    gone: int = 0
    """That others removed; or that gave way, and are put back with the link."""
    waits: int = 0
    """Whose places others hold."""
    waiting: list[tuple[About, bytes]] = field(default_factory=list)
    """The first of these."""
    named: list[str] = field(default_factory=list)

    def name(self, about: About, key: bytes, what: str) -> None:
        if len(self.named) < MAX_NAMED:
            self.named.append(f"kept: {about[0]} {shown(to_key(key))}: {what}")


def steps_of(rows: Iterable[RawBSONDocument]) -> Steps:
    """Of rows from the last to the first (`executors.undo.recording`)."""
    steps: Steps = {}
    for row in rows:
        match row["k"]:
            case "inserted":
                sums = row["sums"]
                for at, key in enumerate(documents(row["ids"])):
                    _add(steps, key, sums[at * SUM_BYTES : (at + 1) * SUM_BYTES], None)
            case "stamped":
                ours = bytes(row["ours"].raw)
                _add(steps, id_of(ours), sum_of(ours), None)
            case "replaced":
                before = bytes(row["before"].raw)
                _add(steps, id_of(before), row["sum"], before)
            case "erased":
                before = bytes(row["before"].raw)
                _add(steps, id_of(before), NOTHING, before)
    return steps


def _add(steps: Steps, key: bytes, ours: bytes, before: bytes | None) -> None:
    step = steps.setdefault(key, Step())
    step.ours.add(ours)
    step.before = before


class Plan(NamedTuple):
    """What is to be done so that steps are taken back."""

    gone: list[bytes]
    """Keys."""
    changed: dict[bytes, bytes]
    """By the keys under which something lies."""
    new: list[bytes]
    changed_since: list[bytes]
    gone_since: list[bytes]
    """Keys."""

    @property
    def done(self) -> int:
        return len(self.gone) + len(self.changed) + len(self.new)


def plan_of(steps: Steps, lies: Iterable[bytes]) -> Plan:
    """`lies`: what lies under the keys."""
    plan = Plan([], {}, [], [], [])
    found = {id_of(each): each for each in lies}
    for key, step in steps.items():
        now, before = found.get(key), step.before
        if now == before:
            continue
        if now is not None and sum_of(now) not in step.ours:
            plan.changed_since.append(key)
        elif now is None and NOTHING not in step.ours:
            plan.gone_since.append(key)
        elif before is None:
            plan.gone.append(key)
        elif now is None:
            plan.new.append(before)
        else:
            plan.changed[key] = before
    if plan.new:
        _leave_twins(plan, found)
    return plan


def _leave_twins(plan: Plan, found: Iterable[bytes]) -> None:
    """What others wrote under another spelling of the same number holds its place."""
    stays = {comparable(key) for key in found} - {comparable(key) for key in plan.gone}
    twins = [each for each in plan.new if comparable(id_of(each)) in stays]
    for each in twins:
        plan.new.remove(each)
        plan.changed_since.append(id_of(each))


class Inverse:
    """One collection of the target, in which rows are taken back."""

    def __init__(
        self, client: MongoClient[Any], about: About, spec: JobSpec, stop: StopToken
    ) -> None:
        self._about = about
        self._there = There(client, *about, spec, stop)
        self._target = Target(client, *about, spec, stop)

    def take_back(self, steps: Steps, tally: Tally, *, again: bool = False) -> None:
        """At most a block's worth. `again`: what others changed was told. Raises `Refused`,
        `PyMongoError`, `Stopped`."""
        plan, waiting = Plan([], {}, [], [], []), list[bytes]()
        if self._there.exists:  # else what is written would make it, and nothing of it stays
            plan, waiting = self._changed(steps)
        tally.done += plan.done - len(waiting)
        tally.waits += len(waiting)
        room = MOST_WAITING - len(tally.waiting)
        tally.waiting += [(self._about, each) for each in waiting[:room]]
        tally.gone += len(plan.gone_since)
        for key in plan.gone_since if tally.last else ():
            tally.name(self._about, key, "others removed it")
        if not again:
            tally.changed += len(plan.changed_since)
            for key in plan.changed_since:
                tally.name(self._about, key, "others changed it")

    def exchange(self, waiting: Sequence[bytes]) -> bool:
        """Documents of this collection that only wait for one another come at once; whether that
        was so. Raises as `take_back`."""

        def work(session: ClientSession) -> None:
            keys = [id_of(each) for each in waiting]
            self._there.delete(keys, session)
            self._there.put(waiting, session)

        return self._done(work)

    def _changed(self, steps: Steps) -> tuple[Plan, list[bytes]]:
        """All at once, if nothing is in the way; else what can be done, and what waits."""
        plan = Plan([], {}, [], [], [])

        def work(session: ClientSession) -> None:
            nonlocal plan
            plan = plan_of(steps, self._there.find(list(steps), session))
            if plan.gone:
                self._there.delete(plan.gone, session)
            if brought := [*plan.changed.values(), *plan.new]:
                self._there.put(brought, session)

        if self._done(work):
            return plan, []
        plan = plan_of(steps, self._target.lying(list(steps)))
        if plan.gone:
            self._target.erase(plan.gone)
        odd = odd_ones([*plan.changed.values(), *plan.new])
        crowded = self._target.put(plan.changed, plan.new, odd)
        return plan, [each.document for each in crowded]

    def _done(self, work: Callable[[ClientSession], None]) -> bool:
        """Whether no other document was in the way: then nothing is done."""
        try:
            self._there.change(work)
        except OperationFailure as error:
            if error.code not in (DUPLICATE_KEY, OTHER_ID):
                raise
            return False
        return True
