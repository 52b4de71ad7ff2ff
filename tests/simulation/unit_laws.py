"""Laws of units and their chunks: what is planned, replaced, left, and where its file stays."""

from itertools import pairwise

from statemachine.batching import Size, rule_of
from statemachine.events import (
    AnyEvent,
    BatchResized,
    ChunkDropped,
    ChunkKept,
    ChunkPlanned,
    ChunkReleased,
    ChunkReplaced,
    DocumentRejected,
    FileFound,
    PlanCompleted,
    SplitRequested,
    UnitCompleted,
    UnitExcluded,
    UnitRegistered,
    UnitSkipped,
)
from statemachine.state import keeps_files, stages_of
from statemachine.words import TaskKey, TaskKind, UnitId, unit_of
from tests.simulation.history import History
from tests.simulation.valves import POOLS


class UnitLaws(History):
    """I14, I19, I21, I23, I29, I43."""

    def _about_units(self, event: AnyEvent) -> None:
        """I21, I23, I29, I43."""
        match event:
            case UnitRegistered():
                assert event.unit not in self._units and not self._surveyed, "I29"
                assert event.unit not in self.world.hidden or event.unit in self.state.added
                self._units[event.unit] = "open"
            case UnitCompleted():
                assert self._units[event.unit] == "open", "I29"
                self._units[event.unit] = "completed"
            case UnitSkipped():
                assert self.settings.on_exhausted == "skip-unit", "I19"
                assert self._units[event.unit] == "open", "I19: given up twice"
                self._given_up_unit(event.unit)
            case UnitExcluded():
                assert self._units[event.unit] == "open", "excluded after its end"
                self._given_up_unit(event.unit)
            case BatchResized():
                self._resized(event)
            case PlanCompleted():
                self._partition(UnitId(event.entity))
            case _:
                pass

    def _resized(self, event: BatchResized) -> None:
        """I43: within the policy's limits, and another than before."""
        unit, size = self.state.units[event.unit], Size(event.documents, event.bytes)
        was = unit.batch_documents, unit.batch_bytes
        assert (event.was_documents, event.was_bytes) == was, "I43: another size before"
        assert size != was, "I43: the same twice"
        assert rule_of(self.settings).within(size) == size, "I43: beyond its limits"

    def _given_up_unit(self, unit: UnitId) -> None:
        self._units[unit] = "skipped"
        for key in [key for key in self.last if unit_of(key) == unit]:
            self.valves[POOLS[key.kind]].leaves(key)
        self._owed = {key for key in self._owed if unit_of(key) != unit}

    def _about_chunks(self, event: AnyEvent) -> None:
        """I14, I21, I23."""
        match event:
            case ChunkPlanned():
                assert event.chunk not in self._chunks, "I14: a chunk planned twice"
                self._chunks[event.chunk] = event
                self._inherit(event)
            case FileFound():
                assert self.world.from_dump and event.documents, "I14: an empty part of a dump"
                ours = self._chunks[event.chunk].unit in self.world.unpacked
                assert ours == (event.place == "work"), "I44"
            case SplitRequested():
                assert not self.world.from_dump, "I21: a part of a dump is cut"
                self._leave(event.chunk)
            case ChunkReplaced():
                assert self._heirs is None, "I14"
                self._leave(event.chunk)
                self._once_more(TaskKey(TaskKind.FINISH, self._chunks[event.chunk].unit))
                self._once_more(TaskKey(TaskKind.MANIFEST, "job"))
                self._heirs = (self._chunks[event.chunk], [])
                unit = self._chunks[event.chunk].unit
                if self._units[unit] == "completed":
                    self._units[unit] = "open"
            case ChunkDropped():
                assert not self.spec.incremental, "I33: a link without one of its documents"
                self._leave(event.chunk)
                self._owed = {key for key in self._owed if key.entity != event.chunk}
            case ChunkReleased() | ChunkKept():
                done = [self._is(kind, event.chunk) for kind in stages_of(self.spec)]
                unit = UnitId(event.chunk.rpartition("#")[0])
                assert not keeps_files(self.spec), "I44: a file of a dump is gone"
                assert unit in self.world.unpacked or not self.world.from_dump, "I44"
                left = self._units[unit] == "skipped" or event.chunk in self._gone
                assert all(done) or left, "I23"
            case DocumentRejected():
                refused = self.world.refused[UnitId(event.chunk.rpartition("#")[0])]
                assert int(event.key) in refused, "a document rejected that was not refused"
            case _:
                pass

    def _inherit(self, event: ChunkPlanned) -> None:
        """I14, I21: what replaces a chunk covers its range, in order, and nothing else."""
        if self._heirs is None:
            return
        parent, heirs = self._heirs
        heirs.append(event)
        if event.upper == parent.upper:
            assert heirs[0].lower == parent.lower, "I21"
            assert all(a.upper == b.lower for a, b in pairwise(heirs)), "I21"
            edges = [int(each.lower) for each in heirs if each.lower is not None]
            assert edges == sorted(set(edges)), "I21"
            self._heirs = None

    def _partition(self, unit: UnitId) -> None:
        """I21: the ranges are ordered, share their edges and are open at both ends."""
        chunks = [each for each in self._chunks.values() if each.unit == unit]
        if unit in self.world.views:
            assert not chunks and self.spec.kind == "plan", "I46"
            return
        if not chunks:
            may = self.world.from_dump or self.spec.incremental
            assert may and not self.world.source[unit], "I21"
            return
        assert chunks[0].lower is None and chunks[-1].upper is None, "I21"
        assert all(a.upper == b.lower for a, b in pairwise(chunks)), "I21"
        edges = [int(each.upper) for each in chunks if each.upper is not None]
        assert len(edges) == len(chunks) - 1 and edges == sorted(set(edges)), "I21"
