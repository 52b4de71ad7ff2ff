"""Options for code of the user's own. Guide: docs/transforms.md."""

from pathlib import Path
from typing import Annotated, Final

import typer

from ferrylog.cli.options import CHUNK_DOCS, Mode
from ferrylog.errors import Usage
from statemachine.limits import AT_MOST

Transform = Annotated[
    str | None,
    typer.Option(
        "--transform",
        envvar="FERRYLOG_TRANSFORM",
        metavar="MODULE|FILE.py:FUNCTION",
        help="Each document goes through this function of yours: function(document) -> document.",
    ),
]
Validate = Annotated[
    str | None,
    typer.Option(
        "--validate",
        envvar="FERRYLOG_VALIDATE",
        metavar="MODULE|FILE.py:MODEL",
        help="Each document, transformed, must fit this pydantic model.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--transform-workers",
        envvar="FERRYLOG_TRANSFORM_WORKERS",
        min=1,
        max=AT_MOST["transform_workers"],
        help="Processes for them; default one per core, at most 8.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--transform-timeout",
        envvar="FERRYLOG_TRANSFORM_TIMEOUT",
        min=0.001,
        max=AT_MOST["transform_ms"] / 1000,
        help="Seconds for one document before its process is ended; default 60.",
    ),
]
Malformed = Annotated[
    float,
    typer.Option(
        "--max-malformed",
        envvar="FERRYLOG_MAX_MALFORMED",
        metavar="PERCENT",
        min=0,
        max=100,
        help="Of a sample of each collection that may be rejected before a job begins.",
    ),
]
ChunkDocs = Annotated[
    int | None,
    typer.Option(
        "--chunk-docs",
        min=1,
        help=f"Documents per chunk, about; default {CHUNK_DOCS}, 1000 with --transform.",
    ),
]
MAX_MALFORMED: Final = 10.0
TRANSFORMED_DOCS: Final = 1000
"""Of a chunk: a killed one is transformed anew, from its beginning (F8)."""


def names(
    transform: str | None, validate: str | None, mode: Mode, *, follow: bool
) -> tuple[str, str]:
    """As a job keeps them. Raises `Usage` where there are no chunk files that could hold what the
    code makes of the documents."""
    if transform is None and validate is None:
        return "", ""
    if "" in (transform, validate):
        raise Usage(
            "--transform or --validate names nothing",
            remedy="name code of yours, or leave the option out: documents would go as they are",
        )
    if mode is not Mode.COORDINATED:
        raise Usage(
            "--transform and --validate work on the way to chunk files, and --mode direct has none",
            remedy="use --mode coordinated",
        )
    if follow:
        raise Usage(
            "what follows is carried as it is on the source: it cannot be transformed",
            remedy="leave out --follow",
        )
    return _resolved(transform), _resolved(validate)


def chunk_docs(given: int | None, *, transforms: bool) -> int:
    return given or (TRANSFORMED_DOCS if transforms else CHUNK_DOCS)


def timeout_ms(seconds: float | None) -> int | None:
    return max(1, round(seconds * 1000)) if seconds is not None else None


def _resolved(name: str | None) -> str:
    """What names a file means the same wherever the job is resumed."""
    where, colon, what = (name or "").rpartition(":")
    return f"{Path(where).resolve()}{colon}{what}" if where.endswith(".py") else name or ""
