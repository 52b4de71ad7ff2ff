"""What an undo would do, in words, before anything is done."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
from bson import json_util

from executors.batches import TOLERANT
from executors.boundaries import CANONICAL, from_text
from executors.undo.log import rows_backwards, undo_path
from executors.undo.recording import weight
from statemachine.state import State, Undo
from statemachine.words import OperationId, TaskKey, TaskKind

OF_DOCUMENTS = ("inserted", "stamped", "replaced", "erased")
"""Kinds of rows."""
SHOWN = 50
"""Rows of the catalogue that are told of one operation."""


def foretell(undo: Undo, state: State, folder: Path, *, stays: bool = False) -> tuple[str, ...]:
    """`folder`: the job's own, where its undo logs lie. `stays`: the creation of its collection is
    not taken back with it. Raises `OSError`."""
    if undo.task is TaskKind.OPERATION:
        return (_shown(from_text(state.operations[OperationId(undo.entity)].compensation)),)
    path = undo_path(folder, TaskKey(undo.task, undo.entity))
    told = list(_told(path))
    unit = state.units.get(undo.unit) if undo.unit is not None else None
    if not told and undo.chunk is not None and unit is not None and unit.found != "documents":
        if stays:
            return (f"delete what it brought to {unit.target}, if unchanged since",)
        return (f"nothing by itself: its documents go with those of {unit.target}",)
    return tuple(dict.fromkeys(told) or ("nothing: it changed nothing",))


def _told(path: Path) -> Iterator[str]:
    counts = {"inserted": 0, "replaced": 0, "erased": 0}
    shown = 0
    for raw in rows_backwards(path):
        kind = raw["k"]
        if kind in OF_DOCUMENTS:
            documents, _ = weight(raw)
            counts["inserted" if kind == "stamped" else kind] += documents
        elif shown < SHOWN and (line := _of_catalogue(kind, raw)):
            shown += 1
            yield line
    if counts["inserted"]:
        yield f"delete up to {counts['inserted']:,} documents that it inserted, if unchanged since"
    if counts["replaced"]:
        yield f"put back {counts['replaced']:,} documents that it replaced, if unchanged since"
    if counts["erased"]:
        yield f"put back {counts['erased']:,} documents that it erased"


def _of_catalogue(kind: str, raw: Any) -> str:
    match kind:
        case "made":
            return f"drop {raw['ns']}, if nothing but what this job brought lies in it"
        case "kept" | "renamed":
            return f"rename {raw['as']} to {raw['ns']}"
        case "saved":
            return f"make time series {raw['ns']} again, from the copy {raw['file']}"
        case "command":
            return f"{raw['db']}: {_shown(raw['undo'])}"
        case _:
            return ""


def _shown(document: Any) -> str:
    raw = document if isinstance(document, bytes) else document.raw
    decoded = bson.decode(raw, TOLERANT)
    return json_util.dumps(decoded, json_options=CANONICAL, ensure_ascii=False)
