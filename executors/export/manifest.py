"""The manifest of an export: what was asked for, and every file that belongs to it."""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from executors.export.errors import BadManifest
from executors.export.names import MANIFEST
from executors.storage.errors import NoObject
from executors.storage.protocol import Store

SCHEMA: Final = "ferrylog.export/1"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Facts(_Strict):
    """Where an export comes from, and what was asked for."""

    tool: str
    job: str
    created: str
    """When the manifest was written: ISO 8601, UTC."""
    source: str
    """Without credentials."""
    source_id: str
    server_version: str
    consistency: Literal["fuzzy", "snapshot"] = "fuzzy"
    cluster_time: str = ""
    """`seconds.increment` of all documents, of a snapshot."""
    format: Literal["parquet", "jsonl"]
    types: str = ""
    """Of Parquet."""
    json_form: str = ""
    """Of JSONL."""
    compression: str
    partition: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    queries: tuple[tuple[str, str], ...] = ()
    projection: str = ""
    transform: str = ""
    model: str = ""
    since: str = ""
    """The field; the next export begins above `upto`."""
    above: str = ""
    upto: str = ""


class File(_Strict):
    name: str
    """Beneath the folder that the manifest lies in."""
    documents: NonNegativeInt
    bytes: NonNegativeInt
    sha256: str
    present: Mapping[str, int] = {}
    """Of Parquet: values that are not null, by column."""
    census: Mapping[str, Mapping[str, int]] = {}
    """Of Parquet: how many values of which BSON type, by column."""


class Collection(_Strict):
    namespace: str
    type: str
    documents: NonNegativeInt
    bytes: NonNegativeInt
    """Of the documents, as BSON."""
    rejected: NonNegativeInt
    """Documents that are in no file."""
    columns: tuple[Mapping[str, Any], ...] = ()
    """Of Parquet: the field of the document, the name of the column, what it holds."""
    files: tuple[File, ...]


class Manifest(Facts):
    schema_: Literal["ferrylog.export/1"] = "ferrylog.export/1"
    complete: bool
    """Every document that was asked for is in a file."""
    missing: tuple[str, ...] = ()
    """What is not, in words."""
    beside: tuple[str, ...] = ()
    """Some of what lies there and belongs to something else."""
    documents: NonNegativeInt
    bytes: NonNegativeInt
    rejected: NonNegativeInt
    collections: tuple[Collection, ...]


def as_bytes(manifest: Manifest) -> bytes:
    told = manifest.model_dump(mode="json", exclude_defaults=False)
    ordered = {"schema": told.pop("schema_"), **told}
    return json.dumps(ordered, indent=1, ensure_ascii=False).encode() + b"\n"


def read_manifest(store: Store) -> Manifest:
    """Raises `BadManifest`, `NoObject`, what the store raises."""
    return parsed(store.get(MANIFEST), store.url)


def parsed(raw: bytes, url: str) -> Manifest:
    """`url`: where it lies. Raises `BadManifest`."""
    try:
        told = json.loads(raw)
        if not isinstance(told, dict) or told.get("schema") != SCHEMA:
            raise BadManifest(url, f"its schema is not {SCHEMA}")
        told["schema_"] = told.pop("schema")
        return Manifest.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadManifest(url, f"{where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise BadManifest(url, f"no JSON: {str(error)[:100]}") from None


def standing(store: Store) -> Manifest | None:
    """The manifest that stands there. Raises as `read_manifest`."""
    try:
        return read_manifest(store)
    except NoObject:
        return None
