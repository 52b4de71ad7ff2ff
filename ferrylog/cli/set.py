"""`ferrylog set`: change how a job runs and what it carries, while it runs or rests."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Final

import typer

from ferrylog.asking import Answer, ask, state_of, wanted_job
from ferrylog.cli import options as o
from ferrylog.cli.answers import lines, show
from ferrylog.cli.limits import MEGABYTES, SIZES, megabytes, size
from ferrylog.errors import Usage
from ferrylog.jobs import operator
from statemachine.errors import FerrylogError
from statemachine.limits import LIVE
from statemachine.state import State
from statemachine.stimuli import (
    AddAsked,
    Asked,
    ExcludeAsked,
    PriorityAsked,
    SetAsked,
    SplitAsked,
)
from statemachine.words import ChunkId, JobId

KEYS: Final = (
    *(name.replace("_", "-") for name in (*LIVE, *MEGABYTES)),
    "priority",
    "exclude",
    "add",
    "split",
)
HELP: Final = (
    f"A setting of the run ({', '.join(KEYS[:-4])}); or priority=NAMESPACE[#CHUNK]:-9..9, "
    "exclude=GLOB, add=GLOB, split=NAMESPACE#CHUNK."
)


def set_(
    words: Annotated[list[str], typer.Argument(metavar="[JOB] KEY=VALUE...", help=HELP)],
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Change settings, priorities and the selection of a job, one after another."""
    common = o.Common(journal, json, verbose, quiet)
    named = words[0] if "=" not in words[0] else None
    pairs = [_pair(word) for word in (words if named is None else words[1:])]
    if not pairs:
        raise Usage("nothing to set", remedy="ferrylog set [JOB] KEY=VALUE...")
    job = wanted_job(journal, named)
    answers: list[Answer] = []
    try:
        for key, value in pairs:
            for wish in _wishes(journal, job, key, value):
                answer = ask(journal, job, wish)
                answers.append(answer)
    except FerrylogError as error:
        for line in (line for answer in answers for line in lines(answer)):
            error.add_note(f"done before: {line}")
        raise
    show(common, answers)


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    key = name.replace("_", "-")
    if not equals or not value or key not in KEYS:
        raise Usage(f"{word!r} is no KEY=VALUE", remedy=f"keys: {', '.join(KEYS)}")
    return key, value


def _wishes(path: Path, job: JobId, key: str, value: str) -> Iterator[Asked]:
    by = operator()
    match key:
        case "priority":
            entity, colon, number = value.rpartition(":")
            if not colon or not _is_number(number):
                raise Usage(f"{value!r} is no NAMESPACE:PRIORITY", remedy="such as shop.orders:5")
            yield PriorityAsked(by, entity, int(number))
        case "exclude":
            yield from _exclusions(by, state_of(path, job), value)
        case "add":
            yield AddAsked(by, (value,))
        case "split":
            yield SplitAsked(by, ChunkId(value))
        case _:
            yield _setting(by, key.replace("-", "_"), value)


def _setting(by: str, name: str, value: str) -> SetAsked:
    if name in MEGABYTES:
        return SetAsked(by, MEGABYTES[name], megabytes(name, value))
    if name in SIZES:
        return SetAsked(by, name, size(name, value))
    return SetAsked(by, name, int(value) if _is_number(value) else value)


def _exclusions(by: str, state: State, glob: str) -> Iterator[Asked]:
    """All that the glob means now and that can still be left out; else the first, to be told why
    it cannot."""
    found = [unit for unit in state.units if fnmatchcase(unit, glob)]
    if not found:
        raise Usage(f"{glob} names no collection and no view of the job")
    for unit in [unit for unit in found if unit in state.open_units] or found[:1]:
        yield ExcludeAsked(by, unit)


def _is_number(text: str) -> bool:
    return o.whole_number(text.removeprefix("-"))
