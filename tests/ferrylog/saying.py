"""The program as it is typed, in this process: what it prints and how it ends."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ferrylog.cli import main


@dataclass
class Said:
    code: int
    out: str
    err: str

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def document(self) -> Any:
        return json.loads(self.out)


Say = Callable[..., Said]


def say_with(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Say:
    """Of this journal."""
    monkeypatch.setenv("FERRYLOG_JOURNAL", str(path))

    def say(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["ferrylog", *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Said(end.value.code, said.out, said.err)

    return say
