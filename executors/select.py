"""Which namespaces a job carries, what they are called on the target, and which of their
documents are wanted."""

import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from executors.boundaries import from_text
from executors.dumps.errors import DamagedDump
from executors.dumps.names import must_be_names
from executors.rawbson import wrap
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.words import BsonText

NEVER: Final = ("local", "config")
"""Databases that belong to a deployment, not to its users."""
USERS: Final = ("admin.system.users", "admin.system.roles")
"""Collections that hold who may do what: carried by explicit wish, merged, never made."""
STAGED: Final = {
    "admin.system.users": "admin.tempusers",
    "admin.system.roles": "admin.temproles",
}
"""Where they lie on the target until they are merged: names that the role `restore` may read."""
CARRIED_SYSTEM: Final = ("system.js",)
KEPT: Final = "ferrylog.kept."
"""How names begin under which a job keeps what it replaced, until it is committed or undone."""
STAGING: Final = "ferrylog.staging."
"""How names begin under which a job fills collections that get their own names at the end."""
Renames = Sequence[tuple[str, str]]
_ESCAPED: Final = re.compile(r"\[([*?[])\]")


class BadRename(OperatorError):
    """The two sides of a rename do not fit each other."""

    code, exit_code = "ENS001", 2

    def __init__(self, source: str, target: str, why: str) -> None:
        super().__init__(
            f"--ns-from {source!r} --ns-to {target!r}: {why}",
            remedy="write as many * on both sides, or name them: --ns-from 'shop.$name$' "
            "--ns-to 'archive.$name$'",
        )


class TwoBecomeOne(OperatorError):
    code, exit_code = "ENS002", 2

    def __init__(self, one: str, other: str, target: str) -> None:
        super().__init__(
            f"{one} and {other} would both become {target}",
            remedy="rename one of them elsewhere, or leave it out with --ns-exclude",
        )


class RefusedName(OperatorError):
    code, exit_code = "ENS003", 2

    def __init__(self, source: str, target: str, why: str) -> None:
        super().__init__(
            f"{source} cannot become {target}: {why}", remedy="choose another name with --ns-to"
        )


class ServersOwn(OperatorError):
    """Nothing else was asked for than what belongs to the server."""

    code, exit_code = "ESOURCE003", 2

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} belongs to the server itself and is never carried",
            remedy="name databases of your own; users and roles travel with --users-and-roles",
        )


def split(namespace: str) -> tuple[str, str]:
    """`db.collection` in its parts; a collection's name may hold dots, a database's not."""
    database, _, collection = namespace.partition(".")
    return database, collection


def carried(namespace: str, spec: JobSpec, added: Sequence[str] = ()) -> bool:
    """Whether a job carries what is called so. Users and roles follow their own option, whatever
    is included; only an exclude keeps them out."""
    database, collection = split(namespace)
    if namespace in USERS:
        return spec.users and not any(fnmatchcase(namespace, glob) for glob in spec.exclude)
    if database in NEVER or is_servers(collection) or namespace in STAGED.values():
        return False
    if is_own(collection):
        return False
    return selected(namespace, spec.include, spec.exclude, added)


def is_servers(collection: str) -> bool:
    """Whether a collection of this name holds what servers keep for themselves."""
    return collection.startswith("system.") and collection not in CARRIED_SYSTEM


def is_own(collection: str) -> bool:
    """Whether a collection of this name is ferrylog's own, for as long as a job takes."""
    return collection.startswith((KEPT, STAGING))


def selected(
    name: str, include: Sequence[str], exclude: Sequence[str], added: Sequence[str] = ()
) -> bool:
    """Globs over `db.collection`; exclude wins, no include means all. What was added later joins
    the include; only a whole name among it wins over exclude."""
    if any(is_literal(each) and name == each for each in added):
        return True
    if any(fnmatchcase(name, glob) for glob in exclude):
        return False
    return not include or any(fnmatchcase(name, glob) for glob in (*include, *added))


def is_literal(glob: str) -> bool:
    """Whether it can mean but one name."""
    return not set(glob) & set("*?[")


def name_of(glob: str) -> str:
    """The one name that it can mean, where `[*]` stands for a `*`; empty if it can mean several."""
    return _ESCAPED.sub(r"\1", glob) if is_literal(_ESCAPED.sub("", glob)) else ""


def unmatched(names: Collection[str], spec: JobSpec) -> list[str]:
    """What was asked for and is not among these names of what the job would carry: each name, and
    all globs if there is nothing. What is left out on purpose is not missed beside the others."""
    if not names:
        return list(spec.include)
    asked = [(glob, name_of(glob)) for glob in spec.include]
    return [
        glob
        for glob, name in asked
        if name
        and name not in names
        and not any(fnmatchcase(name, excluded) for excluded in spec.exclude)
    ]


def refuse_servers_own(include: Sequence[str]) -> None:
    """Raises `ServersOwn` for a filter that can only mean what is never carried."""
    if include and all(_is_never(glob) for glob in include):
        raise ServersOwn(", ".join(include))


def _is_never(glob: str) -> bool:
    database, collection = split(glob)
    return database in NEVER or (
        database == "admin" and is_literal(glob) and is_servers(collection)
    )


def query_of(namespace: str, queries: Sequence[tuple[str, BsonText]]) -> bytes | None:
    """The filter for the documents of a namespace, raw BSON: of the first glob that fits. Users and
    roles have their own option: they are carried whole."""
    if namespace in USERS:
        return None
    for glob, query in queries:
        if fnmatchcase(namespace, glob):
            return from_text(query)
    return None


def wanted_of(namespace: str, spec: JobSpec) -> bytes | None:
    """The filter for the documents of a namespace that a job reads, raw BSON: the query, and of a
    repeated export the bounds of its field."""
    query, form = query_of(namespace, spec.queries), spec.export
    if form is None or not form.since:
        return query
    bounds = b"".join(
        b"%c%b\0%b" % (raw[4], operator, raw[raw.index(b"\0", 5) + 1 : -1])
        for operator, text in ((b"$gt", form.above), (b"$lte", form.upto))
        if text and (raw := from_text(text))
    )
    since = wrap(b"\x03%b\0%b" % (form.since.encode(), wrap(bounds)))
    both = b"\x030\0%b" % since if query is None else b"\x030\0%b\x031\0%b" % (query, since)
    return wrap(b"\x04$and\0" + wrap(both))


# --- renames ---


def renames_of(sources: Sequence[str], targets: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The pairs of `--ns-from` and `--ns-to`, in the order in which they count: as with
    mongorestore the last one given that fits. Raises `BadRename`."""
    if len(sources) != len(targets):
        raise BadRename(", ".join(sources), ", ".join(targets), "there must be one for each")
    pairs = tuple(zip(sources, targets, strict=True))[::-1]
    for source, target in pairs:
        _rule(source, target)
    return pairs


def renamed(namespace: str, renames: Renames) -> str:
    """What a namespace is called on the target: by the first pair that fits. `*` stands for any
    text, and for what it stood for on the other side; `$name$` is the same with a name. A
    backslash takes the meaning from a `*`. Raises `BadRename`."""
    for source, target in renames:
        pattern, template = _rule(source, target)
        if namespace not in USERS and (found := pattern.fullmatch(namespace)):
            return "".join(found[each] if isinstance(each, int) else each for each in template)
    return namespace


def targets_of(namespaces: Iterable[str], spec: JobSpec) -> dict[str, str]:
    """Where each is written on the target, or looked for by a job that writes nothing.

    Raises `BadRename`, `TwoBecomeOne`, `RefusedName`.
    """
    staged = STAGED if spec.kind in ("migrate", "restore") else {}
    targets: dict[str, str] = {}
    sources: dict[str, str] = {}
    for namespace in namespaces:
        target = renamed(namespace, spec.renames)
        if target != namespace:
            _refuse_bad_name(namespace, target)
        if (other := sources.setdefault(target, namespace)) != namespace:
            raise TwoBecomeOne(other, namespace, target)
        targets[namespace] = staged.get(namespace, target)
    return targets


def _refuse_bad_name(namespace: str, target: str) -> None:
    database, collection = split(target)
    try:
        must_be_names(database, collection)
    except DamagedDump as error:
        raise RefusedName(namespace, target, error.why) from None
    if database in NEVER or is_servers(collection):
        raise RefusedName(namespace, target, "servers keep that name to themselves")
    if is_own(collection):
        raise RefusedName(namespace, target, "ferrylog keeps names that begin so to itself")


@lru_cache(maxsize=256)
def _rule(source: str, target: str) -> tuple[re.Pattern[str], tuple[str | int, ...]]:
    """A pair as mongorestore reads it (`mongorestore/ns/ns.go`): what fits, and the new name in
    pieces, a number where a group of the match belongs."""

    def bad(why: str) -> BadRename:
        return BadRename(source, target, why)

    if "$" in source:
        if source.count("$") % 2 or target.count("$") % 2:
            raise bad("a $ has no other one")
        left, right = _variables(source), _variables(target)
    else:
        left, right = _stars(source), _stars(target)
        if len(left) != len(right):
            raise bad("one has more * than the other")
        if "$" in target:
            raise bad("a $ without one in what it is made of")
    names = left[1::2]
    if len(set(names)) != len(names):
        raise bad("a variable stands twice in --ns-from")
    if unknown := set(right[1::2]) - set(names):
        raise bad(f"${unknown.pop()}$ does not stand in --ns-from")
    pattern = "".join("(.*?)" if n % 2 else re.escape(each) for n, each in enumerate(left))
    pieces = (names.index(each) + 1 if n % 2 else each for n, each in enumerate(right))
    return re.compile(pattern, re.DOTALL), tuple(pieces)


def _variables(pattern: str) -> list[str]:
    """Text and names of variables in turns."""
    return pattern.split("$")


def _stars(pattern: str) -> list[str]:
    """Text and numbers of stars in turns."""
    texts = re.split(r"(?<!\\)\*", pattern)
    plain = [re.sub(r"\\([\\*]?)", r"\1", text) for text in texts]
    stars = [str(n) for n in range(1, len(texts))]
    return [each for pair in zip(plain, ["", *stars], strict=True) for each in pair[::-1]][1:]
