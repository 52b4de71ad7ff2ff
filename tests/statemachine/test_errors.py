"""Errors carry their code, their exit status and what to do: people and scripts rely on them."""

from statemachine.errors import FerrylogError, ImpossibleTransition, OperatorError, UnknownEntity


def test_codes_and_exit_statuses() -> None:
    """Bugs exit with 70, what the operator can repair with 1 unless it says otherwise."""
    classes = (FerrylogError, OperatorError, ImpossibleTransition, UnknownEntity)
    assert [(each.code, each.exit_code) for each in classes] == [
        ("EBUG000", 70),
        ("EUSE000", 1),
        ("EBUG001", 70),
        ("EBUG002", 70),
    ]


def test_remedies() -> None:
    assert FerrylogError("what").remedy == ""
    assert FerrylogError("what", remedy="do").remedy == "do"
    impossible = ImpossibleTransition(entity="", status="failed", event="job_paused")
    assert str(impossible) == "job_paused is impossible for the job while failed"
    assert "inspect events" in impossible.remedy
    unknown = UnknownEntity(entity="a.b#0", event="dump_started")
    assert str(unknown) == "dump_started names a.b#0, which no earlier event introduced"
    assert "inspect check" in unknown.remedy
