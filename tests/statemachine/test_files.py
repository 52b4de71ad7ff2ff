"""Chunk files: so many and no more, damaged ones, ones that stay."""

from statemachine.policy import files_limit
from statemachine.stimuli import (
    FileDamaged,
    Released,
)
from statemachine.words import (
    Cause,
    Status,
    TaskKey,
    TaskKind,
)
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    DUMP,
    DUMPED,
    EQUAL,
    RESTORE,
    RESTORED,
    UNIT,
    VERIFY,
    Story,
    began,
)


def test_dumping_waits_when_the_work_folder_is_full() -> None:
    """A limit on everything: files ahead."""
    settings = SETTINGS.model_copy(update={"files_ahead": 2, "restore_workers": 1})
    story = Story(settings).planned(chunks=6)
    assert files_limit(settings) == 2
    for n in range(2):
        story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#{n}"), DUMPED)
    assert not story.state.size(TaskKind.DUMP, Status.PROCESSING)
    story.succeed(RESTORE, RESTORED)
    story.succeed(VERIFY, EQUAL)
    assert story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released()) == [
        "chunk_released",
        "dump_started",
    ]


def test_a_retry_waits_for_the_work_folder_too() -> None:
    """A limit on everything: files ahead; two lie there, none is written."""
    settings = SETTINGS.model_copy(update={"files_ahead": 2, "restore_workers": 1})
    story = Story(settings).planned(chunks=3)
    story.fail(DUMP, Cause.TRANSIENT)
    for n in (1, 2):
        story.succeed(TaskKey(TaskKind.DUMP, f"{UNIT}#{n}"), DUMPED)
    story.now = 10_000
    assert story.tell() == []
    for kind, result in ((TaskKind.RESTORE, RESTORED), (TaskKind.VERIFY, EQUAL)):
        assert "dump_started" not in story.succeed(TaskKey(kind, f"{UNIT}#1"), result)
    release = TaskKey(TaskKind.RELEASE, f"{UNIT}#1")
    assert story.succeed(release, Released()) == ["chunk_released", "dump_started"]


def test_a_damaged_file_is_dumped_again() -> None:
    """I24, I25: counters go back, the attempt numbers do not."""
    story = Story().planned()
    story.succeed(DUMP, DUMPED)
    assert story.tell(FileDamaged(RESTORE, 1, 1, "cut")) == [
        "restore_cancelled",
        "dump_invalidated",
        "dump_started",
    ]
    unit = story.state.units[UNIT]
    assert (unit.dumped_documents, unit.weight_done, story.state.files) == (0, 0, 0)
    story.succeed(DUMP, DUMPED)
    assert story.state.tasks[RESTORE].attempt == 2


def test_a_file_that_is_damaged_again_and_again_is_given_up() -> None:
    """I18, I24: the dump's budget bounds it; a requeue dumps again."""
    story = Story().planned()
    for _ in range(2):
        story.succeed(DUMP, DUMPED)
        story.tell(FileDamaged(RESTORE, story.attempt(RESTORE), 1, "cut"))
    story.succeed(DUMP, DUMPED)
    kinds = story.tell(FileDamaged(RESTORE, story.attempt(RESTORE), 1, "cut"))
    assert kinds[1:] == [
        "dump_invalidated",
        "dump_dead_lettered",
        "pause_requested",
        "job_paused",
    ]
    assert "dump_started" in story.tell(began())


def test_a_file_that_cannot_be_removed_is_kept_and_said() -> None:
    story = Story(verify=False).planned()
    story.succeed(DUMP, DUMPED)
    story.succeed(RESTORE, RESTORED)
    kinds = story.fail(TaskKey(TaskKind.RELEASE, CHUNK), Cause.FATAL)
    assert kinds == ["chunk_kept", "job_completed"]
