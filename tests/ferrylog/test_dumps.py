"""Dumps and restores as every view tells of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from executors.dumps.errors import DETAILS
from ferrylog import clock
from ferrylog.past import Past
from ferrylog.views.ending import last_words
from ferrylog.views.human import status_text
from ferrylog.views.model import exit_code, phase, status_report
from ferrylog.views.told import Told
from ferrylog.views.watch import Pace, dashboard, line
from statemachine.events import MetadataDifference
from statemachine.state import State
from statemachine.stimuli import Surveyed
from statemachine.words import Cause, JobStatus, Millis, TaskKind, UnitId
from tests.ferrylog.histories import (
    BEGIN,
    CHUNK,
    DUMP,
    JOB,
    RESTORE,
    Play,
    a_dump,
    a_restore,
    brought,
    failed,
    found,
    rejecting,
)
from tests.ferrylog.looking import last, reports
from tests.ferrylog.saying import Say, say_with
from tests.statemachine.examples import SPEC

ORDERS = UnitId("shop.orders")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ferrylog.db"


@pytest.fixture
def say(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    monkeypatch.setattr(clock, "now_ms", lambda: Millis(BEGIN + 60_000))
    return say_with(path, monkeypatch, capsys)


# --- a dump ---


def test_a_dump_counts_what_it_dumped(path: Path) -> None:
    """F5, A21, A22: documents, bytes, rates and percent; nothing of it is restored."""
    a_dump(path)
    before = (0, 0, 0.0)
    for _, report in reports(path):
        documents = report.totals.documents
        now = (documents.done, report.totals.bytes, report.totals.percent)
        assert all(a <= b for a, b in zip(before, now, strict=True))
        assert documents.done == documents.dumped
        before = now
    state, report = last(path)
    assert before == (60, 6000, 100.0)
    assert (state.done_documents, state.done_bytes) == (60, 6000)
    assert report.rate.average_docs_s > 0
    for unit in report.units:
        assert (unit.documents.done, unit.bytes) == (30, 3000)
        assert (unit.dump_percent, unit.restore_percent) == (100.0, 0.0)
        assert unit.chunks.dump.completed == unit.chunks.total == 3


def test_a_dump_is_done_when_its_manifest_is(path: Path) -> None:
    """A21: every chunk, then what makes them a dump; no index is built."""
    a_dump(path)
    seen = list(dict.fromkeys(phase(state) for state, _ in reports(path) if state.spec))
    assert seen == ["plan", "dump", "manifest", "done"]
    _, report = last(path)
    assert [(each.phase, each.done, each.total) for each in report.phases] == [
        ("dump", 6, 6),
        ("manifest", 1, 1),
    ]
    with_it = [report for _, report in reports(path) if report.phase == "manifest"]
    assert {(report.phases[1].done, report.totals.percent) for report in with_it} == {(0, 99.9)}


def test_a_dump_says_as_of_when_and_what_it_leaves(path: Path, say: Say) -> None:
    """The consistency it used; users and roles that stay, and how they come with it."""
    a_dump(path)
    document = say("status", "--json").document()
    assert (document["consistency"], document["cluster_time"]) == ("snapshot", "1795357700.3")
    assert document["as_of"] == "2026-11-22T14:28:20.000Z"
    assert document["left_behind"] == {"users": 3, "roles": 1}
    assert document["layout"] == "chunks"
    text = say("status").out
    for said in (
        "mongodb://a:27017/ → file:/backup/shop (chunks)",
        "60 of about 60 documents, 6.0 kB",
        "3/3 chunks  30 documents",
        "a snapshot: all as of 2026-11-22T14:28:20.000Z (cluster time 1795357700.3)",
        "3 users and 1 role stay on the source: --users-and-roles carries them",
    ):
        assert said in text, text


@pytest.mark.parametrize(
    ("users", "roles", "said"),
    [
        (1, 0, "1 user stays on the source: --users-and-roles carries it"),
        (0, 2, "2 roles stay on the source: --users-and-roles carries them"),
        (0, 0, None),
    ],
)
def test_what_is_left_behind_is_counted(
    path: Path, say: Say, users: int, roles: int, said: str | None
) -> None:
    survey = Surveyed((found("shop.orders"),), users=users, roles=roles)
    script = {(TaskKind.SURVEY, "job", 1): [(10, brought(survey))]}
    Play(path, script, spec=DUMP.model_copy(update={"consistency": "fuzzy"})).run()
    text = say("status").out
    assert said in text if said else "on the source" not in text
    assert "fuzzy: each document as of when it was read" in text


def test_only_what_reads_a_source_has_a_consistency(path: Path) -> None:
    """A dump that does not tell is not called fuzzy; nor is anything before the survey."""
    a_restore(path)
    assert {report.consistency for _, report in reports(path)} == {None}
    other = path.with_name("other.db")
    Play(other, {}).run()
    told_of = [report.consistency for state, report in reports(other)]
    assert told_of[0] is None
    assert told_of[-1] == "fuzzy"


# --- a restore ---


def test_a_restore_counts_what_it_restored(path: Path) -> None:
    """F5: of a dump that tells no counts the estimate comes with the plan."""
    a_restore(path)
    found = [report.totals.documents for _, report in reports(path)]
    assert found[0].total_estimate == 0
    assert (found[-1].total_estimate, found[-1].done, found[-1].restored) == (60, 60, 60)
    assert all(each.done <= each.total_estimate for each in found)
    assert all(each.done == each.restored for each in found)


def test_a_restore_plans_all_before_it_writes(path: Path) -> None:
    """A21: the files of the dump, the documents, the indexes, the comparison, the last touch."""
    a_restore(path)
    seen = list(dict.fromkeys(phase(state) for state, _ in reports(path) if state.spec))
    assert seen[0] == "plan"
    assert seen[-2:] == ["finish", "done"]
    _, report = last(path)
    assert [(each.phase, each.done, each.total) for each in report.phases] == [
        ("plan", 2, 2),
        ("restore", 6, 6),
        ("index", 2, 2),
        ("verify", 6, 6),
        ("finish", 3, 3),
    ]
    assert sum(each.weight for each in report.phases) == 100
    for _, each in reports(path):
        planned = next((one for one in each.phases if one.phase == "plan"), None)
        if planned is not None and planned.done < planned.total:
            assert each.totals.chunks.restore.completed == 0


def test_why_nothing_is_written_yet(path: Path) -> None:
    """A26."""
    a_restore(path)
    said = [report.answers[0].answer for _, report in reports(path)]
    assert any("before every file of the dump was looked at: those of 2 units" in a for a in said)
    assert "looked at" not in said[-1]


def test_indexes_that_stood_before_the_data_are_no_work(path: Path) -> None:
    """Those that came with the collection are not built."""
    a_restore(path)
    state, _ = last(path)
    state.units[ORDERS].built = ("when_1",)
    past = Past(state)
    report = status_report(JOB, past, running=False)
    assert [(p.done, p.total) for p in report.phases if p.phase == "index"] == [(1, 1)]


def test_what_differs_and_what_is_damaged_is_named(path: Path, say: Say) -> None:
    """Every difference of options and indexes; the first places of the dump, and how many more;
    repaired timestamps; what lies there and is not carried; kinds of units."""
    a_restore(path)
    document = say("status", "--json").document()
    assert document["differing_metadata"] == 2
    orders, totals, weather = document["units"]
    assert [each["what"] for each in orders["differing"]] == ["option validator", "index when_1"]
    assert (orders["damaged"], orders["documents"]["repaired"]) == (12, 2)
    assert [unit["type"] for unit in (orders, totals, weather)] == [
        "collection",
        "view",
        "timeseries",
    ]
    assert (document["damaged_places"], len(document["damage"])) == (12, 10)
    assert document["damage"][0] == {
        "namespace": "shop.orders", "file": "shop/orders.bson", "at": 5000, "bytes": 7,
        "code": "EBSON013", "why": "the bytes end inside",
    }  # fmt: skip
    text = say("status").out
    for said in (
        'shop.orders: option validator: {"n": 1} on the source, missing on the target',
        'shop.orders: index when_1: missing on the source, {"when": 1} on the target',
        "12 places of the dump cannot be read",
        "shop/orders.bson, offset 5,000: 7 bytes passed over: EBSON013: the bytes end inside",
        "and 2 more: see `ferrylog inspect events --kind damage_found`",
        "2 documents with an empty timestamp",
        "note: oplog.bson is ignored",
        "a view",
        "30 documents of a time series",
    ):
        assert said in text, text


def test_notes_of_each_moment(path: Path) -> None:
    """What was told until then."""
    a_restore(path)
    notes = [report.notes for _, report in reports(path)]
    assert notes[0] == ()
    assert notes[-1] == ("oplog.bson is ignored",)


def test_many_differences_are_counted(path: Path) -> None:
    """Text has an end; JSON has what was looked up."""
    a_restore(path)
    state, report = last(path)
    many = tuple(
        MetadataDifference(what=f"index {n}", source="x" * 500, target="") for n in range(150)
    )
    state.units[ORDERS].differing = len(many)
    facts = Told(differing={ORDERS: many})
    report = status_report(JOB, Past(state), running=False, told=facts)
    lines = status_text(report).splitlines()
    assert sum("index" in each and "shop.orders: " in each for each in lines) == 100
    assert any("and 50 more" in each for each in lines)
    assert max(map(len, lines)) < 400


# --- one line, one screen ---


@pytest.mark.parametrize("story", [a_dump, a_restore])
def test_from_another_terminal(path: Path, story: Callable[[Path], Play]) -> None:
    """F5: the same numbers; what is wrong in a line each."""
    story(path)
    pace, busy = Pace(), 0.0
    for at_s, (state, report) in enumerate(reports(path)):
        active = pace.look(state, {}, float(at_s))
        busy = max([busy, *(each.docs_s for each in active)])
        screen = dashboard(report, active, width=100, height=20)
        assert len(screen) <= 20
    assert busy >= 10
    assert "60 documents" in line(report)
    text = "\n".join(screen)
    assert "60 of about 60 documents" in text
    restored = report.kind == "restore"
    assert ("12 places of the dump cannot be read" in text) is restored
    assert ("described differently in 2 things" in text) is restored


# --- how it ends ---


def ended(path: Path, **changes: object) -> State:
    Play(path, {}, spec=RESTORE).run()
    state, _ = last(path)
    for name, value in changes.items():
        setattr(state, name, value)
    return state


def test_differing_metadata_ends_with_4(path: Path) -> None:
    """It weighs more than the damage."""
    a_restore(path)
    state, _ = last(path)
    assert exit_code(state) == 4
    words = last_words(state, JOB, "j.db")
    assert "2 × option, index or the like: ferrylog inspect events --kind finish_completed" in words
    assert "12 places of the dump cannot be read" in words
    assert "× chunk" not in words


def test_damaged_places_end_with_3(path: Path) -> None:
    """What was whole is there."""
    a_restore(path, differing=False)
    state, _ = last(path)
    assert exit_code(state) == 3
    words = last_words(state, JOB, "j.db")
    assert "12 places of the dump cannot be read" in words
    assert "dead-letters" not in words


def test_damage_that_belongs_to_no_unit_ends_with_3(path: Path) -> None:
    """Of an archive nobody can tell whose it was."""
    state = ended(path, damaged=1)
    assert exit_code(state) == 3
    assert "1 place of the dump cannot be read" in last_words(state, JOB, "j.db")
    assert status_report(JOB, Past(state), running=False).damaged_places == 1


def test_rejects_and_damage_are_both_said(path: Path) -> None:
    script = {(TaskKind.RESTORE, CHUNK, 1): [(10, rejecting(12))]}
    Play(path, script, spec=RESTORE).run()
    state, _ = last(path)
    state.damaged = 2
    words = last_words(state, JOB, "j.db")
    assert "2 places of the dump" in words
    assert "dead-letters list" in words


@pytest.mark.parametrize("code", ["EBSON013", *DETAILS])
def test_a_damaged_dump_ends_with_4(path: Path, code: str) -> None:
    """faults.md 5: damaged data; nothing was written."""
    damaged = failed(Cause.PERMANENT, code, "not as whoever wrote it left it")
    state = Play(path, {(TaskKind.PLAN, ORDERS, 1): [(10, damaged)]}, spec=RESTORE).once()
    assert (state.status, exit_code(state)) == (JobStatus.FAILED, 4)
    assert f"{code}: {state.why}" in last_words(state, JOB, "j.db")
    _, report = last(path)
    assert report.code == code
    assert f"  {code}: {state.why}" in status_text(report)


@pytest.mark.parametrize("code", ["ESNAP001", "EDUMP001", "EDUMP003", "EDUMP095", "EMONGO013", ""])
def test_any_other_failure_ends_with_1(path: Path, code: str) -> None:
    """A snapshot too old, no dump at all, what a format cannot hold: nothing is damaged."""
    assert exit_code(ended(path, status=JobStatus.FAILED, code=code)) == 1


def test_a_changed_file_is_damage_where_it_cannot_be_dumped_again(path: Path) -> None:
    """I24: a chunk file of a migration is written anew; giving up on that is a failure."""
    state = ended(path, status=JobStatus.FAILED, code="EFILE001")
    assert exit_code(state) == 4
    state.spec = SPEC
    assert exit_code(state) == 1
