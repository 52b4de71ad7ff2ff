"""The recipe of a unit: not beside its class, as what a process that converts imports is little."""

from executors.export.model import Recipe
from executors.export.selection import projection_of
from statemachine.events import JobSpec
from statemachine.state import Unit


def recipe_of(spec: JobSpec, unit: Unit) -> Recipe:
    form = spec.export
    assert form is not None
    return Recipe(
        format=form.format,
        json_form=form.json_form,
        compression=spec.compression,
        types=form.types,
        columns=unit.columns,
        partition=form.partition,
        without_id=projection_of(spec).without_id,
    )
