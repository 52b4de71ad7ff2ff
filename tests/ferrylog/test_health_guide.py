"""docs/health.md says what the commands do (M10, M11)."""

import re
from pathlib import Path
from typing import get_args

from ferrylog.cleanup.items import DAY_MS, HOUR_MS, KINDS, OLDER_THAN_MS
from ferrylog.health.issues import MINUTE_MS, IssueType, Limits
from tests.program import ferrylog

PAGE = (Path(__file__).parents[2] / "docs/health.md").read_text()
COMMAND = re.compile(r"ferrylog ((?:health|cleanup|inspect check)(?: [-\w/=.]+)*)")


def test_every_command_takes_its_options() -> None:
    commands = {found.group(1) for found in COMMAND.finditer(PAGE)}
    assert len(commands) > 8
    for name in ("health", "cleanup", "inspect check"):
        known = ferrylog(*name.split(), "--help").stdout
        for command in commands:
            if command.startswith(name):
                options = re.findall(r"--[-a-z]+", command)
                assert [option for option in options if option not in known] == [], command


def test_every_issue_and_its_limit_are_told() -> None:
    rows = {row.split("`")[1]: row for row in PAGE.splitlines() if row.startswith("| `")}
    assert set(get_args(IssueType)) | set(KINDS) <= set(rows)
    limits = Limits()
    for kind, limit in (
        ("stuck_operations", f"{limits.stuck_ms // MINUTE_MS} minutes"),
        ("failed_operations", str(limits.failed)),
        ("orphans", str(limits.orphans)),
        ("queue_depth", str(limits.queue)),
        ("rollback_failure_rate", f"{limits.rollback_failures:g} %"),
        ("dead_letters", str(limits.dead_letters)),
        ("disk_space", f"{limits.free:g} %"),
    ):
        assert rows[kind].split("|")[4].strip() == limit, kind
    for each in KINDS:
        hours = OLDER_THAN_MS[each] // HOUR_MS
        days = OLDER_THAN_MS[each] // DAY_MS
        told = f"{days} days" if days > 1 else "1 hour" if hours == 1 else f"{hours} hours"
        assert rows[each].split("|")[3].strip() == told, each


def test_the_times_of_the_requirements_are_there() -> None:
    """M10: every 5 minutes, hourly, daily at 02:00, Sundays at 03:00; as cron and as timers."""
    for line in ("*/5 * * * *  ferrylog health", "0 2 * * *    ferrylog cleanup", "0 3 * * 0"):
        assert line in PAGE
    for calendar in ("*:0/5", "*:17", "*-*-* 02:00:00", "Sun *-*-* 03:00:00"):
        assert calendar in PAGE
