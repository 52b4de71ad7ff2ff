"""The root of every error ferrylog raises on purpose, and the errors of the rules.

An error says who must act and carries a stable code and an exit status. Failures of the
world (network, disk, server) are values, not exceptions: see `stimuli.Failed`.
"""

from typing import ClassVar


class FerrylogError(Exception):
    """Something with a stable code; `remedy` says what to do about it."""

    code: ClassVar[str] = "EBUG000"
    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class OperatorError(FerrylogError):
    """The operator can repair this; the message and the remedy say how."""

    code = "EUSE000"
    exit_code = 1


class ImpossibleTransition(FerrylogError):
    """An event that the tables do not allow where it was about to happen: a bug, never appended."""

    code = "EBUG001"

    def __init__(self, *, entity: str, status: str, event: str) -> None:
        super().__init__(
            f"{event} is impossible for {entity or 'the job'} while {status}",
            remedy="report this with `ferrylog inspect events --json`",
        )


class UnknownEntity(FerrylogError):
    """An event about something no earlier event introduced: a bug, or a damaged journal."""

    code = "EBUG002"

    def __init__(self, *, entity: str, event: str) -> None:
        super().__init__(
            f"{event} names {entity}, which no earlier event introduced",
            remedy="run `ferrylog inspect check`",
        )
