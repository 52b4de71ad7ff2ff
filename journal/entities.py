"""What an event is about: the job, a unit, a chunk, an index, a pool of workers.

Names alone do not tell: a unit's may hold any character, so that `db.a#1` is a chunk of `db.a`, a
collection of that name, or both. The kind of the event tells. In Python for one row, in SQL for
many; `e` is the row there.
"""

import json
from typing import Final, Literal

Type = Literal["unit", "chunk", "index", "pool", "job"]
TYPES: Final[tuple[Type, ...]] = ("unit", "chunk", "index", "pool", "job")

_TYPE: Final[dict[str, Type]] = {
    "job": "job",
    "run": "job",
    "pause": "job",
    "stop": "job",
    "setting": "job",
    "namespaces": "job",
    "request": "job",
    "survey": "job",
    "manifest": "job",
    "capture": "job",
    "moment": "job",
    "chain": "job",
    "increment": "job",
    "shape": "job",
    "shard": "job",
    "apply": "job",
    "settle": "job",
    "follow": "job",
    "cutover": "job",
    "operation": "job",
    "group": "job",
    "undo": "job",
    "rollback": "job",
    "unit": "unit",
    "create": "unit",
    "census": "unit",
    "plan": "unit",
    "conflict": "unit",
    "batch": "unit",
    "damage": "unit",
    "finish": "unit",
    "chunk": "chunk",
    "document": "chunk",
    "documents": "chunk",
    "file": "chunk",
    "dump": "chunk",
    "restore": "chunk",
    "copy": "chunk",
    "split": "chunk",
    "verify": "chunk",
    "release": "chunk",
    "index": "index",
    "breaker": "pool",
}
"""By the first word of the event's kind; those of priorities and alerts do not tell. Increments,
their shards, the operations of a group and undos are parts of the job."""
_MARK: Final = {"chunk": "#", "index": "@"}
"""Between the unit's name and the rest, in which it does not occur."""


def type_of(kind: str, data: bytes) -> Type | None:
    """`None` where the row does not tell. The data speak only for `result_ignored`."""
    word: object = kind.partition("_")[0]
    if kind == "result_ignored":
        try:
            word = json.loads(data)["task"]
        except (ValueError, RecursionError, LookupError, TypeError):
            return None
    return _TYPE.get(str(word))


def is_part(kind: str, entity: str, data: bytes, unit: str) -> bool:
    """The event is about a chunk or an index of the unit, or may be: it does not tell."""
    known = type_of(kind, data)
    return any(
        known in (each, None) and entity.rpartition(mark)[:2] == (unit, mark)
        for each, mark in _MARK.items()
    )


# --- the same in SQL: a condition, and its values ---

_WORD: Final = (
    "CASE WHEN e.kind <> 'result_ignored' THEN substr(e.kind, 1, instr(e.kind, '_') - 1) "
    "WHEN json_valid(CAST(e.data AS TEXT)) THEN CAST(e.data AS TEXT) ->> '$.task' END"
)


def of_type(wanted: Type) -> str:
    """The event is about such a thing, or does not tell what it is about."""
    others = [word for word, known in _TYPE.items() if known != wanted]
    return f"({_WORD} IN ({', '.join(map(repr, others))})) IS NOT TRUE"


def type_in_sql() -> str:
    """An expression for `type_of`."""
    cases = " ".join(f"WHEN '{word}' THEN '{known}'" for word, known in _TYPE.items())
    return f"CASE {_WORD} {cases} END"


def below(unit: str) -> tuple[str, list[int | str]]:
    """`is_part`."""
    chunk, chunk_values = named("chunk", unit)
    index, index_values = named("index", unit)
    condition = f"({chunk} AND {of_type('chunk')} OR {index} AND {of_type('index')})"
    return condition, [*chunk_values, *index_values]


def named(wanted: Type, unit: str) -> tuple[str, list[int | str]]:
    """The entity has the name of the unit, or of one of its chunks, or of its indexes."""
    if wanted not in _MARK:
        return "e.entity = ?", [unit]
    mark = _MARK[wanted]
    condition = f"e.entity >= ? AND e.entity < ? AND instr(substr(e.entity, ?), '{mark}') = 0"
    return condition, [*span(wanted, unit), len(unit) + 2]


def span(wanted: Type, unit: str) -> tuple[str, str]:
    """Between which names, in their order, those of its chunks lie, or of its indexes; others lie
    there, too."""
    mark = _MARK[wanted]
    return f"{unit}{mark}", f"{unit}{chr(ord(mark) + 1)}"
