"""Chains and followed sources, told stimulus by stimulus."""

from statemachine.events import ChainLink, RunSettings
from statemachine.state import ChunkFile
from statemachine.stimuli import (
    Applying,
    Captured,
    Created,
    Followed,
    FoundShard,
    Planned,
    Released,
    Restored,
    Settled,
    Shaped,
    Surveyed,
)
from statemachine.words import BsonText, Key, TaskKey, TaskKind
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    CREATE,
    DUMP,
    DUMPED,
    PLAN,
    RESTORE,
    SURVEY,
    Story,
    found,
    parts,
)

CAPTURE = TaskKey(TaskKind.CAPTURE, "job")
FOLLOW = TaskKey(TaskKind.FOLLOW, "job")
SETTLE_JOB = TaskKey(TaskKind.SETTLE, "job")
TOKEN = BsonText('{"_data":"82"}')
SHAPED_BY = ("created shop.orders",)


def link(number: int, *, log: bool = False) -> ChainLink:
    return ChainLink(
        number=number,
        digest=f"{number:02d}" * 32,
        parent=f"{number - 1:02d}" * 32,
        since=f"{number}00.0",
        until=f"{number + 1}00.0",
        shards=2,
        documents=10,
        erased=2,
        bytes=1000,
        log=log,
    )


def shape(number: int) -> TaskKey:
    return TaskKey(TaskKind.SHAPE, f"link:{number}")


def settle(number: int) -> TaskKey:
    return TaskKey(TaskKind.SETTLE, f"link:{number}")


def shard(number: int, index: int = 0) -> TaskKey:
    return TaskKey(TaskKind.APPLY, f"link:{number}#{index}")


def shards(count: int = 2) -> tuple[FoundShard, ...]:
    file = ChunkFile("increments/0001/a/0-1.flb", 10, 1000, 400, "ab", place="dump", erased=2)
    edges = (None, *(Key(str(n)) for n in range(1, count)), None)
    return tuple(
        FoundShard("shop.orders", "shop.orders", "collection", edges[n], edges[n + 1], file)
        for n in range(count)
    )


def part(position: int, documents: int = 5) -> Applying:
    return Applying(position, Key(str(position)), documents, 1, position * 2)


WHOLE = Applying(400, Key("400"), 10, 2, 1000)


class Chain(Story):
    """The restore of a full dump and some increments."""

    def __init__(self, links: int = 2, settings: RunSettings = SETTINGS, **spec: object) -> None:
        spec = {"verify": False, **spec}
        super().__init__(settings, kind="restore", source="file:/d", links=links, **spec)
        self.count = links

    def accepted(self) -> "Chain":
        links = tuple(link(n + 1) for n in range(self.count))
        self.succeed(SURVEY, Surveyed((found(),), links=links))
        return self

    def full(self) -> "Chain":
        """To the point where the first increment is to be shaped."""
        self.accepted()
        self.succeed(PLAN, parts(1))
        self.succeed(CREATE, Created(()))
        self.succeed(RESTORE, Restored(50, 10, 100, 0, 0))
        return self

    def shaped(self, number: int = 1, count: int = 2) -> "Chain":
        self.succeed(shape(number), Shaped(shards(count), SHAPED_BY))
        return self

    def applied(self, number: int, count: int = 2) -> list[str]:
        """A whole increment; kinds of what its last touch brought."""
        self.shaped(number, count)
        for index in range(count):
            self.succeed(shard(number, index), WHOLE)
        return self.succeed(settle(number), Settled(changes=("index n_1",)))


def captured() -> Captured:
    return Captured((found(),), TOKEN, "200.1", 40)


def increment(**spec: object) -> Story:
    return Story(kind="dump", incremental=True, parent="ab" * 32, consistency="snapshot", **spec)


def following(**spec: object) -> Story:
    """A migration whose bulk copy is done: the first round is at work."""
    story = Story(follow=True, **spec)
    story.succeed(SURVEY, Surveyed((found(),), since="100.1"))
    story.succeed(CREATE, Created(()))
    story.succeed(PLAN, Planned((), 10, natural=False))
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, Restored(50, 10, 100, 0, 0))
    story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    return story


def round_(n: int, **more: object) -> Followed:
    return Followed(TOKEN, f"{100 + n}.0", 120, documents=3, erased=1, bytes=30, **more)  # type: ignore[arg-type]
