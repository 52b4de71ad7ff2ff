"""The hands: each effect carried out step by step in the small world, with faults by lot."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat
from typing import TypeVar

from statemachine.effects import Effect
from statemachine.events import Difference, MetadataDifference
from statemachine.state import ChunkFile
from statemachine.stimuli import (
    Built,
    Censused,
    Copied,
    Created,
    Dumped,
    Failed,
    FileDamaged,
    Finished,
    FoundDamage,
    FoundFile,
    Manifested,
    Planned,
    PlannedFiles,
    Progressed,
    Rejection,
    Released,
    Restored,
    Split,
    Succeeded,
    Surveyed,
    Unfiled,
    Verified,
)
from statemachine.words import Cause, Key, Place, TaskKind
from tests.simulation.link_hands import LINK_HANDS, is_gone, is_over, links_of, stops, time_of
from tests.simulation.news import (
    BLOCK,
    DOCUMENT,
    REPAIRED,
    News,
    break_off,
    failure,
    found,
    success,
)
from tests.simulation.past import GONE
from tests.simulation.undo_hands import UNDO_HANDS, found_there, note_block, note_made, replaced
from tests.simulation.world import Crash, World, cut


def carry_out(world: World, effect: Effect) -> Iterator[News | None]:
    """One item per step: a piece of news, or `None`; the last news is the outcome.

    Abandoning the iterator is the death of the process in the middle; `Crash` is the same by
    the effect's own doing.
    """
    lots = world.lots
    if lots.strikes("slow"):
        yield from repeat(None, lots.between(5, 30))
    if lots.strikes("hung"):
        yield from repeat(None)
    refusal = _refusal(world, effect)
    if refusal is not None:
        yield refusal
        return
    for news in _while_wanted(world, effect, HANDS[effect.task.kind](_seen(world, effect), effect)):
        if isinstance(news, Succeeded) and lots.strikes("lost_answer"):
            if lots.between(0, 1):
                yield from repeat(None)
            yield failure(world, effect, Cause.TRANSIENT)
            return
        yield news


def _while_wanted(
    world: World, effect: Effect, work: Iterator[News | None]
) -> Iterator[News | None]:
    """It looks around before each step."""
    while not stops(world, effect) and not replaced(world, effect):
        try:
            news = next(work)
        except StopIteration:
            return
        yield news


def _seen(world: World, effect: Effect) -> World:
    """What is there, for whoever reads the source as of a cluster time."""
    if world.past is None or not effect.cluster_time:
        return world
    return replace(world, source=world.past.rows_by_name(0, time_of(effect.cluster_time)))


def _refusal(world: World, effect: Effect) -> Failed | None:
    if is_over(world, effect):
        return failure(world, effect, Cause.PERMANENT, "ESNAP001")
    if is_gone(world, effect) and world.lots.between(0, 1):  # it may not notice
        return failure(world, effect, Cause.PERMANENT, "EGONE001")
    for cause in (Cause.TRANSIENT, Cause.UNAVAILABLE, Cause.PERMANENT, Cause.FATAL):
        if world.lots.strikes(cause):
            return failure(world, effect, cause)
    return None


# --- task by task ---


def _survey(world: World, effect: Effect) -> Iterator[News]:
    wanted = (unit for unit in world.source if unit not in world.hidden or unit in effect.include)
    units = tuple(found(world, unit) for unit in wanted)
    links = links_of(world) if world.from_dump and world.past is not None else ()
    if links and world.lots.strikes("unreadable"):
        links = links[:-1]
    yield success(effect, Surveyed(units, since="0.0", links=links))


def _create(world: World, effect: Effect) -> Iterator[News]:
    assert effect.unit
    found = found_there(world, effect)
    if world.lots.strikes("partial"):
        yield break_off(world, effect)
        return
    world.target.setdefault(effect.unit.id, {})
    yield success(effect, Created((), found=found))


def _plan(world: World, effect: Effect) -> Iterator[News]:
    assert effect.unit
    if world.from_dump:
        yield from _find(world, effect)
        return
    if effect.cluster_time and not world.source[effect.unit.id]:
        yield success(effect, PlannedFiles(()))
        return
    uppers = [upper for _, upper in world.ranges(effect.unit.id)]
    keys = tuple(Key(upper) for upper in uppers if upper is not None)
    documents = len(world.source[effect.unit.id])
    yield success(effect, Planned(keys, documents, natural=False))


def _find(world: World, effect: Effect) -> Iterator[News]:
    """The whole of a unit's file is looked at, and unpacked where it cannot be read in place."""
    assert effect.unit
    unit = effect.unit.id
    places = world.unreadable.get(unit, 0)
    if places and not world.salvage:
        yield failure(world, effect, Cause.PERMANENT, "EDUMP")
        return
    files = []
    for number, (lower, upper) in enumerate(world.ranges(unit) if world.source[unit] else ()):
        documents = world.range(unit, lower, upper)
        name = f"{unit}/{number}"
        if unit in world.unpacked:
            name = f"{name}-{effect.attempt}"
            world.files[name] = documents
            if world.lots.strikes("partial"):
                yield break_off(world, effect)
                return
        count = len(documents)
        place: Place = "work" if unit in world.unpacked else "dump"
        file = ChunkFile(name, count, 2 * DOCUMENT * count, DOCUMENT * count, "00", 0, place)
        files.append(FoundFile(file, lower and Key(lower), upper and Key(upper)))
    damage = [FoundDamage(f"{unit}", at, 1, "EDUMP", "simulated") for at in range(places)]
    yield success(effect, PlannedFiles(tuple(files), tuple(damage)))


def _census(_world: World, effect: Effect) -> Iterator[News]:
    yield success(effect, Censused("[]", 1))


def _dump(world: World, effect: Effect) -> Iterator[News]:
    assert effect.chunk
    chunk, lots = effect.chunk, world.lots
    if world.full:
        yield failure(world, effect, Cause.FATAL, "EDISK")
        return
    if lots.strikes("partial"):  # the temporary file stays behind; nobody looks at it
        yield break_off(world, effect)
        return
    every = world.range(chunk.unit, chunk.lower, chunk.upper)
    refused = world.refused.get(chunk.unit, set()) if world.exports else set()
    documents = {key: text for key, text in every.items() if key not in refused}
    bad = tuple(Rejection(Key(str(key)), "EBAD", "simulated") for key in every if key in refused)
    name = f"{chunk.id}-{effect.attempt}"
    assert name not in world.files, "I15: written twice"
    world.files[name] = documents
    if lots.strikes("damage"):
        world.damaged.add(name)
    count = len(documents)
    erased = sum(text == GONE for text in documents.values())
    sizes = (count - erased, 2 * DOCUMENT * count, DOCUMENT * count, 1)
    yield success(effect, Dumped(name, *sizes, "00", erased, len(bad), bad))


def _restore(world: World, effect: Effect) -> Iterator[News]:
    assert effect.chunk and effect.chunk.file
    chunk, name = effect.chunk, effect.chunk.file.name
    if damage := _damage(world, effect):
        world.condemned.add((chunk.id, effect.attempt))
        yield damage
        return
    documents = list(world.files[name].items())
    if spoilt := _spoilt(world, effect, documents):
        yield spoilt
        return
    target, refused = world.target[chunk.unit], world.refused.get(chunk.unit, set())
    done = chunk.done
    at = done.position // DOCUMENT
    so_far = Restored(done.position, done.documents, done.bytes, done.present, done.rejected)
    while at < len(documents):
        block = documents[at : at + BLOCK]
        broken = world.lots.strikes("partial")
        taken = block[: world.lots.between(0, len(block))] if broken else block
        note_block(world, effect, block)
        so_far = _write(taken, target, refused, so_far, DOCUMENT)
        if broken:
            yield break_off(world, effect)
            return
        at += len(block)
        if at < len(documents):
            yield Progressed(effect.task, effect.attempt, effect.epoch, so_far)
            so_far = replace(so_far, rejections=(), repaired=0)
    yield success(effect, replace(so_far, position=DOCUMENT * len(documents)))


def _damage(world: World, effect: Effect) -> FileDamaged | None:
    assert effect.chunk and effect.chunk.file
    name = effect.chunk.file.name
    if name in world.files and name not in world.damaged:
        return None
    return FileDamaged(effect.task, effect.attempt, effect.epoch, "simulated")


def _copy(world: World, effect: Effect) -> Iterator[News]:
    assert effect.chunk
    chunk, done = effect.chunk, effect.chunk.done
    documents = list(world.range(chunk.unit, chunk.lower, chunk.upper).items())
    if spoilt := _spoilt(world, effect, documents):
        yield spoilt
        return
    target, refused = world.target[chunk.unit], world.refused.get(chunk.unit, set())
    so_far = Copied(
        done.position, done.last_key, done.documents, done.bytes, done.present, done.rejected
    )
    at = done.position
    while at < len(documents):
        block = documents[at : at + BLOCK]
        broken = world.lots.strikes("partial")
        taken = block[: world.lots.between(0, len(block))] if broken else block
        note_block(world, effect, block)
        so_far = _write(taken, target, refused, so_far, 1)
        if broken:
            yield break_off(world, effect)
            return
        at += len(block)
        so_far = replace(so_far, last_key=Key(str(block[-1][0])))
        if at < len(documents):
            yield Progressed(effect.task, effect.attempt, effect.epoch, so_far)
            so_far = replace(so_far, rejections=(), repaired=0)
    yield success(effect, so_far)


def _spoilt(world: World, effect: Effect, documents: list[tuple[int, str]]) -> Failed | None:
    """What a document does that nobody can carry."""
    assert effect.unit
    poison = world.poison.get(effect.unit.id, {})
    found = [poison[key] for key, _ in documents if key in poison]
    if any(found):
        raise Crash
    return failure(world, effect, Cause.PERMANENT, "EPOISON") if found else None


def _split(world: World, effect: Effect) -> Iterator[News]:
    assert effect.chunk
    chunk = effect.chunk
    keys = sorted(world.range(chunk.unit, chunk.lower, chunk.upper))
    if len(keys) < 2:
        yield success(effect, Split((), (len(keys),)))
        return
    half = len(keys) // 2
    yield success(effect, Split((Key(str(keys[half])),), (half, len(keys) - half)))


Carried = TypeVar("Carried", Restored, Copied)


def _write(
    block: list[tuple[int, str]],
    target: dict[int, str],
    refused: set[int],
    so_far: Carried,
    width: int,
) -> Carried:
    """One block onto the target, and the count of it."""
    good = {key: text for key, text in block if key not in refused}
    for key, text in good.items():
        assert target.get(key, text) == text, "another document under the same key"
    present = sum(key in target for key in good)
    target.update(good)
    bad = tuple(Rejection(Key(str(key)), "EBAD", "simulated") for key, _ in block if key in refused)
    return replace(
        so_far,
        position=so_far.position + width * len(block),
        documents=so_far.documents + len(good),
        bytes=so_far.bytes + 2 * DOCUMENT * len(good),
        present=so_far.present + present,
        rejected=so_far.rejected + len(bad),
        rejections=so_far.rejections + bad,
        repaired=so_far.repaired + sum(key % REPAIRED == 0 for key in good),
    )


def _index(world: World, effect: Effect) -> Iterator[News]:
    assert effect.unit
    name = effect.task.entity.rpartition("@")[2].replace("%40", "@").replace("%25", "%")
    if (effect.unit.id, name) in world.bad_indexes:
        yield failure(world, effect, Cause.PERMANENT, "EINDEX")
    else:
        note_made(world, effect, (effect.unit.id, name) in world.built)
        world.built.add((effect.unit.id, name))
        yield success(effect, Built())


def _verify(world: World, effect: Effect) -> Iterator[News]:
    assert effect.chunk
    chunk = effect.chunk
    if world.from_dump and (damage := _damage(world, effect)):
        yield damage
        return
    left = world.range(chunk.unit, chunk.lower, chunk.upper)
    right = cut(world.target.get(chunk.unit, {}), chunk.lower, chunk.upper)
    wrong = [key for key in sorted(left | right) if left.get(key) != right.get(key)]
    refused = [key for key in wrong if key in world.refused.get(chunk.unit, ())]
    differing = tuple(Difference(key=Key(str(key)), what="different") for key in wrong)
    counts = (wrong == refused, len(left), len(right))
    yield success(effect, Verified(*counts, "", "", len(refused), differing))


def _finish(world: World, effect: Effect) -> Iterator[News]:
    """Expiry is switched on; what is missing is told, if that was asked for."""
    assert effect.unit
    unit = effect.unit.id
    if unit in world.expiring:
        note_made(world, effect, unit in world.switched)
        world.switched.add(unit)
    missing = [name for name in world.indexes.get(unit, ()) if (unit, name) not in world.built]
    if not world.compared:
        missing = []
    world.looked[unit, effect.attempt] = len(missing)
    told = [MetadataDifference(what=f"index {name}", source="{}", target="") for name in missing]
    yield success(effect, Finished(tuple(told)))


def _manifest(world: World, effect: Effect) -> Iterator[News]:
    if world.full:
        yield failure(world, effect, Cause.FATAL, "EDISK")
        return
    if world.lots.strikes("partial"):
        yield break_off(world, effect)
        return
    if world.lots.strikes("unwritten"):
        causes = (Cause.TRANSIENT, Cause.UNAVAILABLE, Cause.PERMANENT)
        yield failure(world, effect, causes[world.lots.between(0, 2)])
        return
    units = {unit.id for unit in effect.units}
    assert all(chunk.unit in units for chunk in effect.filed), "a file of a unit that was left"
    named = {chunk.id: chunk.file.name for chunk in effect.filed if chunk.file}
    lost = [c for c, name in named.items() if name not in world.files or name in world.damaged]
    if lost:
        yield success(effect, Unfiled(tuple((chunk, "simulated") for chunk in lost)))
        return
    world.manifests[effect.attempt] = {**named, **dict.fromkeys(units, "")}
    count = sum(chunk.file.documents for chunk in effect.filed if chunk.file)
    yield success(effect, Manifested("00", count, 2 * DOCUMENT * count))


def _release(world: World, effect: Effect) -> Iterator[News]:
    world.files.pop(effect.file, None)
    yield success(effect, Released())


HANDS: dict[TaskKind, Callable[[World, Effect], Iterator[News | None]]] = {
    TaskKind.SURVEY: _survey,
    TaskKind.CREATE: _create,
    TaskKind.CENSUS: _census,
    TaskKind.PLAN: _plan,
    TaskKind.DUMP: _dump,
    TaskKind.RESTORE: _restore,
    TaskKind.COPY: _copy,
    TaskKind.SPLIT: _split,
    TaskKind.INDEX: _index,
    TaskKind.VERIFY: _verify,
    TaskKind.FINISH: _finish,
    TaskKind.MANIFEST: _manifest,
    TaskKind.RELEASE: _release,
    **LINK_HANDS,
    **UNDO_HANDS,
}
