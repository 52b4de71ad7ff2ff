"""docs/transforms.md says what happens, and its example works (F6)."""

import re
import shlex
from pathlib import Path

import pytest

from executors.conflicts import KINDS
from ferrylog.cli.options import Mode
from ferrylog.cli.transforming import names
from ferrylog.errors import Usage
from tests.conftest import Pair
from tests.end_to_end.test_main_job import Terminal

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "transforms.md").read_text()
EXAMPLE = re.findall(
    r"^    ferrylog (.+)$", PAGE.partition("## The user migration")[2], re.MULTILINE
)


def test_the_guide_names_every_code() -> None:
    """A15: what the guide says of rejected documents is what a dry run looks for."""
    assert set(re.findall(r"^\| (ETRANSFORM\d+) \|", PAGE, re.MULTILINE)) == set(
        KINDS["EPLAN017"].comes_as
    )


@pytest.mark.parametrize("given", [("", None), (None, ""), ("a:b", "")])
def test_a_name_that_is_empty_is_refused(given: tuple[str | None, str | None]) -> None:
    """A14: a variable that was not set is no wish to have documents as they are."""
    with pytest.raises(Usage, match="names nothing"):
        names(*given, Mode.COORDINATED, follow=False)


@pytest.mark.deep
def test_the_user_migration(tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """F6: the commands of the guide, one after another, on real servers: hashes, usernames that are
    unique, a model, and temporary indexes that are gone in the end."""
    fill(pair)
    monkeypatch.chdir(DOCS / "examples")
    monkeypatch.setenv("FORM_ADMIN_NAME", "Ada")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    terminal = Terminal(tmp_path, pair)
    there = pair.target_client.app.users
    assert len(EXAMPLE) == 5
    for command, code in zip(EXAMPLE, (3, 3, 0, 0, 0), strict=True):
        done = terminal(*shlex.split(command))
        assert done.returncode == code, f"{command}: {done.stderr}"
        if command.startswith("ops"):
            assert {"tmp_legacy_name", "tmp_username"} < set(there.index_information())
    assert set(there.index_information()) == {"_id_"}
    found = {each["_id"]: each for each in there.find()}
    assert set(found) == set(range(20)) - {7}
    assert len({each["username"] for each in found.values()}) == 19
    assert all(each["password"].startswith("scrypt$") for each in found.values())
    assert [key for key, each in found.items() if each["isAdmin"]] == [3]
    assert found[3]["username"].startswith("ada-")
    assert found[3]["migrationData"] == {"legacyName": "Ada", "source": "forms"}


def fill(pair: Pair) -> None:
    users = [
        {
            "_id": number,
            "name": "Ada" if number == 3 else f"Zoë {number % 5}",
            "email": "none" if number == 7 else f" User{number}@Example.org",
            "password": f"secret {number}",
            "createdAt": pair.source_client.admin.command("hello")["localTime"],
        }
        for number in range(20)
    ]
    pair.source_client.app.users.insert_many(users)
