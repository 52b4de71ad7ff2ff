"""An export: a census of each collection first, where columns are wanted; files that stay."""

import pytest

from statemachine.decide.asked import refusal
from statemachine.effects import wanted_effects
from statemachine.events import ExportSpec, FilePart
from statemachine.evolve import fold
from statemachine.snapshot import freeze, thaw
from statemachine.state import Part, State, digest, is_dump, is_stored, reads_dump, takes_census
from statemachine.stimuli import (
    Censused,
    Dumped,
    ExcludeAsked,
    Manifested,
    Planned,
    RequeueAsked,
    Surveyed,
)
from statemachine.words import Cause, JobStatus, TaskKey, TaskKind, UnitStatus
from tests.statemachine.examples import SETTINGS, SPEC
from tests.statemachine.story import (
    CHUNK,
    DUMP,
    DUMPED,
    MANIFEST,
    PLAN,
    SURVEY,
    UNIT,
    Story,
    began,
    found,
)

CENSUS = TaskKey(TaskKind.CENSUS, UNIT)
COUNTED = Censused('[{"field":"_id"}]', 10)
PARTS = (FilePart(name="a=1/0.parquet", documents=6, file_bytes=30, sha256="ab"),)


def export(form: str = "parquet", **settings: object) -> Story:
    spec = ExportSpec.model_validate({"format": form})
    settings_ = SETTINGS.model_copy(update=settings)
    return Story(settings_, kind="export", target="s3://bucket/there", export=spec)


def state_of(story: Story) -> State:
    return thaw(freeze(story.state))


def test_the_whole_way() -> None:
    """G1, G3, I23, I29: the census decides the columns, then the plan; the manifest comes last."""
    story = export()
    assert story.succeed(SURVEY, Surveyed((found(),)))[-1] == "census_started"
    assert PLAN not in story.state.tasks
    assert story.succeed(CENSUS, COUNTED) == ["census_completed", "plan_started"]
    assert story.state.units[UNIT].columns == COUNTED.columns
    story.succeed(PLAN, Planned((), 10, natural=False))
    [effect] = wanted_effects(story.state)
    assert effect.unit is not None
    assert effect.unit.columns == COUNTED.columns
    result = Dumped("there", 10, 100, 50, 1, "cd", rejected=1, parts=PARTS)
    kinds = ["dump_completed", "unit_completed", "manifest_started"]
    assert story.succeed(DUMP, result) == kinds
    [chunk] = story.state.filed.values()
    assert chunk.file is not None
    assert chunk.file.parts == (Part("a=1/0.parquet", 6, 30, "ab"),)
    assert state_of(story) == story.state, "a snapshot keeps the parts"
    assert digest(fold(story.events)) == digest(story.state)
    assert story.succeed(MANIFEST, Manifested("ef", 10, 100))[-1] == "job_completed"
    assert story.state.status is JobStatus.COMPLETED


def test_lines_take_no_census() -> None:
    """G3: a line holds whatever its document holds."""
    story = export("jsonl")
    assert story.succeed(SURVEY, Surveyed((found(),)))[-1] == "plan_started"
    assert CENSUS not in story.state.tasks
    story.succeed(PLAN, Planned((), 10, natural=False))
    assert story.succeed(DUMP, DUMPED)[-1] == "manifest_started"


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_view_has_no_documents_of_its_own(form: str) -> None:
    """Nothing is asked of it, and the job ends."""
    story = export(form)
    view = found(view=True)
    assert story.succeed(SURVEY, Surveyed((view,)))[-2:] == ["unit_completed", "manifest_started"]


def test_rejected_documents_are_exported_again() -> None:
    """A34, I24: the files of their chunk are no more part of it when others replace it."""
    story = export("jsonl")
    story.succeed(SURVEY, Surveyed((found(),)))
    story.succeed(PLAN, Planned((), 10, natural=False))
    story.succeed(DUMP, Dumped("one", 9, 90, 50, 1, "cd", rejected=1))
    story.succeed(MANIFEST, Manifested("ef", 9, 90))
    story.tell(RequeueAsked("me", CHUNK, 1), began())
    again = TaskKey(TaskKind.DUMP, f"{UNIT}#1")
    assert story.succeed(again, DUMPED)[-1] == "manifest_started"
    assert list(story.state.filed) == [f"{UNIT}#1"]
    assert not story.state.flawed
    [effect] = wanted_effects(story.state)
    assert [chunk.id for chunk in effect.filed] == [f"{UNIT}#1"]


def test_a_census_that_fails_is_tried_again_and_may_be_left_out() -> None:
    """A8, A22: as every task; what is excluded has no census any more."""
    story = export()
    story.succeed(SURVEY, Surveyed((found(),)))
    assert story.fail(CENSUS, Cause.TRANSIENT) == ["census_retry_scheduled"]
    assert not refusal(story.state, ExcludeAsked("me", UNIT, 1))
    assert "unit_excluded" in story.tell(ExcludeAsked("me", UNIT, 1))
    assert CENSUS not in story.state.tasks
    assert story.state.units[UNIT].status is UnitStatus.EXCLUDED


@pytest.mark.parametrize(
    ("end", "dump", "stored"),
    [
        ("mongodb://a:27017/", False, False),
        ("file:/d", True, False),
        ("s3://bucket/d", True, True),
        ("gs://bucket/d", True, True),
        ("az://bucket/d", True, True),
    ],
)
def test_what_an_end_is(end: str, *, dump: bool, stored: bool) -> None:
    """By how its name begins."""
    assert (is_dump(end), is_stored(end)) == (dump, stored)
    assert reads_dump(SPEC.model_copy(update={"kind": "restore", "source": end})) is dump
    assert not takes_census(SPEC)
