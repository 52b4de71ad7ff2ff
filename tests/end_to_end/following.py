"""A source that is followed under load and kills, until a cut-over."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from tests.end_to_end import snapshots
from tests.end_to_end.kills import empty
from tests.end_to_end.snapshots import now
from tests.end_to_end.trials import Program, at_second

if TYPE_CHECKING:
    from tests.end_to_end.chains import Trial

UNTOLD = ("depot.readings", "depot.system.buckets.readings")
"""What changes in a time series no stream tells: it is left out."""


def follow(trial: Trial, seconds: float, kills: int) -> None:
    """So long behind the first round, or longer; then the writer rests, cut-over, and both are
    compared. Renames and drops begin with the first round."""
    empty(trial.target.uri)
    program = Program(trial.folder / "follow")
    latest = 2 * seconds / (kills + 1)
    shots = [at_second(trial.rng.uniform(0.5, latest)) for _ in range(kills)]
    trial.writer.say("hold")
    ends = ("--source", trial.source.uri, "--target", trial.target.uri)
    words = ("start", "--follow", *ends, "--ns-exclude", UNTOLD[0])
    chunks = ("--chunk-docs", str(trial.size.chunk_docs))
    program.to_its_end((*words, *chunks), shots, Following(trial, program, seconds))
    expected = snapshots.present(trial.source.uri)
    expected.at = now(trial.source.uri)
    for name in UNTOLD:
        del expected.collections[name]
    trial.writer.say("go")
    trial.judge(f"followed for {seconds:.0f} s, {program.kills} kills", expected)
    trial.audit(program)


class Following:
    """Lets everything change behind the first round, and cuts over at last."""

    def __init__(self, trial: Trial, program: Program, seconds: float) -> None:
        self._trial, self._program, self._seconds = trial, program, seconds
        self._began = 0.0
        self._looked = 0.0
        self._over = False

    def __call__(self) -> None:
        at = time.monotonic()
        if self._over or at < self._looked + 0.2:
            return
        self._looked = at
        if not self._began and self._program.saw("follow_completed", 0):
            self._began = at
            self._trial.writer.say("go")
        if self._began and at > self._began + self._seconds:
            self._over = self._cut()

    def _cut(self) -> bool:
        """Whether it is under way; right behind a kill there is nobody to ask."""
        told = json.loads(self._program("status", "--json"))
        if told["phase"] != "follow":
            return False
        self._trial.tell(f"{told['follow']}")
        self._trial.writer.say("rest")
        self._program("cutover")
        return True
