"""Whether a dump or an export can go where it is to go, before it begins."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from executors.export import extra
from executors.export.place import refuse_taken
from executors.folder import remove_if_empty
from executors.storage.checking import check_store
from executors.storage.urls import open_store
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.state import DUMP, takes_census


def place_findings(target: str, spec: JobSpec | None) -> list[OperatorError]:
    """`target`: as a job keeps it; `spec`: of the job, where so much is known. A folder that is not
    there is not there afterwards either."""
    place, found = target.removeprefix(DUMP), list[OperatorError]()
    with TemporaryDirectory() as work, _as_before(Path(place)):
        try:
            store = open_store(place, Path(work))
            if spec is not None and spec.export is not None:
                refuse_taken(store, spec)
            found += check_store(store)
        except OperatorError as error:
            found.append(error)
    if spec is not None and takes_census(spec):
        found += _raised(extra.require)
    return found


def _raised(ask: Callable[[], None]) -> Iterator[OperatorError]:
    try:
        ask()
    except OperatorError as error:
        yield error


@contextmanager
def _as_before(folder: Path) -> Iterator[None]:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    yield
    for each in missing:
        remove_if_empty(each)
