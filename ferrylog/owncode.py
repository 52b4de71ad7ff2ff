"""Code of the user's own in a run: its processes, and what is asked of it before a job begins."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from loguru import logger

from executors.clients import Deployment
from executors.dumps.model import NeverStops
from executors.transforms.feasibility import must_be_feasible
from executors.transforms.heldback import Through
from ferrylog import clock
from ferrylog.engine import Engine
from statemachine.events import JobSpec, RunSettings
from statemachine.state import State, transforms

if TYPE_CHECKING:
    from executors.transforms.pool import Pool


@dataclass(frozen=True, slots=True)
class OwnCode:
    """What a job's documents go through; settings that change while it runs are followed."""

    pool: "Pool"
    through: Through
    sha256: str

    def __call__(self, engine: Engine) -> None:
        if (settings := engine.state.settings) is not None:
            self.pool.set(settings.transform_workers, settings.transform_ms)

    def must_be_feasible(self, source: Deployment, spec: JobSpec, percent: float) -> None:
        """Raises what `feasibility.must_be_feasible` raises."""
        by = clock.monotonic_s
        must_be_feasible(source.client, spec, self.through, percent, by)

    def told(self, settings: RunSettings, state: State) -> RunSettings:
        """The settings of a run with the sum of its code; that it is another one is said."""
        before = state.settings.transform_sha256 if state.settings is not None else ""
        if before and before != self.sha256:
            logger.warning(
                "the code of {} is another than in the run before: documents that were transformed "
                "stay as they are",
                state.spec and (state.spec.transform or state.spec.model),
            )
        return settings.model_copy(update={"transform_sha256": self.sha256})


@contextmanager
def own_code(
    spec: JobSpec, settings: RunSettings, *, ended: bool = False
) -> Iterator[OwnCode | None]:
    """Loaded once, in a process of its own; `None` where a job has none, or needs none any more.
    Raises what is wrong with it. Its processes end with the context."""
    if ended or not transforms(spec) or spec.kind not in ("migrate", "export", "plan"):
        yield None
        return
    # Only for own code: importing this takes time.
    from executors.transforms.code import Names  # noqa: PLC0415
    from executors.transforms.pool import Pool  # noqa: PLC0415
    from executors.transforms.stream import transformed  # noqa: PLC0415

    names = Names(spec.transform, spec.model)
    limits = settings.transform_workers, settings.transform_ms
    pool = Pool(names, *limits, clock.monotonic_s)
    try:
        yield OwnCode(pool, partial(transformed, pool), pool.check(NeverStops()))
    finally:
        pool.close()
