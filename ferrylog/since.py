"""From where to where a repeated export goes, by a field that only grows."""

from pathlib import Path

from loguru import logger

from executors.clients import Deployment
from executors.dumps.model import NeverStops
from executors.export.place import root_of
from executors.export.since import export_before, newest
from executors.storage.protocol import Store
from executors.storage.urls import open_store
from statemachine.events import JobSpec


def bounded(source: Deployment, spec: JobSpec, work: Path, read_preference: str) -> JobSpec | None:
    """With the bounds of what is new; `None` when nothing is. `work`: a folder of ours.

    Raises what `newest`, `export_before` and `open_store` raise.
    """
    asked = spec.export
    assert asked is not None

    def at(folder: str) -> Store:
        there = asked.model_copy(update={"prefix": folder})
        return open_store(root_of(spec.model_copy(update={"export": there})), work)

    before = export_before(at, spec)
    if before is not None and not before.complete:
        logger.warning("the export before this one, of job {}, is not complete", before.job)
    form = asked.model_copy(update={"above": before.upto if before is not None else ""})
    spec = spec.model_copy(update={"export": form})
    found = newest(source.client, spec, NeverStops(), read_preference=read_preference)
    if not found.indexed:
        logger.warning(
            "{} has no index that begins with {}: all of it is read to find what is new",
            found.namespace,
            form.since,
        )
    if not found.upto:
        return None
    return spec.model_copy(update={"export": form.model_copy(update={"upto": found.upto})})
