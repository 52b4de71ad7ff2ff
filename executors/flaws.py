"""What can be wrong with a document, by stable codes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self


class Code(StrEnum):
    """The kinds of flaws. Stable: people search for them."""

    meaning: str

    def __new__(cls, code: str, meaning: str) -> Self:
        self = str.__new__(cls, code)
        self._value_, self.meaning = code, meaning
        return self

    CUT_LENGTH = "EBSON010", "the bytes end inside the length of a document"
    TOO_SHORT = "EBSON011", "a length that is less than the least document has"
    TOO_LONG = "EBSON012", "a length that no server takes"
    CUT = "EBSON013", "the bytes end inside a document"
    NO_END = "EBSON014", "no NUL where the document ends"
    SURPLUS = "EBSON015", "bytes behind the one document that should be there"
    TYPE = "EBSON016", "an element of unknown type"
    NAME = "EBSON017", "a name without end"
    VALUE = "EBSON018", "a value that does not fit into its document"
    STRING_LENGTH = "EBSON019", "a string's length that is less than 1, or leaves the document"
    STRING_END = "EBSON020", "no NUL where a string ends"
    BINARY_LENGTH = "EBSON021", "a binary's length that is negative, or leaves the document"
    NESTED_LENGTH = (
        "EBSON022",
        "a nested document's length that leaves its parent, or is too little",
    )
    NESTED_END = "EBSON023", "elements that do not end where the document's length says"
    BOOLEAN = "EBSON024", "a boolean that is neither 0 nor 1"
    REGEX = "EBSON025", "a regular expression without the ends of its two texts"
    SCOPE = "EBSON026", "lengths of a code with scope that disagree"
    DEPTH = "EBSON027", "documents in one another, deeper than servers take"
    ARRAY_ID = "EBSON030", "an _id that is an array"
    BAD_ID = "EBSON031", "an _id of another type that servers refuse"
    TWO_IDS = "EBSON032", "more than one _id"
    OLD_BINARY = "EBSON033", "an old binary whose two lengths disagree"


WHOLE: Final = frozenset((Code.ARRAY_ID, Code.BAD_ID, Code.TWO_IDS, Code.OLD_BINARY))
"""Flaws of documents whose structure is sound: the bytes can be carried on, and kept as rejected
where a server refuses them. `OLD_BINARY` servers even store; drivers do not read it."""


@dataclass(frozen=True, slots=True)
class Flaw:
    code: Code
    at: int
    """Offset in the bytes that were given."""
    path: str
    """Of the field, printable and of bounded length; empty for the document itself."""
    why: str
    """A sentence with the figures: `string length -1`."""

    @property
    def whole(self) -> bool:
        """The document is whole all the same: see `WHOLE`."""
        return self.code in WHOLE

    def __str__(self) -> str:
        where = f"field {self.path}, " if self.path else ""
        return f"{self.code}: {where}offset {self.at}: {self.why}"
