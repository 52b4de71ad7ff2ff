"""An error, told to whoever called: what, why, what to do."""

import json
import sys

from ferrylog.redact import printable, redact
from statemachine.errors import FerrylogError


def tell(error: FerrylogError, *, as_json: bool) -> None:
    """On standard error; with `--json` on standard output too, as one line."""
    notes = getattr(error, "__notes__", [])
    if as_json:
        document = {
            "schema": "ferrylog.error/1",
            "code": error.code,
            "message": redact(str(error)),
            "remedy": redact(error.remedy),
            "exit_code": error.exit_code,
            "also": [redact(note) for note in notes],
        }
        print(json.dumps(document), flush=True)
    lines = [f"error [{error.code}]: {error}", *(f"  also {note}" for note in notes)]
    if error.remedy:
        lines.append(f"  → {error.remedy}")
    sys.stderr.write(printable(redact("\n".join(lines))) + "\n")
