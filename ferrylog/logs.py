"""Logging: lines on stderr, secrets taken out in the one place that all lines pass."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from loguru import logger

from ferrylog.redact import one_line, redact

if TYPE_CHECKING:
    from loguru import Record

FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ}  {level: <7}  {message}"


def configure(*, verbose: int, quiet: bool, sink: Callable[[str], None] | None = None) -> None:
    """`sink`: where lines go instead of stderr, such as above a progress bar."""
    level = "ERROR" if quiet else "DEBUG" if verbose else "INFO"
    logger.remove()
    logger.configure(patcher=_clean)
    logger.add(sink or _to_stderr, format=FORMAT, level=level, backtrace=False, diagnose=False)


def _to_stderr(line: str) -> None:
    sys.stderr.write(line)


def _clean(record: "Record") -> None:
    record["message"] = one_line(redact(record["message"]))
