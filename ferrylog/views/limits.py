"""The limits that a run goes by; what it waits for is told by its alerts."""

from collections.abc import Iterator, Mapping
from typing import Any

from ferrylog.views.spans import size


def limits_line(settings: Mapping[str, Any] | None) -> Iterator[str]:
    """One line, of those that an operator has set."""
    told = ", ".join(_limits(settings or {}))
    if told:
        yield f"limits: {told}"


def _limits(settings: Mapping[str, Any]) -> Iterator[str]:
    if number := settings.get("memory_limit"):
        yield f"memory {size(number)}"
    if number := settings.get("cpu_limit"):
        yield f"cpu {number} %"
    if number := settings.get("disk_reserve"):
        yield f"disk reserve {size(number)}"
    for side in ("read", "write"):
        if number := settings.get(f"{side}_docs_per_s"):
            yield f"{side} {number:,} docs/s"
        if number := settings.get(f"{side}_bytes_per_s"):
            yield f"{side} {size(number)}/s"
