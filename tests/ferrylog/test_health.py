"""Health: each issue planted, found, and told with the command that helps (M3, M11)."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from ferrylog.engine import Engine
from ferrylog.health.examine import Asked, Health, examine
from ferrylog.health.issues import DAY_MS, HOUR_MS, MINUTE_MS, Issue, Limits
from ferrylog.health.places import Room
from ferrylog.health.recover import NotRecovered, Recovered, recover
from ferrylog.moving import export_job
from ferrylog.past import Past
from ferrylog.recall import recall
from ferrylog.views.health import EXIT_CODES, health_report, health_text, summary
from journal.inbox import Inbox
from journal.lease import Lease
from journal.sqlite import SqliteJournal
from statemachine.effects import wanted_effects
from statemachine.events import JobSpec
from statemachine.state import State
from statemachine.stimuli import (
    JobAsked,
    PauseAsked,
    RollbackAsked,
    RunBegan,
    StopAsked,
    Succeeded,
    Undone,
)
from statemachine.undoing import undo_plan
from statemachine.words import Cause, JobId, JobStatus, Millis, TaskKind
from tests.ferrylog.histories import (
    BEGIN,
    CHUNK,
    DUMP,
    JOB,
    KILLED,
    SPEC,
    Play,
    failed,
    rejecting,
    two_failures_and_a_kill,
)
from tests.program import ferrylog
from tests.statemachine.examples import SETTINGS

PLENTY = Room(10**12, 9 * 10**11)
UNDOABLE = SPEC.model_copy(update={"undo": True})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ferrylog.db"


def look(path: Path, now_ms: int, *, room: Room = PLENTY, **limits: float) -> Health:
    asked = Asked(replace(Limits(), **limits), room=lambda _: room)  # type: ignore[arg-type]
    return examine(path, asked, now_ms)


def the(health: Health, kind: str) -> Issue:
    (issue,) = (each for each in health.issues if each.type == kind)
    assert shlex.split(issue.recommendation)[0] == "ferrylog"
    return issue


def types(health: Health) -> set[str]:
    return {each.type for each in health.issues}


def killed(path: Path, spec: JobSpec = SPEC) -> Play:
    """A job whose process is gone, in the middle of a restore."""
    played = Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(40, KILLED)]}, spec=spec)
    played.once()
    return played


def completed(path: Path) -> Play:
    played = Play(path, {})
    played.run()
    return played


def engine_of(journal: SqliteJournal) -> Engine:
    return Engine(journal, JOB, recall(journal, JOB))


# --- jobs ---


def test_a_journal_with_nothing_wrong_is_healthy(path: Path) -> None:
    now = completed(path).now
    assert look(path, now).issues == ()
    report = health_report(str(path), now, look(path, now))
    assert report.overall_status == "healthy" and EXIT_CODES["healthy"] == 0
    assert summary(report) == "health: healthy"


def test_a_job_whose_process_is_gone(path: Path) -> None:
    now = killed(path).now
    found = look(path, now)
    issue = the(found, "abandoned_jobs")
    assert (issue.severity, issue.entities) == ("critical", (JOB,))
    assert issue.recommendation == f"ferrylog resume {JOB} --journal {path}"
    assert f"restore {CHUNK}" in the(found, "stuck_operations").entities
    assert health_report(str(path), now, found).overall_status == "critical"


def test_a_job_that_runs_is_stuck_after_half_an_hour_without_an_event(path: Path) -> None:
    """M11."""
    now = killed(path).now
    with Lease(path, host="h", since="now"), SqliteJournal.read_only(path) as journal:
        last = recall(journal, JOB).at_ms
        assert look(path, now).issues == ()
        assert look(path, last + 30 * MINUTE_MS).issues == ()
        issue = the(look(path, last + 30 * MINUTE_MS + 1), "stuck_operations")
        assert "stuck_operations" not in types(look(path, last + DAY_MS, stuck_ms=2 * DAY_MS))
    assert issue.recommendation == f"ferrylog pause {JOB} --immediate --journal {path}"
    assert "no event for" in issue.message


def test_a_job_at_rest_by_an_operators_word_is_no_issue(path: Path) -> None:
    played = Play(path, {}, wishes=[(50, PauseAsked("ben", "lunch", request=1))])
    assert played.once().status is JobStatus.PAUSED
    assert look(path, played.now).issues == ()


def test_failures_of_the_last_hour(path: Path) -> None:
    """M11: retries and dead letters, of the last hour only."""
    now = two_failures_and_a_kill(path).now
    issue = the(look(path, now, failed=1), "failed_operations")
    assert (issue.count, issue.entities) == (2, (f"{JOB} {CHUNK}",))
    assert "failed_operations" not in types(look(path, now, failed=2))
    assert "failed_operations" not in types(look(path, now + 2 * HOUR_MS, failed=1))


def test_queue_depth_counts_tasks_and_requests(path: Path) -> None:
    now = killed(path).now
    with SqliteJournal.read_only(path) as journal:
        tasks = look(path, now, queue=0)
        count = the(tasks, "queue_depth").count
        assert count == sum(
            len(queue)
            for (_, status, _), queue in recall(journal, JOB).state.queues.items()
            if status in ("pending", "waiting")
        )
    Inbox(path).leave(JOB, "pause", "ann")
    assert the(look(path, now, queue=0), "queue_depth").count == count + 1
    assert "queue_depth" not in types(look(path, now, queue=count + 1))
    assert "queue_depth" not in types(look(path, now))


def test_dead_letters(path: Path) -> None:
    played = Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(40, rejecting(12, 13))]})
    played.run()
    issue = the(look(path, played.now), "dead_letters")
    assert (issue.count, issue.severity) == (2, "degraded")
    assert "dead_letters" not in types(look(path, played.now, dead_letters=2))
    listed = ferrylog(*shlex.split(issue.recommendation)[1:])
    assert listed.returncode == 0 and CHUNK in listed.stdout


def test_a_job_that_ended_long_ago_is_history(path: Path) -> None:
    played = Play(path, {(TaskKind.RESTORE, CHUNK, 1): [(40, rejecting(12))]})
    played.run()
    assert look(path, played.now + 31 * DAY_MS).issues == ()


# --- rollbacks ---


def rolled_back(path: Path, *, fails: bool) -> Play:
    """A job that is taken back; with one undo that is given up."""
    played = killed(path, UNDOABLE)
    with SqliteJournal.create(path) as journal:
        engine = engine_of(journal)
        engine.turn([StopAsked("me", "no", immediate=True, rollback=True)], now=Millis(played.now))
        plan = undo_plan(each.event for each in journal.read(JOB))
        began = RunBegan("me", "host", 1, "0", SETTINGS)
        engine.turn([RollbackAsked("me", "no", plan), began], now=Millis(played.now))
    if fails:
        wrong = failed(Cause.PERMANENT, "EMONGO013", "not authorised")
        with SqliteJournal.create(path) as journal:
            engine = engine_of(journal)
            played.now += 1000
            for effect in list(wanted_effects(engine.state)):
                news = replace(wrong, task=effect.task, attempt=effect.attempt, epoch=effect.epoch)
                engine.turn([news], now=Millis(played.now))
    return played


def test_a_rollback_that_failed(path: Path) -> None:
    now = rolled_back(path, fails=True).now
    found = look(path, now)
    issue = the(found, "rollback_failed")
    assert issue.recommendation == f"ferrylog rollback {JOB} --journal {path}"
    rate = the(found, "rollback_failure_rate")
    assert (rate.count, rate.limit, rate.severity) == (100.0, 5.0, "critical")
    assert "rollback_failure_rate" not in types(look(path, now, rollback_failures=100.0))


def test_a_rollback_that_nobody_carries_on(path: Path) -> None:
    now = rolled_back(path, fails=False).now
    issue = the(look(path, now), "abandoned_jobs")
    assert issue.recommendation == f"ferrylog rollback {JOB} --journal {path}"


def test_what_was_taken_back_has_no_dead_letters(path: Path) -> None:
    """Nor does a rollback that an operator paused go on by itself."""
    now = rolled_back(path, fails=True).now
    assert "dead_letters" in types(look(path, now))
    with SqliteJournal.create(path) as journal:
        engine = engine_of(journal)
        engine.turn([RunBegan("me", "host", 1, "0", SETTINGS)], now=Millis(now))
        engine.turn([PauseAsked("me", "lunch", immediate=True)], now=Millis(now))
        assert engine.state.status is JobStatus.ROLLBACK_PAUSED
    assert list(recover(path, lambda *_: pytest.fail("it went on"))) == []
    assert list(recover(path, takes_back)) == []
    with SqliteJournal.create(path) as journal:
        assert takes_back(journal, JOB, recall(journal, JOB)).status is JobStatus.ROLLED_BACK
    assert "dead_letters" not in types(look(path, now))


def takes_back(journal: SqliteJournal, job: JobId, past: Past) -> State:
    """Stands in for a run: every undo goes well."""
    engine, now = Engine(journal, job, past), Millis(past.at_ms + 1000)
    engine.turn([RunBegan("me", "host", 1, "0", SETTINGS)], now=now)
    while not engine.state.resting:
        for each in list(wanted_effects(engine.state)):
            news = Succeeded(each.task, each.attempt, each.epoch, Undone(0, 0, ()))
            engine.turn([news], now=now)
    return engine.state


def test_a_job_that_left_is_another_journals(path: Path, tmp_path: Path) -> None:
    played = killed(path)
    with SqliteJournal.create(path) as journal:
        export_job(journal, JOB, tmp_path / "job.ndjson", None)
    assert look(path, played.now + DAY_MS, queue=0).issues == ()


def test_dead_letters_that_left_with_their_job_are_told_there(path: Path, tmp_path: Path) -> None:
    gone = failed(Cause.PERMANENT, "EMONGO013", "not authorised")
    played = Play(path, {(TaskKind.PLAN, "shop.orders", 1): [(40, gone)]})
    played.once()
    assert types(look(path, played.now)) == {"dead_letters"}
    with SqliteJournal.create(path) as journal:
        export_job(journal, JOB, tmp_path / "job.ndjson", None)
    assert look(path, played.now).issues == ()


# --- around the jobs ---


def test_a_lease_whose_holder_is_gone(path: Path) -> None:
    now = completed(path).now
    lease = Path(f"{path}.lease")
    lease.write_text('{"pid": 1, "host": "h", "since": "then"}')
    assert the(look(path, now), "stale_lease").entities == (str(lease),)
    lease.write_text("")
    assert look(path, now).issues == ()
    with Lease(path, host="h", since="now"):
        assert look(path, now).issues == ()


def test_orphans(path: Path) -> None:
    """M11: more than fifty, young ones too; those of a live job are none."""
    now = killed(path).now
    for number in range(60):
        for job in (JOB, "20200101-000000-dead"):
            file = Path(f"{path}.d", job, "shop.orders", f"{number}-1.flb")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
    issue = the(look(path, now), "orphans")
    assert (issue.count, issue.entities) == (60, [f"{path}.d/20200101-000000-dead"])
    assert "orphans" not in types(look(path, now, orphans=60))


def test_disk_space(path: Path) -> None:
    now = completed(path).now
    issue = the(look(path, now, room=Room(1000, 99)), "disk_space")
    assert (issue.count, issue.limit, issue.severity) == (9.9, 10.0, "degraded")
    assert "disk_space" not in types(look(path, now, room=Room(1000, 100)))
    assert "disk_space" in types(look(path, now, room=Room(1000, 500), free=60.0))


def test_disk_space_that_jobs_need(path: Path) -> None:
    """There is ten percent, and the journal of a job at work may need more."""
    now = killed(path).now
    issue = the(look(path, now, room=Room(1000, 900)), "disk_space")
    assert issue.severity == "critical" and "need" in issue.message


def test_damage_of_the_journal(path: Path) -> None:
    now = completed(path).now
    tip = Path(f"{path}.tip")
    tip.rename(tip.with_suffix(".away"))
    issue = the(look(path, now), "journal_damage")
    assert issue.severity == "critical"
    assert issue.recommendation == f"ferrylog inspect check --journal {path}"
    told = ferrylog("health", "--journal", path, "--json", "--recover")
    assert told.returncode == 4
    assert json.loads(told.stdout)["issues"][0]["type"] == "journal_damage"


def test_a_chain_that_is_none(path: Path, tmp_path: Path) -> None:
    now = completed(path).now
    asked = Asked(chains=[tmp_path / "nowhere"], room=lambda _: PLENTY)
    issue = the(examine(path, asked, now), "chain_gaps")
    assert issue.recommendation.startswith("ferrylog inspect chain")


# --- recovering ---


def ends(journal: SqliteJournal, job: JobId, past: Past) -> State:
    """Stands in for a run: every effect goes well."""
    journal.check_tip()
    played = Play(journal.path, {}, now=past.at_ms + 1000)
    engine = Engine(journal, job, past)
    began = RunBegan("me", "host", 1, "0", SETTINGS)
    played._turn(engine, [began])
    played._to_the_rest(engine)
    return engine.state


def test_what_nobody_runs_goes_on(path: Path) -> None:
    """M3: and its lease, which a kill left, is free again."""
    killed(path)
    Path(f"{path}.lease").write_text('{"pid": 1, "host": "h", "since": "then"}')
    lease, job = recover(path, ends)
    assert (lease, job) == (
        Recovered("stale_lease", f"{path}.lease", "taken, and given back", "free"),
        Recovered("abandoned_jobs", JOB, "resumed", "completed"),
    )
    assert look(path, BEGIN + HOUR_MS).issues == ()
    assert list(recover(path, ends)) == []


def test_a_job_that_runs_is_left_alone(path: Path) -> None:
    killed(path)
    with Lease(path, host="h", since="now"):
        assert list(recover(path, lambda *_: pytest.fail("it went on"))) == []


def test_what_an_operator_paused_is_left_alone(path: Path) -> None:
    """And what is given up stays a dead letter."""
    gone = failed(Cause.PERMANENT, "EMONGO013", "not authorised")
    played = Play(path, {(TaskKind.PLAN, "shop.orders", 1): [(40, gone)]})
    assert played.once().status is JobStatus.PAUSED
    assert list(recover(path, lambda *_: pytest.fail("it went on"))) == []
    assert the(look(path, played.now), "dead_letters").count == 1


def test_whoever_interrupts_ends_all_of_it(path: Path) -> None:
    """The next job is not begun for somebody who wants this process to end."""
    killed(path)
    with SqliteJournal.create(path) as journal:
        began = RunBegan("me", "host", 1, "0", SETTINGS)
        Engine(journal, JobId("20261122-150000-0abc")).turn(
            [JobAsked("me", SPEC), began], now=Millis(1)
        )

    def interrupted(journal: SqliteJournal, job: JobId, past: Past) -> State:
        engine = Engine(journal, job, past)
        engine.turn([PauseAsked("signal", "SIGINT", immediate=True)], now=Millis(past.at_ms))
        return engine.state

    (only,) = recover(path, interrupted)
    assert isinstance(only, Recovered) and only.status == "paused"


def test_what_cannot_go_on_here_is_told_with_its_command(path: Path) -> None:
    stream = DUMP.model_copy(update={"target": "file:-"})
    played = Play(path, {(TaskKind.DUMP, CHUNK, 1): [(40, KILLED)]}, spec=stream)
    played.once()
    (told,) = recover(path, lambda *_: pytest.fail("it went on"))
    assert isinstance(told, NotRecovered)
    assert told.recommendation == f"ferrylog resume {JOB} --journal {path}"
    report = health_report(str(path), played.now, look(path, played.now), (), (told,))
    assert "NOT recovered" in health_text(report)


# --- as a command ---


def test_the_command(path: Path) -> None:
    completed(path)
    told = ferrylog("health", "--journal", path, "--json", "--min-free", "0")
    report = json.loads(told.stdout)
    assert told.returncode == 0, told.stdout
    assert (report["schema"], report["overall_status"]) == ("ferrylog.health/1", "healthy")
    assert told.stderr.strip() == "health: healthy"
    Path(f"{path}.lease").write_text("{}")
    told = ferrylog("health", "--journal", path, "--min-free", "0")
    assert told.returncode == 3
    assert "stale_lease" in told.stdout and told.stderr.count("\n") == 1
    told = ferrylog("health", "--journal", path, "--min-free", "0", "--recover")
    assert told.returncode == 0, told.stdout


def test_a_server_that_cannot_be_reached(path: Path) -> None:
    completed(path)
    uri = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"
    told = ferrylog("health", "--journal", path, "--json", "--target", uri)
    assert told.returncode == 4
    issues = {each["type"]: each for each in json.loads(told.stdout)["issues"]}
    assert issues["unreachable"]["entities"] == ["target"]


def test_without_a_journal_it_says_so(path: Path) -> None:
    told = ferrylog("health", "--journal", path)
    assert told.returncode == 1 and "EJOURNAL007" in told.stderr
    assert not path.exists()
