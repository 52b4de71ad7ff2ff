"""A run as it goes: bars on a terminal, lines elsewhere."""

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from loguru import logger

from ferrylog import clock
from ferrylog.engine import Engine
from ferrylog.rates import Rates
from ferrylog.views.logged import log
from ferrylog.views.model import job_percent, phase
from ferrylog.views.spans import duration, size
from statemachine.state import digest

if TYPE_CHECKING:
    from ferrylog.views.bars import Bars

LINE_EVERY_S: Final = 3.0


class Live:
    """Observes the engine after each turn; a context manager that owns the screen."""

    def __init__(self, *, quiet: bool, digest_every: int) -> None:
        self.rates = Rates()
        self._quiet = quiet
        self._digest_every = digest_every
        self._digest_at = 0
        self._shown_s = 0.0
        self._bars = _bars() if not quiet else None

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def print(self, text: str) -> None:
        """A log line; under bars it goes above them."""
        if self._bars is not None:
            self._bars.print(text)
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
        if not ended and now_s - self._shown_s < (LINE_EVERY_S if self._bars is None else 0.2):
            return
        self._shown_s = now_s
        if self._bars is not None:
            documents_s, bytes_s = self.rates.current()
            self._bars.draw(
                engine.state,
                f"{phase(engine.state)} {documents_s:,.0f} docs/s {size(bytes_s)}/s"
                f"{self._left(engine)}",
            )
        elif not self._quiet and not ended:
            self._line(engine)

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


def _bars() -> "Bars | None":
    """Where there is somebody to see them."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    from ferrylog.views.bars import Bars  # noqa: PLC0415 — it takes a while, and most have none

    return Bars()
