"""A history as `status` shows it."""

from collections.abc import Iterator
from pathlib import Path

from ferrylog.past import Past
from ferrylog.views.model import status_report
from ferrylog.views.shapes import StatusReport
from ferrylog.views.told import told
from journal.sqlite import SqliteJournal
from statemachine.state import State
from tests.ferrylog.histories import JOB


def reports(path: Path) -> Iterator[tuple[State, StatusReport]]:
    """After each event."""
    with SqliteJournal.read_only(path) as journal:
        for recorded in journal.read(JOB):
            past = Past().follow(journal.pages(JOB, to_seq=recorded.seq))
            facts = told(journal, JOB, past)
            yield past.state, status_report(JOB, past, running=True, told=facts)


def last(path: Path) -> tuple[State, StatusReport]:
    *_, found = reports(path)
    return found
