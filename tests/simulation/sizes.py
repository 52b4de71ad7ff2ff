"""What workers find out about the size of write commands: the real policy, in a world of chance."""

from collections.abc import Iterator
from random import Random

from statemachine.batching import Course, Sample, Size, failed, pressed, rule_of, timed
from statemachine.state import State
from statemachine.stimuli import Resized
from statemachine.words import UnitId

OFTEN = 0.1
"""In turns."""


class Sizes:
    """Of one seed; draws lots of its own, so that nothing else comes out otherwise."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"{seed}/sizes")
        self._courses: dict[UnitId, Course] = {}
        self._last: Resized | None = None

    def news(self, state: State) -> Iterator[Resized]:
        """Some of it comes twice, or late."""
        if self._random.random() > OFTEN or not state.units or state.settings is None:
            return
        if self._last is not None and self._random.random() < 0.2:
            yield self._last
        unit = state.units[self._random.choice(list(state.units))]
        rule = rule_of(state.settings)
        known = Size(unit.batch_documents, unit.batch_bytes) if unit.batch_documents else None
        course = self._courses.get(unit.id, Course(known or rule.initial))
        match self._random.randint(0, 9):
            case 0:
                held = Size(self._random.randint(1, 1000), self._random.randint(1, 1 << 20))
                course, cause = failed(rule, course, held, "throttled")
            case 1:
                course, cause = pressed(rule, course, "memory")
            case _:
                sample = Sample(*course.size, self._random.choice((1, 400, 90_000)))
                course, cause = timed(rule, course, sample)
        self._courses[unit.id] = course
        if cause is not None:
            self._last = Resized(unit.id, *course.size, cause, 1)
            yield self._last
