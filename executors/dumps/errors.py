"""What is wrong with a dump; each says the file, the place, the reason and what to do."""

from typing import Final

from statemachine.errors import OperatorError

DETAILS: Final = {
    # A file of a folder, whatever is in it.
    "EDUMP010": "not a regular file: a symbolic link, a FIFO, a socket, a device, a directory",
    "EDUMP011": "a file that should be there is missing",
    "EDUMP012": "a file name that is no name of a collection",
    "EDUMP013": "a name that servers refuse",
    "EDUMP014": "two files for one namespace",
    "EDUMP015": "two names that a file system which ignores case cannot keep apart",
    "EDUMP016": "a cut file name, and no metadata that tells the whole one",
    "EDUMP017": "data in a form that is not read here",
    # gzip.
    "EDUMP020": "the gzip stream ends too early",
    "EDUMP021": "the gzip stream is damaged, or its checksum does not match",
    "EDUMP022": "something that is no gzip lies behind the gzip stream",
    "EDUMP023": "the gzip stream is a bomb",
    # Metadata.
    "EDUMP030": "metadata that is empty, or not JSON",
    "EDUMP031": "metadata of the wrong form",
    "EDUMP032": "an index that no server can build",
    "EDUMP033": "metadata that is too large or too deep",
    "EDUMP034": "metadata that contradicts what lies beside it",
    "EDUMP035": "a namespace that was there before and is not any more",
    "EDUMP036": "something that was left out when the dump was made",
    # The manifest and its chunk files.
    "EDUMP060": "a manifest that is none, or not a whole one",
    "EDUMP061": "a manifest that does not have the SHA-256 it names",
    "EDUMP062": "a manifest of a version that is not read here",
    "EDUMP063": "a chunk file that the manifest names is missing",
    "EDUMP064": "a chunk file of another size than the manifest says",
    "EDUMP065": "a file in the folder that the manifest does not name",
    "EDUMP066": "a name in the manifest that is no name of a chunk file",
    "EDUMP067": "a namespace or a chunk file that stands in the manifest twice",
    "EDUMP068": "sums in the manifest that are none",
    "EDUMP069": "a chunk file that does not have the SHA-256 it was written with",
    "EDUMP070": "a chunk file with a block that is none",
    "EDUMP071": "a chunk file that holds other documents than the manifest says",
    "EDUMP072": "a manifest that is too large",
    # Archives.
    "EDUMP080": "no archive of mongodump",
    "EDUMP081": "an archive of a version that is not known",
    "EDUMP082": "an archive's own documents that are none, or lack a field",
    "EDUMP083": "an archive that tells too much before its documents",
    "EDUMP084": "an archive that is cut inside a block",
    "EDUMP085": "an archive that is cut before each of its namespaces came to its end",
    "EDUMP087": "blocks of an archive that do not follow one another",
    "EDUMP088": "a namespace where an archive may not have it",
    "EDUMP089": "documents of an archive that do not have the CRC they were written with",
    # Increments.
    "EDUMP090": "an increment where a full dump is expected",
    "EDUMP091": "a full dump where an increment is expected",
    "EDUMP092": "rows of documents that are gone, where there can be none",
    # JSONL.
    "EDUMP100": "a line that is no document of Extended JSON",
    "EDUMP101": "an export that was not finished",
    "EDUMP102": "the zstd stream ends too early",
    "EDUMP103": "the zstd stream is damaged, or its checksum does not match",
    "EDUMP104": "a file of an export that is missing, or of another size than its manifest says",
    "EDUMP105": "a file of an export that does not have the SHA-256 its manifest says",
    "EDUMP106": "a file of an export that holds more or fewer documents than its manifest says",
}
"""What each code of damage means, beside those of BSON (`structure`)."""


class NoDump(OperatorError):
    """There is nothing to read at that path, or it is not what was said."""

    code, exit_code = "EDUMP001", 2

    def __init__(self, path: str, why: str, *, remedy: str = "") -> None:
        super().__init__(
            f"{shown(path)}: {why}",
            remedy=remedy or "name a dump directory, a .bson file, or an archive with --archive",
        )


class OtherDump(OperatorError):
    """A job goes on with the dump that it began with."""

    code = "ERESUME004"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is not the dump that this job began with",
            remedy="put that one back, or begin anew with --new",
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
        self._where = shown(file) if at is None else f"{shown(file)}, offset {at}"
        super().__init__(
            f"{detail}: {self._where}: {why}",
            remedy=remedy
            or "--salvage takes the whole documents; or make the dump anew. Nothing was written",
        )

    @property
    def told(self) -> str:
        """All but the code, in one line."""
        return f"{self._where}: {self.why} → {self.remedy}"

    def of(self, namespace: str) -> "DamagedDump":
        """The same, with whose documents lie there."""
        why = f"{namespace}: {self.why}"
        return DamagedDump(self.file, why, detail=self.detail, at=self.at, remedy=self.remedy)


def shown(path: str) -> str:
    """A path for people: names of files may hold anything."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
