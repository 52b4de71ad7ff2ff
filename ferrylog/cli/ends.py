"""Where files come from or go to: a path or a URL, as the journal calls it."""

from executors.storage.urls import local_folder, normal_url
from ferrylog.errors import Usage
from statemachine.state import DUMP, is_stored


def end_at(text: str) -> str:
    """Raises `Usage`, and `BadStoreUrl` for a URL that is none: nothing of it is repeated, it may
    hold a key."""
    if not text:
        raise Usage("name a folder, or a URL", remedy="DIR, or s3://bucket/prefix")
    folder = local_folder(text)
    return normal_url(text) if folder is None else DUMP + str(folder)


def archive_at(text: str) -> str:
    """As `end_at`; `-` is a standard stream. Raises `Usage` for one in a store."""
    if text == "-":
        return DUMP + text
    end = end_at(text)
    if is_stored(end):
        raise Usage(
            f"an archive is a file or a standard stream, and {end} is neither",
            remedy="--archive - in a pipe with the store's own tool; or a dump of ferrylog's own "
            "layout, which a store takes",
        )
    return end
