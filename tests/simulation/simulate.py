"""One seed, one history: the real engine on the real journal, driven by one random generator."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from journal.protocol import Recorded
from statemachine.decide.operations import no_rollback
from statemachine.state import Chunk, State, is_whole, reads_dump
from statemachine.stimuli import (
    Asked,
    CommitAsked,
    CutoverAsked,
    Gauge,
    Measured,
    RequeueAsked,
    Stimulus,
)
from statemachine.words import Alert, ChunkId, JobStatus
from tests.simulation.draws import EVERY_KIND, draw_settings, draw_spec
from tests.simulation.faulty import Fate
from tests.simulation.groups import draw_group
from tests.simulation.host import JOB, Host
from tests.simulation.link_hands import lay_out_links
from tests.simulation.news import News
from tests.simulation.shell import How, began
from tests.simulation.sizes import Sizes
from tests.simulation.wishes import WISHES, cutovers, dead_letters
from tests.simulation.world import (
    Crash,
    Drawn,
    Odds,
    draw_copy,
    draw_dump,
    draw_past,
    draw_rest,
    draw_there,
    draw_world,
)

__all__ = ["JOB", "Simulation"]

CALM_AFTER = 200
"""Steps; from here on no new fault strikes and the job must reach its end (I30)."""
MAX_STEPS = 1200
DAYS_MS = 86_400_000


class Simulation:
    """Turns the engine until the job has ended; everything that can happen may, on the way."""

    def __init__(
        self, seed: int, path: Path, check_every: int = 7, kinds: Sequence[str] = EVERY_KIND
    ) -> None:
        """Every `check_every` steps the whole journal is read and folded anew."""
        self.random = Random(seed)
        self.lots = Drawn(self.random, Odds.draw(self.random))
        self.spec = draw_spec(self.random, kinds)
        if self.spec.kind in ("migrate", "restore") and self.random.random() < 0.3:
            self.spec = self.spec.model_copy(update={"verify": False})
        self.settings = draw_settings(self.random)
        if self.spec.kind == "group":
            world = draw_group(self.random, self.lots)
        else:
            world = draw_world(self.random, self.lots)
        draw_rest(self.random, world)
        self.spec = self.spec.model_copy(update={"metadata": world.compared})
        world.exports = self.spec.kind == "export"
        if self.spec.kind == "verify":
            draw_copy(self.random, world)
        if is_whole(self.spec):
            draw_past(self.random, world, self.spec.links)
        if reads_dump(self.spec):
            draw_dump(self.random, world)
        if self.spec.links:
            lay_out_links(world)
        if self.spec.incremental:
            world.source = {}  # what changed, once that is known
        if self.spec.undo and world.past is None:
            draw_there(self.random, world)
        self.host = Host(path, world, self.spec, self.settings, self._fate)
        self.late: list[News] = []
        self.sizes = Sizes(seed)
        self.steps = 0
        self._check_every = check_every
        self._request = 0
        self._asked: list[Asked] = []
        self._requeues = self.random.randint(0, 3)
        self._rollbacks = self.random.randint(0, 3) if self.spec.undo else 0
        """How often the job is taken back, after its end."""
        self._doomed = 0
        """Processes that will still die in their first turn."""

    @property
    def seen(self) -> list[Recorded]:
        return self.host.chronicle.records

    @property
    def fired(self) -> Counter[str]:
        """How often each fault struck."""
        return self.lots.fired

    def run(self) -> None:
        try:
            self._go_on()
            while self._requeue_at_the_end() or self._take_back_at_the_end():
                self._go_on()
            self._calm()
            if self.spec.undo and self.random.random() < 0.5:
                self._commit()
            self.host.check_end(self.settings)
        finally:
            self.host.journal.close()

    def _go_on(self) -> None:
        while not self.host.ended:
            self.step()
            if self.steps == CALM_AFTER:
                self._calm()
            if self.steps > CALM_AFTER // 2 and self.spec.follow:
                self._cut_over()
            assert self.steps < MAX_STEPS, "I30: no end in sight"

    def _cut_over(self) -> None:
        """Nobody writes to the source from here on."""
        engine = self.host.engine
        if engine is not None and engine.state.settings and not engine.state.cutover:
            assert self.host.world.past is not None
            self.host.world.past.frozen = True
            self.host.turn(list(cutovers(engine.state, self._number)))

    def _requeue_at_the_end(self) -> bool:
        """An operator removes the cause of a dead letter and asks for it again."""
        engine = self.host.engine
        assert engine is not None
        if self._requeues == 0 or engine.state.status is not JobStatus.COMPLETED:
            return False
        wishes = list(dead_letters(engine.state, self._number))
        if not wishes:
            return False
        self._requeues -= 1
        self._calm()
        wish = self.random.choice(wishes)
        assert isinstance(wish, RequeueAsked)
        chunk = engine.state.flawed.get(ChunkId(wish.entity))
        self.host.turn([wish])
        if self.host.engine is not None:  # else nobody knows that it was asked for
            self._heal(chunk)
        return not self.host.ended

    def _take_back_at_the_end(self) -> bool:
        """At once, or only to some operation."""
        engine = self.host.engine
        if not self._rollbacks or engine is None or no_rollback(engine.state):
            return False
        self._rollbacks -= 1
        self.fired["rollback"] += 1
        self.host.leave()
        self.host.begin(self.settings, self._how())
        return not self.host.ended

    def _commit(self) -> None:
        """From here on nothing is taken back, whoever asks."""
        self.host.turn([CommitAsked("me", self._number())])
        self.host.leave()
        self.host.begin(self.settings, How())

    def _how(self) -> How:
        """How somebody wants it taken back."""
        began_ = began(self.seen)
        partly = bool(began_) and self.random.random() < 0.4
        persevering = self.random.random() < 0.4
        self.fired.update(partly=partly, persevering=persevering)
        to = self.random.choice(began_) if partly else None
        return How(f"{to.kind} {to.entity}" if to else "", persevering=persevering)

    def _heal(self, chunk: Chunk | None) -> None:
        """Nothing is wrong any more with what was asked for again."""
        world = self.host.world
        world.bad_indexes.clear()
        if chunk is not None:
            for key in world.range(chunk.unit, chunk.lower, chunk.upper):
                world.refused.get(chunk.unit, set()).discard(key)
                world.poison.get(chunk.unit, {}).pop(key, None)

    def step(self) -> None:
        self.steps += 1
        self._weather()
        host = self.host
        if host.waits_for_operator:
            host.pass_time(self.random.randint(0, 500))
            if self.spec.links and self.random.random() < 0.5:
                host.world.repair()  # or the same file is missed for ever
            if self.lots.strikes("asked_at_rest"):
                host.tell(self._any_wish)
            taken_back = self.spec.undo and self.lots.strikes("rollback")
            self._begin(self._how() if taken_back else None)
        elif host.stuck and self.random.random() < 0.5:
            self.fired["operator kills"] += 1
            host.die()
        elif host.stuck:
            self.fired["hung hands given up"] += 1
            host.turn(host.give_up_the_hung())
        elif self.lots.strikes("crash"):
            host.die()
        elif self.lots.strikes("resume"):
            host.leave()
            self._begin()
        elif self.lots.strikes("move"):
            host.move()
        else:
            self._turn()
        if host.engine is not None and self.steps % self._check_every == 0:
            host.look_closely(self.steps * 7919)

    def _begin(self, taking_back: How | None = None) -> None:
        """A process with as many workers as somebody likes."""
        if not self._doomed and self.lots.strikes("crash_in_recovery"):
            self._doomed = self.random.randint(1, 4)
        workers = {
            "dump_workers": self.random.randint(1, 5),
            "restore_workers": self.random.randint(1, 5),
        }
        self.host.begin(self.settings.model_copy(update=workers), taking_back)

    def _turn(self) -> None:
        self.host.pass_time(self.random.randint(0, 60))
        try:
            news = list(self._news())
        except Crash:
            self.host.die()
        else:
            self.host.turn(news)

    def _news(self) -> Iterator[Stimulus]:
        host = self.host
        yield from self._operator()
        for _ in range(min(len(host.strays), 2)):
            news = host.stray(self.random.randrange(len(host.strays)))
            if news is not None:
                self.late.append(news)
        if self.late and self.random.random() < 0.5:
            yield self.late.pop(self.random.randrange(len(self.late)))
        for key in self.random.sample(list(host.flying), k=min(len(host.flying), 2)):
            news = host.step(key)
            if news is None:
                continue
            yield news
            if self.lots.strikes("duplicate"):
                if self.random.random() < 0.5:
                    yield news
                else:
                    self.late.append(news)

    # --- what an operator asks for ---

    def _operator(self) -> Iterator[Stimulus]:
        """Requests of all kinds, some of them twice; each with its number."""
        assert self.host.engine is not None
        state = self.host.engine.state
        if self._asked and self.lots.strikes("asked_twice"):
            yield self._asked[-1]
        for verb, wishes in WISHES.items():
            if self.lots.strikes(verb):
                wish = self._one_of(list(wishes(state, self._number, self.random)))
                if wish is not None:
                    self._asked.append(wish)
                    self._heed(wish)
                    yield wish
        if self.lots.strikes("measured"):
            gauges = [Gauge(alert, "job", self.random.random(), 0.5) for alert in Alert]
            yield Measured(tuple(self.random.sample(gauges, self.random.randint(0, 3))))
        yield from self.sizes.news(state)

    def _heed(self, wish: Asked) -> None:
        past = self.host.world.past
        if isinstance(wish, CutoverAsked) and past is not None:
            past.frozen = True  # first of all

    def _any_wish(self, state: State) -> Asked | None:
        """But none that waits for somebody who runs the job."""
        verb = self.random.choice([verb for verb in WISHES if verb not in ("pause", "stop")])
        wish = self._one_of(list(WISHES[verb](state, lambda: 0, self.random)))
        self.fired[verb] += wish is not None
        if wish is not None:
            self._heed(wish)
        return wish

    def _one_of(self, wishes: Sequence[Asked]) -> Asked | None:
        return self.random.choice(wishes) if wishes else None

    def _number(self) -> int:
        self._request += 1
        return self._request

    # --- what befalls the machine ---

    def _fate(self) -> Fate:
        if self._doomed:
            self._doomed -= 1
            return self.random.choice((Fate.CRASH_BEFORE, Fate.CRASH_AFTER))
        for fate in (Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.FAILED, Fate.UNKNOWN):
            if self.lots.strikes(fate):
                return fate
        return Fate.FINE

    def _weather(self) -> None:
        """The clock jumps, disks fill and are emptied again, files rot."""
        host, world = self.host, self.host.world
        if self.lots.strikes("clock_forward"):
            host.now += self.random.randint(1, 3 * DAYS_MS)
        if self.lots.strikes("clock_back"):
            host.now = max(0, host.now - self.random.randint(1, 3 * DAYS_MS))
        for place, fault in ((world, "disk_full"), (host.journal, "journal_full")):
            if place.full:
                place.full = self.random.random() < 0.8
            else:
                place.full = self.lots.strikes(fault)
        if world.past is not None and not self.spec.links:
            if self.lots.strikes("written"):
                world.past.write(self.random)
            if self.lots.strikes("window"):
                world.past.oldest = world.past.now
        if world.files and self.lots.strikes("damage"):
            world.damaged.add(self.random.choice(list(world.files)))
        if world.files and self.lots.strikes("missing"):
            name = self.random.choice(list(world.files))
            world.lost[name] = world.files.pop(name)

    def _calm(self) -> None:
        self.lots.calm()
        self._doomed = 0
        self.host.world.full = self.host.journal.full = False
        self.host.world.repair()
        self.host.strays.clear()
        self.late.clear()


def main() -> None:
    """`--seed N [--seeds M]`: run seeds N … N+M-1, print what they saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kind", choices=sorted(set(EVERY_KIND)), help="jobs of this kind only")
    arguments = parser.parse_args()
    kinds = (arguments.kind,) if arguments.kind else EVERY_KIND
    totals: Counter[str] = Counter()
    fired: Counter[str] = Counter()
    only = f" --kind {arguments.kind}" if arguments.kind else ""
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            simulation = Simulation(seed, Path(folder) / "journal.db", kinds=kinds)
            try:
                simulation.run()
            except BaseException:
                print(f"repeat with: scripts/simulate --seed {seed}{only}", file=sys.stderr)
                raise
        totals.update(seeds=1, steps=simulation.steps, deaths=simulation.host.deaths)
        totals.update(events=len(simulation.seen))
        fired.update(simulation.fired)
    print(", ".join(f"{count:,} {what}" for what, count in totals.items()) + ", 0 laws broken")
    print("\n".join(f"{count:>8,} {fault}" for fault, count in sorted(fired.items())))


if __name__ == "__main__":
    main()
