"""What can be wrong, and from which limit on."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Severity = Literal["degraded", "critical"]
IssueType = Literal[
    "stuck_operations",
    "abandoned_jobs",
    "stale_lease",
    "failed_operations",
    "orphans",
    "queue_depth",
    "rollback_failure_rate",
    "rollback_failed",
    "dead_letters",
    "chain_gaps",
    "disk_space",
    "journal_damage",
    "unreachable",
]
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
RECENT_MS: Final = 30 * DAY_MS
"""Jobs that ended before that are history: nobody is asked to look at them (M4)."""


@dataclass(frozen=True)
class Limits:
    """More than this is an issue (M11)."""

    stuck_ms: int = 30 * MINUTE_MS
    failed: int = 10
    """In the last hour."""
    orphans: int = 50
    queue: int = 1000
    rollback_failures: float = 5.0
    """Percent of undos, over the last 30 days."""
    dead_letters: int = 0
    free: float = 10.0
    """Percent of a volume; less is an issue."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that is not as it should be."""

    type: IssueType
    severity: Severity
    count: float
    limit: float
    entities: Sequence[str]
    """All of them; reports show the first."""
    message: str
    recommendation: str
    """A command, exactly as it can be typed."""


def command(journal: Path, *words: str) -> str:
    """As a shell takes it."""
    return shlex.join(("ferrylog", *words, "--journal", str(journal)))
