"""Options for what a run may take, and what they turn into. Guide: docs/limits.md."""

import os
import re
from typing import Annotated, Final

import typer

from ferrylog.errors import Usage
from ferrylog.governing.memory import machine_bytes
from statemachine.limits import AT_MOST

Memory = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        envvar="FERRYLOG_MEMORY_LIMIT",
        metavar="BYTES|512m|2g|80%",
        help="Of this process; default 80% of the machine's or the container's.",
    ),
]
Processor = Annotated[
    int | None,
    typer.Option(
        "--cpu-limit",
        envvar="FERRYLOG_CPU_LIMIT",
        min=0,
        max=100,
        metavar="PERCENT",
        help="Of all cores, by this process; default: no limit (0).",
    ),
]
Reserve = Annotated[
    str | None,
    typer.Option(
        "--disk-reserve",
        envvar="FERRYLOG_DISK_RESERVE",
        metavar="BYTES|2g",
        help="Stays free where chunk files lie; default 1g, 2% of smaller disks.",
    ),
]
ReadDocuments = Annotated[
    int | None,
    typer.Option(
        "--read-docs-per-s",
        envvar="FERRYLOG_READ_DOCS_PER_S",
        min=0,
        max=AT_MOST["read_docs_per_s"],
        help="From the source, all readers together; default: no limit (0).",
    ),
]
ReadMegabytes = Annotated[
    float | None,
    typer.Option(
        "--read-mb-per-s",
        envvar="FERRYLOG_READ_MB_PER_S",
        min=0,
        max=AT_MOST["read_bytes_per_s"] / 1e6,
        help="The same in megabytes.",
    ),
]
WriteDocuments = Annotated[
    int | None,
    typer.Option(
        "--write-docs-per-s",
        envvar="FERRYLOG_WRITE_DOCS_PER_S",
        min=0,
        max=AT_MOST["write_docs_per_s"],
        help="To the target, all writers together; default: no limit (0).",
    ),
]
WriteMegabytes = Annotated[
    float | None,
    typer.Option(
        "--write-mb-per-s",
        envvar="FERRYLOG_WRITE_MB_PER_S",
        min=0,
        max=AT_MOST["write_bytes_per_s"] / 1e6,
        help="The same in megabytes.",
    ),
]

UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE: Final = re.compile(r"(\d{1,16}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d{1,16}(?:\.\d{1,6})?", re.ASCII)
_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%", re.ASCII)
YES: Final = ("true", "1", "yes", "on")
NO: Final = ("false", "0", "no", "off", "")
THROTTLED_CPU: Final = 85
"""Percent: what CPU_THROTTLE_ENABLED means (F7)."""
SIZES: Final = (
    "memory_limit", "disk_reserve", "read_bytes_per_s", "write_bytes_per_s", "worker_memory",
)  # fmt: skip
"""Settings that may be given as sizes."""
MEGABYTES: Final = {"read_mb_per_s": "read_bytes_per_s", "write_mb_per_s": "write_bytes_per_s"}
"""Options, and the settings that they are."""


def limits(
    memory: str | None,
    processor: int | None,
    reserve: str | None,
    read: tuple[int | None, float | None],
    write: tuple[int | None, float | None],
) -> dict[str, int | None]:
    """As settings of a run; None: not given. Raises `Usage`."""
    return {
        "memory_limit": size("memory_limit", memory) if memory else _memory_mb(),
        "cpu_limit": processor if processor is not None else _cpu_throttle(),
        "disk_reserve": size("disk_reserve", reserve) if reserve else None,
        "read_docs_per_s": read[0],
        "read_bytes_per_s": _bytes(read[1]),
        "write_docs_per_s": write[0],
        "write_bytes_per_s": _bytes(write[1]),
    }


def size(name: str, text: str) -> int:
    """Bytes of `512m`, `2g`, `1000000`; of memory also a share of the machine's. Raises `Usage`."""
    most, found = AT_MOST[name], _SIZE.fullmatch(text)
    share = _SHARE.fullmatch(text) if name == "memory_limit" else None
    if found:
        value = int(float(found[1]) * UNITS[found[2].lower()])
    elif share and float(share[1]) <= 100:
        value = int(float(share[1]) / 100 * machine_bytes())
    else:
        value = -1
    if not 0 <= value <= most:
        shares = ", 80%" if name == "memory_limit" else ""
        raise Usage(
            f"{name.replace('_', '-')} {text!r} is no size",
            remedy=f"give bytes, or 512m, 2g{shares}",
        )
    return value


def megabytes(name: str, text: str) -> int:
    """Bytes of a number of megabytes, as the option of that name takes it. Raises `Usage`."""
    most = AT_MOST[MEGABYTES[name]]
    value = _bytes(float(text)) if _NUMBER.fullmatch(text) else None
    if value is None or value > most:
        shown = name.replace("_", "-")
        raise Usage(f"{shown} {text!r} is no number of megabytes", remedy="give one such as 1.5")
    return value


def _bytes(number: float | None) -> int | None:
    if number is None or number == 0:
        return None if number is None else 0
    return max(1, round(number * 1_000_000))


def _memory_mb() -> int | None:
    text = os.environ.get("MEMORY_LIMIT_MB")
    return None if text is None else size("memory_limit", f"{text}m")


def _cpu_throttle() -> int | None:
    text = os.environ.get("CPU_THROTTLE_ENABLED")
    if text is None or text.lower() in NO:
        return None if text is None else 0
    if text.lower() in YES:
        return THROTTLED_CPU
    raise Usage(f"CPU_THROTTLE_ENABLED is {text!r}", remedy="give true or false")
