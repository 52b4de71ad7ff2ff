"""Which files of a dump to read, where reading all takes too long: `n/t`, `x%` or a size, as
restic's `--read-data-subset`.

The choice follows from the names of the files alone: the same subset of the same dump is the
same files on every day, and 1/5 to 5/5 together are all of them.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from statemachine.errors import OperatorError

_NTH: Final = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,8})")
_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)%")
_SIZE: Final = re.compile(r"([1-9]\d{0,14})([KMGT]?)")
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class BadSubset(OperatorError):
    code, exit_code = "ESUBSET001", 2

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text!r} is no subset", remedy="write n/t (1/5 to 5/5), x% (2.5%) or a size (500M)"
        )


@dataclass(frozen=True, slots=True)
class Subset:
    """As it was asked for; empty means everything."""

    text: str = ""
    nth: int = 0
    of: int = 0
    share: float = 0.0
    """Of all bytes."""
    bytes: int = 0

    @classmethod
    def parse(cls, text: str) -> "Subset":
        """Raises `BadSubset`."""
        if not text:
            return cls()
        if (found := _NTH.fullmatch(text)) and int(found[1]) <= int(found[2]):
            return cls(text, nth=int(found[1]), of=int(found[2]))
        if (found := _SHARE.fullmatch(text)) and 0 < float(found[1]) <= 100:
            return cls(text, share=float(found[1]) / 100)
        if found := _SIZE.fullmatch(text):
            return cls(text, bytes=int(found[1]) * _UNITS[found[2]])
        raise BadSubset(text)

    def of_files(self, sizes: Mapping[str, int]) -> set[str]:
        """The names that belong to it, of files with these sizes: at least one if there are any
        and it is a share or a size."""
        if not self.text:
            return set(sizes)
        if self.of:
            return {name for name in sizes if _lot(name) % self.of == self.nth - 1}
        wanted = self.bytes or self.share * sum(sizes.values())
        chosen: set[str] = set()
        for name in sorted(sizes, key=lambda name: (_lot(name), name)):
            if wanted <= 0 and chosen:
                break
            chosen.add(name)
            wanted -= sizes[name]
        return chosen


WHOLE: Final = Subset()


def _lot(name: str) -> int:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8])
