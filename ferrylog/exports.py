"""Where an export of this process goes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from executors.clients import Deployment
from executors.export import extra
from executors.export.errors import PlaceUnusable
from executors.export.manifest import Facts
from executors.export.place import Export, refuse_taken, root_of, take
from executors.export.processes import Processes
from executors.storage.protocol import Store
from executors.storage.urls import local_folder, open_store
from ferrylog import __version__, clock
from ferrylog.engine import Engine
from statemachine.events import JobSpec, RunSettings
from statemachine.state import takes_census
from statemachine.words import JobId


def export_to(
    engine: Engine, spec: JobSpec, source: Deployment | None, folder: Path, settings: RunSettings
) -> Export | None:
    """Nothing is asked of the store yet. `folder`: the job's, for what is on its way there;
    `settings`: until the first turn. Raises `NoPyarrow`, `BadStoreUrl`, `NoCredentials`."""
    if spec.export is None:
        return None
    assert source is not None
    if takes_census(spec):
        extra.require()
    return Export(
        engine.job,
        open_store(root_of(spec), folder),
        Processes(settings.dump_workers),
        partial(_facts, engine.job, spec, source.version),
        lambda: (engine.state.settings or settings).worker_memory,
    )


def refuse_existing_export(spec: JobSpec, folder: Path) -> None:
    """Before a job begins. Raises as `refuse_taken`, `PlaceUnusable`."""
    store = open_store(root_of(spec), folder)
    with _usable(store):
        refuse_taken(store, spec)


def take_place(export: Export, spec: JobSpec, *, begins: bool) -> None:
    """The place is this job's from now on. Raises as `take`, `PlaceUnusable`."""
    assert spec.export is not None
    with _usable(export.store):
        take(export.store, export.job, replace=begins and spec.export.overwrite)


@contextmanager
def _usable(store: Store) -> Iterator[None]:
    """What a disk says of it."""
    try:
        yield
    except OSError as error:
        raise PlaceUnusable(store.url, error.strerror or str(error)) from None


def converting(export: Export | None) -> AbstractContextManager[object]:
    """With its processes."""
    return nullcontext() if export is None else export.processes


def written_in(spec: JobSpec, folder: Path) -> Path:
    """Where files of an export are written first: in its place, or in the job's `folder`."""
    return local_folder(root_of(spec)) or folder


def _facts(job: JobId, spec: JobSpec, version: str) -> Facts:
    form = spec.export
    assert form is not None
    return Facts(
        tool=f"ferrylog {__version__}",
        job=job,
        created=clock.when(clock.now_ms()),
        source=spec.source,
        source_id=spec.source_id,
        server_version=version,
        consistency=spec.consistency,
        format=form.format,
        types=form.types if form.format == "parquet" else "",
        json_form=form.json_form if form.format == "jsonl" else "",
        compression=spec.compression,
        partition=form.partition,
        include=spec.include,
        exclude=spec.exclude,
        queries=spec.queries,
        projection=form.projection,
        transform=spec.transform,
        model=spec.model,
        since=form.since,
        above=form.above,
        upto=form.upto,
    )
