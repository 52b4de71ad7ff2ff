"""`ferrylog inspect chain` as it is typed."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ferrylog.cli import main
from tests.executors.increments.test_chain import FACTS, Making, cut, flip, folder
from tests.ferrylog.test_inspect import Said

BEGIN = 1763816400
"""2025-11-22T13:00:00Z."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A full dump and three increments, the second with its log."""
    root = tmp_path / "chain"
    root.mkdir()
    facts = FACTS.model_copy(update={"cluster_time": f"{BEGIN}.1", "source": "mongodb://h:1/"})
    making = Making(root, until=f"{BEGIN}.1").full(facts)
    making.link(f"{BEGIN + 60}.5").link(f"{BEGIN + 120}.1", log=True).link(f"{BEGIN + 180}.2")
    return root


class Ask:
    def __init__(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._root, self._monkeypatch, self._capsys = root, monkeypatch, capsys

    def __call__(self, *words: str) -> Said:
        arguments = ["ferrylog", "inspect", "chain", str(self._root), *words]
        self._monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as end:
            main.main()
        said, code = self._capsys.readouterr(), end.value.code
        assert isinstance(code, int)
        return Said(code, said.out, said.err)

    def document(self, *words: str) -> Any:
        return self("--json", *words).document()


@pytest.fixture
def ask(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    return Ask(root, monkeypatch, capsys)


def test_a_whole_chain(ask: Ask, root: Path) -> None:
    """Y13: every link with what it holds, and the times that lead back to it."""
    for words in ((), ("--check",)):
        report = ask.document(*words)
        assert (report["schema"], report["whole"]) == ("ferrylog.chain/1", True)
        assert (report["checked"], report["problems"]) == (bool(words), [])
        assert ask("--json", *words).code == 0
    first, _, second, _ = report["links"]
    assert (first["link"], first["documents"], first["erased"], first["since"]) == (0, 3, 0, "")
    assert (second["until"], second["until_at"]) == (f"{BEGIN + 120}.1", "2025-11-22T13:02:00.000Z")
    assert (second["documents"], second["erased"], second["shards"]) == (1, 2, 1)
    assert (second["log"], second["state"], second["made"]) == (True, "whole", FACTS.created)
    assert [(each["first"], each["last"]) for each in report["times"]] == [
        (f"{BEGIN}.1", f"{BEGIN}.1"),
        (f"{BEGIN + 60}.5", f"{BEGIN + 120}.1"),
        (f"{BEGIN + 180}.2", f"{BEGIN + 180}.2"),
    ]
    assert report["chain"] == str(root)


def test_the_table(ask: Ask) -> None:
    said = ask()
    assert (said.code, said.err) == (0, "")
    head, columns, *rows = said.out.splitlines()
    assert head.endswith("a full dump and 3 increments, of mongodb://h:1/")
    assert columns.split()[:4] == ["link", "made", "since", "until"]
    assert [row.split()[0] for row in rows[:4]] == ["0", "1", "2", "3"]
    assert rows[2].split()[-3] == "yes"
    assert f"    {BEGIN + 60}.5  2025-11-22T13:01:00.000Z to {BEGIN + 120}.1" in said.out
    assert "--check reads every file" in said.out
    assert "every file was read" in ask("--check").out


def test_a_missing_link(ask: Ask, root: Path) -> None:
    """I32: what is whole is shown all the same."""
    shutil.rmtree(folder(root, 2))
    said = ask()
    assert said.code == 4
    assert "a full dump and 1 increments" in said.out
    assert "not applicable: link 3" in said.out
    assert "the chain is BROKEN" in said.out
    assert "error [ECHAIN002]: link 2 is missing: link 3 cannot be applied" in said.err
    assert "--to-increment 1 restores what lies before it" in said.err
    report = ask.document()
    assert (ask("--json").code, report["whole"], report["beyond"]) == (4, False, [3])
    assert [each["code"] for each in report["problems"]] == ["ECHAIN002"]
    assert [each["last"] for each in report["times"]] == [f"{BEGIN}.1", f"{BEGIN + 60}.5"]


def test_a_damaged_file_is_found_by_reading(ask: Ask, root: Path) -> None:
    """I24: what lies behind it leads nowhere either; other damage is told too."""
    flip(folder(root, 1) / "shop.a/0-1.flb", 30)
    cut(folder(root, 3) / "manifest.json")
    assert [each["code"] for each in ask.document()["problems"]] == ["ECHAIN006"]
    report = ask.document("--check")
    assert [each["state"] for each in report["links"]] == ["whole", "damaged", "behind damage"]
    assert len(report["problems"]) == 2
    assert [each["last"] for each in report["times"]] == [f"{BEGIN}.1"]
    said = ask("--check")
    assert said.code == 4
    assert "link 1 is not as it was written" in said.err
    assert "also [ECHAIN006] link 3 is not" in said.err


def test_a_damaged_full_dump_leads_nowhere(ask: Ask, root: Path) -> None:
    flip(root / "shop.a/0-1.flb", 30)
    said = ask("--check")
    assert said.code == 4
    assert "no time can be restored to" in said.out
    assert ask.document("--check")["times"] == []
    (root / "shop.a/0-1.flb").unlink()
    said = ask("--json")
    assert (said.code, said.document()["schema"]) == (4, "ferrylog.error/1")


def test_what_is_no_chain(ask: Ask, root: Path) -> None:
    (root / "manifest.json").unlink()
    said = ask()
    assert said.code == 2
    assert "no manifest.json in it" in said.err


def test_an_increment_under_way_is_a_note(ask: Ask, root: Path) -> None:
    (folder(root, 3) / "manifest.json").unlink()
    said = ask()
    assert said.code == 0
    assert "note: increments/0003: being made, or left by a job that was given up" in said.out
