"""What can be wrong with a journal, and who must act."""

from pathlib import Path

from statemachine.errors import FerrylogError, OperatorError


class NotAJournal(OperatorError):
    """The file is something else, or its header is damaged."""

    code = "EJOURNAL001"

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} is not a ferrylog journal: {why}",
            remedy="name the right file with --journal, or move this one away",
        )


class NewerJournal(OperatorError):
    """Written by a later ferrylog."""

    code = "EJOURNAL002"

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"{path} has format {found}; this ferrylog knows formats up to {known}",
            remedy="use the ferrylog that wrote it, or a newer one",
        )


class JournalHeld(OperatorError):
    """Another run holds the journal."""

    code, exit_code = "EJOURNAL003", 7

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(
            f"{path} is held by {holder or 'another process'}",
            remedy=f"`ferrylog status --journal {path}` shows it, `ferrylog pause` asks it to stop",
        )


class DamagedJournal(OperatorError):
    """What stands in the journal is not what was written."""

    code, exit_code = "EJOURNAL004", 4

    def __init__(self, path: Path, why: str, *, good: int | None = None) -> None:
        until = "" if good is None else f"; the last good event is seq {good}"
        super().__init__(
            f"{path} is damaged: {why}{until}",
            remedy="keep the files as they are; docs/durability.md says how to go on with a copy",
        )


class JournalBehind(OperatorError):
    """Events that were acknowledged are missing."""

    code, exit_code = "EJOURNAL005", 4

    def __init__(self, path: Path, found: int, tip: int) -> None:
        super().__init__(
            f"{path} ends at seq {found}, but seq {tip} was acknowledged: {tip - found} events "
            "are missing (an old copy, or its -wal file was removed)",
            remedy="put the newer journal and its -wal file back",
        )


class TipMissing(OperatorError):
    """There are events but no record of how many were acknowledged."""

    code, exit_code = "EJOURNAL006", 4

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the tip record beside {path} {why}: nobody can tell whether events are missing",
            remedy="put the .tip file back; if the journal is known to be whole, "
            "`ferrylog inspect check --renew-tip` writes a new one",
        )


class JournalUnreachable(OperatorError):
    """The file or its directory cannot be used."""

    code = "EJOURNAL007"

    def __init__(self, path: Path, why: str, remedy: str = "") -> None:
        super().__init__(
            f"cannot open the journal {path}: {why}",
            remedy=remedy or "check the directory, its owner, its mode and the free space",
        )


class JournalUnknown(OperatorError):
    """A commit raised: whether it happened is unknown until the journal is read again."""

    code, exit_code = "EJOURNAL008", 5

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"writing to {path} failed: {why}; nothing that was acknowledged is lost",
            remedy="remove the cause (free space on the disk?), then `ferrylog resume`",
        )


class StalePosition(FerrylogError):
    """Somebody else appended to this job."""

    code, exit_code = "EJOURNAL009", 7

    def __init__(self, job: str, expected: int, found: int) -> None:
        super().__init__(
            f"job {job} is at version {found}, not at {expected}: another process appended",
            remedy="run `ferrylog status`",
        )


class EpochFenced(FerrylogError):
    """A newer run of this job has begun."""

    code, exit_code = "EJOURNAL010", 7

    def __init__(self, job: str, epoch: int, found: int) -> None:
        super().__init__(
            f"epoch {epoch} of job {job} is over: epoch {found} has begun",
            remedy="run `ferrylog status`",
        )


class NoSuchJob(OperatorError):
    """The journal has no such job."""

    code, exit_code = "EJOB001", 2

    def __init__(self, job: str, path: Path) -> None:
        what = f"no job {job}" if job else "no job"
        super().__init__(f"{path} has {what}", remedy="`ferrylog jobs` lists them")


class UnknownEvent(OperatorError):
    """A whole, unchanged event that this ferrylog does not understand."""

    code, exit_code = "EJOURNAL011", 4

    def __init__(self, path: Path, seq: int, kind: str, why: str) -> None:
        super().__init__(
            f"{path}: event seq {seq} ({kind!r}) is none that this ferrylog knows: {why}",
            remedy="use the ferrylog that wrote it, or a newer one; "
            "`ferrylog inspect events --forensic` shows what stands there",
        )


class WrongSnapshot(OperatorError):
    """A snapshot does not equal the fold of the events before it."""

    code, exit_code = "EJOURNAL012", 4

    def __init__(self, path: Path, job: str, seq: int) -> None:
        super().__init__(
            f"the snapshot of job {job} at seq {seq} does not equal the events before it",
            remedy=f"remove {path}.snapshots: it is a cache; the journal itself is whole",
        )


class BadEvidence(OperatorError):
    """An evidence file is cut, changed, or no evidence at all."""

    code, exit_code = "EJOURNAL013", 4

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(
            f"{path}, line {line}: {why}",
            remedy="export it again from the journal, or ask for a whole copy",
        )


class EvidenceExists(OperatorError):
    """Evidence never replaces a file."""

    code, exit_code = "EJOURNAL014", 2

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already", remedy="name another file")


class EvidenceUnreachable(OperatorError):
    """A file of evidence, a key or a copy cannot be used."""

    code = "EJOURNAL015"

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"cannot use the file {path}: {why}",
            remedy="check the directory, its owner, its mode and the free space",
        )


class JobMoved(OperatorError):
    """The job was exported from this journal."""

    code, exit_code = "EJOB005", 7

    def __init__(self, job: str, why: str) -> None:
        super().__init__(
            f"job {job} has left this journal: {why}",
            remedy="go on where its file was imported; if that never happened, "
            "`ferrylog jobs import FILE --take-back`",
        )


class JobElsewhere(OperatorError):
    """A job cannot be taken into this journal."""

    code, exit_code = "EJOB003", 7

    def __init__(self, job: str, path: Path, why: str) -> None:
        super().__init__(
            f"job {job} cannot be imported into {path}: {why}",
            remedy="`ferrylog inspect events` shows what the journal holds",
        )
