"""What is wrong with a chain, with its source or its target; each says what to do."""

from collections.abc import Sequence
from typing import Final

from executors.dumps.errors import shown
from statemachine.errors import OperatorError


class BrokenChain(OperatorError):
    """A link from which on nothing of a chain can be applied. Nothing was written anywhere.

    `why` goes on where `link 3` begins.
    """

    code, exit_code = "ECHAIN001", 4

    def __init__(self, number: int, file: str, why: str, *, remedy: str = "") -> None:
        self.number, self.file, self.why = number, file, why
        before = f"--to-increment {number - 1} restores what lies before it"
        super().__init__(
            f"link {number} {why} ({shown(file)})",
            remedy=f"{remedy or 'fetch it from where the chain was copied from'}; {before}",
        )


class MissingLink(BrokenChain):
    code = "ECHAIN002"

    def __init__(self, number: int, file: str, why: str, behind: Sequence[int]) -> None:
        super().__init__(number, file, f"{why}: {cannot_be_applied(behind)}")


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


BROKEN: Final = frozenset(
    each.code
    for each in (BrokenChain, MissingLink, OutOfOrder, OtherParent, OtherSource, AlteredLink)
)
"""Codes of chains that are not as whoever wrote them left them."""


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


class LinkStands(OperatorError):
    """A link is not written over."""

    code, exit_code = "ECHAIN011", 2

    def __init__(self, path: str, job: str) -> None:
        super().__init__(
            f"{shown(path)} stands already, made by job {job}",
            remedy="`ferrylog dump --incremental` makes the link behind it; what this job was to "
            "hold is in the chain then",
        )


class LinkClaimed(OperatorError):
    """A link that another job makes, or began and did not finish."""

    code, exit_code = "ECHAIN012", 2

    def __init__(self, path: str, job: str) -> None:
        super().__init__(
            f"{shown(path)} is not finished, and job {job} makes it",
            remedy=f"`ferrylog resume {job}` with the journal of that job goes on with it; if "
            "nobody will, `dump --incremental --new` makes the link anew and removes what lies "
            "there: nothing is lost",
        )


def cannot_be_applied(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    named = f"links {', '.join(others)} and {last}" if others else f"link {last}"
    return f"{named} cannot be applied"


# --- of the source ---


class HistoryLost(OperatorError):
    """What changed between two links can no longer be known."""

    code = "ECHAIN020"

    def __init__(self, since: str) -> None:
        super().__init__(
            f"the source no longer keeps the changes since {since}: its oplog has rolled over",
            remedy="make a new full dump into another folder; a larger oplog "
            "(replSetResizeOplog, minRetentionHours) or more frequent increments prevent it",
        )


class PositionUnknown(OperatorError):
    """The source has no such place in its changes."""

    code = "ECHAIN021"

    def __init__(self, since: str) -> None:
        super().__init__(
            f"the source does not know the place in its changes, at {since}, behind which they "
            "were to be read: they are another deployment's, or it was set back since",
            remedy="name the source that the chain was made of, or make a new full dump",
        )


class NoChangeStreams(OperatorError):
    code = "ECHAIN022"

    def __init__(self) -> None:
        super().__init__(
            "the source is no replica set: it does not tell what changes",
            remedy="start mongod with --replSet and call rs.initiate(); one member is enough",
        )


class UnknownChange(OperatorError):
    """Passed over, it might be missing on the target."""

    code = "ECHAIN023"

    def __init__(self, kind: str, namespace: str) -> None:
        where = f" of {namespace}" if namespace else ""
        super().__init__(
            f"the source tells a change{where} of a kind that this version does not know: {kind}",
            remedy="use a newer ferrylog, or make a new full dump behind that change",
        )


class ChangeTooLarge(OperatorError):
    code = "ECHAIN024"

    def __init__(self, since: str) -> None:
        super().__init__(
            f"a change behind {since} is larger than what the source can tell at once",
            remedy="`dump --incremental --new` without --keep-log: that needs no more than the key",
        )


class ClockStill(OperatorError):
    """A link ends later than it begins, and sees what there was when it began."""

    code = "ECHAIN025"

    def __init__(self, since: str, now: str) -> None:
        super().__init__(
            f"the source tells what changed up to cluster time {now}, and does not come to "
            f"{since}: it was set back, or no majority of it acknowledges what is written",
            remedy="look at rs.status(); if it was restored to an earlier state, make a new full "
            "dump",
        )


class CatalogueMoves(OperatorError):
    """Collections or indexes changed each time they were looked at."""

    code = "ECHAIN026"

    def __init__(self, looks: int, last: str) -> None:
        super().__init__(
            f"collections or indexes of the source changed in each of {looks} looks at them, "
            f"lastly: {last}",
            remedy="leave those out with --ns-exclude, or try again when they stand still",
        )


class CappedCollection(OperatorError):
    """Its documents as of the end of a link cannot be had."""

    code = "ECHAIN027"

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f"{shown(namespace)} is capped: no server reads such a collection as of one time, and "
            "no increment can hold it",
            remedy=f"make a full dump without it (--ns-exclude {namespace!r}), and increments of "
            "that one",
        )


class CannotCarry(OperatorError):
    """A change of the source, as its change stream tells it, has no counterpart on the target."""

    code = "ECHAIN030"

    def __init__(self, namespace: str, why: str) -> None:
        super().__init__(
            f"a change of {shown(namespace)} cannot be carried over: {why}",
            remedy="restore to the end of an increment with --to-increment, which needs no single "
            "changes; or leave it out with --ns-exclude and begin anew",
        )


class DamagedKeys(OperatorError):
    """The database of changed keys is lost. The capture that made it begins anew."""

    code = "EKEYS001"

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"the changed keys in {shown(path)} cannot be read: {why}",
            remedy="nothing is lost but time: what changed is captured anew; look at the disk",
        )


class Unfollowable(OperatorError):
    """Change streams do not tell what happens to it. `now`: it came while others were followed."""

    code = "EFOLLOW001"

    def __init__(self, namespaces: Sequence[str], *, now: bool = False) -> None:
        exclude = " ".join(f"--ns-exclude {each.partition(' (')[0]!r}" for each in namespaces)
        super().__init__(
            f"what changes in {', '.join(map(shown, namespaces))} cannot be followed: change "
            "streams tell nothing of the documents of a time series, nor which ones a capped "
            "collection lets go",
            remedy="drop it on the source, then `ferrylog dead-letters requeue`"
            if now
            else f"leave it out with {exclude}, and carry it by a job of its own when nobody "
            "writes to it any more",
        )
