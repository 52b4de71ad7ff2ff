"""What is published names no place of the machine that it was made on."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("docs", "tests", "scripts", "statemachine", "journal", "executors", "ferrylog")
TEXTS = (".py", ".md", ".toml", ".lock", ".json", ".sql", ".yaml", ".yml", "")
OF_A_MACHINE = re.compile(r"/(?:work|root|Users)/\w|/tmp/\w+/\w|\bfile:///(?!(?:a|path)\b)\w")
"""`/a` and `/path` are nobody's."""
OF_A_REGISTRY = re.compile(
    r"--(?:extra-)?index-url|--find-links|--trusted-host|pypi\.org|pythonhosted|artifactory"
)


def test_no_path_of_this_machine_and_no_host_of_a_registry() -> None:
    found = []
    for path in _texts():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if OF_A_MACHINE.search(line) or OF_A_REGISTRY.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)


def _texts() -> list[Path]:
    below = [path for room in ROOMS for path in (ROOT / room).rglob("*")]
    found = [*below, *ROOT.glob("[!.]*")]
    return [
        path
        for path in found
        if path.suffix in TEXTS and path.is_file() and path != Path(__file__).resolve()
    ]
