"""The increment that a job is to make: behind which link, and where."""

from pathlib import Path

from executors.increments.chain import folder_of, last_link, open_chain
from executors.increments.errors import CannotFollow
from executors.increments.model import INCREMENTS, Making, Parent
from statemachine.events import JobSpec
from statemachine.state import DUMP


def increment_to_make(spec: JobSpec, folder: Path) -> Making:
    """`folder`: the job's work folder. Raises `CannotFollow`, and as `open_chain`."""
    root = Path(spec.target.removeprefix(DUMP))
    parent = _parent(root, spec.parent)
    return Making(
        parent=parent,
        folder=root / INCREMENTS / folder_of(parent.number + 1),
        keys=folder / "keys.sqlite",
        queries=spec.queries,
    )


def _parent(root: Path, digest: str) -> Parent:
    """The link with that manifest: the job may have written its own already."""
    chain = open_chain(root)
    links = [chain.digest, *(each.digest for each in chain.increments)]
    if digest not in links:
        raise CannotFollow(str(root), "the link that the increment is to follow is gone")
    return last_link(root, links.index(digest))
