"""Where the documents of a unit lie, and what of them a chunk is."""

from executors.batches import Range
from executors.export.selection import projection_of
from executors.select import split, wanted_of
from statemachine.events import JobSpec
from statemachine.state import Chunk, Unit

BUCKETS = "system.buckets."


def data_of(namespace: str, kind: str) -> tuple[str, str]:
    """Database and collection that hold the documents of a namespace of this type: those of a
    time-series collection are its buckets."""
    database, collection = split(namespace)
    return database, BUCKETS + collection if kind == "timeseries" else collection


def gives_measurements(unit: Unit, spec: JobSpec) -> bool:
    """Whether a job reads what went into a time series, and not the buckets that keep it."""
    return spec.kind == "export" and unit.type == "timeseries"


def read_at(unit: Unit, spec: JobSpec) -> tuple[str, str]:
    """Database and collection in which a job reads the documents of a unit."""
    return split(unit.id) if gives_measurements(unit, spec) else data_of(unit.id, unit.type)


def range_of(
    unit: Unit,
    chunk: Chunk,
    spec: JobSpec,
    *,
    read_preference: str = "primary",
    cluster_time: str = "",
    since: str = "",
) -> Range:
    """What to read of the source for a chunk."""
    database, collection = read_at(unit, spec)
    return Range(
        database,
        collection,
        chunk.lower,
        chunk.upper,
        natural=chunk.natural,
        read_preference=read_preference,
        filter=wanted_of(unit.id, spec),
        projection=projection_of(spec).fields,
        cluster_time=cluster_time,
        since=since,
        uuid="" if gives_measurements(unit, spec) else unit.uuid,
    )
