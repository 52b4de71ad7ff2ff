"""Bad dumps, through the command line, on a real target: refused before the first write with
code, file, place, reason and remedy; never a hang, a traceback, or memory without bounds.

The bad inputs 10 to 35 of the list, and the 21 kinds of damage at which others touch the target.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OWN, Pair
from tests.end_to_end.bad_cases import all_of_them
from tests.end_to_end.bad_dumps import Case
from tests.end_to_end.zygote import Ended, Zygote

pytestmark = pytest.mark.server
MOST_KIB = 400_000
"""Of memory, whatever a dump says of its sizes."""
CASES = [
    pytest.param(each, id=each.name, marks=[pytest.mark.deep] if each.deep else [])
    for each in all_of_them()
]


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote")) as zygote:
        yield zygote


class Here:
    """Runs ferrylog beside one journal, from the source to the target."""

    def __init__(self, zygote: Zygote, pair: Pair, folder: Path) -> None:
        self._zygote = zygote
        self.environment = {
            "PATH": os.environ["PATH"],
            "FERRYLOG_SOURCE": pair.source.uri,
            "FERRYLOG_TARGET": pair.target.uri,
            "FERRYLOG_JOURNAL": str(folder / "ferrylog.db"),
            "FERRYLOG_RETRY_BASE_MS": "100",
        }

    def __call__(self, *words: str, stdin: str = "") -> Ended:
        ended = self._zygote(list(words), self.environment, stdin)
        assert "Traceback" not in ended.err, ended.err
        assert "EBUG" not in ended.err, ended.err
        assert ended.most_kib < MOST_KIB, f"{ended.most_kib} KiB"
        return ended


@pytest.fixture
def here(zygote: Zygote, pair: Pair, tmp_path: Path) -> Here:
    return Here(zygote, pair, tmp_path)


def held(pair: Pair) -> dict[str, int]:
    """Documents on the target, by namespace; a view, or nothing in it, counts too."""
    client = pair.target_client
    return {
        f"{database}.{name}": client[database][name].count_documents({})
        for database in client.list_database_names()
        if database not in OWN
        for name in client[database].list_collection_names()
    }


@pytest.mark.parametrize("case", CASES)
def test_a_bad_dump_ends_as_it_must(case: Case, here: Here, pair: Pair, tmp_path: Path) -> None:
    """I24, I45, bad inputs 10 to 33: nothing is written of what cannot be read as a whole; what
    a server refuses is kept, and all else is there."""
    ended = here("restore", *case.make(tmp_path))
    assert ended.code == case.exit, ended.err
    for word in (case.code, *case.words):
        assert word in ended.err
    assert held(pair) == (case.left or {})
    if case.exit == 3:
        [letter] = here_json(here, "dead-letters", "list")["letters"]
        assert letter["namespace"] == "shop.c"


def here_json(here: Here, *words: str) -> Any:
    return json.loads(here(*words, "--json").out)
