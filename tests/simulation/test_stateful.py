"""Any order of anything: Hypothesis turns the engine, tells news as it likes, kills and resumes.

The real engine and the real journal file in a world small enough to read a failure by hand.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from statemachine.events import RunSettings
from statemachine.state import is_whole, reads_dump
from statemachine.stimuli import Failed, FileDamaged, PauseAsked, Stimulus
from statemachine.words import Cause, TaskKind, UnitId
from tests.counts import count
from tests.simulation.faulty import Fate
from tests.simulation.groups import draw_group
from tests.simulation.host import Host, Stray
from tests.simulation.link_hands import lay_out_links
from tests.simulation.news import News
from tests.simulation.shell import How, began
from tests.simulation.test_crash_sweep import CASES, SETTINGS, SPEC
from tests.simulation.wishes import WISHES, cutovers
from tests.simulation.world import Calm, World, draw_past, lay_out

MAX_STEPS = 400
"""From any place to the end once nothing goes wrong (I30)."""
which = st.integers(0, 3)
fates = st.sampled_from(Fate)
causes = st.sampled_from(Cause)
HOUR_MS = 3_600_000

alive = precondition(lambda self: not self.host.waits_for_operator and not self.host.ended)
flying = precondition(
    lambda self: bool(self.host.flying) and not self.host.waits_for_operator and not self.host.ended
)


class Ferry(RuleBasedStateMachine):
    """Bundles are not needed: what there is to choose from is the state of the host."""

    host: Host
    settings: RunSettings

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.fate = Fate.FINE
        self.late: list[News] = []
        self.requests = 0

    @initialize(
        documents=st.integers(0, 5),
        policy=st.sampled_from(["pause", "skip-unit", "fail-job"]),
        retries=st.integers(1, 2),
        verify=st.booleans(),
        case=st.sampled_from(list(CASES)),
        unpacked=st.booleans(),
    )
    def start(
        self,
        documents: int,
        policy: Any,
        retries: int,
        verify: bool,
        case: str,
        unpacked: bool,
    ) -> None:
        unit, other = UnitId("db.a"), UnitId("db.v")
        source = {unit: {key: f"{key}" for key in range(documents)}, other: {}}
        world = World(Calm(), source, views={other}, indexes={unit: ("i",)}, per_chunk=4)
        world.refused[unit] = {2} & set(source[unit]) if retries == 2 else set()
        changes = {"on_exhausted": policy, "max_retries": retries}
        self.settings = SETTINGS.model_copy(update=changes)
        spec = SPEC.model_copy(update={"verify": verify, "metadata": verify, **CASES[case]})
        world.expiring, world.compared = {unit}, spec.metadata
        if spec.kind == "verify":
            world.target = {unit: dict(source[unit]), other: {}}
            world.refused.clear()
        if spec.kind == "group":
            world = draw_group(Random(documents), Calm())
            world.hopeless = {"o2"} if retries == 2 else set()
        if is_whole(spec):
            draw_past(Random(documents), world, spec.links)
        if reads_dump(spec):
            unpacks = unpacked and not spec.links
            world.from_dump, world.unpacked = True, {unit} if unpacks else set()
            lay_out(world)
        if spec.links:
            lay_out_links(world)
        if spec.incremental:
            world.source = {}
        self.host = Host(self.folder / "journal.db", world, spec, self.settings, lambda: self.fate)
        self.host.hears = False
        self.host.begin(self.settings)

    def turn(self, *news: Stimulus | None, fate: Fate = Fate.FINE) -> None:
        self.host.pass_time(10)
        self.fate = fate
        self.host.turn([each for each in news if each is not None])
        self.fate = Fate.FINE

    def pick(self, n: int) -> Any:
        keys = list(self.host.flying)
        return keys[n % len(keys)]

    # --- effects and their news ---

    @flying
    @rule(n=which, fate=fates)
    def go_on(self, n: int, fate: Fate) -> None:
        self.turn(self.host.step(self.pick(n)), fate=fate)

    @flying
    @rule(n=which)
    def go_on_and_tell_twice(self, n: int) -> None:
        news = self.host.step(self.pick(n))
        self.turn(news, news)
        if news is not None:
            self.late.append(news)

    @flying
    @rule(n=which)
    def go_on_unheard(self, n: int) -> None:
        """The effect is applied; its news may come late, or never."""
        news = self.host.step(self.pick(n))
        if news is not None:
            self.late.append(news)

    @flying
    @rule(n=which, cause=causes, applied=st.booleans())
    def fail(self, n: int, cause: Cause, applied: bool) -> None:
        key, attempt = self.pick(n)
        if applied:
            self.host.step((key, attempt))
        self.host.flying.pop((key, attempt), None)
        assert self.host.engine is not None
        epoch = self.host.engine.state.epoch
        self.turn(Failed(key, attempt, epoch, cause, "ESIM", "simulated"))

    @alive
    @precondition(lambda self: self.late)
    @rule(n=which, fate=fates)
    def tell_late(self, n: int, fate: Fate) -> None:
        self.turn(self.late.pop(n % len(self.late)), fate=fate)

    @alive
    @rule(fate=fates)
    def damage_told_of_nothing(self, fate: Fate) -> None:
        """News of a restore that nobody started."""
        for key in self.host.chronicle.last:
            if key.kind is TaskKind.RESTORE:
                self.turn(FileDamaged(key, 99, 1, "simulated"), fate=fate)
                return

    # --- the process ---

    @precondition(lambda self: self.host.waits_for_operator)
    @rule(fate=fates)
    def begin(self, fate: Fate) -> None:
        self.fate = fate
        self.host.begin(self.settings)
        self.fate = Fate.FINE

    @alive
    @rule(goes_on=st.booleans())
    def die(self, goes_on: bool) -> None:
        if goes_on:
            self.host.strays += [Stray(each.work, heard=True) for each in self.host.flying.values()]
        self.host.die()

    @alive
    @rule(workers=st.integers(1, 2))
    def begin_again(self, workers: int) -> None:
        self.host.leave()
        fewer = {"dump_workers": workers, "restore_workers": workers}
        self.host.begin(self.settings.model_copy(update=fewer))

    @alive
    @rule(fate=fates)
    def move(self, fate: Fate) -> None:
        self.fate = fate
        self.host.move()
        self.fate = Fate.FINE

    @precondition(lambda self: self.host.waits_for_operator or self.host.ended)
    @rule(fate=fates, persevering=st.booleans(), n=which)
    def take_back(self, fate: Fate, persevering: bool, n: int) -> None:
        """What rests, or has ended: all of it, or only what began after some operation."""
        self.host.engine = None
        self.host.journal.open()
        self.host.look()
        began_ = [f"{key.kind} {key.entity}" for key in began(self.host.chronicle.records)]
        to = began_[n] if n < len(began_) - 1 else ""
        self.fate = fate
        self.host.begin(self.settings, How(to, persevering=persevering))
        self.fate = Fate.FINE

    @alive
    @rule()
    def pause(self) -> None:
        self.turn(PauseAsked("me", "simulated"))

    @alive
    @rule(verb=st.sampled_from(list(WISHES)), chance=st.integers(0, 7), twice=st.booleans())
    def ask(self, verb: str, chance: int, twice: bool) -> None:
        """Whatever an operator may ask for, sense or nonsense, perhaps twice."""
        assert self.host.engine is not None
        wishes = list(WISHES[verb](self.host.engine.state, self.number, Random(chance)))
        if wishes:
            wish = wishes[chance % len(wishes)]
            self.turn(*[wish] * (1 + twice))

    def number(self) -> int:
        self.requests += 1
        return self.requests

    # --- the world ---

    @precondition(lambda self: self.host.strays)
    @rule(n=which)
    def stray(self, n: int) -> None:
        news = self.host.stray(n % len(self.host.strays))
        if news is not None:
            self.late.append(news)

    @rule(hours=st.integers(-2, 2))
    def jump_the_clock(self, hours: int) -> None:
        self.host.now = max(0, self.host.now + hours * HOUR_MS)

    @precondition(lambda self: self.host.world.files)
    @rule(n=which, gone=st.booleans())
    def damage_a_file(self, n: int, gone: bool) -> None:
        files = list(self.host.world.files)
        name = files[n % len(files)]
        if gone:
            self.host.world.lost[name] = self.host.world.files.pop(name)
        else:
            self.host.world.damaged.add(name)

    @rule(folder=st.booleans(), full=st.booleans())
    def fill_or_free_a_disk(self, folder: bool, full: bool) -> None:
        place = self.host.world if folder else self.host.journal
        place.full = full  # type: ignore[attr-defined]

    # --- what must hold ---

    @invariant()
    def every_law(self) -> None:
        if self.host.engine is not None:
            self.host.look_closely(len(self.host.chronicle.records) // 2)

    def teardown(self) -> None:
        try:
            if hasattr(self, "host") and sys.exc_info()[0] is None:
                self.finish()
        finally:
            if hasattr(self, "host"):
                self.host.journal.close()
            shutil.rmtree(self.folder)

    def finish(self) -> None:
        host = self.host
        host.world.full = host.journal.full = False
        host.world.repair()
        for _ in range(MAX_STEPS):
            if host.ended:
                break
            if host.waits_for_operator:
                host.begin(self.settings)
                continue
            known = len(host.chronicle.records)
            self.cut_over()
            self.turn(*(host.step(key) for key in list(host.flying)))
            if not host.flying and len(host.chronicle.records) == known:
                host.die()  # it waits for news that will never come
        assert host.ended, "I30: no end in sight"
        host.check_end(self.settings)
        count("stateful: examples")
        count("stateful: turns", host.turns)
        count("stateful: deaths of the process", host.deaths)

    def cut_over(self) -> None:
        assert self.host.engine is not None
        state = self.host.engine.state
        if state.spec is not None and state.spec.follow and not state.cutover:
            self.turn(*cutovers(state, self.number))


def lane(examples: int, **more: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
        **more,
    )


def test_anything_in_any_order() -> None:
    """I1-I5, I8, I9, I12-I20, I22-I26, I28-I30, I36-I42, whatever the order of things."""
    run_state_machine_as_test(Ferry, settings=lane(120, derandomize=True))


@pytest.mark.deep
def test_much_more_in_any_order() -> None:
    """I1-I5, I8, I9, I12-I20, I22-I26, I28-I30, over fresh orders."""
    run_state_machine_as_test(Ferry, settings=lane(5000))
