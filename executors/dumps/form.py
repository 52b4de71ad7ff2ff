"""The form of a manifest: its fields as they stand in the file, and its lines."""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
)

from executors.boundaries import to_text
from executors.dumps.model import Damage, Dumped, Link, Part, Type

DUMP: Final = "dump/1"
INCREMENT: Final = "increment/1"
_HOW: Final = "SHA-256 of all bytes before the last line: head -n -1 manifest.json | sha256sum"

_Uuid = Annotated[str, StringConstraints(pattern="^([0-9a-f]{32})?$")]
_Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
_ClusterTime = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,10}\.[0-9]{1,10}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Facts(_Strict):
    """Where a dump comes from, and what it was to hold."""

    tool_version: str
    job: str = ""
    created: str = ""
    """ISO 8601, UTC."""
    source: str = ""
    """Without credentials."""
    source_id: str = ""
    server_version: str = ""
    consistency: Literal["", "fuzzy", "snapshot"] = ""
    cluster_time: str = ""
    """`seconds.increment` of all documents, of a snapshot."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    queries: tuple[tuple[str, str], ...] = ()
    """As in `JobSpec`."""
    users: bool = False
    notes: tuple[str, ...] = ()
    """What was left out, in words for the operator."""
    damage: tuple[Damage, ...] = ()
    """Of what it was unpacked from."""
    since: str = ""
    """Of a full dump: the cluster time before anything of the source was read."""


class ChunkForm(_Strict):
    file: str
    documents: NonNegativeInt
    bytes: NonNegativeInt
    file_bytes: NonNegativeInt
    sha256: _Sha256
    lower: str | None = None
    upper: str | None = None
    natural: bool = False
    erased: NonNegativeInt = 0


class LinkForm(_Strict):
    number: PositiveInt
    parent: _Sha256
    base: _Sha256
    since: _ClusterTime
    until: _ClusterTime
    token: str
    lookup: Literal["snapshot"]
    log: tuple[ChunkForm, ...]


class IndexForm(_Strict):
    name: str
    unique: bool
    spec: str


class NamespaceForm(_Strict):
    namespace: str
    type: Type
    uuid: _Uuid
    options: str
    indexes: tuple[IndexForm, ...]
    documents: NonNegativeInt
    bytes: NonNegativeInt
    whole: bool = False
    chunks: tuple[ChunkForm, ...]


class DumpForm(_Strict):
    """A full dump."""

    ferrylog: Literal["dump/1"]
    checksum: str
    facts: Facts
    namespaces: tuple[NamespaceForm, ...]
    sha256: str


class IncrementForm(_Strict):
    """A link of a chain."""

    ferrylog: Literal["increment/1"]
    checksum: str
    facts: Facts
    link: LinkForm
    namespaces: tuple[NamespaceForm, ...]
    sha256: str


def lines(facts: Facts, namespaces: Sequence[Dumped], link: Link | None) -> Iterator[str]:
    """All but the last line of a manifest."""
    told = facts.model_dump(mode="json", exclude=None if facts.since else {"since"})
    yield f'{{"ferrylog": "{INCREMENT if link else DUMP}",\n"checksum": {_json(_HOW)},\n'
    yield f'"facts": {_json(told)},\n'
    if link is not None:
        yield from _link(link)
    yield '"namespaces": ['
    between = "\n"
    for each in sorted(namespaces, key=lambda each: each.namespace):
        yield f'{between}{_json(_head(each))[:-1]}, "chunks": ['
        yield ",".join("\n" + _json(_chunk(part)) for part in each.parts)
        yield "]}"
        between = ",\n"
    yield "\n],\n"


def _link(link: Link) -> Iterator[str]:
    head = {
        "number": link.number,
        "parent": link.parent,
        "base": link.base,
        "since": link.since,
        "until": link.until,
        "token": link.token,
        "lookup": "snapshot",
    }
    yield f'"link": {_json(head)[:-1]}, "log": ['
    yield ",".join("\n" + _json(_chunk(part)) for part in link.log)
    yield "]},\n"


def _head(each: Dumped) -> dict[str, Any]:
    told = {
        "namespace": each.namespace,
        "type": each.type,
        "uuid": each.uuid,
        "options": to_text(each.options),
        "indexes": [index.model_dump() for index in each.indexes],
        "documents": sum(part.documents for part in each.parts),
        "bytes": sum(part.bytes for part in each.parts),
    }
    return told | {"whole": True} if each.whole else told


def _chunk(part: Part) -> dict[str, Any]:
    told: dict[str, Any] = {
        "file": part.file,
        "documents": part.documents,
        "bytes": part.bytes,
        "file_bytes": part.file_bytes,
        "sha256": part.sha256,
    }
    if part.lower is not None:
        told["lower"] = part.lower
    if part.upper is not None:
        told["upper"] = part.upper
    if part.natural:
        told["natural"] = True
    if part.erased:
        told["erased"] = part.erased
    return told


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
