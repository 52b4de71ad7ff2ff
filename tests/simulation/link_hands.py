"""The hands of increments: what changed is captured, brought to a target link by link, followed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from statemachine.effects import Effect
from statemachine.events import ChainLink
from statemachine.state import Applied, ChunkFile
from statemachine.stimuli import (
    Applying,
    Captured,
    Capturing,
    FileDamaged,
    Followed,
    FoundShard,
    Progressed,
    Settled,
    Shaped,
)
from statemachine.words import THE_JOB, BsonText, Key, TaskKind, UnitId
from tests.simulation.news import BLOCK, DOCUMENT, News, break_off, found, success
from tests.simulation.past import GONE, Documents, Mark, Past, put, shape_once
from tests.simulation.undo_hands import note_all, note_rows
from tests.simulation.world import World, cut

Rows = list[tuple[int, str]]
NOTHING = Applying(0, None, 0, 0, 0)


def stops(world: World, effect: Effect) -> bool:
    """Whether it hears, before it does the next thing, that nobody wants it any more: its process
    is gone, and another has gone further. (Hands look at a stop token, and at the target's mark.)
    """
    past, mark, kind = world.past, world.mark, effect.task.kind
    if past is None:
        return False
    if kind in (TaskKind.CREATE, TaskKind.RESTORE, TaskKind.COPY):
        return bool(past.follower or mark.link)
    if effect.link is None:
        return kind is TaskKind.FOLLOW and effect.attempt < past.follower
    closed = kind is TaskKind.APPLY and not mark.open
    return effect.link.number < mark.link or closed


def is_over(world: World, effect: Effect) -> bool:
    """Whether it reads the source as of a time that nobody can read it as of any more."""
    reads = effect.task.kind in (TaskKind.PLAN, TaskKind.DUMP) and effect.cluster_time
    return bool(world.past and reads and time_of(effect.cluster_time) < world.past.oldest)


def is_gone(world: World, effect: Effect) -> bool:
    """Whether it is to copy a collection of a followed source that was dropped meanwhile."""
    past, unit = world.past, effect.unit
    copies = effect.task.kind in (TaskKind.PLAN, TaskKind.DUMP, TaskKind.COPY)
    if past is None or unit is None or not copies or world.from_dump or effect.cluster_time:
        return False
    uuids = [uuid for uuid, name in past.moments[0].names.items() if name == unit.id]
    return any(uuid not in past.end.names for uuid in uuids)


def time_of(cluster_time: str) -> int:
    return int(cluster_time.partition(".")[0] or 0)


def token_at(moment: int) -> BsonText:
    return BsonText(str(moment))


# --- of a source ---


def _capture(world: World, effect: Effect) -> Iterator[News]:
    """Up to what is there as it begins. Keys are durable before anybody hears of them."""
    past = _past(world)
    goal, at = past.now, time_of(effect.token)
    while at < goal:
        if world.lots.strikes("partial"):
            yield break_off(world, effect)
            return
        step = min(goal, at + world.lots.between(1, 3))
        past.read |= set(range(at + 1, step + 1))
        at = step
        if at < goal:
            part = Capturing(token_at(at), f"{at}.0", at)
            yield Progressed(effect.task, effect.attempt, effect.epoch, part)
    assert past.read >= set(range(1, goal + 1)), "changes that nobody kept"
    there = replace(world, source=past.rows_by_name(0, goal))
    units = tuple(found(there, unit) for unit in there.source)
    yield success(effect, Captured(units, token_at(goal), f"{goal}.0", goal))


def _follow(world: World, effect: Effect) -> Iterator[News | None]:
    """A part of the way, or all of it; before a cut-over there is always more."""
    past, mark = _past(world), world.mark
    note_all(world, effect)
    if not past.follower:
        first = past.moments[0].names
        mark.names = {uuid: name for uuid, name in first.items() if name in world.target}
    past.follower = effect.attempt
    start, now = time_of(effect.token or effect.since), past.now
    end = min(now, start + world.lots.between(1, 4))
    past.furthest = max(past.furthest, end)
    while shape_once(world.target, mark.names, past.moments[end]):
        if world.lots.strikes("partial"):
            yield break_off(world, effect)
            return
        yield None
    counted = NOTHING
    for unit, documents in past.rows_by_name(start, end).items():
        for block in _blocks(list(documents.items())):
            broken = world.lots.strikes("partial")
            taken = block[: world.lots.between(0, len(block))] if broken else block
            put(world.target[unit], dict(taken))
            counted = _counted(counted, taken)
            if broken:
                yield break_off(world, effect)
                return
            yield None
    sums = (counted.documents, counted.erased, counted.bytes)
    drained = effect.cutover and end == now
    yield success(effect, Followed(token_at(end), f"{end}.0", now - end, *sums, (), drained))


# --- of a chain ---


def links_of(world: World) -> tuple[ChainLink, ...]:
    past = _past(world)
    return tuple(
        ChainLink(
            number=number,
            digest=f"{number:02d}",
            parent=f"{number - 1:02d}",
            since=f"{number - 1}.0",
            until=f"{number}.0",
            shards=len(shards_of(past, number, world.per_chunk)),
            documents=0,
            erased=0,
            bytes=0,
        )
        for number in range(1, past.now + 1)
    )


def lay_out_links(world: World) -> None:
    """The files of the increments."""
    past = _past(world)
    for number in range(1, past.now + 1):
        rows = past.rows_by_name(number - 1, number)
        for shard in shards_of(past, number, world.per_chunk):
            unit = UnitId(shard.namespace)
            world.files[shard.file.name] = cut(rows[unit], shard.lower, shard.upper)


def shards_of(past: Past, number: int, rows_each: int) -> tuple[FoundShard, ...]:
    """Of a link: as many rows in each; none of a collection in which nothing changed."""
    shards = []
    for unit, rows in past.rows_by_name(number - 1, number).items():
        edges = [None, *(Key(str(key)) for key in list(rows)[rows_each::rows_each]), None]
        for index, (lower, upper) in enumerate(pairwise(edges) if rows else ()):
            name = f"increments/{number:04d}/{unit}/{index}"
            file = _file(name, cut(rows, lower, upper))
            shards.append(FoundShard(unit, unit, "collection", lower, upper, file))
    return tuple(shards)


def _file(name: str, rows: Documents) -> ChunkFile:
    erased = sum(text == GONE for text in rows.values())
    sizes = (len(rows) - erased, 2 * DOCUMENT * len(rows), DOCUMENT * len(rows))
    return ChunkFile(name, *sizes, "00", place="dump", erased=erased)


def _shape(world: World, effect: Effect) -> Iterator[News | None]:
    """One change after another, wherever an earlier attempt left off."""
    assert effect.link
    note_all(world, effect)
    past, number, mark = _past(world), effect.link.number, world.mark
    if mark.link == number - 1 and not mark.open:
        names = mark.names if mark.link else dict(past.moments[0].names)
        mark = world.mark = Mark(number, open=True, names=names)
    assert mark.link == number, "I32: the target is at another link"
    while shape_once(world.target, mark.names, past.moments[number]):
        if world.lots.strikes("partial"):
            yield break_off(world, effect)
            return
        yield None
    yield success(effect, Shaped(shards_of(past, number, world.per_chunk)))


def _apply(world: World, effect: Effect) -> Iterator[News]:
    shard = effect.shard
    assert shard
    if shard.file.name not in world.files or shard.file.name in world.damaged:
        yield FileDamaged(effect.task, effect.attempt, effect.epoch, "simulated")
        return
    rows, so_far = list(world.files[shard.file.name].items()), _so_far(shard.done)
    at = so_far.position // DOCUMENT
    assert so_far.last_key == (Key(str(rows[at - 1][0])) if at else None), "I31: where it goes on"
    for block in _blocks(rows[at:]):
        broken = world.lots.strikes("partial")
        taken = block[: world.lots.between(0, len(block))] if broken else block
        note_rows(world, effect, [key for key, _ in block])
        put(world.target[UnitId(shard.target)], dict(taken))
        if broken:
            yield break_off(world, effect)
            return
        so_far = _counted(so_far, block)
        if so_far.position < shard.file.file_bytes:
            yield Progressed(effect.task, effect.attempt, effect.epoch, so_far)
    yield success(effect, so_far)


def _settle(world: World, effect: Effect) -> Iterator[News]:
    if effect.task.entity != THE_JOB:
        assert effect.link and world.mark.link == effect.link.number, "I32"
        assert effect.last == (effect.link.number == _past(world).now), "the last touch"
        world.mark.open = False
    yield success(effect, Settled())


def _past(world: World) -> Past:
    assert world.past is not None
    return world.past


def _blocks(rows: Rows) -> Iterator[Rows]:
    return (rows[at : at + BLOCK] for at in range(0, len(rows), BLOCK))


def _so_far(done: Applied) -> Applying:
    return Applying(done.position, done.last_key, done.documents, done.erased, done.bytes)


def _counted(so_far: Applying, block: Rows) -> Applying:
    erased = sum(text == GONE for _, text in block)
    return Applying(
        so_far.position + DOCUMENT * len(block),
        Key(str(block[-1][0])) if block else so_far.last_key,
        so_far.documents + len(block) - erased,
        so_far.erased + erased,
        so_far.bytes + 2 * DOCUMENT * len(block),
    )


LINK_HANDS: dict[TaskKind, Callable[[World, Effect], Iterator[News | None]]] = {
    TaskKind.CAPTURE: _capture,
    TaskKind.FOLLOW: _follow,
    TaskKind.SHAPE: _shape,
    TaskKind.APPLY: _apply,
    TaskKind.SETTLE: _settle,
}
