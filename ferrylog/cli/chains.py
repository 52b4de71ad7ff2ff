"""What commands ask of a chain: the link that comes next, the links that are wanted."""

from pathlib import Path

from executors.dumps.manifest import read_facts
from executors.dumps.stored import NOWHERE, holds_chain
from executors.increments.chain import last_link, links_to_apply, open_chain, time_to_link
from executors.increments.errors import CannotFollow, OtherSource
from executors.increments.model import INCREMENTS
from executors.select import carried
from executors.storage.urls import open_store
from ferrylog.errors import Usage
from statemachine.events import JobSpec
from statemachine.state import DUMP
from statemachine.words import BsonText


def increment_of(spec: JobSpec, *, keep_log: bool) -> JobSpec:
    """The spec of a dump as that of the next link of the chain that lies where it goes: it holds
    what the full dump was to hold. Raises `Usage`, `OtherSource`, and as `last_link`."""
    if spec.layout != "chunks":
        raise Usage("a chain is of ferrylog's own layout", remedy="--out DIR alone")
    root = Path(spec.target.removeprefix(DUMP))
    parent, facts = last_link(root), read_facts(root)
    if keep_log and facts.queries:
        raise Usage(
            f"the chain in {root} holds what a query selects, and a log has all changes",
            remedy="leave out --keep-log",
        )
    if facts.source_id != spec.source_id:
        raise OtherSource(
            parent.number + 1,
            str(root),
            f"cannot be of {spec.source}: the chain is of {facts.source}",
            remedy="name that source, or another folder for a full dump of this one",
        )
    selection = {
        "include": facts.include,
        "exclude": facts.exclude,
        "queries": tuple((glob, BsonText(text)) for glob, text in facts.queries),
    }
    wanted = spec.model_copy(update={**selection, "users": facts.users})
    for each in parent.names.values():
        if not carried(each, wanted):
            raise CannotFollow(str(root), f"{each} was added to it in spite of an exclude")
    for name, known in selection.items():
        given = getattr(spec, name)
        if given and given != known:
            raise Usage(
                f"the chain in {root} has another selection ({name}: {known})",
                remedy="leave it out: an increment holds what the full dump was to hold",
            )
    return spec.model_copy(
        update={
            **selection,
            "incremental": True,
            "parent": parent.digest,
            "keep_log": keep_log,
            "users": False,  # change streams do not show them: those of the full dump stay
            "consistency": "snapshot",
        }
    )


def increments_foretold(spec: JobSpec) -> str:
    """What a restore would apply to the full dump, whose own plan a dry run tells. Raises as
    `open_chain`."""
    chain = open_chain(Path(spec.source.removeprefix(DUMP)), upto=spec.links + bool(spec.at))
    links = links_to_apply(chain, spec.links, spec.at)
    written, erased = sum(each.documents for each in links), sum(each.erased for each in links)
    return (
        f"then {len(links)} increments, up to {links[-1].until}: {written:,} documents written, "
        f"{erased:,} deleted; what they meet on the target is looked at when the restore begins"
    )


def must_be_no_chain(url: str, to_increment: int | None, at: str | None) -> None:
    """Raise `Usage` where increments of a store are wanted, said or unsaid."""
    unsaid = to_increment is None and at is None
    if to_increment or at is not None or (unsaid and holds_chain(open_store(url, NOWHERE))):
        raise Usage(
            f"increments are not restored from a store ({url})",
            remedy="copy the chain to a disk; or --to-increment 0 for the full dump alone",
        )


def links_wanted(root: Path, to_increment: int | None, at: str | None) -> tuple[int, str]:
    """How many increments are to be applied, and the cluster time up to which the log of the next
    one is replayed. Raises `Usage`, and as `open_chain`."""
    if to_increment is not None and at is not None:
        raise Usage("--to-increment and --at both say where to stop: give one")
    if not (root / INCREMENTS).is_dir():
        if to_increment or at is not None:
            raise Usage(f"{root} has no increments", remedy="leave out --to-increment and --at")
        return 0, ""
    chain = open_chain(root, upto=to_increment)
    if at is not None:
        return time_to_link(chain, at)
    if to_increment is not None and to_increment > len(chain.increments):
        raise Usage(f"{root} has {len(chain.increments)} increments, not {to_increment}")
    return len(chain.increments) if to_increment is None else to_increment, ""
