"""What can be wrong with a group of operations; each with its remedy."""

from statemachine.errors import OperatorError


class BadCommand(OperatorError):
    """A command that no group may hold."""

    code, exit_code = "EOPS003", 2

    def __init__(self, where: str, why: str, *, remedy: str) -> None:
        super().__init__(f"{where}: {why}", remedy=remedy)


class MayNot(OperatorError):
    """Before anything happens: what would fail for want of a right, going or coming back."""

    code = "EOPS004"

    def __init__(self, operation: str, part: str, why: str) -> None:
        super().__init__(
            f"the {part} of {operation} would be refused: {why}",
            remedy="grant that right: nothing is begun that could not be taken back",
        )


class InDoubt(OperatorError):
    """A command was sent, its answer never came, and nothing tells whether it was carried out."""

    code = "EOPS005"

    def __init__(self, command: str) -> None:
        super().__init__(
            f"nobody knows whether `{command}` was carried out before the process died, and it "
            "must not be carried out twice",
            remedy="look at the server and undo it by hand if it was; then leave its undo out with "
            "`ferrylog dead-letters drop`. A `check` in the file spares all this",
        )


class NoRecord(OperatorError):
    """The operation is applied, and what stood before is not known here."""

    code = "EOPS006"

    def __init__(self, command: str, record: str) -> None:
        super().__init__(
            f"`{command}` is applied, and nothing here tells whether this job did that: there is "
            f"no {record}",
            remedy="bring the job's work folder along, or undo it by hand and skip this undo",
        )


class PartlyThere(OperatorError):
    """Some of what an operation is to make is there already: its compensation would take it."""

    code = "EOPS007"

    def __init__(self, command: str, there: str) -> None:
        super().__init__(
            f"`{command}`: {there} is there already, and its compensation would take that too",
            remedy="leave it out of the operation and of its compensation",
        )
