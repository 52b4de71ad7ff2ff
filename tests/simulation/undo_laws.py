"""Laws of groups and rollbacks, told from the events and the world alone (I36-I42, P8, P9)."""

from collections.abc import Iterable

from statemachine.events import (
    AnyEvent,
    DeadLettered,
    GroupCommitted,
    InDoubt,
    JobCommitted,
    JobCompleted,
    JobRolledBack,
    JobSpec,
    OperationDropped,
    OperationPlanned,
    RollbackContinued,
    RollbackFailed,
    RollbackStarted,
    RunSettings,
    Started,
    TaskEvent,
    UndoCompleted,
    UndoPlanned,
    UndoSkipped,
)
from statemachine.words import OperationId, TaskKey, TaskKind, Verb
from tests.simulation.groups import change, changes_of, is_group
from tests.simulation.link_laws import LinkLaws
from tests.simulation.world import World

CHANGES_A_TARGET = (
    TaskKind.CREATE,
    TaskKind.RESTORE,
    TaskKind.COPY,
    TaskKind.INDEX,
    TaskKind.FINISH,
    TaskKind.SHAPE,
    TaskKind.APPLY,
    TaskKind.SETTLE,
    TaskKind.FOLLOW,
    TaskKind.OPERATION,
)


class UndoLaws(LinkLaws):
    """I36-I42, P8, P9."""

    def __init__(self, world: World, spec: JobSpec, settings: RunSettings) -> None:
        super().__init__(world, spec, settings)
        self.before = world.stands()
        self.operations: dict[OperationId, OperationPlanned] = {}
        self.left_out: dict[str, bool] = {}
        """Operations that will never start, and whether that is for what they waited for."""
        self.began: dict[TaskKey, None] = {}
        """What changes a target, in the order of the first starts."""
        self.group_committed = self.is_committed = False
        self.plan_open: list[UndoPlanned] = []
        self.plan: dict[str, UndoPlanned] = {}
        """Over all rollbacks, in the order of undoing."""
        self.recorded: dict[str, UndoCompleted | UndoSkipped] = {}
        self.taking_back = self.rolled_back = self.resting = self.persevering = False
        self.rolled_to = ""

    def _about_operations(self, event: AnyEvent) -> None:
        """Before the event is folded."""
        self._about_the_group(event)
        if self.plan_open and not isinstance(event, UndoPlanned):
            assert isinstance(event, RollbackStarted), "I38: a plan without its begin"
        match event:
            case UndoPlanned():
                self._undo_planned(event)
            case RollbackStarted():
                self._rollback_started(event)
            case UndoCompleted() | UndoSkipped():
                assert event.entity not in self.recorded, "I39: undone twice"
                assert event.entity in self.plan, "I39: undone without a plan"
                self.recorded[event.entity] = event
            case JobRolledBack():
                self._rolled_back(event)
            case RollbackFailed():
                assert self.taking_back and self._dead_undos(), "I41: failed for nothing"
                self.resting = True
            case RollbackContinued():
                self.resting = False
            case JobCommitted():
                assert not self.taking_back and not self.is_committed, "I41"
                self.is_committed = True
            case Started():
                self._starts(event)
            case _:
                pass

    # --- I36, P8 ---

    def _about_the_group(self, event: AnyEvent) -> None:
        match event:
            case OperationPlanned():
                assert not self.group_committed, "P8: planned after the commit"
                assert event.compensation, "I36: without a compensation"
                assert event.operation not in self.operations, "I36: planned twice"
                self.operations[event.operation] = event
            case GroupCommitted():
                assert event.operations == len(self.operations), "P8"
                assert is_group(self.world.group), "I36: no group"
                assert set(self.operations) == {each.id for each in self.world.group}, "P8"
                self.group_committed = True
            case OperationDropped():
                key = TaskKey(TaskKind.OPERATION, event.operation)
                assert key not in self.began, "I37: dropped after its start"
                waits = set(self.operations[event.operation].wait_for)
                self.left_out[event.operation] = bool(waits & {*self.left_out, *self._given_up()})
            case JobCompleted() if self.spec.kind == "group":
                self._group_completed()
            case _:
                pass

    def _group_completed(self) -> None:
        for name in self.operations:
            done = self._is(TaskKind.OPERATION, name)
            given_up = self.last.get(TaskKey(TaskKind.OPERATION, name)) is Verb.DEAD_LETTERED
            assert done or self.spec.continue_on_error, "M6: completed, and something failed"
            assert done or given_up or self.left_out.get(name), "M6: left out for nothing"
        if not self._given_up():
            applied = [key.entity for key in self.began]
            assert self.world.rows == self._rows_after(applied), "I17: applied, and not there"

    def _given_up(self) -> set[str]:
        dead = (key for key, verb in self.last.items() if verb is Verb.DEAD_LETTERED)
        return {key.entity for key in dead if key.kind is TaskKind.OPERATION}

    def _rows_after(self, applied: Iterable[str]) -> dict[str, str]:
        rows = dict(self.before.rows)
        for name in applied:
            for key, _, after in changes_of(self.operations[OperationId(name)].forward):
                change(rows, key, after)
        return rows

    # --- I37, I38 ---

    def _starts(self, event: Started) -> None:
        key = event.task
        if key.kind is TaskKind.UNDO:
            self._undo_starts(key)
            return
        assert not self.taking_back and not self.rolled_back, "I37: started in a rollback"
        if key.kind is TaskKind.OPERATION:
            name = OperationId(key.entity)
            assert self.group_committed, "I36, P8: before the commit"
            assert name not in self.left_out, "I37: it was left out"
            waits = self.operations[name].wait_for
            assert all(self._is(TaskKind.OPERATION, each) for each in waits), "I36: it waits"
        if key.kind in CHANGES_A_TARGET:
            self.began.setdefault(key)

    def _undo_planned(self, event: UndoPlanned) -> None:
        assert not self.taking_back and not self.is_committed, "I38, I41"
        assert event.about not in self.recorded, "I39: planned again"
        self.plan_open.append(event)

    def _rollback_started(self, event: RollbackStarted) -> None:
        """I37, I38, I42: all that was started, but for what is undone already; reversed."""
        assert not self.taking_back and not self.is_committed, "I41: a job that cannot go back"
        assert not self._at_work(), "I37: somebody is at work"
        began = [f"{key.kind} {key.entity}" for key in self.began]
        wanted = [each for each in began if each not in self.recorded]
        if event.to:
            named = [each for each in began if event.to in (each, each.partition(" ")[2])]
            at = began.index(named[-1])
            wanted = [each for each in wanted if began.index(each) > at]
        plan = [each.about for each in self.plan_open]
        assert plan == wanted[::-1], "I37, I38: another plan"
        assert [each.number for each in self.plan_open] == list(range(1, len(plan) + 1)), "I38"
        assert event.undos == len(plan), "I38"
        started = {key.entity for key in self.began if key.kind is TaskKind.OPERATION}
        assert set(self.operations) - started <= set(self.left_out), (
            "I37: planned, and not cancelled"
        )
        self.plan = {**self.plan, **{each.about: each for each in self.plan_open}}
        self.plan_open = []
        self.rolled_to, self.persevering = event.to, event.continue_on_error
        self.taking_back, self.rolled_back, self.resting = True, False, False

    def _undo_starts(self, key: TaskKey) -> None:
        """I38: one after another; where somebody wants to go on behind a failure, whatever waits
        for it does not."""
        assert self.taking_back and not self.resting, "P9: nobody goes on"
        assert key.entity in self.plan and key.entity not in self.recorded, "I39"
        others = [other for other in self._at_work() if other != key]
        assert not others, "I38: two at a time"
        before = [e for e in self._this_plan() if e not in self.recorded]
        skipped = before[: before.index(key.entity)]
        assert not skipped or self.persevering, "I38: out of order"
        for other in skipped:
            dead = TaskKey(TaskKind.UNDO, other) in self._dead_undos()
            assert dead or self._waits_for_dead(other), "I38: out of order"
        for other in self._before_its_undo(key.entity):
            assert other in self.recorded, "I38: what it waits for is not undone"

    def _this_plan(self) -> list[str]:
        return [each.about for each in self.plan.values()]

    def _waits_for_dead(self, entity: str) -> bool:
        return any(other not in self.recorded for other in self._before_its_undo(entity))

    def _before_its_undo(self, entity: str) -> list[str]:
        """Undos that stand before this one, and it cannot be done without."""
        this = self.plan[entity]
        order = self._this_plan()
        earlier = [self.plan[each] for each in order[: order.index(entity)]]
        if this.task is not TaskKind.OPERATION:
            everything = this.unit is None  # increments touch any collection
            units = (None, this.unit)
            return [each.about for each in earlier if everything or each.unit in units]
        mine = self.operations[OperationId(this.entity)]
        return [
            each.about
            for each in earlier
            if each.entity in mine.rollback_wait_for
            or this.entity in self.operations[OperationId(each.entity)].wait_for
        ]

    def _dead_undos(self) -> list[TaskKey]:
        dead = (key for key, verb in self.last.items() if verb is Verb.DEAD_LETTERED)
        undos = [key for key in dead if key.kind is TaskKind.UNDO]
        return [key for key in undos if key.entity not in self.recorded]

    # --- I40, I41, I42 ---

    def _rolled_back(self, event: JobRolledBack) -> None:
        assert self.taking_back, "I41: rolled back twice"
        assert all(entity in self.recorded for entity in self.plan), "I41: something is left"
        done = [each for each in self.recorded.values() if isinstance(each, UndoCompleted)]
        assert event.undone == len(done), "I41"
        assert event.skipped == len(self.recorded) - len(done), "I41"
        assert event.kept == sum(each.kept for each in done), "I41"
        self.taking_back, self.rolled_back = False, True
        if event.skipped:
            return
        if len(self.recorded) == len(self.began):
            assert self.world.stands() == self.before, "I40: the world is another"
        elif self.spec.kind == "group":
            self._partly_back()

    def _partly_back(self) -> None:
        """I42: as after the operations that stay, if all of them were applied."""
        undone = {each.partition(" ")[2] for each in self.recorded}
        stay = [key.entity for key in self.began if key.entity not in undone]
        if all(self._is(TaskKind.OPERATION, each) for each in stay):
            assert self.world.rows == self._rows_after(stay), "I42: another world"

    def _consequence_of(self, letter: DeadLettered) -> bool:
        """I19: whether a dead letter of a group or of a rollback calls for one."""
        if letter.task.kind is TaskKind.UNDO:
            return not self.persevering
        return not self.spec.continue_on_error

    def _of_a_rollback(self, event: AnyEvent) -> bool:
        """I13: what may be told of a job that has ended."""
        begins = isinstance(event, OperationDropped | UndoPlanned | RollbackStarted | JobCommitted)
        doubts = isinstance(event, TaskEvent) and isinstance(event, InDoubt)
        return begins or doubts
