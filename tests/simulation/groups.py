"""Groups of operations that change rows, and how they are drawn.

An operation's text is a list of `[key, before, after]`, `None` where there is no row. Who changes
the same row waits for whom: what lies there before is known when the group is planned.
"""

import json
from collections.abc import Iterable, Sequence
from random import Random

from statemachine.stimuli import PlannedOperation
from statemachine.words import BsonText, OperationId
from tests.simulation.world import Lots, World

Change = tuple[str, str | None, str | None]
MOST = 8
"""Operations."""
ROWS = 5
"""That lie there before."""
HOPELESS = 0.1
"""How often an operation fails for good, whoever tries it."""
NO_GROUP = 0.05
"""How often operations do not belong together."""


def change(rows: dict[str, str], key: str, text: str | None) -> None:
    if text is None:
        rows.pop(key, None)
    else:
        rows[key] = text


def changes_of(text: BsonText) -> list[Change]:
    return [(key, before, after) for key, before, after in json.loads(text)]


def planned(
    name: str,
    changes: Sequence[Change],
    wait_for: Iterable[str] = (),
    undo_after: Iterable[str] = (),
    tries: int = 3,
) -> PlannedOperation:
    back = [(key, after, before) for key, before, after in reversed(changes)]
    return PlannedOperation(
        OperationId(name),
        BsonText(json.dumps(changes)),
        BsonText(json.dumps(back)),
        tuple(map(OperationId, wait_for)),
        tuple(map(OperationId, undo_after)),
        tries=tries,
    )


def draw_group(random: Random, lots: Lots) -> World:
    """Each operation waits for some that come before it, and changes new rows, or such as those
    have changed; now and then it is no group at all."""
    rows = {f"p{n}": "there" for n in range(ROWS)}
    world = World(lots, {}, rows=dict(rows))
    names = [f"o{n}" for n in range(random.randint(1, MOST))]
    before: dict[str, set[str]] = {}
    waits: dict[str, list[str]] = {}
    now: dict[str, str | None] = dict(rows)
    owner = dict.fromkeys(rows, "")
    changes: dict[str, list[Change]] = {}
    for n, name in enumerate(names):
        waits[name] = random.sample(names[:n], min(n, random.randint(0, 2)))
        before[name] = set(waits[name]).union(*(before[each] for each in waits[name]))
        known = [key for key, who in owner.items() if who in before[name] | {""}]
        mine = random.sample(known, min(len(known), random.randint(0, 2)))
        mine += [f"{name}.{index}" for index in range(random.randint(0, 2))]
        changes[name] = []
        for key in mine:
            after = None if now.get(key) and random.random() < 0.3 else f"{key}@{name}"
            changes[name].append((key, now.get(key), after))
            now[key], owner[key] = after, name
    behind = {name: [each for each in names if name in before[each]] for name in names}
    operations = [
        planned(
            name,
            changes[name],
            waits[name],
            random.sample(behind[name], min(len(behind[name]), random.randint(0, 1))),
            random.randint(1, 3),
        )
        for name in names
    ]
    random.shuffle(operations)
    world.group = tuple(operations)
    world.hopeless = {name for name in names if random.random() < HOPELESS}
    if random.random() < NO_GROUP:
        world.group = _spoilt(random, operations)
    return world


def _spoilt(random: Random, operations: list[PlannedOperation]) -> tuple[PlannedOperation, ...]:
    first, *others = operations
    how = random.choice(("no undo", "unknown", "itself", "twice"))
    match how:
        case "no undo":
            wrong = PlannedOperation(first.id, first.forward, BsonText(""))
        case "unknown":
            wrong = planned(first.id, [], ["nobody"])
        case "itself":
            wrong = planned(first.id, [], [first.id])
        case _:
            return (first, first, *others)
    return (wrong, *others)


def is_group(operations: Sequence[PlannedOperation]) -> bool:
    """I36, told from the operations alone: they have compensations, and can be put in an order in
    which each comes behind those that it waits for."""
    waits = {each.id: set(each.wait_for) for each in operations}
    placed: set[str] = set()
    while ready := [name for name, others in waits.items() if others <= placed]:
        placed |= set(ready)
        for name in ready:
            del waits[name]
    whole = all(each.forward and each.compensation for each in operations)
    return not waits and whole and len(placed) == len(operations) > 0
