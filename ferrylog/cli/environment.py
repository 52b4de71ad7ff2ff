"""Names of the environment under which an export pipeline may already be described, beside
ferrylog's own. Guide: docs/export.md.

A flag goes before `FERRYLOG_*`, that before these names, these before the settings file.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

import typer

from ferrylog.cli.limits import size
from ferrylog.cli.options import uri
from ferrylog.errors import Usage
from ferrylog.redact import learn

URI: Final = "MONGO_URI"
USERNAME: Final = "MONGO_USERNAME"
PASSWORD: Final = "MONGO_PASSWORD"  # noqa: S105 — the name of a variable
AUTH_SOURCE: Final = "MONGO_AUTH_SOURCE"
DATABASE: Final = "MONGO_DB"
COLLECTION: Final = "MONGO_COLLECTION"
BUCKET: Final = "GCS_BUCKET"
PREFIX: Final = "GCS_PREFIX"
MEMORY: Final = "MAX_MEMORY_USAGE_GB"
OF_USERS: Final = "admin"
"""Where users are looked up unless something else is said."""
SHORTEST: Final = 3
"""Characters of a password that is hidden wherever it turns up."""


def source_uri(given: str | None, file: Path | None, fallback: str | None = None) -> str:
    """As `options.uri` of the source, with `MONGO_URI` after its other names; user and password
    join one that names nobody. Raises `Usage`."""
    there = uri("source", given, file, _named(URI) or fallback)
    user, password = _named(USERNAME), _named(PASSWORD)
    if user is None and password is None:
        return there
    if user is None or password is None:
        missing = USERNAME if user is None else PASSWORD
        raise Usage(f"{missing} is not set, and its other half is", remedy="set both, or neither")
    if len(password) >= SHORTEST:
        learn([password, quote_plus(password)])
    return joined(there, user, password, _named(AUTH_SOURCE) or OF_USERS)


def joined(there: str, user: str, password: str, auth_source: str) -> str:
    """The connection string with these credentials; one that has its own keeps them."""
    scheme, found, rest = there.partition("://")
    hosts, slash, behind = rest.partition("/")
    if not found or "@" in hosts:
        return there
    if not slash:
        hosts, question, options = rest.partition("?")
        behind = question + options
    if "authsource=" not in behind.lower():
        behind += ("&" if "?" in behind else "?") + f"authSource={quote(auth_source, safe='')}"
    return f"{scheme}://{quote_plus(user)}:{quote_plus(password)}@{hosts}/{behind}"


def out(context: typer.Context, given: str | None) -> str | None:
    """Where an export goes: what `GCS_BUCKET` and `GCS_PREFIX` name goes before the settings
    file."""
    bucket, prefix = _named(BUCKET), _named(PREFIX)
    if bucket is None or _is_from(context, "out", "COMMANDLINE", "ENVIRONMENT"):
        return given
    return "/".join(filter(None, ("gs:/", bucket, (prefix or "").strip("/"))))


def worker_memory() -> int | None:
    """Bytes. Raises `Usage`."""
    text = _named(MEMORY)
    try:
        return None if text is None else size("worker_memory", f"{text}g")
    except Usage:
        raise Usage(f"{MEMORY} {text!r} is no size", remedy="give GiB, such as 8 or 0.5") from None


Wanted = tuple[str | None, Sequence[str] | None, Sequence[str] | None]
"""Database, collections and globs."""


def selected(
    context: typer.Context,
    database: str | None,
    collections: Sequence[str] | None,
    include: Sequence[str] | None,
) -> Wanted:
    """What is wanted. What flags say is not widened by names of
    the environment, nor what those say by the settings file."""
    named, collection = _named(DATABASE), _named(COLLECTION)
    if any(is_flag(context, name) for name in ("db", "collection", "ns_include")):
        return database or (named if collections else None), collections, include
    if named is None:
        return database, [collection] if collection else collections, include
    return named, [collection] if collection else None, None


def is_flag(context: typer.Context, option: str) -> bool:
    """Whether the option was typed."""
    return _is_from(context, option, "COMMANDLINE")


def _is_from(context: typer.Context, option: str, *places: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name in places


def _named(name: str) -> str | None:
    """An empty variable is none."""
    return os.environ.get(name) or None
