"""A file of operations: read, understood, and refused before anything happens.

YAML or JSON to what the rules plan. Everything that is wrong is told at once, each with its line
where the file tells lines, its place, and what is allowed there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from executors.boundaries import from_json
from executors.clients import secrets_of
from executors.operation.errors import BadCommand
from executors.operation.refusals import Refusal, is_database, refusals, refusals_of_check
from executors.operation.traits import OF_ADMIN
from ferrylog.opsmodel import FORMS, Change, Check, Group, Index, Predicate, Removal, Step, Wrapped
from ferrylog.tree import BadTree, Place, Tree, read_tree
from statemachine.decide.operations import flaws
from statemachine.errors import OperatorError
from statemachine.stimuli import PlannedOperation
from statemachine.words import BsonText, OperationId

Command = Mapping[str, Any]
HELP: Final = "see docs/operations.md and docs/ops/schema.json"

NOTHING_THERE: Final = ("missing", "union_tag_not_found", "too_short")
"""What the form says where no command stands."""


class BadGroup(OperatorError):
    """The operations are no group: one has no compensation, or they wait without end."""

    code, exit_code = "EOPS001", 2


@dataclass(frozen=True, slots=True)
class OpsFile:
    title: str
    endpoints: Mapping[str, str | None]
    """URIs without credentials; `None` where only the command line tells."""
    continue_on_error: bool
    operations: tuple[PlannedOperation, ...]
    warnings: tuple[str, ...]

    @property
    def in_order(self) -> tuple[PlannedOperation, ...]:
        """As they may start, one after another."""
        left, begun = list(self.operations), dict[OperationId, PlannedOperation]()
        while left:
            following = next(each for each in left if begun.keys() >= set(each.wait_for))
            begun[following.id] = following
            left.remove(following)
        return tuple(begun.values())


def read_ops(path: Path) -> OpsFile:
    """Raises what is wrong with it: `BadTree`, `BadGroup`, `BadCommand`, the others as notes."""
    tree = read_tree(path)
    reader = _Reader(path, tree)
    try:
        group = Group.model_validate(tree.value)
    except ValidationError as error:
        _raise([reader.finding(each) for each in error.errors(include_url=False)])
    found = [*reader.of_endpoints(group), *reader.of_commands(group)]
    if found:
        _raise(found)
    operations = tuple(reader.planned(group))
    if wrong := [BadGroup(f"{path}: {each}", remedy=HELP) for each in flaws(operations)]:
        _raise(wrong)
    endpoints = dict(group.endpoints)
    return OpsFile(
        group.title, endpoints, group.continue_on_error, operations, tuple(reader.warnings(group))
    )


def _raise(found: Sequence[OperatorError]) -> NoReturn:
    first, *others = found
    for other in others:
        first.add_note(f"[{other.code}] {other}")
    raise first


class _Reader:
    """Of one file: says where things stand in it."""

    def __init__(self, path: Path, tree: Tree) -> None:
        self._path = path
        self._tree = tree

    def _where(self, place: Place) -> str:
        known = place
        while known and known not in self._tree.lines:
            known = known[:-1]
        line = self._tree.lines.get(known)
        named = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place)
        return f"{self._path}{f':{line}' if line else ''}: {named.lstrip('.') or 'the file'}"

    # --- its form ---

    def finding(self, error: ErrorDetails) -> OperatorError:
        place = _place(self._tree.value, error["loc"])
        where = self._where(place)
        if _is_compensation(place) and error["type"] in NOTHING_THERE:
            return self._no_compensation(place)
        match error["type"]:
            case "extra_forbidden":
                allowed = ", ".join(_allowed(error["loc"]))
                return BadTree(f"{where}: unknown field; allowed here: {allowed}", remedy=HELP)
            case "missing":
                return BadTree(f"{where} is missing", remedy=HELP)
            case "union_tag_not_found":
                return BadTree(f"{where} is no command: a mapping, its name first", remedy=HELP)
        return BadTree(f"{where}: {error['msg'].lower()}", remedy=HELP)

    def _no_compensation(self, place: Place) -> OperatorError:
        name = self._tree.value["operations"][place[1]].get("id", place[1])
        return BadGroup(
            f"{self._where(place)}: {name} has no compensation",
            remedy="write the commands that take it back",
        )

    # --- its meaning ---

    def of_endpoints(self, group: Group) -> Iterator[OperatorError]:
        for name, uri in group.endpoints.items():
            if uri is not None and (secrets_of(uri) or "@" in uri):
                yield BadTree(
                    f"{self._where(('endpoints', name))}: credentials do not belong into the file",
                    remedy=f"--endpoint {name}=URI, or --endpoint-uri-file {name}=FILE",
                )
        for n, step in enumerate(group.operations):
            if step.on is not None and step.on not in group.endpoints:
                known = ", ".join(group.endpoints) or "none: leave `on` out for the target"
                yield BadTree(
                    f"{self._where(('operations', n, 'on'))}: {step.on} is no endpoint; there are "
                    f"{known}",
                    remedy="name it under `endpoints`",
                )
            if not is_database(step.database):
                yield BadTree(
                    f"{self._where(('operations', n, 'database'))}: {step.database!r} is no "
                    "database name",
                    remedy='one without / \\ . space " $',
                )

    def of_commands(self, group: Group) -> Iterator[OperatorError]:
        for n, step in enumerate(group.operations):
            raw = self._tree.value["operations"][n]
            for place, command in _commands(raw):
                database = step.database
                where = self._where(("operations", n, *place))
                if place[0] == "compensation" and next(iter(command)) == "none":  # but a reason
                    yield self._no_compensation(("operations", n, *place))
                    continue
                yield from self._refused(where, refusals(_full(command, database), database))
                yield from self._unencodable(where, command)
            for name, check in (raw.get("check") or {}).items():
                where = self._where(("operations", n, "check", name))
                yield from self._refused(where, refusals_of_check(check["command"]))
                yield from self._unencodable(where, check)

    def _refused(self, where: str, found: Iterator[Refusal]) -> Iterator[OperatorError]:
        return (BadCommand(where, each.why, remedy=each.remedy) for each in found)

    def _unencodable(self, where: str, document: Command) -> Iterator[OperatorError]:
        try:
            _encoded(document)
        except ValueError as error:
            yield BadTree(f"{where}: no Extended JSON: {error}", remedy=HELP)

    def warnings(self, group: Group) -> Iterator[str]:
        for n, step in enumerate(group.operations):
            command = _unwrapped(self._tree.value["operations"][n]["forward"])
            name = next(iter(command))
            if name in ("drop", "dropDatabase", "delete"):
                yield (
                    f"{step.id}: {name} destroys documents: only what its compensation brings "
                    "comes back"
                )

    # --- what the rules get ---

    def planned(self, group: Group) -> Iterator[PlannedOperation]:
        before: tuple[OperationId, ...] = ()
        for n, step in enumerate(group.operations):
            raw = self._tree.value["operations"][n]
            name = OperationId(step.id)
            yield PlannedOperation(
                id=name,
                forward=_action(raw, step, "forward", "applied"),
                compensation=_action(raw, step, "compensation", "undone"),
                wait_for=before if step.wait_for is None else _ids(step.wait_for),
                rollback_wait_for=_ids(step.rollback_wait_for),
                target=step.on or "",
                tries=step.tries,
            )
            before = (name,)


def _ids(names: Sequence[str]) -> tuple[OperationId, ...]:
    return tuple(map(OperationId, names))


# --- commands ---


def _commands(raw: Mapping[str, Any]) -> Iterator[tuple[Place, Command]]:
    """The forward command of an operation and those of its compensation, with their places."""
    yield ("forward",), _unwrapped(raw["forward"])
    back = raw["compensation"]
    if isinstance(back, list):
        for n, each in enumerate(back):
            yield ("compensation", n), _unwrapped(each)
    else:
        yield ("compensation",), _unwrapped(back)


def _unwrapped(action: Command) -> Command:
    while next(iter(action)) == "command":
        action = action["command"]
    return action


def _full(command: Command, database: str) -> Command:
    """What was left out is filled in: names of indexes, and of databases where a server wants a
    whole name."""
    name = next(iter(command))
    if name == "createIndexes":
        indexes = [
            {**each, "name": each.get("name") or _named(each)} for each in command["indexes"]
        ]
        return {**command, "indexes": indexes}
    if name in OF_ADMIN and database != "admin":
        whole = {field: _whole(command[field], database) for field in _names(name)}
        return {**command, **whole}
    return command


def _names(command: str) -> tuple[str, ...]:
    return (command, "to") if command == "renameCollection" else (command,)


def _whole(name: str, database: str) -> str:
    return name if name.startswith(f"{database}.") else f"{database}.{name}"


def _named(index: Mapping[str, Any]) -> str:
    """As the shell names it."""
    return "_".join(f"{field}_{_direction(kind)}" for field, kind in index["key"].items())


def _direction(kind: Any) -> str:
    """Extended JSON may say how the number is kept."""
    return str(next(iter(kind.values()))) if isinstance(kind, dict) and kind else str(kind)


def _action(raw: Mapping[str, Any], step: Step, part: str, check: str) -> BsonText:
    """As `executors.operation` reads it."""
    commands = [command for place, command in _commands(raw) if place[0] == part]
    action: dict[str, Any] = {
        "do": "command",
        "on": step.on or "",
        "database": step.database,
        "commands": [_full(each, step.database) for each in commands],
    }
    if predicate := (raw.get("check") or {}).get(check):
        action[check] = {"database": step.database, **predicate}
    return _encoded(action)


def _encoded(document: Command) -> BsonText:
    return from_json(json.dumps(document))


# --- places of errors ---


def _place(value: Any, location: Sequence[str | int]) -> Place:
    """The way through the file: of a location also tags, which stand in no file."""
    place: list[str | int] = []
    for each in location:
        if _is_tag(each) or (isinstance(each, int) and not isinstance(value, list)):
            continue
        place.append(each)
        inside = isinstance(value, list) and isinstance(each, int) and each < len(value)
        value = value[each] if inside or (isinstance(value, dict) and each in value) else None
    return tuple(place)


def _is_compensation(place: Place) -> bool:
    """As a whole, or one of its commands as a whole."""
    return place[2:3] == ("compensation",) and all(isinstance(each, int) for each in place[3:])


def _is_tag(each: str | int) -> bool:
    return isinstance(each, str) and each.startswith("<") and each.endswith(">")


_INSIDE: Final[Mapping[str, type[BaseModel]]] = {
    "operations": Step,
    "check": Check,
    "applied": Predicate,
    "undone": Predicate,
    "indexes": Index,
    "updates": Change,
    "deletes": Removal,
    "<command>": Wrapped,
    **{f"<{name}>": form for name, form in FORMS.items()},
}


def _allowed(location: Sequence[str | int]) -> Iterator[str]:
    """The fields of the model in which the last of the location is unknown."""
    names = [each for each in location[:-1] if isinstance(each, str)]
    model = next((_INSIDE[each] for each in reversed(names) if each in _INSIDE), Group)
    yield from (field.alias or name for name, field in model.model_fields.items())
