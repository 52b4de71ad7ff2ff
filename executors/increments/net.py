"""Events that change documents, in net form: what each document is behind all of them.

Written in any order and any number of times they lead to the same, with one exception, a unique
index: what one document gives away another one may take. Where the target refuses a document for
that, it waits for the others; those that wait for one another are written in one transaction.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from typing import Any, Final, NamedTuple

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure
from pymongo.write_concern import WriteConcern

from executors.batches import TOLERANT
from executors.classify import without_values
from executors.increments.ahead import Ahead
from executors.increments.ddl import OF_DOCUMENTS, is_carried
from executors.increments.diff import patched
from executors.metadata import acknowledged, concern
from executors.protocol import Stopped, StopToken
from executors.rawbson import elements, equals_query, id_of, in_query
from executors.rows import rows
from executors.select import renamed, split
from executors.write import DUPLICATE_KEY
from statemachine.events import JobSpec

GROUP_BYTES: Final = 8 << 20
"""Of documents in one command, and one more."""
GROUP_DOCUMENTS: Final = 1000
Place = tuple[int, int]


@dataclass(slots=True)
class Net:
    """What becomes of one document."""

    known: bool = False
    """It is what the events tell, whatever lies on the target."""
    document: bytes | None = None
    diffs: list[bytes] = field(default_factory=list)
    """Of one that is not known: to be applied to what lies on the target, in order."""

    def replace(self, document: bytes | None) -> None:
        self.known, self.document = True, document
        self.diffs.clear()

    def over(self, document: bytes | None) -> bytes | None:
        """What the events leave where this lies; `None`: nothing."""
        if self.known:
            return self.document
        return reduce(patched, self.diffs, document) if document is not None else None

    def update(self, diff: bytes) -> None:
        """Raises `ValueError` where events do not follow one another."""
        if not self.known:
            self.diffs.append(diff)
        elif self.document is None:
            raise ValueError("an update of a document that the event before it removed")
        else:
            self.document = patched(self.document, diff)


class Run:
    """Events that change documents, one after another."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self.events = 0
        """The number of the last one, as whoever adds them counts."""
        self.targets: dict[str, dict[bytes, Net]] = {}
        """By namespace on the target and `{_id: <value>}`."""

    def holds(self, event: bytes) -> bool:
        """Whether the raw event changes a document; it is in the run then.

        Raises `ValueError` for one of a form that is not known.
        """
        told = {name: (begin, end) for _, name, begin, end in elements(event)}
        try:
            kind = _text(event, told[b"operationType"])
            if kind not in OF_DOCUMENTS:
                return False
            if target := _target(_slice(event, told[b"ns"]), self._spec):
                nets = self.targets.setdefault(target, {})
                net = nets.setdefault(id_of(_slice(event, told[b"documentKey"])), Net())
                _fold(net, kind, event, told)
        except KeyError as error:
            raise ValueError(f"an event without {error}") from None
        return True


@lru_cache(maxsize=1024)
def _target(ns: bytes, spec: JobSpec) -> str:
    """Where the document lies on the target; empty for one that is not selected."""
    told = {name: _text(ns, (begin, end)) for _, name, begin, end in elements(ns)}
    name = f"{told[b'db']}.{told[b'coll']}"
    return renamed(name, spec.renames) if is_carried(name, spec) else ""


def _fold(net: Net, kind: str, event: bytes, told: Mapping[bytes, Place]) -> None:
    match kind:
        case "delete":
            net.replace(None)
        case "update":
            described = _slice(event, told[b"rawUpdateDescription"])
            inside = {name: (begin, end) for _, name, begin, end in elements(described)}
            net.update(_slice(described, inside[b"diff"]))
        case _:
            net.replace(_slice(event, told[b"fullDocument"]))


def _slice(raw: bytes, place: Place) -> bytes:
    return raw[place[0] : place[1]]


def _text(raw: bytes, place: Place) -> str:
    return raw[place[0] + 4 : place[1] - 1].decode()


# --- to the target ---


class Wrote(NamedTuple):
    documents: int
    erased: int
    bytes: int


def write_net(
    client: MongoClient[Any],
    target: str,
    nets: Mapping[bytes, Net],
    spec: JobSpec,
    stop: StopToken,
    ahead: Ahead | None = None,
) -> Wrote:
    """Make the documents of a collection on the target what they are behind the run; acknowledged
    as the job asks for when this returns. `ahead` takes what brings back how they were. Raises
    `PyMongoError`, `Stopped`, `ValueError`.
    """
    writer = _Writer(client, target, spec, stop)
    if ahead is not None:
        writer.write_down(nets, ahead)
    erased = [key for key, net in nets.items() if net.known and net.document is None]
    # First: another way to write the same key (1, 1.0) may come instead.
    writer.erase(erased)
    writer.write(writer.results(nets))
    return Wrote(writer.documents, len(erased), writer.bytes)


class _Writer:
    def __init__(
        self, client: MongoClient[Any], target: str, spec: JobSpec, stop: StopToken
    ) -> None:
        database, self._collection = split(target)
        self._client = client
        self._target = target
        self._db = client.get_database(database, read_preference=ReadPreference.PRIMARY)
        self._spec = spec
        self._stop = stop
        self.documents = self.bytes = 0

    def write_down(self, nets: Mapping[bytes, Net], ahead: Ahead) -> None:
        """All that the run changes, before it does. What is so already, as after a crash, was
        written down with what lay there before."""
        ahead.begin()
        for keys in _slices(list(nets)):
            there = set[bytes]()
            command = {"find": self._collection, "filter": in_query(keys)}
            for before in rows(self._client, self._db.name, command, self._stop):
                key = id_of(before)
                there.add(key)
                becomes = nets[key].over(before) if key in nets else None
                if becomes is None:
                    ahead.erased(self._target, "collection", (before,))
                elif becomes != before:
                    ahead.replaced(self._target, "collection", becomes, before)
            new = (nets[key].document for key in keys if key not in there)
            ahead.inserted(self._target, "collection", filter(None, new))
            ahead.sync()

    def erase(self, keys: Sequence[bytes], session: ClientSession | None = None) -> None:
        for group in _slices(keys):
            gone = [{"q": equals_query(key), "limit": 1} for key in group]
            self._run({"delete": self._collection, "ordered": False, "deletes": gone}, session)

    def results(self, nets: Mapping[bytes, Net]) -> Iterator[bytes]:
        """The documents behind the run: those that events tell whole, and those that are made of
        what lies on the target."""
        yield from (net.document for net in nets.values() if net.document is not None)
        for group in _slices([key for key, net in nets.items() if net.diffs]):
            command = {"find": self._collection, "filter": in_query(group)}
            for document in rows(self._client, self._db.name, command, self._stop):
                net = nets.get(id_of(document))
                if net is not None and net.diffs:  # else another way to write the key
                    yield reduce(patched, net.diffs, document)

    def write(self, results: Iterator[bytes]) -> None:
        refused: list[bytes] = []
        for group in _groups(results):
            self.documents += len(group)
            self.bytes += sum(map(len, group))
            refused += self._put(group)
        while refused:
            still = [each for group in _groups(iter(refused)) for each in self._put(group)]
            if len(still) == len(refused):
                return self._exchange(refused)
            refused = still
        return None

    def _put(self, group: Sequence[bytes], session: ClientSession | None = None) -> list[bytes]:
        """Those of the documents for which another one is in the way."""
        errors = self._run(
            {
                "update": self._collection,
                "ordered": False,
                "bypassDocumentValidation": True,
                "updates": [_put(each) for each in group],
            },
            session,
        )
        return [group[error["index"]] for error in errors]

    def _exchange(self, group: Sequence[bytes]) -> None:
        """Write documents that are in one another's way, all at once."""
        concerned = WriteConcern(**concern(self._spec))
        with (
            self._client.start_session() as session,
            session.start_transaction(write_concern=concerned),
        ):
            self.erase([id_of(each) for each in group], session)
            for each in _groups(iter(group)):
                self._put(each, session)

    def _run(self, command: dict[str, Any], session: ClientSession | None) -> list[dict[str, Any]]:
        """The errors of single documents that another one caused; any other one is raised."""
        if self._stop.is_set():
            raise Stopped
        if session is None:
            command = {**command, "writeConcern": concern(self._spec)}
        reply = self._db.command(command, codec_options=TOLERANT, session=session)
        errors: list[dict[str, Any]] = acknowledged(reply).get("writeErrors", [])
        for error in errors:
            if error["code"] != DUPLICATE_KEY or session is not None:
                raise OperationFailure(without_values(str(error.get("errmsg", ""))), error["code"])
        return errors


def _put(document: bytes) -> dict[str, Any]:
    """To the byte, whatever names it has; other ways to insert fill in empty timestamps."""
    literal = {"$replaceWith": {"$literal": RawBSONDocument(document)}}
    return {"q": equals_query(id_of(document)), "u": [literal], "upsert": True}


def _slices(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for at in range(0, len(keys), GROUP_DOCUMENTS):
        yield keys[at : at + GROUP_DOCUMENTS]


def _groups(results: Iterator[bytes]) -> Iterator[list[bytes]]:
    """As many as one command may hold."""
    group: list[bytes] = []
    held = 0
    for each in results:
        group.append(each)
        held += len(each)
        if held >= GROUP_BYTES or len(group) >= GROUP_DOCUMENTS:
            yield group
            group, held = [], 0
    if group:
        yield group
