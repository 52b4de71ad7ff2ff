"""What an operator can get wrong about commands."""

from statemachine.errors import OperatorError


class Usage(OperatorError):
    code, exit_code = "EUSE001", 2


class NotRunning(OperatorError):
    """A request for a process that is not there."""

    code, exit_code = "EJOB002", 2

    def __init__(self, job: str, status: str, verb: str) -> None:
        super().__init__(
            f"job {job} is {status} and no process runs it",
            remedy=f"there is nothing to {verb}; `ferrylog resume {job}` goes on",
        )


class Refused(OperatorError):
    """What was asked for does not fit the job as it stands; nothing was done."""

    code, exit_code = "EJOB006", 2

    def __init__(self, verb: str, why: str) -> None:
        super().__init__(f"{verb}: {why}", remedy="`ferrylog status` shows where the job stands")


class OtherSettings(OperatorError):
    """An unfinished job of the same source, target and selection has other settings."""

    code, exit_code = "ERESUME003", 2

    def __init__(self, job: str, differing: list[str]) -> None:
        super().__init__(
            f"job {job} is unfinished and was begun with other settings: {', '.join(differing)}",
            remedy=f"`ferrylog resume {job}` goes on with the old ones, --new begins another job",
        )
