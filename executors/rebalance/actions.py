"""Who moves a range: the performers of the four operations of `model`.

Each may be killed anywhere and run again. Nothing is deleted but what the log of the copy names,
and only where it is still that very document.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import bson

from executors.boundaries import to_key
from executors.fingerprint import differences, digest_of, fingerprint
from executors.folder import folder_name
from executors.operation.actions import ACTIONS, Action, Endpoints, Performer
from executors.protocol import StopToken
from executors.rawbson import (
    documents,
    equal_but_for_empty_timestamps,
    has_empty_timestamp,
    id_of,
)
from executors.rebalance import placement
from executors.rebalance.copied import FILE, Copied, copied_at, note
from executors.rebalance.errors import OthersThere, PlacedElsewhere, WrittenMeanwhile
from executors.rebalance.model import COMPENSATIONS, COPY, DELETE, SWITCH, VERIFY, Move
from executors.rebalance.place import AT_ONCE, Place
from executors.rejected import shown
from executors.sides import each_of
from executors.undo.log import UndoLog, rows
from executors.undo.recording import comparable
from statemachine.stimuli import Operated, Undone

ERASING: Final = "erasing.bson"
"""What `delete_range` is about to delete, lot by lot: {k: "erasing", ids}."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a move, about to be applied or undone."""

    move: Move
    old: Place
    new: Place
    file: Path
    """The placement file."""
    folder: Path
    """Of the operation alone."""
    stop: StopToken

    @property
    def copied(self) -> Copied:
        return copied_at(self.folder.with_name(folder_name(COPY)), self.stop)


@dataclass(frozen=True, slots=True)
class Performing:
    """A performer: see `executors.operation.actions.Performer`."""

    apply: Callable[[Step], Operated]
    take_back: Callable[[Step], Undone]

    def run(self, endpoints: Endpoints, action: Action, stop: StopToken, folder: Path) -> Operated:
        return self.apply(_step(endpoints, action, stop, folder))

    def undo(
        self, endpoints: Endpoints, action: Action, forward: Action, stop: StopToken, folder: Path
    ) -> Undone:
        assert action["do"] == COMPENSATIONS[forward["do"]]
        return self.take_back(_step(endpoints, forward, stop, folder))


def _step(endpoints: Endpoints, action: Action, stop: StopToken, folder: Path) -> Step:
    move = Move.of(action)
    old = Place(endpoints[move.source], move.source, move, stop)
    new = Place(endpoints[move.target], move.target, move, stop)
    return Step(move, old, new, Path(action["file"]), folder, stop)


# --- copy_range ---


def copy_range(step: Step) -> Operated:
    """The documents of the range to the new place, exact to the byte. Raises `PlacedElsewhere`,
    `OthersThere`, `WrittenMeanwhile`."""
    found = placement.read(step.file)
    owners = placement.owners(found, step.move.lower, step.move.upper)
    if owners != [step.move.source]:
        raise PlacedElsewhere(step.move.what, str(step.file), ", ".join(owners))
    copied = step.copied
    present = 0
    with UndoLog(step.folder / FILE) as log:
        for lot in step.old.lots():
            missing, there = _sorted(lot, step.new, copied)
            note(log, copied, missing, new=True)
            note(log, copied, there, new=False)
            log.sync()
            step.new.insert(missing, step.folder)
            present += len(there)
    told = f"{len(copied.sums)} documents are on {step.new.name}, {present} of them were before"
    return Operated((told,))


def _sorted(lot: list[bytes], new: Place, copied: Copied) -> tuple[list[bytes], list[bytes]]:
    """What is missing at the new place, and what is there to the byte."""
    found = new.find([id_of(each) for each in lot])
    missing: list[bytes] = []
    there: list[bytes] = []
    for document in lot:
        key = id_of(document)
        lies = found.get(key)
        if lies == document:
            there.append(document)
        elif lies is None or (key in copied.ours and _is_stamped(document, lies)):
            missing.append(document)
        elif key in copied.ours and copied.sums[key] == digest_of(lies):
            raise WrittenMeanwhile(new.move.what, f"_id {_named(key)} has changed")
        else:
            why = f"another document lies under _id {_named(key)}"
            raise OthersThere(new.move.what, new.name, why)
    return missing, there


def delete_copied(step: Step) -> Undone:
    """What is no longer the document that was copied stays, unless the old place has it."""
    copied, new = step.copied, step.new
    gone, kept = 0, list[bytes]()
    for keys in _lots(copied.ours):
        at_home = step.old.find(keys)

        def ours(key: bytes, document: bytes, at_home: dict[bytes, bytes] = at_home) -> bool:
            home = at_home.get(key)
            same = home is not None and (document == home or _is_stamped(home, document))
            return same or digest_of(document) == copied.sums.get(key)

        erased, stayed = new.erase(keys, ours)
        gone, kept = gone + erased, kept + stayed
    told = f"{gone} documents deleted on {new.name}"
    return Undone(gone, len(kept), (told, *_kept(kept, new.name)))


# --- verify_range ---


def verify_range(step: Step) -> Operated:
    """Both places hold the same documents. Raises `OthersThere`, `WrittenMeanwhile`."""
    old, new = step.old, step.new
    here, there = fingerprint(old.blocks()), fingerprint(new.blocks())
    if here == there:
        return Operated((f"{here.documents} documents equal, digest {here.digest}",))
    copied = step.copied
    for key, what in differences(lambda: each_of(old), lambda: each_of(new)):
        if what == "extra" and key not in copied.sums:
            why = f"_id {_named(key)}, which {old.name} does not have"
            raise OthersThere(step.move.what, new.name, why)
        raise WrittenMeanwhile(step.move.what, f"_id {_named(key)} is {what} on {new.name}")
    raise WrittenMeanwhile(step.move.what, "it differed, and a moment later it did not")


def nothing(_: Step) -> Undone:
    return Undone(changes=("nothing to undo: it changed nothing",))


# --- switch_placement ---


def switch_placement(step: Step) -> Operated:
    """The placement file names the new owner. Raises `BadPlacement`, `PlacedElsewhere`."""
    move = step.move
    owners = _switched(step.file, move, move.source, move.target)
    if owners not in ([move.source], [move.target]):
        raise PlacedElsewhere(move.what, str(step.file), ", ".join(owners))
    return Operated((f"{move.what} lies on {move.target}",))


def switch_back(step: Step) -> Undone:
    """The old owner again, where the file still says ours."""
    move = step.move
    owners = _switched(step.file, move, move.target, move.source)
    if owners not in ([move.source], [move.target]):
        told = f"kept: {move.what} lies on {', '.join(owners)} by somebody else's word"
        return Undone(kept=1, changes=(told,))
    return Undone(changes=(f"{move.what} lies on {move.source}",))


def _switched(path: Path, move: Move, was: str, to: str) -> list[str]:
    """Write that the range lies there, if all of it lay where it was; who held it."""
    with placement.alone(path):
        found = placement.read(path)
        owners = placement.owners(found, move.lower, move.upper)
        if owners == [was]:
            placement.write(path, placement.moved(found, move.lower, move.upper, to))
    return owners


# --- delete_range ---


def delete_range(step: Step) -> Operated:
    """What was copied goes at the old place: all of it, or nothing where the range was written
    meanwhile. Raises `WrittenMeanwhile`: before anything is deleted, or for what came after."""
    old, copied = step.old, step.copied
    _must_be_as_copied(old, copied, set(_erasing(step.folder)))
    gone = 0
    with UndoLog(step.folder / ERASING) as log:
        for keys in _lots(copied.sums):
            log.add(bson.encode({"k": "erasing", "ids": b"".join(keys)}))
            log.sync()
            erased, _ = old.erase(keys, lambda key, it: digest_of(it) == copied.sums.get(key))
            gone += erased
    if (left := next(old.each_key(), None)) is not None:
        raise WrittenMeanwhile(step.move.what, f"_id {_named(left)} has changed or come")
    return Operated((f"{gone} documents deleted on {old.name}",))


def _must_be_as_copied(old: Place, copied: Copied, begun: set[bytes]) -> None:
    """`begun`: what an earlier attempt may have deleted."""
    seen = 0
    for block in old.blocks():
        for document in documents(block.data):
            key = id_of(document)
            if copied.sums.get(key) != digest_of(document):
                raise WrittenMeanwhile(old.move.what, f"_id {_named(key)} has changed or come")
            seen += key not in begun
    if gone := len(copied.sums) - len(begun) - seen:
        raise WrittenMeanwhile(old.move.what, f"{gone} documents are gone")


def copy_back(step: Step) -> Undone:
    """What the new place has by now of what was deleted comes back; what is gone there too, is
    gone."""
    old, copied = step.old, step.copied
    back, kept = 0, list[bytes]()
    for keys in _lots(dict.fromkeys(_erasing(step.folder))):
        here, there = old.find(keys), step.new.find(keys)
        taken = set(map(comparable, here))  # an equal number of another type holds the place, too
        missing = [key for key in keys if comparable(key) not in taken]
        lot = [there[key] for key in missing if key in there]
        old.insert(lot, step.folder)
        back += len(lot)
        kept += [key for key in missing if key not in there]
        kept += [key for key in here if digest_of(here[key]) != copied.sums.get(key)]
    told = f"{back} documents brought back to {old.name}"
    return Undone(back, len(kept), (told, *_kept(kept, old.name)))


def _erasing(folder: Path) -> Iterator[bytes]:
    for row in rows(folder / ERASING):
        yield from documents(bytes(row["ids"]))


# --- words and lots ---


def _lots(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    every = iter(keys)
    while lot := list(islice(every, AT_ONCE)):
        yield lot


def _is_stamped(document: bytes, lies: bytes) -> bool:
    """What lies there is the document with empty timestamps that the server has filled in."""
    return has_empty_timestamp(document) and equal_but_for_empty_timestamps(document, lies)


def _named(key: bytes) -> str:
    return shown(to_key(key))


def _kept(keys: Sequence[bytes], where: str) -> tuple[str, ...]:
    if not keys:
        return ()
    return (f"kept on {where}: {len(keys)} that others changed, the first is {_named(keys[0])}",)


PERFORMERS: Final[dict[str, Performer]] = {
    COPY: Performing(copy_range, delete_copied),
    VERIFY: Performing(verify_range, nothing),
    SWITCH: Performing(switch_placement, switch_back),
    DELETE: Performing(delete_range, copy_back),
}
for _forward, _performer in PERFORMERS.items():
    ACTIONS[_forward] = ACTIONS[COMPENSATIONS[_forward]] = _performer
