"""What can keep a range from being moved; each with its remedy."""

from statemachine.errors import OperatorError


class BadPlacement(OperatorError):
    """The file that says which range lies where cannot be used."""

    code, exit_code = "EPLACE001", 2

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"the placement file {path} cannot be used: {why}",
            remedy="it is JSON of the schema ferrylog.placement/1, whose ranges follow each other "
            "from null to null; see docs/rebalance.md",
        )


class BadMoves(OperatorError):
    """What is asked for does not fit what lies where."""

    code, exit_code = "EPLACE002", 2

    def __init__(self, why: str) -> None:
        super().__init__(
            f"these ranges cannot be moved: {why}",
            remedy="compare with the placement file; --dry-run shows what would be moved",
        )


class WrittenMeanwhile(OperatorError):
    """A range changed at its old place while it was moved."""

    code = "EPLACE003"

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what} was written while it was moved: {why}",
            remedy="nothing was deleted; the range is moved again later, or keep writers away",
        )


class OthersThere(OperatorError):
    """The new place of a range holds documents that are not of it."""

    code = "EPLACE004"

    def __init__(self, what: str, endpoint: str, why: str) -> None:
        super().__init__(
            f"{endpoint} holds other documents in {what}: {why}",
            remedy=f"remove from {endpoint} what does not belong there, then go on",
        )


class PlacedElsewhere(OperatorError):
    """The placement file names somebody else as the owner of a range that is being moved."""

    code = "EPLACE005"

    def __init__(self, what: str, path: str, owners: str) -> None:
        super().__init__(
            f"{what} lies on {owners}, says {path}: somebody else changed that file",
            remedy="let one rebalance at a time write the file; see what it says and begin anew",
        )


class CannotRebalance(OperatorError):
    """The collection is none of which ranges can be moved."""

    code, exit_code = "EPLACE006", 2

    def __init__(self, namespace: str, endpoint: str, why: str, remedy: str) -> None:
        super().__init__(f"{namespace} on {endpoint} {why}", remedy=remedy)
