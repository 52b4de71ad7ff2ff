"""Both ends of a job."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from executors.clients import Deployment
from executors.dumps.making import Out
from executors.dumps.restoring import DumpSource
from executors.export.place import Export
from executors.increments.model import Making


@dataclass(frozen=True)
class Ends:
    """Where documents come from and where they go: deployments, or a dump at one of the ends."""

    source: Deployment | None = None
    target: Deployment | None = None
    dump: DumpSource | None = None
    """Of a job that reads one."""
    out: Out | None = None
    """Of a job that makes one."""
    making: Making | None = None
    """Of a job that makes an increment."""
    endpoints: Mapping[str, Deployment] = field(default_factory=dict)
    """Of a group whose operations run at several places, by name."""
    export: Export | None = None
    """Of an export."""
