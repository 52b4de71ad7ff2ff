"""A job leaves one journal and goes on in another; the old one is fenced."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ferrylog.engine import Engine
from ferrylog.jobs import unfinished
from ferrylog.moving import JobEnded, arriving, export_job, import_job
from ferrylog.recall import recall
from journal.disk import DISK
from journal.errors import BadEvidence, EvidenceExists, EvidenceUnreachable, JobElsewhere
from journal.opening import tip_path
from journal.sqlite import SqliteJournal
from journal.tip import read_tip
from statemachine.stimuli import FoundUnit, JobAsked, PauseAsked, RunBegan, Succeeded, Surveyed
from statemachine.words import BsonText, JobId, JobStatus, Millis, TaskKey, TaskKind, UnitId
from tests.statemachine.examples import SETTINGS, SPEC

JOB = JobId("j1")
BEGAN = RunBegan("me", "host", 1, "0", SETTINGS)
UNIT = UnitId("shop.orders")
FOUND = FoundUnit(UNIT, UNIT, "collection", "00", BsonText("{}"), (), 10, 100)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal.create(tmp_path / "here.db") as journal:
        yield journal


@pytest.fixture
def there(tmp_path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal.create(tmp_path / "there.db") as journal:
        other = Engine(journal, JobId("another"))
        other.turn([JobAsked("me", SPEC), BEGAN], now=Millis(1))
        yield journal


def begun(journal: SqliteJournal, job: JobId = JOB) -> Engine:
    """A job with a create at work."""
    engine = Engine(journal, job)
    engine.turn([JobAsked("me", SPEC), BEGAN], now=Millis(1))
    survey = TaskKey(TaskKind.SURVEY, "job")
    engine.turn([Succeeded(survey, 1, 1, Surveyed((FOUND,)))], now=Millis(2))
    return engine


def arrive(journal: SqliteJournal, file: Path, *, take_back: bool = False) -> JobId:
    return import_job(journal, file, arriving(file, None), take_back=take_back)


def status(journal: SqliteJournal) -> JobStatus:
    return recall(journal, JOB).state.status


def test_there_it_goes_on_and_here_it_cannot(
    here: SqliteJournal, there: SqliteJournal, tmp_path: Path
) -> None:
    """P4, I5, I16: every hash travels, the next run there resolves what was at work."""
    begun(here)
    file = tmp_path / "job.ndjson"
    export_job(here, JOB, file, None)
    assert status(here) is JobStatus.MOVED
    assert list(unfinished(here)) == []
    assert arrive(there, file) == JOB
    assert status(there) is JobStatus.PAUSED
    old, new = ([r.hash for r in journal.read(JOB)] for journal in (here, there))
    assert new[: len(old)] == old
    assert there.check() == there.last_seq()
    engine = Engine(there, JOB)
    engine.turn([BEGAN], now=Millis(10))
    kinds = [recorded.event.kind for recorded in there.read(JOB, after=len(old))]
    assert kinds[:4] == ["job_imported", "run_started", "create_in_doubt", "create_resolved"]
    assert engine.state.epoch == 3
    before = here.last_seq()
    Engine(here, JOB).turn([BEGAN, PauseAsked("me", "why")], now=Millis(11))
    assert here.last_seq() == before


def test_the_file_can_be_written_again(
    here: SqliteJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: a failure between the leaving and the file leaves a job that is nowhere: ask again."""
    begun(here)
    with monkeypatch.context() as full, pytest.raises(EvidenceUnreachable) as caught:
        full.setattr(
            "journal.evidence.os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "full"))
        )
        export_job(here, JOB, tmp_path / "first", None)
    assert "left this journal already" in caught.value.__notes__[0]
    assert status(here) is JobStatus.MOVED
    last = here.last_seq()
    export_job(here, JOB, tmp_path / "again.ndjson", None)
    assert here.last_seq() == last


def test_there_and_back_again(here: SqliteJournal, there: SqliteJournal, tmp_path: Path) -> None:
    """I1: the first journal gets what happened elsewhere behind what it holds."""
    begun(here)
    export_job(here, JOB, tmp_path / "1", None)
    arrive(there, tmp_path / "1")
    Engine(there, JOB).turn([BEGAN], now=Millis(10))
    export_job(there, JOB, tmp_path / "2", None)
    arrive(here, tmp_path / "2")
    assert status(here) is JobStatus.PAUSED
    assert status(there) is JobStatus.MOVED
    assert [job for job, _ in unfinished(here)] == [JOB]
    whole = [recorded.hash for recorded in here.read(JOB)]
    part = [recorded.hash for recorded in there.read(JOB)]
    assert whole[: len(part)] == part
    assert here.check() == here.last_seq()


def test_a_job_that_never_arrived_is_taken_back(here: SqliteJournal, tmp_path: Path) -> None:
    """I5: the journal knows that it left from here: somebody has to vouch."""
    begun(here)
    export_job(here, JOB, tmp_path / "1", None)
    with pytest.raises(JobElsewhere, match="left from here"):
        arrive(here, tmp_path / "1")
    assert status(here) is JobStatus.MOVED
    arrive(here, tmp_path / "1", take_back=True)
    assert status(here) is JobStatus.PAUSED
    with pytest.raises(JobElsewhere, match="arrived here before"):
        arrive(here, tmp_path / "1", take_back=True)


def test_another_history_of_the_same_name_is_refused(
    here: SqliteJournal, there: SqliteJournal, tmp_path: Path
) -> None:
    """I1: nothing is mixed, nothing is appended."""
    begun(here)
    export_job(here, JOB, tmp_path / "1", None)
    Engine(there, JOB).turn([JobAsked("somebody else", SPEC)], now=Millis(1))
    last = there.last_seq()
    with pytest.raises(JobElsewhere, match="differ"):
        arrive(there, tmp_path / "1")
    assert there.last_seq() == last
    assert there.check() == last


def test_history_and_arrival_are_one_commit(
    here: SqliteJournal, there: SqliteJournal, tmp_path: Path
) -> None:
    """I3, I4: a job is here with its arrival or not at all; the tip says so."""
    begun(here)
    export_job(here, JOB, tmp_path / "1", None)
    last = there.last_seq()
    found = arriving(tmp_path / "1", None)
    broken = replace(found, state=replace(found.state, epoch=2**70))
    with pytest.raises(struct.error):
        import_job(there, tmp_path / "1", broken)
    assert there.last_seq() == last
    import_job(there, tmp_path / "1", found)
    tip = read_tip(tip_path(there.path), DISK)
    assert tip is not None
    assert tip.seq == there.last_seq() == there.check()


def test_nothing_leaves_before_its_file_has_a_place(here: SqliteJournal, tmp_path: Path) -> None:
    """P2: an export that cannot be written changes nothing."""
    begun(here)
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for file, error in ((taken, EvidenceExists), (tmp_path / "no" / "x", EvidenceUnreachable)):
        with pytest.raises(error):
            export_job(here, JOB, file, None)
    assert status(here) is not JobStatus.MOVED
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []


def test_the_folders_of_the_old_host_are_not_this_ones(
    here: SqliteJournal, there: SqliteJournal, tmp_path: Path
) -> None:
    engine = begun(here)
    assert engine.state.settings is not None
    engine.turn(
        [replace(BEGAN, settings=SETTINGS.model_copy(update={"work_dir": "/mnt/fast"}))],
        now=Millis(3),
    )
    export_job(here, JOB, tmp_path / "1", None)
    arrive(there, tmp_path / "1")
    settings = recall(there, JOB).state.settings
    assert settings is not None
    assert settings.work_dir == ""


def test_what_is_no_exported_job(here: SqliteJournal, tmp_path: Path) -> None:
    from ferrylog.moving import write_evidence

    engine = begun(here)
    write_evidence(here, JOB, tmp_path / "running", None)
    with pytest.raises(BadEvidence, match="was not exported: it is running"):
        arrive(here, tmp_path / "running")
    ended = Engine(here, JobId("ended"))
    ended.turn([JobAsked("me", SPEC), BEGAN], now=Millis(1))
    ended.turn([Succeeded(TaskKey(TaskKind.SURVEY, "job"), 1, 1, Surveyed(()))], now=Millis(2))
    assert ended.state.terminal
    with pytest.raises(JobEnded, match="completed"):
        export_job(here, ended.job, tmp_path / "ended", None)
    assert engine.job == JOB
