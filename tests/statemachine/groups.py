"""Groups of operations, and rollbacks of any job, told stimulus by stimulus."""

from statemachine.decide import decide
from statemachine.events import AnyEvent, RunSettings, Started, UndoCompleted
from statemachine.evolve import evolve
from statemachine.state import State
from statemachine.stimuli import GroupAsked, Operated, PlannedOperation, RollbackAsked, Undone
from statemachine.undoing import OPERATIONS, undo_plan
from statemachine.words import BsonText, Millis, OperationId, TaskKey, TaskKind, undo_task
from tests.statemachine.examples import SETTINGS, SPEC
from tests.statemachine.story import Story, began

DONE = Operated(("did it",))


def operation(
    name: str, *wait_for: str, undo_after: tuple[str, ...] = (), tries: int = 3
) -> PlannedOperation:
    return PlannedOperation(
        OperationId(name),
        BsonText(f"do {name}"),
        BsonText(f"undo {name}"),
        tuple(map(OperationId, wait_for)),
        tuple(map(OperationId, undo_after)),
        tries=tries,
    )


def group_of(*operations: PlannedOperation, **spec: object) -> GroupAsked:
    return GroupAsked("me", SPEC.model_copy(update={"kind": "group", **spec}), operations)


class Group(Story):
    """As a story, of a group."""

    def __init__(
        self, *operations: PlannedOperation, settings: RunSettings = SETTINGS, **spec: object
    ) -> None:
        self.state = State()
        self.events: list[AnyEvent] = []
        self.now = 0
        self.tell(group_of(*operations, **spec), began(settings))

    def do(self, *names: str) -> list[str]:
        """These are applied."""
        return [kind for name in names for kind in self.succeed(task(name), DONE)]


def task(name: str) -> TaskKey:
    return TaskKey(TaskKind.OPERATION, name)


def undo(name: str, kind: TaskKind = TaskKind.OPERATION) -> TaskKey:
    return undo_task(kind, name)


def rollback_asked(story: Story, to: str = "", **more: bool) -> RollbackAsked:
    """With the plan of the story so far."""
    return RollbackAsked("me", "asked for", undo_plan(story.events, to), to=to, **more)


def take_back(story: Story, to: str = "", **more: bool) -> list[str]:
    return story.tell(rollback_asked(story, to, **more), began())


def take_all_back(story: Story) -> list[str]:
    """The rollback goes on to its end; entities of what was undone, in order."""
    before = len(story.events)
    while working := at_work(story):
        story.succeed(working[0], Undone(1))
    return [e.entity for e in story.events[before:] if isinstance(e, UndoCompleted)]


def at_work(story: Story) -> list[TaskKey]:
    return [key for key, each in story.state.tasks.items() if each.status == "processing"]


def started(story: Story) -> list[TaskKey]:
    """Operations, in the order of their first start."""
    of_operations = (
        event.task
        for event in story.events
        if isinstance(event, Started) and event.task.kind in OPERATIONS
    )
    return list(dict.fromkeys(of_operations))


def reversed_order(story: Story) -> list[str]:
    """Entities of the undos of all that was started, as they must follow (I37, I38)."""
    return [undo_task(*key).entity for key in reversed(started(story))]


def again(story: Story, events: int) -> Story:
    """Another story, of which only so many events happened."""
    other = Story.__new__(Story)
    other.state, other.events, other.now = State(), list(story.events[:events]), story.now
    for event in other.events:
        evolve(other.state, event)
    return other


def decided(story: Story, stimulus: object) -> list[str]:
    """What would happen."""
    return [each.kind for each in decide(story.state, stimulus, Millis(story.now))]  # type: ignore[arg-type]
