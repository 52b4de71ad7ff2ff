"""A chain on disk: each link checked against the one before it, before anything is done with it.

What is checked here: numbers without a gap, parents, times, the source, the set of files and
their sizes. `check_link` looks at every byte of a link.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from executors.dumps.beneath import entries
from executors.dumps.errors import DamagedDump
from executors.dumps.fileset import told
from executors.dumps.manifest import (
    MANIFEST,
    Facts,
    check_file,
    read_facts,
    read_link,
    read_manifest,
)
from executors.dumps.model import Dump, Link, Part
from executors.increments.errors import (
    AlteredLink,
    BrokenChain,
    CannotFollow,
    LinkNeeded,
    MissingLink,
    NoSuchLink,
    NoSuchTime,
    OtherParent,
    OtherSource,
    OutOfOrder,
)
from executors.increments.model import INCREMENTS, Chain, Increment, Parent, position_of
from executors.increments.times import FIND, beyond, of_day, of_no_single_time, position_at
from executors.protocol import StopToken
from statemachine.events import ChainLink


def open_chain(root: Path, upto: int | None = None) -> Chain:
    """The full dump in `root` and its increments, all of them or those up to a number.

    Raises `BrokenChain` where one of these is missing or does not follow the one before it,
    `NoSuchLink` where the chain ends before that number; and as `read_manifest`.
    """
    chain, broken = as_far_as_whole(root, upto)
    if broken is not None:
        raise broken
    return chain


def as_far_as_whole(root: Path, upto: int | None = None) -> tuple[Chain, BrokenChain | None]:
    """The links that can be applied, and what is wrong with the next one, if something is.
    Otherwise as `open_chain`."""
    base, facts = read_manifest(root), read_facts(root)
    lying = _lying(root)
    end = lying.last if upto is None else upto
    if end > lying.last:
        many = "no increment" if not lying.last else f"increments up to {lying.last}"
        raise NoSuchLink(
            f"the chain in {root} has {many}, and {end} is wanted",
            remedy="`ferrylog inspect chain` lists them",
        )
    since = base.cluster_time or facts.since
    found, broken = _increments(_Before.of(base, since, facts), lying, end)
    return Chain(root, base, base.identity, since, found, lying.notes), broken


def links_lying(root: Path) -> tuple[int, ...]:
    """Numbers of the increments that lie in `root`, whether they can be applied or not."""
    return _lying(root).numbers


def last_link(root: Path, upto: int | None = None) -> Parent:
    """What an increment of the chain follows: its last link, or the one of that number.

    Raises `CannotFollow`, and as `open_chain`.
    """
    chain = open_chain(root, upto)
    if not chain.since:
        raise CannotFollow(
            str(root),
            "the dump does not tell the cluster time it is of, so nobody knows what changed since: "
            "made by an older ferrylog, of a standalone server, or from another's dump",
        )
    last = chain.increments[-1] if chain.increments else None
    return Parent(
        number=last.number if last else 0,
        digest=last.digest if last else chain.digest,
        base=chain.digest,
        until=last.until if last else chain.since,
        token=last.token if last else "",
        uuids=_uuids(last.dump) if last else _uuids(chain.base) - _left_out(chain),
        names=_names(last.dump if last else chain.base),
    )


def _left_out(chain: Chain) -> frozenset[str]:
    """What the full dump lacks some of: the first increment holds it whole."""
    lacking = {each.file for each in read_facts(chain.root).damage}
    return frozenset(each.uuid for each in chain.base.namespaces if each.namespace in lacking)


# --- how a link follows another --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Lying:
    """What lies among the links."""

    root: Path
    numbers: tuple[int, ...]
    """Of those with a manifest."""
    notes: tuple[str, ...]

    @property
    def last(self) -> int:
        return max(self.numbers, default=0)


@dataclass(frozen=True, slots=True)
class _Before:
    """What the next link has to fit to."""

    digest: str
    base: str
    until: str
    uuids: frozenset[str]
    facts: Facts
    """Of the full dump."""

    @classmethod
    def of(cls, base: Dump, since: str, facts: Facts) -> "_Before":
        return cls(base.identity, base.identity, since, _uuids(base), facts)


def _lying(root: Path) -> _Lying:
    whole: list[int] = []
    unfinished: list[int] = []
    strangers: list[str] = []
    there = any(entry.name == INCREMENTS for entry in entries(root))
    for entry in entries(root, INCREMENTS) if there else ():
        number = int(entry.name) if entry.name.isascii() and entry.name.isdecimal() else 0
        if not number or entry.name != folder_of(number):
            strangers.append(entry.name)
        elif entry.kind != "directory" or _is_made(root, entry.name):
            whole.append(number)
        else:
            unfinished.append(number)
    last = max(whole, default=0)
    ahead = [f"{INCREMENTS}/{folder_of(number)}" for number in unfinished if number > last]
    notes = (
        *told(ahead, "being made, or left by a job that was given up; ignored"),
        *told([f"{INCREMENTS}/{name}" for name in strangers], "no link, ignored"),
    )
    return _Lying(root, tuple(sorted(whole)), notes)


def _is_made(root: Path, name: str) -> bool:
    return any(entry.name == MANIFEST for entry in entries(root, f"{INCREMENTS}/{name}"))


def folder_of(number: int) -> str:
    """The name of a link's folder."""
    return f"{number:04d}"


def _increments(
    before: _Before, lying: _Lying, end: int
) -> tuple[tuple[Increment, ...], BrokenChain | None]:
    """In order; and why it ends where it does, if it should go on."""
    found: list[Increment] = []
    for number in range(1, end + 1):
        try:
            increment = _increment(lying, number, before)
        except BrokenChain as error:
            return tuple(found), error
        uuids = _uuids(increment.dump)
        before = replace(before, digest=increment.digest, until=increment.until, uuids=uuids)
        found.append(increment)
    return tuple(found), None


def _increment(lying: _Lying, number: int, before: _Before) -> Increment:
    folder = lying.root / INCREMENTS / folder_of(number)
    if number not in lying.numbers:
        why = "has no manifest" if folder.is_dir() else "is missing"
        behind = [each for each in lying.numbers if each > number]
        raise MissingLink(number, str(folder), why, behind)
    try:
        # Where the folder is a symbolic link, that raises: no link leads out of the chain.
        entries(lying.root, f"{INCREMENTS}/{folder.name}")
        link, dump = read_link(folder)
        facts = read_facts(folder)
    except DamagedDump as error:
        raise _altered(number, folder, error) from None
    path = str(folder / MANIFEST)
    _must_be_child(link, number, path, before)
    _must_be_of(facts, number, path, before)
    _must_follow_in_time(link, path, before)
    _must_hold_new_ones_whole(dump, number, path, before)
    return Increment(
        number=number,
        digest=dump.identity,
        parent=link.parent,
        since=link.since,
        until=link.until,
        token=link.token,
        dump=dump,
        log=link.log,
        notes=(*dump.notes, *(f"lacks {each.file}: {each.why}" for each in facts.damage)),
    )


def _must_be_child(link: Link, number: int, path: str, before: _Before) -> None:
    if link.number != number:
        raise OtherParent(number, path, f"is link {link.number}, in the folder of link {number}")
    if link.base != before.base:
        raise OtherParent(number, path, "belongs to another full dump than the one that lies here")
    if link.parent != before.digest:
        one = f"link {number - 1}" if number > 1 else "full dump"
        raise OtherParent(number, path, f"was made after another {one} than the one that lies here")


def _must_be_of(facts: Facts, number: int, path: str, before: _Before) -> None:
    if facts.source_id != before.facts.source_id:
        raise OtherSource(number, path, "is an increment of another source")
    for name in ("include", "exclude", "queries"):
        if getattr(facts, name) != getattr(before.facts, name):
            why = f"is an increment of another selection: it differs from the full dump in {name}"
            raise OtherSource(number, path, why)


def _must_follow_in_time(link: Link, path: str, before: _Before) -> None:
    if not before.until:
        raise OutOfOrder(link.number, path, "follows a full dump that does not tell its time")
    if position_of(link.since) != position_of(before.until):
        why = f"begins at {link.since}, and what lies before it ends at {before.until}"
        raise OutOfOrder(link.number, path, why)
    if position_of(link.until) <= position_of(link.since):
        why = f"ends at {link.until}, not after it begins, at {link.since}"
        raise OutOfOrder(link.number, path, why)


def _must_hold_new_ones_whole(dump: Dump, number: int, path: str, before: _Before) -> None:
    for each in dump.namespaces:
        if each.type != "view" and not each.whole and each.uuid not in before.uuids:
            why = f"holds only changes of {each.namespace}, which nothing before it holds"
            raise OtherParent(number, path, why)


def _names(dump: Dump) -> dict[str, str]:
    return {each.uuid: each.namespace for each in dump.namespaces if each.uuid}


def _uuids(dump: Dump) -> frozenset[str]:
    return frozenset(each.uuid for each in dump.namespaces if each.uuid)


def _altered(number: int, folder: Path, error: DamagedDump) -> AlteredLink:
    why = f"is not as it was written: {error.detail}: {error.why}"
    return AlteredLink(number, str(folder / error.file), why)


# --- what a link holds -----------------------------------------------------------------------


def check_link(increment: Increment, stop: StopToken) -> None:
    """Raise `AlteredLink` unless every file of the link is, to the byte, the one that was written.
    Raises `Stopped`, `OSError` too."""
    for part in parts_of(increment):
        try:
            check_file(increment.dump.root, part, stop, objcheck=False)
        except DamagedDump as error:
            raise _altered(increment.number, increment.dump.root, error) from None


def check_base(chain: Chain, stop: StopToken) -> None:
    """The same of the full dump. Raises `DamagedDump`, `Stopped`, `OSError`."""
    for each in chain.base.namespaces:
        for part in each.parts:
            check_file(chain.root, part, stop, objcheck=False)


def parts_of(increment: Increment) -> tuple[Part, ...]:
    """All files of a link but its manifest."""
    return (*(part for each in increment.dump.namespaces for part in each.parts), *increment.log)


def links_to_apply(chain: Chain, links: int, at: str = "") -> tuple[ChainLink, ...]:
    """The first so many increments; and up to `at`, a cluster time, the log of the next one.

    Raises `NoSuchLink`, `NoSuchTime`.
    """
    if links > len(chain.increments):
        raise NoSuchLink(
            f"the chain in {chain.root} has {len(chain.increments)} increments, and {links} are "
            "wanted",
            remedy="`ferrylog inspect chain` lists them",
        )
    whole = tuple(map(_told, chain.increments[:links]))
    return (*whole, _up_to(chain, links, at)) if at else whole


def _told(increment: Increment) -> ChainLink:
    parts = [part for each in increment.dump.namespaces for part in each.parts]
    return ChainLink(
        number=increment.number,
        digest=increment.digest,
        parent=increment.parent,
        since=increment.since,
        until=increment.until,
        shards=len(parts),
        documents=sum(part.documents for part in parts),
        erased=sum(part.erased for part in parts),
        bytes=sum(part.bytes for part in parts),
    )


def _up_to(chain: Chain, links: int, at: str) -> ChainLink:
    """The log of the link behind the first `links`, replayed up to then."""
    if links == len(chain.increments):
        raise NoSuchTime(beyond(chain, at), remedy=FIND)
    if not links and not chain.base.cluster_time:
        raise NoSuchTime(of_no_single_time(chain), remedy=FIND)
    increment = chain.increments[links]
    if not position_of(increment.since) < position_of(at) <= position_of(increment.until):
        raise NoSuchTime(f"{of_day(at)} does not lie inside link {links + 1}", remedy=FIND)
    if not increment.log:
        raise NoSuchTime(
            f"link {links + 1} keeps no log, so nothing between its ends can be restored",
            remedy=f"--to-increment {links} is as of {of_day(increment.since)}, "
            f"--to-increment {links + 1} as of {of_day(increment.until)}; "
            "`dump --incremental --keep-log` keeps one",
        )
    return _told(increment).model_copy(
        update={
            "until": at,
            "shards": 1,
            "documents": sum(part.documents for part in increment.log),
            "erased": 0,
            "bytes": sum(part.bytes for part in increment.log),
            "log": True,
        }
    )


def time_to_link(chain: Chain, time: str) -> tuple[int, str]:
    """How many whole links, and up to which cluster time of the next one; "" where the last of
    them ends exactly then.

    `time`: ISO 8601 with a zone, or seconds since the epoch: all that happened up to the end of
    that second; or a cluster time, `seconds.increment`. Raises `NoSuchTime`.
    """
    wanted = position_at(time)
    if not chain.since or wanted < position_of(chain.since):
        begins = f"begins at {of_day(chain.since)}" if chain.since else "does not tell its times"
        raise NoSuchTime(f"the chain in {chain.root} {begins}: {time} is before it", remedy=FIND)
    ends = [chain.since, *(each.until for each in chain.increments)]
    links = sum(position_of(end) <= wanted for end in ends) - 1
    if not links and not chain.base.cluster_time:
        raise NoSuchTime(of_no_single_time(chain), remedy=FIND)
    if position_of(ends[links]) == wanted:
        return links, ""
    if links == len(chain.increments):
        raise NoSuchTime(beyond(chain, time), remedy=FIND)
    return links, f"{wanted[0]}.{wanted[1]}"


# --- retention -------------------------------------------------------------------------------


def needed_by(root: Path, number: int) -> tuple[int, ...]:
    """The links that cannot be applied without that one; 0 is the full dump."""
    return tuple(each for each in links_lying(root) if each > number)


def refuse_removal(root: Path, number: int) -> None:
    """Raise `LinkNeeded` unless nothing lies behind that link."""
    if later := needed_by(root, number):
        raise LinkNeeded(number, later)
