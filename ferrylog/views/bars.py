"""Bars on a terminal: one for each of the first units, one for the job."""

from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from ferrylog.redact import one_line
from ferrylog.views.model import job_percent
from ferrylog.views.work import done, estimate
from statemachine.state import State

BARS: Final = 12
"""Units with a bar of their own; more would push each other off the screen."""


class Bars:
    """Owns the screen from `start` to `stop`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:5.1f} %"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
        )

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def print(self, text: str) -> None:
        """A line above them."""
        self._console.print(text.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)

    def draw(self, state: State, note: str) -> None:
        """As it stands; `note`: what is told of the whole job."""
        for unit in list(state.units.values())[:BARS]:
            if unit.id not in self._bars:
                self._bars[unit.id] = self._progress.add_task(
                    one_line(unit.id), total=None, note=""
                )
            documents = estimate(state, unit)
            self._progress.update(
                self._bars[unit.id],
                total=documents,
                completed=min(done(state, unit).documents, documents),
                note=f"{unit.status}",
            )
        if "" not in self._bars:
            self._bars[""] = self._progress.add_task("all", total=100, note="")
        self._progress.update(self._bars[""], completed=round(job_percent(state)), note=note)
