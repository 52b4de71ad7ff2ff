"""Chunk files: so many and no more, damaged ones, ones that stay."""

from dataclasses import replace

from statemachine.policy import files_limit
from statemachine.stimuli import (
    Created,
    FileDamaged,
    Rejection,
    Released,
    RequeueAsked,
    Surveyed,
)
from statemachine.words import (
    Cause,
    ChunkId,
    Key,
    Status,
    TaskKey,
    TaskKind,
)
from tests.statemachine.examples import SETTINGS
from tests.statemachine.story import (
    CHUNK,
    CREATE,
    DUMP,
    DUMPED,
    EQUAL,
    PLAN,
    RESTORE,
    RESTORED,
    SURVEY,
    UNIT,
    VERIFY,
    Story,
    began,
    found,
    parts,
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


def stored(chunks: int, files_ahead: int) -> Story:
    """The restore of a dump that lies in a store, as its chunks begin."""
    told = {"files_ahead": files_ahead, "dump_workers": 1, "restore_workers": 4}
    settings = SETTINGS.model_copy(update=told)
    story = Story(settings, kind="restore", source="s3://bucket/dump", verify=True)
    story.succeed(SURVEY, Surveyed((found(),)))
    story.succeed(PLAN, parts(chunks, "store"))
    story.succeed(CREATE, Created(()))
    return story


def test_fetched_files_are_so_many_and_no_more() -> None:
    """A limit on everything: what was restored and is to be compared lies in the work folder."""
    story = stored(chunks=4, files_ahead=2)
    assert story.state.size(TaskKind.RESTORE, Status.PROCESSING) == 2
    story.succeed(RESTORE, RESTORED)
    assert story.succeed(TaskKey(TaskKind.RESTORE, f"{UNIT}#1"), RESTORED) == ["restore_completed"]
    told = story.succeed(VERIFY, EQUAL)
    assert told.count("restore_started") == 1
    assert story.state.releasing == {CHUNK: f"{UNIT}/0"}


def test_a_fetched_file_goes_though_it_may_be_wanted_again() -> None:
    """I24: what was unpacked once stays while documents of it are rejected; what can be fetched
    again does not, and is named again when the chunk is carried again."""
    story = stored(chunks=1, files_ahead=1)
    bad = Rejection(Key("1"), "EMONGO121", "no")
    story.succeed(RESTORE, replace(RESTORED, documents=9, rejected=1, rejections=(bad,)))
    story.succeed(VERIFY, replace(EQUAL, rejected=1))
    again = RequeueAsked("me", CHUNK, 1)
    assert story.tell(again) == ["request_refused"]
    assert "chunk_released" in story.succeed(TaskKey(TaskKind.RELEASE, CHUNK), Released())
    assert story.state.files == 0
    story.tell(replace(again, request=2))
    chunk = story.state.chunks[ChunkId(f"{UNIT}#1")]
    assert chunk.file is not None
    assert (chunk.file.place, story.state.files) == ("store", 1)
