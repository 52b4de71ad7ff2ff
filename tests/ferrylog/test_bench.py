"""What benches make of their figures: medians, ratios within a round, goals and the document."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "scripts" / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The benches import each other by bare names, as scripts do."""
    sys.path.insert(0, str(BENCHMARKS))
    names = ("common", "results", "goals", "bench_report", "bench_all")
    try:
        yield type("Bench", (), {name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in names:
            sys.modules.pop(name, None)


def took(bench: Any, *seconds: float) -> list[Any]:
    return [bench.common.Figures(each, each / 2, 100.0, each / 4) for each in seconds]


def made(bench: Any, subject: str, began: str = "2026-11-22T10:00:00+00:00", **found: Any) -> Any:
    words = {"machine": {"processor": "2 × a processor"}, "seconds": 90.0, **found}
    return bench.results.Results(subject, f"scripts/bench {subject}", began, **words)


# --- statistics ---


def test_ratios_are_of_one_round_and_told_with_their_spread(bench: Any) -> None:
    """A slow moment of the machine falls on both contenders of a round."""
    peer, ours = took(bench, 2, 4, 30), took(bench, 1, 2, 10)
    ratios = bench.results.paired(peer, ours)
    assert ratios == [2, 2, 3]
    assert bench.results.spread(ratios) == "2.00 (2.00–3.00)"
    assert bench.results.spread([1234.5]) == "1,234.50"


def test_a_round_begins_with_another_contender_each_time(bench: Any) -> None:
    """The first finds files and collections in the order in which they are made."""
    order: list[str] = []

    def runner(name: str) -> Any:
        return bench.common.Contender(name, lambda: order.append(name) or took(bench, 1)[0])

    found = bench.common.compete([runner(name) for name in "abcd"], 2)
    assert "".join(order) == "abcdcdab"
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys("abcd", 2)


def test_a_contest_shows_medians_and_compares_with_each_peer(bench: Any) -> None:
    contenders = [
        bench.common.Contender("peer", list),
        bench.common.Contender("ours", list, ("peer", "sum", "absent")),
    ]
    peer = took(bench, 2, 4, 6)
    figures = {"peer": peer, "ours": took(bench, 1, 2, 3)}
    figures["sum"] = [one + one for one in peer]
    results = made(bench, "data")
    results.contest("a title", contenders, figures, amount=100)
    first, second = results.tables[0].rows
    assert first == ["peer", "4.00", "25", "2.00", "1.00", "100", ""]
    assert second[-1] == "2.00 (2.00–2.00) peer; 4.00 (4.00–4.00) sum"
    assert len(results.figures["a title"]["ours"]) == 3


def test_a_process_is_measured_and_a_failed_one_ends_the_bench(bench: Any) -> None:
    busy = "import time\nwhile time.process_time() < 0.05: pass"
    figures = bench.common.measured([sys.executable, "-c", busy])
    assert 0.04 < figures.cpu_s <= figures.seconds * 2
    assert figures.peak_mb > 1
    with pytest.raises(SystemExit, match="ended with 3"):
        bench.common.measured([sys.executable, "-c", "raise SystemExit(3)"])


# --- documents ---


def test_real_documents_come_from_the_corpus_or_are_said_to_be_skipped(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FERRYLOG_CORPUS", raising=False)
    assert list(bench.common.sets("small,real", 0.001)) == [("small", 1000)]
    assert "real: skipped" in capsys.readouterr().out
    (tmp_path / "samples" / "some").mkdir(parents=True)
    (tmp_path / "samples" / "some" / "a.json").write_text('{"_id": 1, "a": {"$numberInt": "7"}}\n')
    monkeypatch.setenv("FERRYLOG_CORPUS", str(tmp_path))
    assert bench.common.real_documents() == [{"a": 7}]
    assert list(bench.common.sets("real", 1e-9)) == [("real", 10)]


def test_every_round_of_loading_makes_the_same_documents(bench: Any) -> None:
    import random

    one, two = (
        [bench.common.document(random.Random("small"), ["word"], n, 230) for n in range(3)]
        for _ in range(2)
    )
    assert one == two


# --- goals ---


def goal_rows(
    bench: Any, *reached: tuple[str, str, list[float]]
) -> dict[tuple[str, str], list[str]]:
    table = bench.goals.judged([bench.results.Reached(*each) for each in reached])
    return {(row[0], row[1]): row for row in table.rows}


@pytest.mark.parametrize(
    ("key", "data", "values", "met"),
    [
        ("dump", "small", [1.4, 1.5, 1.6], "yes"),
        ("dump", "small", [1.4, 1.49, 9], "**no**"),
        ("dump", "real", [1.3], "**no**"),
        ("dump", "large", [1.3], "yes"),
        ("share", "small, own", [2.9], "yes"),
        ("share", "small, own", [3.1], "**no**"),
        ("memory", "small", [150, 150, 201], "**no**"),
        ("memory", "small", [150, 150, 199], "yes"),
    ],
)
def test_the_median_or_the_worst_is_held_against_the_goal_of_its_documents(
    bench: Any, key: str, data: str, values: list[float], met: str
) -> None:
    (goal,) = (each for each in bench.goals.GOALS if each.key == key)
    row = goal_rows(bench, (key, data, values))[goal.what, data]
    assert row[-1] == met


def test_what_was_not_measured_is_not_met(bench: Any) -> None:
    rows = goal_rows(bench)
    assert {row[-1] for row in rows.values()} == {"?"}
    assert {goal.what for goal in bench.goals.GOALS} == {what for what, _ in rows}


def test_of_two_findings_for_a_goal_the_first_counts(bench: Any) -> None:
    """Dumps are compared alone on more documents, and on fewer beside all else."""
    rows = goal_rows(bench, ("dump", "small", [2.0]), ("dump", "small", [1.0]))
    told = [row[-2:] for (what, _), row in rows.items() if what.startswith("dump: ")]
    assert told == [["2.00", "yes"], ["not measured", "?"], ["not measured", "?"]]


def test_a_set_without_a_goal_has_no_row(bench: Any) -> None:
    """Large documents have no goal for direct copies."""
    rows = goal_rows(bench, ("direct", "large", [1.0]), ("direct", "real", [2.0]))
    assert {data for what, data in rows if "direct" in what} == {"small", "medium", "real"}


# --- the document ---


def test_results_are_read_as_they_were_saved(bench: Any, tmp_path: Path) -> None:
    results = made(bench, "data", began="2999-01-01T00:00:00+00:00")
    results.table("a title", ["", "s"], [["ours", 1.5]], "a note")
    results.reach("dump", "small", (1.5, 2))
    results.save(None)
    results.save(tmp_path / "new" / "data.json")
    assert bench.results.Results.read(tmp_path / "new" / "data.json") == results
    (tmp_path / "other.json").write_text(json.dumps({"schema": "another/1"}))
    with pytest.raises(ValueError, match="no results of a bench"):
        bench.results.Results.read(tmp_path / "other.json")


def test_a_command_is_told_without_places_of_this_machine(bench: Any) -> None:
    words = ["--rounds", "5", "--json", "/tmp/a.json", "--peer", "/opt/peer/bin/python"]
    assert bench.results.told(words) == ["--rounds", "5", "--peer", "python"]


def test_the_document_has_the_machine_the_goals_and_every_subject_in_order(bench: Any) -> None:
    one, two = made(bench, "data"), made(bench, "data", began="2026-11-22T11:00:00+00:00")
    one.table("", ["", "s"], [["of one part", 1]])
    two.table("small", ["", "s"], [["a | b", 2]], "a note")
    other = made(bench, "share", machine={"processor": "another"})
    text = bench.bench_report.document([other, one, two])
    of_each = "data 2 × a processor, data 2 × a processor, share another"
    assert f"| processor | {of_each} |" in text
    assert "| dump: throughput against mongodump | small | at least 1.5 times, aim 2 |" in text
    assert "**small**\n\n|  | s |\n| --- | ---: |\n| a \\| b | 2 |\n\na note" in text
    assert "`scripts/bench data`, 2026-11-22T11:00:00+00:00, 1.5 minutes." in text
    assert "of one part" in text
    assert text.count("\n## data\n") == 1
    assert text.index("## Goals") < text.index("## data") < text.index("## share")
    assert "usage:" not in text


def test_what_is_written_by_hand_stays(bench: Any, tmp_path: Path) -> None:
    out, results = tmp_path / "performance.md", tmp_path / "data.json"
    made(bench, "data").save(results)
    bench.bench_report.compose([results], out)
    first = out.read_text()
    assert first.endswith("\n## Where the time goes\n\n## What falls short\n")
    out.write_text(first + "\nThe disk.\n")
    bench.bench_report.compose([results], out)
    assert out.read_text() == first + "\nThe disk.\n"


def test_every_program_is_listed_and_explains_itself(bench: Any) -> None:
    listed = (BENCHMARKS.parent / "bench").read_text()
    subjects = {file.stem.removeprefix("bench_") for file in BENCHMARKS.glob("bench_*.py")}
    assert subjects <= {*bench.bench_report.SUBJECTS, "all", "report"}
    for subject in subjects:
        assert f"\n#   {subject} " in listed
        assert bench.bench_report.explained(subject)


def test_a_bench_that_fails_does_not_end_the_others(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(subject: str, asked: Any) -> Path | None:
        path = Path(asked.results, f"{subject}.json")
        if subject == "data":
            return None
        made(bench, subject).save(path)
        return path

    monkeypatch.setattr(bench.bench_all, "run", run)
    out = tmp_path / "performance.md"
    words = ["--only", "data,share", "--results", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    with pytest.raises(SystemExit) as end:
        bench.bench_all.main()
    assert end.value.code == 1
    assert "## share" in out.read_text()
    assert "## data" not in out.read_text()
