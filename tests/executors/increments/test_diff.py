"""Diffs of updates: what `patched` makes of a document is what a real server made of it (I33)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import bson
import pytest
from bson import Int64
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import PyMongoError

from executors.batches import RAW
from executors.increments.diff import patched
from tests.conftest import Pair

NAMES = st.sampled_from(["a", "b", "c", "d", "0", "1", "l", "u", "s", "i", "sa"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(-1, 1), st.text("xyä", max_size=3),
    st.binary(max_size=3), st.text("z", min_size=60, max_size=61),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=6)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)


def _each(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(PATHS, values, min_size=1, max_size=2)


PUSHES = st.fixed_dictionaries(
    {"$each": st.lists(VALUES, max_size=3)},
    optional={"$position": st.integers(-2, 3), "$slice": st.integers(-3, 4)},
)
OPERATORS = st.fixed_dictionaries(
    {},
    optional={
        "$set": _each(VALUES),
        "$unset": _each(st.just("")),
        "$inc": _each(st.integers(-2, 2)),
        "$push": _each(PUSHES),
        "$pop": _each(st.sampled_from([1, -1])),
        "$pull": _each(SCALARS),
        "$rename": st.dictionaries(NAMES, NAMES, min_size=1, max_size=1),
    },
).filter(bool)
LITERALS = VALUES.map(lambda value: {"$literal": value})
STAGES = st.one_of(
    st.builds(lambda fields: {"$set": fields}, _each(LITERALS)),
    st.builds(lambda fields: {"$unset": fields}, st.lists(PATHS, min_size=1, max_size=2)),
    st.builds(
        lambda doc: {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"$literal": doc}]}}, DOCUMENTS
    ),
    st.builds(
        lambda name: {"$set": {name: {"$cond": [
            {"$isArray": f"${name}"}, {"$concatArrays": [[1], f"${name}", [{"x": 1}]]}, "$$REMOVE",
        ]}}},
        st.sampled_from(["a", "b", "c"]),
    ),
)  # fmt: skip
UPDATES = st.lists(OPERATORS | st.lists(STAGES, min_size=1, max_size=3), min_size=1, max_size=6)
STREAM: dict[str, Any] = {"$changeStream": {"showRawUpdateDescription": True}}


class Server:
    """A collection whose changes are heard."""

    def __init__(self, pair: Pair) -> None:
        self._db = pair.source_client.get_database("diffs")
        self._say({"create": "c"})
        reply = self._say({"aggregate": "c", "pipeline": [STREAM], "cursor": {}})
        self._cursor = Int64(reply["cursor"]["id"])
        self._next = 0

    def _say(self, command: dict[str, Any]) -> Any:
        return self._db.command(command, codec_options=RAW)

    def insert(self, document: dict[str, Any]) -> int:
        self._next += 1
        self._say({"insert": "c", "documents": [{"_id": self._next, **document}]})
        return self._next

    def found(self, number: int) -> bytes:
        reply = self._say({"find": "c", "filter": {"_id": number}})
        return bytes(reply["cursor"]["firstBatch"][0].raw)

    def update(self, number: int, change: Any) -> bytes | None:
        """The document afterwards; `None` where the server refuses."""
        update = {"q": {"_id": number}, "u": change}
        try:
            reply = self._say({"update": "c", "updates": [update]})
        except PyMongoError:
            return None
        return None if "writeErrors" in reply else self.found(number)

    def events(self) -> Iterator[RawBSONDocument]:
        """All until now, in order: ends with an insert made for this."""
        end = self.insert({})
        while True:
            more = {"getMore": self._cursor, "collection": "c", "maxTimeMS": 1000}
            for event in self._say(more)["cursor"]["nextBatch"]:
                if event["documentKey"]["_id"] == end:
                    return
                yield event


@pytest.fixture
def server(pair: Pair) -> Server:
    return Server(pair)


def _after(document: bytes, event: RawBSONDocument) -> bytes:
    if event["operationType"] == "replace":
        return bytes(event["fullDocument"].raw)
    return patched(document, bytes(event["rawUpdateDescription"]["diff"].raw))


@settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(document=DOCUMENTS, updates=UPDATES)
def test_a_patched_document_is_the_servers(
    server: Server, document: dict[str, Any], updates: list[Any]
) -> None:
    """I33: each diff, applied to the document before, gives the document after, to the byte; and
    all of them again, from any document on the way, give the last one."""
    number = server.insert(document)
    states = [server.found(number)]
    states += [after for each in updates if (after := server.update(number, each)) is not None]
    events = [each for each in server.events() if each["documentKey"]["_id"] == number]
    changes = [each for each in events if each["operationType"] != "insert"]
    steps = [states[0]]
    for change in changes:
        steps.append(_after(steps[-1], change))
    distinct = [states[0]] + [b for a, b in pairwise(states) if a != b]
    assert steps == distinct
    for state in steps:
        for change in changes:
            state = _after(state, change)  # noqa: PLW2901
        assert state == steps[-1]


def _raw(document: dict[str, Any]) -> bytes:
    return bson.encode(document)


@pytest.mark.parametrize(
    ("before", "diff", "after"),
    [
        ({"a": 1, "b": 2}, {"u": {"a": 3}}, {"a": 3, "b": 2}),
        ({"a": 1, "b": 2}, {"i": {"a": 3}}, {"b": 2, "a": 3}),
        ({"b": 2}, {"u": {"a": 3}, "i": {"c": 4}}, {"b": 2, "a": 3, "c": 4}),
        ({"a": 1, "b": 2}, {"d": {"a": False, "x": False}}, {"b": 2}),
        ({"a": {"x": 1}}, {"sa": {"u": {"x": 2}}}, {"a": {"x": 2}}),
        ({"a": 5}, {"sa": {"u": {"x": 2}}}, {"a": None}),
        ({"a": [1]}, {"sa": {"u": {"x": 2}}}, {"a": None}),
        ({"a": {"x": 1}}, {"sa": {"a": True, "u0": 2}}, {"a": None}),
        ({}, {"sa": {"u": {"x": 2}}}, {}),
        ({"a": [1, 2, 3]}, {"sa": {"a": True, "l": 1}}, {"a": [1]}),
        ({"a": [1]}, {"sa": {"a": True, "l": 3}}, {"a": [1, None, None]}),
        ({"a": [1]}, {"sa": {"a": True, "u3": 7}}, {"a": [1, None, None, 7]}),
        ({"a": [1]}, {"sa": {"a": True, "s1": {"u": {"x": 1}}}}, {"a": [1, None]}),
        ({"a": [{"x": 1}]}, {"sa": {"a": True, "s0": {"i": {"y": 2}}}}, {"a": [{"x": 1, "y": 2}]}),
        ({"a": [[1], 2]}, {"sa": {"a": True, "s0": {"a": True, "u0": 5}}}, {"a": [[5], 2]}),
        ({"a": list(range(12))}, {"sa": {"a": True, "u10": "x"}}, {"a": [*range(10), "x", 11]}),
        ({"": {"": 1}}, {"s": {"u": {"": 2}}}, {"": {"": 2}}),
    ],
)  # fmt: skip
def test_the_rules_one_by_one(
    before: dict[str, Any], diff: dict[str, Any], after: dict[str, Any]
) -> None:
    assert patched(_raw(before), _raw(diff)) == _raw(after)


@pytest.mark.parametrize("diff", [{"b": {}}, {"x": 1}, {"s": 1}, {"sa": {"a": True, "z": 1}}])
def test_a_diff_of_another_form_is_refused(diff: dict[str, Any]) -> None:
    """What a newer server may say is not guessed."""
    with pytest.raises(ValueError, match="not known"):
        patched(_raw({"a": [1]}), _raw(diff))
