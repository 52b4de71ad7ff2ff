"""What is wrong with a dump; each says the file, the place, the reason and what to do."""

from statemachine.errors import OperatorError


class NoDump(OperatorError):
    """There is nothing to read at that path, or it is not what was said."""

    code, exit_code = "EDUMP001", 2

    def __init__(self, path: str, why: str, *, remedy: str = "") -> None:
        super().__init__(
            f"{path}: {why}",
            remedy=remedy or "name a dump directory, a .bson file, or an archive with --archive",
        )


class DamagedDump(OperatorError):
    """Something in the dump is not as whoever wrote it left it. Nothing was written anywhere.

    `detail` is the stable code of the kind of damage (`EBSON003`, `EDUMP012`, ...), shown first.
    """

    code, exit_code = "EDUMP002", 4

    def __init__(
        self, file: str, why: str, *, detail: str, at: int | None = None, remedy: str = ""
    ) -> None:
        self.file, self.at, self.why, self.detail = file, at, why, detail
        where = file if at is None else f"{file}, offset {at}"
        super().__init__(
            f"{detail}: {where}: {why}",
            remedy=remedy
            or "--salvage takes the whole documents; or make the dump anew. Nothing was written",
        )
