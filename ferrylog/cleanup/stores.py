"""What failed jobs left in stores: files of dumps and exports that will not be."""

from functools import partial

from executors.dumps.stored import NOWHERE
from executors.dumps.storing import claimed_in, remove_claimed
from executors.export.place import root_of
from executors.export.unfinished import left_by, remove_left
from executors.storage.urls import open_store
from ferrylog.cleanup.items import Found, Freed, Item, Left
from ferrylog.cleanup.standing import Standing
from ferrylog.jobs import spec_of
from statemachine.errors import OperatorError
from statemachine.state import is_stored, keeps_files
from statemachine.words import JobStatus


def half_made_in_store(standing: Standing, now_ms: int) -> Found:
    """What no manifest will ever name. A job that has not failed removes such things itself, at its
    end or when it goes on. A store that cannot be looked into is told of, and keeps nothing else
    from going."""
    spec = spec_of(standing.journal, standing.job)
    exports = spec.export is not None
    if not (keeps_files(spec) and (exports or is_stored(spec.target))) or standing.live:
        return
    if standing.past.state.status is not JobStatus.FAILED:
        return
    place = root_of(spec) if exports else spec.target
    try:
        store = open_store(place, NOWHERE)
        there = left_by(store, standing.job) if exports else claimed_in(store, standing.job)
    except (OperatorError, OSError) as error:
        yield Left("files", place, f"what job {standing.job} left cannot be looked at: {error}")
        return
    if there:
        why = f"job {standing.job} failed before its {spec.kind} was whole"
        freed = Freed(bytes=sum(each.size for each in there), files=len(there))
        remove = partial(remove_left if exports else remove_claimed, store, standing.job)
        age_ms = now_ms - standing.last_ms
        yield Item("files", store.url, age_ms, why, freed, remove, standing.job)
