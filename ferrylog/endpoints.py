"""The places of a group whose operations run at several: named by its spec, reached anew."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from executors.clients import Deployment
from ferrylog.errors import Usage
from ferrylog.wiring import deployment
from statemachine.state import State


def named(pairs: Sequence[str]) -> dict[str, str]:
    """`name=value` each. Raises `Usage`."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value) or "://" in name:
            raise Usage("an endpoint is given as NAME=URI", remedy="--endpoint a=mongodb://…")
        if name in found:
            raise Usage(f"endpoint {name} is named twice", remedy="name each endpoint once")
        found[name] = value
    return found


def uris_of(given: Sequence[str] | None, files: Sequence[str] | None) -> dict[str, str]:
    """Connection strings by name. Raises `Usage`."""
    found = named(given or ())
    for name, file in named(files or ()).items():
        if name in found:
            raise Usage(f"endpoint {name} is named directly and by a file", remedy="keep one")
        try:
            found[name] = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"cannot read {file}: {error}") from None
    return found


@contextmanager
def reached(uris: Mapping[str, str]) -> Iterator[Mapping[str, Deployment]]:
    """Each of them, until the end."""
    with ExitStack() as stack:
        found: dict[str, Deployment] = {}
        for name, uri in uris.items():
            one = stack.enter_context(deployment("target", uri))
            assert one is not None
            found[name] = one
        yield found


@contextmanager
def endpoints_of(
    state: State, given: Sequence[str] | None, files: Sequence[str] | None
) -> Iterator[Mapping[str, Deployment]]:
    """Those that the operations of a group name, as given again, or as the group remembers them.

    Raises `Usage`.
    """
    uris = uris_of(given, files)
    wanted = sorted({each.target for each in state.operations.values() if each.target})
    known = dict(state.spec.endpoints) if state.spec is not None else {}
    missing = [name for name in wanted if name not in uris and name not in known]
    if missing:
        raise Usage(
            f"no URI is given for endpoint {missing[0]}", remedy=f"--endpoint {missing[0]}=URI"
        )
    with reached({name: uris.get(name) or known[name] for name in wanted}) as found:
        yield found
