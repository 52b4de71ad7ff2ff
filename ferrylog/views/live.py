"""A run as it goes: bars on a terminal, lines elsewhere."""

import os
import sys
from types import TracebackType
from typing import Final, Self

from loguru import logger
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from ferrylog import clock
from ferrylog.engine import Engine
from ferrylog.rates import Rates
from ferrylog.redact import one_line
from ferrylog.views.logged import log
from ferrylog.views.model import job_percent, phase
from ferrylog.views.spans import duration, size
from ferrylog.views.work import done, estimate
from statemachine.state import digest

LINE_EVERY_S: Final = 3.0
BARS: Final = 12
"""Units with a bar of their own; more would push each other off the screen."""


class Live:
    """Observes the engine after each turn; a context manager that owns the screen."""

    def __init__(self, *, quiet: bool, digest_every: int) -> None:
        self.rates = Rates()
        self._quiet = quiet
        self._digest_every = digest_every
        self._digest_at = 0
        self._shown_s = 0.0
        self._tty = sys.stderr.isatty() and not quiet and os.environ.get("TERM") != "dumb"
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
            disable=not self._tty,
        )

    def __enter__(self) -> Self:
        if self._tty:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tty:
            self._progress.stop()

    def print(self, text: str) -> None:
        """A log line; under bars it goes above them."""
        if self._tty:
            self._console.print(text.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(text)

    def __call__(self, engine: Engine) -> None:
        self.rates = engine.past.rates
        for event in engine.news:
            log(event)
        self._log_digest(engine)
        self._show(engine)

    def _log_digest(self, engine: Engine) -> None:
        if engine.position.version - self._digest_at < self._digest_every:
            return
        self._digest_at = engine.position.version
        logger.info("state digest seq={} digest={}", engine.position.seq, digest(engine.state))

    def _show(self, engine: Engine) -> None:
        now_s = clock.monotonic_s()
        ended = engine.state.resting
        if not ended and now_s - self._shown_s < (0.2 if self._tty else LINE_EVERY_S):
            return
        self._shown_s = now_s
        if self._tty:
            self._redraw(engine)
        elif not self._quiet and not ended:
            self._line(engine)

    def _redraw(self, engine: Engine) -> None:
        documents_s, bytes_s = self.rates.current()
        for unit in list(engine.state.units.values())[:BARS]:
            if unit.id not in self._bars:
                self._bars[unit.id] = self._progress.add_task(
                    one_line(unit.id), total=None, note=""
                )
            documents = estimate(engine.state, unit)
            self._progress.update(
                self._bars[unit.id],
                total=documents,
                completed=min(done(engine.state, unit).documents, documents),
                note=f"{unit.status}",
            )
        if "" not in self._bars:
            self._bars[""] = self._progress.add_task("all", total=100, note="")
        self._progress.update(
            self._bars[""],
            completed=round(job_percent(engine.state)),
            note=f"{phase(engine.state)} {documents_s:,.0f} docs/s {size(bytes_s)}/s"
            f"{self._left(engine)}",
        )

    def _line(self, engine: Engine) -> None:
        documents_s, bytes_s = self.rates.current()
        logger.info(
            "{:5.1f} %  {}  {:,} documents  {:,.0f} docs/s  {}/s{}",
            job_percent(engine.state),
            phase(engine.state),
            self.rates.documents,
            documents_s,
            size(bytes_s),
            self._left(engine),
        )

    def _left(self, engine: Engine) -> str:
        share = job_percent(engine.state)
        if not 0 < share < 100 or not self.rates.active_ms:
            return ""
        return f"  {duration(self.rates.active_ms / 1000 * (100 - share) / share)} left"
