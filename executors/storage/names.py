"""Names that every store takes, and that come back as they were."""

from typing import Final

from executors.storage.errors import BadObjectName

LONGEST: Final = 900
"""Bytes of a name: S3, Google and Azure take 1,024 with the prefix of the URL."""
LONGEST_SEGMENT: Final = 200
"""Bytes between two slashes: file systems take 255, and a draft's name is longer."""
OWN: Final = ".ferrylog-"
"""How the names of drafts and probes begin; no object of a job has such a name."""
PROBE: Final = f"{OWN}probe-"


def is_probe(name: str) -> bool:
    """Left by a look at a store whose process was killed: nobody's object."""
    return name.startswith(PROBE)


def checked(name: str) -> str:
    """The name itself. Raises `BadObjectName`."""
    if why := wrong(name):
        raise BadObjectName(name, why)
    return name


def wrong(name: str) -> str:
    """Why it is no name; empty: it is one."""
    segments = name.split("/")
    try:
        encoded = [each.encode() for each in segments]
    except UnicodeEncodeError:
        return "it is no valid text"
    if any(each in ("", ".", "..") for each in segments):
        return "it has an empty part, . or .."
    if any(ord(each) < 32 or ord(each) == 127 for each in name):
        return "it has control characters"
    if max(map(len, encoded)) > LONGEST_SEGMENT:
        return f"a part of it is longer than {LONGEST_SEGMENT} bytes"
    if sum(map(len, encoded)) + len(segments) > LONGEST:
        return f"it is longer than {LONGEST} bytes"
    return ""
