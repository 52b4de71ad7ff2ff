"""What an operator can get wrong about commands."""

from statemachine.errors import OperatorError


class Usage(OperatorError):
    code, exit_code = "EUSE001", 2


class NotRunning(OperatorError):
    """A request for a process that is not there."""

    code, exit_code = "EJOB002", 2

    def __init__(self, job: str, status: str) -> None:
        super().__init__(
            f"job {job} is {status} and no process runs it", remedy="there is nothing to pause"
        )


class OtherSettings(OperatorError):
    """An unfinished job of the same source, target and selection has other settings."""

    code, exit_code = "ERESUME003", 2

    def __init__(self, job: str, differing: list[str]) -> None:
        super().__init__(
            f"job {job} is unfinished and was begun with other settings: {', '.join(differing)}",
            remedy=f"`ferrylog resume {job}` goes on with the old ones, `ferrylog start --new` "
            "begins another job",
        )
