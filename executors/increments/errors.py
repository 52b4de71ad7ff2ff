"""What is wrong with a chain, with its source or its target; each says what to do."""

from collections.abc import Sequence

from executors.dumps.errors import shown
from statemachine.errors import OperatorError


class BrokenChain(OperatorError):
    """An increment does not follow the link before it. `number`: which one; nothing from there on
    can be applied, and nothing was written anywhere."""

    code, exit_code = "ECHAIN001", 4

    def __init__(self, number: int, file: str, why: str, *, remedy: str = "") -> None:
        self.number, self.file, self.why = number, file, why
        before = f"--to-increment {number - 1} restores what lies before it"
        super().__init__(
            f"link {number} of the chain: {shown(file)}: {why}",
            remedy=f"{remedy or 'fetch it from where the chain was copied from'}; {before}",
        )


class MissingLink(BrokenChain):
    code = "ECHAIN002"

    def __init__(self, number: int, file: str, why: str, behind: Sequence[int]) -> None:
        self.behind = tuple(behind)
        super().__init__(number, file, f"link {number} {why}: {cannot_be_applied(behind)}")


class OutOfOrder(BrokenChain):
    """Of times: what changed between two links is in neither of them, or in both."""

    code = "ECHAIN003"


class OtherParent(BrokenChain):
    """It was made after another link than the one before it, or lies in another's place."""

    code = "ECHAIN004"


class OtherSource(BrokenChain):
    """An increment of another source, or of another selection of it."""

    code = "ECHAIN005"


class AlteredLink(BrokenChain):
    """A file of it is not as it was written."""

    code = "ECHAIN006"


class NoSuchLink(OperatorError):
    """A chain does not go up to there."""

    code, exit_code = "ECHAIN007", 2


class NoSuchTime(OperatorError):
    """The chain cannot be restored as of that time."""

    code, exit_code = "ECHAIN008", 2


class CannotFollow(OperatorError):
    """No increment can follow what lies there."""

    code, exit_code = "ECHAIN009", 2

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"{shown(path)}: {why}", remedy="make a full dump into another folder, without it"
        )


class LinkNeeded(OperatorError):
    """A link that others build on is not removed."""

    code, exit_code = "ECHAIN010", 2

    def __init__(self, number: int, needed_by: Sequence[int]) -> None:
        what = f"link {number}" if number else "the full dump"
        super().__init__(
            f"{what} stays: {cannot_be_applied(needed_by)} without it",
            remedy="remove the newest link first, one after another; or make a new full dump "
            "elsewhere and remove this chain as a whole",
        )


def cannot_be_applied(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    named = f"links {', '.join(others)} and {last}" if others else f"link {last}"
    return f"{named} cannot be applied"
