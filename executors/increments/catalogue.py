"""What a link of a chain makes of the collections of the one before it, without any server."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from executors.boundaries import to_text
from executors.compare import GOES_WITHOUT_SAYING, fits, is_index, wanted_index
from executors.compare import wanted_options as options_of
from executors.dumps.model import Dumped
from executors.expiry import AFTER, expires
from executors.increments.model import Chain
from executors.increments.position import PLACE
from executors.select import USERS, RefusedName, carried, split, targets_of
from executors.survey import ID_INDEX
from statemachine.errors import OperatorError
from statemachine.events import IndexSpec, JobSpec
from statemachine.state import ChunkFile, Unit
from statemachine.stimuli import FoundShard
from statemachine.words import UnitId

NONE_OF: Final[dict[str, Any]] = {
    "validator": {},
    **GOES_WITHOUT_SAYING,
    "changeStreamPreAndPostImages": {"enabled": False},
}
"""Options of a collection that can be changed, each with what stands for having none."""
ADJUSTABLE: Final = ("hidden", AFTER)
"""Fields of an index that can be changed."""
MAX_TOLD: Final = 1_000
"""Changes of one link in words: they stand in one event."""


class CameByRename(OperatorError):
    """A collection whose documents this restore left out is wanted all at once."""

    code = "ESHAPE001"

    def __init__(self, namespace: str, number: int) -> None:
        super().__init__(
            f"{namespace} got that name in link {number} of the chain: under its old one it was "
            "not selected, and the link holds only what changed of it",
            remedy="select it under both names, or leave it out with --ns-exclude",
        )


class CannotAlter(OperatorError):
    """An option changed that servers do not let anyone change."""

    code = "ESHAPE002"

    def __init__(self, namespace: str, number: int, what: str) -> None:
        super().__init__(
            f"option {what} of {namespace} changed in link {number} of the chain: it cannot be "
            "changed on the target",
            remedy=f"leave it out with --ns-exclude {namespace!r}, or stop before with "
            f"--to-increment {number - 1}",
        )


class CannotMove(OperatorError):
    """A rename within a database would be one between two on the target."""

    code = "ESHAPE003"

    def __init__(self, one: str, other: str, number: int) -> None:
        super().__init__(
            f"{one} becomes {other} in link {number} of the chain: a collection is not moved to "
            "another database of the target",
            remedy="rename whole databases with --ns-from and --ns-to",
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One namespace of a link that the job carries."""

    dumped: Dumped
    target: str

    @property
    def identity(self) -> str:
        """What stays the same when it is renamed; of a view, which never is, its name."""
        return self.dumped.uuid or self.dumped.namespace

    @property
    def is_view(self) -> bool:
        return self.dumped.type == "view"

    @property
    def options(self) -> dict[str, Any]:
        return options_of(self.unit())

    @property
    def indexes(self) -> dict[str, IndexSpec]:
        """By name; without the one that comes and goes with the collection."""
        return {each.name: each for each in self.dumped.indexes if each.name != ID_INDEX}

    def unit(self, target_uuid: str = "") -> Unit:
        """As those that make collections know it."""
        each = self.dumped
        return Unit(
            id=UnitId(each.namespace),
            target=self.target,
            type=each.type,
            uuid=each.uuid,
            options=to_text(each.options),
            indexes=each.indexes,
            documents_estimate=each.documents,
            bytes_estimate=each.bytes,
            expires=expires(each.options, each.indexes),
            target_uuid=target_uuid,
        )


Pair = tuple[Entry, Entry]
"""One collection at the link before, and at the link."""


@dataclass(frozen=True, slots=True)
class Step:
    """From one link to the next. What is held whole goes and is made again."""

    before: tuple[Entry, ...]
    after: tuple[Entry, ...]
    gone: tuple[Entry, ...]
    kept: tuple[Pair, ...]
    made: tuple[Entry, ...]


def entries_of(catalogue: Iterable[Dumped], spec: JobSpec) -> tuple[Entry, ...]:
    """What the job carries of these, in order. Users and roles are no part of an increment.

    Raises `OperatorError` for names.
    """
    found = [
        each for each in catalogue if each.namespace not in USERS and carried(each.namespace, spec)
    ]
    targets = targets_of([each.namespace for each in found], spec)
    for source, target in targets.items():
        if target == PLACE:
            raise RefusedName(source, target, "that is where increments are marked as applied")
    return tuple(Entry(each, targets[each.namespace]) for each in found)


def before_link(chain: Chain, number: int) -> tuple[Dumped, ...]:
    """The whole catalogue at the end of the link before it."""
    earlier = chain.increments[number - 2].dump if number > 1 else chain.base
    return earlier.namespaces


def step_to(chain: Chain, number: int, spec: JobSpec) -> Step:
    """What link `number` does.

    Raises `CameByRename`, `CannotAlter`, `CannotMove`, `OperatorError` for names: before anything
    was written, if it is asked then.
    """
    after = entries_of(chain.increments[number - 1].dump.namespaces, spec)
    before = entries_of(before_link(chain, number), spec)
    known = {each.identity: each for each in before}
    kept = tuple(_kept(known, after))
    for pair in kept:
        _refuse(pair, number)
    stay = {each.identity for _, each in kept}
    made = tuple(each for each in after if each.identity not in stay)
    for each in made:
        if not each.is_view and not each.dumped.whole:
            raise CameByRename(each.dumped.namespace, number)
    gone = tuple(each for each in before if each.identity not in stay)
    return Step(before, after, gone, kept, made)


def _kept(known: dict[str, Entry], after: tuple[Entry, ...]) -> Iterator[Pair]:
    for each in after:
        earlier = known.get(each.identity)
        if earlier is None or each.dumped.whole:
            continue
        if not each.is_view or each.dumped.options == earlier.dumped.options:
            yield earlier, each


def _refuse(pair: Pair, number: int) -> None:
    earlier, each = pair
    if split(earlier.target)[0] != split(each.target)[0]:
        raise CannotMove(earlier.target, each.target, number)
    for name in altered(pair):
        if name not in (*NONE_OF, AFTER):
            raise CannotAlter(each.dumped.namespace, number, name)


def altered(pair: Pair) -> dict[str, Any]:
    """The options of a collection that changed, with what they are now; `None`: there is none."""
    if pair[0].dumped.options == pair[1].dumped.options:
        return {}
    one, other = ({**GOES_WITHOUT_SAYING, **each.options} for each in pair)
    return {
        name: other.get(name)
        for name in sorted(one.keys() | other.keys())
        if not fits(name, one.get(name), other.get(name))
        and not fits(name, other.get(name), one.get(name))
    }


def reindexed(pair: Pair, spec: JobSpec) -> dict[str, IndexSpec | None]:
    """The indexes that changed, by name, with what they are now; `None`: it is gone."""
    if pair[0].dumped.indexes == pair[1].dumped.indexes:
        return {}
    one, other = (each.indexes for each in pair)
    return {
        name: other.get(name)
        for name in sorted(one.keys() | other.keys())
        if name not in one
        or name not in other
        or not is_index(_index(other[name], spec), _index(one[name], spec))
    }


def _index(index: IndexSpec, spec: JobSpec) -> dict[str, Any]:
    return wanted_index(index, legacy=spec.legacy_indexes)


def adjustable(asked: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether the one index can become the other as it stands."""
    one, other = (
        {name: value for name, value in each.items() if name not in ADJUSTABLE}
        for each in (asked, there)
    )
    return is_index(one, other) and (AFTER in asked) == (AFTER in there)


def fits_as_is(pair: Pair, name: str, spec: JobSpec) -> bool:
    """Whether an index that changed was, and is, the same but for what is adjustable."""
    one, other = (each.indexes.get(name) for each in pair)
    return (
        one is not None and other is not None and adjustable(_index(other, spec), _index(one, spec))
    )


# --- in words ---


def told(step: Step, spec: JobSpec) -> tuple[str, ...]:
    """What the step does, for people; of so many changes the first."""
    changes = [*_collections(step), *_descriptions(step, spec)]
    more = len(changes) - MAX_TOLD
    return tuple(changes) if more <= 0 else (*changes[:MAX_TOLD], f"and {more} more")


def _collections(step: Step) -> Iterator[str]:
    gone = {each.identity: each for each in step.gone}
    made = {each.identity: each for each in step.made}
    yield from (f"dropped {each.target}" for key, each in gone.items() if key not in made)
    again = [(gone[key], each) for key, each in made.items() if key in gone]
    for one, other in (*step.kept, *again):
        if one.target != other.target:
            yield f"renamed {one.target} to {other.target}"
    yield from (f"changed {other.target}" for one, other in again if other.is_view)
    yield from (f"created {each.target}" for key, each in made.items() if key not in gone)


def _descriptions(step: Step, spec: JobSpec) -> Iterator[str]:
    for pair in step.kept:
        target = pair[1].target
        yield from (f"changed {name} of {target}" for name in altered(pair))
        for name in reindexed(pair, spec):
            if fits_as_is(pair, name, spec):
                yield f"changed index {name} of {target}"
            elif name in pair[0].indexes:
                yield f"dropped index {name} of {target}"


def shards_of(chain: Chain, number: int, step: Step) -> Iterator[FoundShard]:
    """The chunk files of the link, in order; their names count from the chain's root."""
    folder = chain.increments[number - 1].dump.root.relative_to(chain.root)
    for each in step.after:
        for part in each.dumped.parts:
            file = ChunkFile(
                (folder / part.file).as_posix(),
                part.documents,
                part.bytes,
                part.file_bytes,
                part.sha256,
                part.at,
                "dump",
                part.erased,
            )
            yield FoundShard(
                each.dumped.namespace,
                each.target,
                each.dumped.type,
                part.lower,
                part.upper,
                file,
            )
