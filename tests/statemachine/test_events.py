"""History is a public format: golden files, strictness, round trips."""

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from journal.codec import decode, encode
from journal.upcast import STEPS
from statemachine.events import AnyEvent, Started
from statemachine.words import TaskKey, TaskKind
from tests.statemachine.examples import examples

GOLDEN = Path(__file__).parent.parent / "golden" / "events"


@pytest.mark.parametrize("event", examples(), ids=lambda event: event.kind)
def test_golden(event: AnyEvent) -> None:
    """I6: every kind ever released reads as it was written. A changed shape needs a step."""
    path = GOLDEN / f"{event.kind}.json"
    if os.environ.get("WRITE_GOLDEN") and not path.exists():
        path.write_text(json.dumps(json.loads(encode(event)), indent=1) + "\n")
    data = json.dumps(json.loads(path.read_text()), separators=(",", ":")).encode()
    assert decode([(event.kind, data)]) == [event]
    assert json.loads(encode(event)) == json.loads(data)


def test_no_golden_without_its_event() -> None:
    """I6: nothing that was ever released may disappear."""
    named = {path.name.partition(".")[0] for path in GOLDEN.glob("*.json")}
    assert named == {event.kind for event in examples()}


SINCE = {
    "request": 0,
    "immediate": False,
    "uuid": "",
    "damaged": 0,
    "cluster_time": "",
    "users": 0,
    "roles": 0,
    "notes": [],
    "expires": False,
    "since": "",
    "erased": 0,
    "rejected": 0,
    "found": "",
    "parts": [],
}
"""What fields that came later are worth in events that did not have them."""


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.*.json")), ids=lambda path: path.stem)
def test_every_shape_that_ever_was_is_read(path: Path) -> None:
    """I6: an old shape becomes today's event, and writing that brings today's shape."""
    kind, shape, _ = path.name.split(".")
    data = json.loads(path.read_text())
    [event] = decode([(kind, json.dumps(data).encode())])
    today = {**json.loads(encode(event))}
    assert today.pop("shape") > data.pop("shape", 1) >= int(shape.rstrip("b"))
    for name, value in data.items():
        if isinstance(value, dict):
            assert value.items() <= today[name].items()
        else:
            assert today[name] == value
    assert all(today[name] == SINCE[name] for name in today.keys() - data.keys())


def test_every_step_has_its_old_golden() -> None:
    """I6: a shape that changed keeps the file of what it was."""
    for kind, steps in STEPS.items():
        for shape in range(1, len(steps) + 1):
            assert (GOLDEN / f"{kind}.{shape}.json").exists(), kind


@pytest.mark.parametrize("event", examples(), ids=lambda event: event.kind)
def test_round_trip(event: AnyEvent) -> None:
    """I6: decode(encode(e)) == e."""
    assert decode([(event.kind, encode(event))] * 3) == [event] * 3


def test_unknown_kind_and_unknown_field_are_refused() -> None:
    """P10: nothing unknown passes in silence."""
    with pytest.raises(ValueError, match="unknown kind"):
        decode([("dump_dreamt", b"{}")])
    with pytest.raises(ValueError, match="Extra"):
        decode([("job_paused", b'{"mood":"good"}')])
    with pytest.raises(ValueError, match="JSON"):
        decode([("job_paused", b"{")])


def test_events_are_frozen_and_strict() -> None:
    event = Started.of(TaskKey(TaskKind.DUMP, "a.b#0"), attempt=1)
    with pytest.raises(ValidationError):
        event.attempt = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Started.of(TaskKey(TaskKind.DUMP, "a.b#0"), attempt="1")
    with pytest.raises(ValidationError):
        Started.of(TaskKey(TaskKind.RELEASE, "a.b#0"), attempt=1)


def test_kind_names_task_and_verb() -> None:
    event = Started.of(TaskKey(TaskKind.DUMP, "a.b#0"), attempt=1)
    assert (event.kind, event.about) == ("dump_started", "a.b#0")
    assert event.task == TaskKey(TaskKind.DUMP, "a.b#0")
