"""What is known of one operation beside the journal: how far it came, and how far its undo.

Each step is durable before, or right after, the command it tells of; so the last one says what a
crash left open.
"""

from pathlib import Path
from typing import Final, Literal

from bson import Binary

from executors.undo.log import UndoLog, rows

Step = Literal["already", "sent", "refused", "partly", "done"]
"""Of the forward command: somebody had done it before, it is on its way, the server refused it,
has done part of it, has done it."""
RECORD: Final = "record.bson"


class Record:
    """Of one operation, in its own folder; for one thread."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD
        self.step: Step | None = None
        """The last of the forward command; `None`: it was never sent."""
        self.undoing: int | None = None
        """The number of the undo command that is on its way."""
        self.undone = 0
        """How many of the undo commands are done."""
        self.session: Binary | None = None
        """Under which the last command went, and may still be at work."""
        for row in rows(self._path):
            self._hear(row["k"], row["n"], row["s"])

    @property
    def path(self) -> str:
        return str(self._path)

    def note(
        self,
        word: Step | Literal["undoing", "undone"],
        number: int = 0,
        session: Binary | None = None,
    ) -> None:
        """Durable when this returns. Raises `OSError`."""
        with UndoLog(self._path) as log:
            log.add({"k": word, "n": number, "s": session})
            log.sync()
        self._hear(word, number, session)

    def _hear(
        self, word: Step | Literal["undoing", "undone"], number: int, session: Binary | None
    ) -> None:
        self.session = session
        if word == "undoing":
            self.undoing = number
        elif word == "undone":
            self.undoing, self.undone = None, number + 1
        else:
            self.step = word
