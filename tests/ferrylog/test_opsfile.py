"""Files of operations: what is understood, and what is refused before anything happens."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from executors.operation.showing import commands_of
from ferrylog.opsfile import OpsFile, read_ops
from ferrylog.opsmodel import Group
from statemachine.errors import OperatorError
from statemachine.words import OperationId

DOCS = Path(__file__).parents[2] / "docs"
TEMPLATES = [*sorted((DOCS / "ops").glob("*.yaml")), DOCS / "ops/new-collection.json"]
MAKE = "{id: a, database: shop, forward: {create: c}, compensation: {drop: c}}"


def ops(tmp_path: Path, text: str, name: str = "g.yaml") -> OpsFile:
    file = tmp_path / name
    file.write_text(text)
    return read_ops(file)


def group(tmp_path: Path, *operations: str, more: str = "") -> OpsFile:
    lines = "".join(f"\n  - {each}" for each in operations)
    return ops(tmp_path, f"title: t\n{more}operations:{lines}\n")


def sent(file: OpsFile, part: str = "forward", number: int = 0) -> list[Any]:
    action = getattr(file.operations[number], part)
    return [(each.database, json.loads(each.command)) for each in commands_of(action)]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_are_groups(path: Path) -> None:
    """M8, M15."""
    assert read_ops(path).operations


def test_the_schema_is_of_the_model() -> None:
    """M9: what an editor says is what the program says."""
    assert json.loads((DOCS / "ops/schema.json").read_text()) == Group.model_json_schema()


def test_a_group_is_understood(tmp_path: Path) -> None:
    """M5: every field; JSON and YAML are one."""
    text = """
title: all of it
endpoints: {east: "mongodb://a:1,b:2/?replicaSet=r", west: }
continue_on_error: true
operations:
  - id: one
    on: east
    database: shop
    forward: {createIndexes: c, indexes: [{key: {n: 1, t: text}}, {key: {x: {$numberInt: "-1"}}}]}
    compensation: [{dropIndexes: c, index: [n_1_t_text, x_-1]}, {command: {collMod: c}}]
    check: {applied: {command: {count: c}, expect: {n: 0}, database: other}}
  - {id: two, on: west, forward: {setParameter: 1}, compensation: {setParameter: 0}}
  - id: three
    on: west
    forward: {setParameter: 1}
    compensation: {setParameter: 0}
    wait_for: []
    rollback_wait_for: []
    tries: 7
"""
    found = ops(tmp_path, text)
    assert (found.title, found.continue_on_error) == ("all of it", True)
    assert found.endpoints == {"east": "mongodb://a:1,b:2/?replicaSet=r", "west": None}
    one, two, three = found.operations
    assert (one.id, one.target, one.tries, one.wait_for) == ("one", "east", 3, ())
    assert (two.wait_for, three.wait_for, three.tries) == (("one",), (), 7)
    (forward,) = sent(found)
    assert [each["name"] for each in forward[1]["indexes"]] == ["n_1_t_text", "x_-1"]
    assert [next(iter(each)) for _, each in sent(found, "compensation")] == [
        "dropIndexes",
        "collMod",
    ]
    assert '"applied":{"database":"other"' in one.forward
    assert [each.id for each in found.in_order] == ["one", "two", "three"]


def test_names_are_made_whole(tmp_path: Path) -> None:
    """What a server takes on admin with whole names."""
    step = "{{id: a, {0}, forward: {{renameCollection: {1}, to: {2}}}, compensation: {{ping: 1}}}}"
    wanted = ("admin", "shop.a.b", "shop.c")
    for words in (
        ("database: shop", "a.b", "c"),
        ("database: shop", "shop.a.b", "shop.c"),
        ("tries: 3", "shop.a.b", "shop.c"),
    ):
        ((database, command),) = sent(group(tmp_path, step.format(*words)))
        assert (database, command["renameCollection"], command["to"]) == wanted


def test_values_of_bson(tmp_path: Path) -> None:
    """F3: Extended JSON; the order of fields; YAML 1.2 and not 1.1."""
    update = (
        '{q: {z: 1, a: 2, at: {$date: "2026-01-01T00:00:00Z"}}, u: {$set: {on: yes, n: 08,'
        " f: 1.0, day: 2026-01-01, big: 12345678901, x: 0x10, no: ~,"
        ' h: {$oid: "5f0000000000000000000000"}}}}'
    )
    step = STEP.format(f"{{update: c, updates: [{update}]}}", UNDO)
    text = group(tmp_path, step).operations[0].forward
    assert '"q":{"z":{"$numberInt":"1"},"a":{"$numberInt":"2"},"at":{"$date":{' in text
    for part in (
        '"on":"yes"', '"n":{"$numberInt":"8"}', '"f":{"$numberDouble":"1.0"}',
        '"day":"2026-01-01"', '"big":{"$numberLong":"12345678901"}', '"x":{"$numberInt":"16"}',
        '"no":null', '"h":{"$oid":',
    ):  # fmt: skip
        assert part in text


STEP = "{{id: a, database: shop, forward: {0}, compensation: {1}}}"
UNDO = "{drop: c}"


@pytest.mark.parametrize(
    ("forward", "back", "code", "words"),
    [
        ("{create: c}", "", "EOPS001", r"g\.yaml:3: operations\[0\]\.compensation: a has no comp"),
        ("{create: c}", "{}", "EOPS001", "a has no compensation"),
        ("{create: c}", "[]", "EOPS001", "a has no compensation"),
        ("{create: c}", "[{drop: c}, {}]", "EOPS001", r"compensation\[1\]: a has no compensation"),
        ("{create: c}", "{none: not needed}", "EOPS001", "a has no compensation"),
        ("{create: c}", "drop it", "EOPS001", "a has no compensation"),
        ("{create: c, cappd: 1}", UNDO, "EOPS002", "forward.cappd: unknown field; .*capped"),
        ("{create: c}", "[{drop: c, x: 1}]", "EOPS002", r"compensation\[0\].x: unknown field"),
        ("{command: {create: c, y: 1}}", UNDO, "EOPS002", "forward.command.y: unknown field"),
        ("{command: {ping: 1}, y: 1}", UNDO, "EOPS002", "forward.y: unknown field.*: command"),
        (
            "{createIndexes: c, indexes: [{key: {a: 1}, uniqe: true}]}", UNDO,
            "EOPS002", r"indexes\[0\].uniqe: unknown field; allowed here: key, name, unique.*2dsph",
        ),
        ("{createIndexes: c}", UNDO, "EOPS002", "forward.indexes is missing"),
        ("{renameCollection: c}", UNDO, "EOPS002", "forward.to is missing"),
        ("{create: 7}", UNDO, "EOPS002", "forward.create: .*valid string"),
        ("{update: c, updates: []}", UNDO, "EOPS002", "forward.updates"),
        ("7", UNDO, "EOPS002", "forward is no command"),
        ("{insert: c, documents: [{_id: {$oid: x}}]}", UNDO, "EOPS002", "no Extended JSON"),
        ("{getMore: 1}", UNDO, "EOPS003", "getMore means nothing outside its own session"),
        ("{ping: 1}", "{killCursors: c}", "EOPS003", "compensation: killCursors means nothing"),
        ("{shutdown: 1}", UNDO, "EOPS003", "takes the server away"),
        ("{saslStart: 1}", UNDO, "EOPS003", "means nothing outside"),
        ("{createUser: u, pwd: x, roles: []}", UNDO, "EOPS003", "the journal would keep it"),
        ("{updateUser: u, pwd: x}", UNDO, "EOPS003", "a password"),
        ("{x: ['mongodb://u:secret@h/']}", UNDO, "EOPS003", "credentials"),
        ("{renameCollection: c, to: d, dropTarget: true}", UNDO, "EOPS003", "nothing brings back"),
        ("{create: c, writeConcern: {w: 1}}", UNDO, "EOPS003", "may lose"),
        ("{create: c, writeConcern: 1}", UNDO, "EOPS003", "may lose"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, forward: str, back: str, code: str, words: str) -> None:
    """M1, M15, I36: named with file, line and place; and what is allowed there."""
    step = STEP.format(forward, back) if back else f"{{id: a, database: s, forward: {forward}}}"
    with pytest.raises(OperatorError) as refused:
        group(tmp_path, step)
    assert (refused.value.code, refused.value.exit_code) == (code, 2)
    assert re.search(words, str(refused.value))
    assert "g.yaml:3" in str(refused.value)
    assert refused.value.remedy
    assert "secret" not in str(refused.value)


class Step:
    """One that does nothing, with more fields."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, more: str) -> str:
        step = "forward: {ping: 1}, compensation: {ping: 1}"
        return f"{{id: {self._name}, database: d, {step}, {more}}}"


A, B, C = map(Step, "abc")
WRITES = "{command: {aggregate: c, pipeline: [{$out: d}]}, expect: {n: 1}}"


@pytest.mark.parametrize(
    ("operations", "code", "words"),
    [
        ([A("wait_for: [x]")], "EOPS001", "a waits for x, which is no operation"),
        ([A("rollback_wait_for: [x]")], "EOPS001", "a waits for x"),
        (
            [A("wait_for: [c]"), B("tries: 1"), C("tries: 1")],
            "EOPS001", "wait for each other: a → c → b → a",
        ),
        ([A("wait_for: [a]")], "EOPS001", "wait for each other: a → a"),
        ([A("tries: 1"), A("tries: 1")], "EOPS001", "two operations are named a"),
        ([A("rollback_wait_for: [b]"), B("wait_for: []")], "EOPS001", "let b wait"),
        ([A("tries: 0")], "EOPS002", "tries: .*greater than or equal to 1"),
        ([A("tries: two")], "EOPS002", "tries: .*integer"),
        ([A("waits: []")], "EOPS002", "waits: unknown field; allowed here: id, on"),
        ([A("on: east")], "EOPS002", "east is no endpoint; there are none"),
        ([A("check: {done: {}}")], "EOPS002", "check.done: unknown field.*applied, undone"),
        (
            [A("check: {applied: {command: {ping: 1}, expect: {n: 1}, on: x}}")],
            "EOPS002", "applied.on: unknown field; allowed here: command, expect, database",
        ),
        (
            [A("check: {applied: {command: {drop: c}, expect: {n: 1}}}")],
            "EOPS003", "a check only reads, and drop does more",
        ),
        (
            [A(f"check: {{undone: {WRITES}}}")],
            "EOPS003", "aggregate does more",
        ),
        ([A("check: {applied: {command: {ping: 1}, expect: {}}}")], "EOPS002", "expect"),
        (["{id: a b, forward: {ping: 1}, compensation: {ping: 1}}"], "EOPS002", "id: .*pattern"),
        (
            ["{id: a, database: a/b, forward: {ping: 1}, compensation: {ping: 1}}"],
            "EOPS002", "'a/b' is no database name",
        ),
        (["{id: a, forward: {dropDatabase: 1}, compensation: {ping: 1}}"], "EOPS003", "of admin"),
        (
            ["{id: a, forward: {renameCollection: c, to: d.e}, compensation: {ping: 1}}"],
            "EOPS003", "takes whole names",
        ),
        (["7"], "EOPS002", r"operations\[0\]: "),
    ],
)  # fmt: skip
def test_groups_that_are_none(tmp_path: Path, operations: list[str], code: str, words: str) -> None:
    """I36: unknown names, cycles, forms."""
    with pytest.raises(OperatorError) as refused:
        group(tmp_path, *operations)
    assert refused.value.code == code
    assert re.search(words, str(refused.value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("title: [", r"g.yaml:\d: "),
        ("title: a\ntitle: b", ":2: 'title' stands twice"),
        ("a: &x 1\nb: *x", "references"),
        ("a: !!python/object:os.system 1", ":1: what is tagged"),
        ("a: !!binary aGk=", "is not taken"),
        ("{[1]: 2}", "a name is a text"),
        ("title: a\n---\ntitle: b", "expected a single document"),
        ("a: !!int x", "'x' is no number"),
        ("[" * 200 + "]" * 200, "deep nesting"),
        ("[" * 20_000, "too many values in one another|did not find"),
        ("title: \x00", "special characters|unacceptable"),
        ("- 1", "the file: "),
        ("title: t\noperations: []", "operations: "),
        ("title: t\noperation: []", "operation: unknown field; allowed here: title, endpoints"),
    ],
)
def test_texts_that_are_no_group(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(OperatorError) as refused:
        ops(tmp_path, text)
    notes = "\n".join([str(refused.value), *getattr(refused.value, "__notes__", [])])
    assert (refused.value.code, refused.value.exit_code) == ("EOPS002", 2)
    assert re.search(words, notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"g\.json:1: "),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"title": "t"}', "operations is missing"),
        ('{"title": %s}' % ("9" * 5000), "g.json"),
        ("[" * 100_000, "too many values|Expecting"),
    ],
)
def test_json_that_is_no_group(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(OperatorError, match=words):
        ops(tmp_path, text, "g.json")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "cannot read"), (tmp_path / "none", "No such file")):
        with pytest.raises(OperatorError, match=words):
            read_ops(path)
    (tmp_path / "latin").write_bytes(b"title: \xff")
    with pytest.raises(OperatorError, match="no UTF-8"):
        read_ops(tmp_path / "latin")
    (tmp_path / "large").write_bytes(b" " * (5 << 20))
    with pytest.raises(OperatorError, match="more than 4 MiB"):
        read_ops(tmp_path / "large")


def test_limits(tmp_path: Path) -> None:
    """As many operations as may be, and one more."""
    steps = [MAKE.replace("id: a", f"id: a{n}") for n in range(1001)]
    assert len(group(tmp_path, *steps[1:]).operations) == 1000
    with pytest.raises(OperatorError, match="operations: "):
        group(tmp_path, *steps)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OperatorError) as refused:
        group(
            tmp_path, "{id: a, x: 1}", "{id: b, forward: {create: c, y: 1}, compensation: {z: 1}}"
        )
    notes = " ".join(refused.value.__notes__)
    assert "forward is missing" in notes or "forward is missing" in str(refused.value)
    assert "operations[1].forward.y" in notes


def test_credentials_stay_out_of_the_file(tmp_path: Path) -> None:
    """A28: not even the message repeats them."""
    more = "endpoints: {e: 'mongodb://u:secret@h/'}\n"
    with pytest.raises(OperatorError, match=r":2: endpoints.e: credentials") as refused:
        group(tmp_path, MAKE, more=more)
    assert "secret" not in str(refused.value)


def test_what_destroys_is_warned_of(tmp_path: Path) -> None:
    step = "{id: a, database: shop, forward: {dropDatabase: 1}, compensation: {create: c}}"
    assert "a: dropDatabase destroys documents" in group(tmp_path, step).warnings[0]
    assert not group(tmp_path, MAKE).warnings


def test_the_order_of_starting(tmp_path: Path) -> None:
    steps = [A("wait_for: [c]"), B("wait_for: []"), C("wait_for: [b]")]
    assert [each.id for each in group(tmp_path, *steps).in_order] == [*map(OperationId, "bca")]
