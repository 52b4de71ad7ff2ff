"""A code means one thing: people search for it, and checks rely on it."""

from collections import Counter
from collections.abc import Iterator
from importlib import import_module

from executors.storage.errors import StoreError
from statemachine.errors import FerrylogError, OperatorError

ABSTRACT = (OperatorError, StoreError)
WHERE = ("executors.errors", "ferrylog.cli.main", "ferrylog.errors", "journal.errors")


def every(cls: type[FerrylogError]) -> Iterator[type[FerrylogError]]:
    for child in cls.__subclasses__():
        yield child
        yield from every(child)


def test_every_error_has_a_code_of_its_own() -> None:
    for name in WHERE:
        import_module(name)
    known = {cls for cls in every(FerrylogError) if not cls.__module__.startswith("tests.")}
    own = [cls.__dict__.get("code") for cls in known - set(ABSTRACT)]
    twice = {code: count for code, count in Counter(own).items() if code and count > 1}
    assert not twice
    assert len(known) > 30
    for cls in known:
        assert cls.exit_code in (1, 2, 3, 4, 5, 6, 7, 70), cls
