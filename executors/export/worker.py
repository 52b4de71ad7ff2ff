"""What runs in a process that converts: blocks in by standard input, converted ones out by
standard output. It ends when its input does, so with whoever began it.

It knows no server and no command line: what it imports is what a machine has to hold twice.
"""

import gc
import os
import pickle
import signal
import sys
from contextlib import suppress
from importlib.abc import MetaPathFinder
from typing import IO, Any, Final

from executors.export.convert import convert
from executors.export.model import Converted, Recipe

UNLOOKED_AT: Final = 1_000_000
"""Objects that may be made before cycles are looked for: more than a block has. Documents are
trees, and looking takes a quarter of the time."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for those who began it
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    sys.meta_path.insert(0, NoPandas())
    gc.set_threshold(UNLOOKED_AT)
    with suppress(BrokenPipeError):  # nobody waits for the answer any more
        while (question := receive(sys.stdin.buffer)) is not None:
            send(out, _answer(*question))


class NoPandas(MetaPathFinder):
    """pyarrow imports it where it is installed, to see whether a list is one of its series: half of
    a process's memory."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def _answer(recipe: Recipe, block: bytes) -> Converted | Exception:
    try:
        return convert(recipe, block)
    except Exception as error:  # noqa: BLE001 — raised again where it was asked for
        return _sendable(error)


def _sendable(error: Exception) -> Exception:
    """Some are not made again from what they say."""
    try:
        again: Exception = pickle.loads(pickle.dumps(error))  # noqa: S301 — as below
    except Exception:  # noqa: BLE001 — whatever is wrong with its making
        return RuntimeError(f"{type(error).__name__}: {error}")
    return again


def send(pipe: IO[bytes], what: object) -> None:
    """Large bytes go from where they lie."""
    pickle.dump(what, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """`None` where the other side has ended."""
    try:
        return pickle.load(pipe)  # noqa: S301 — of our own process
    except (EOFError, pickle.UnpicklingError):
        return None


if __name__ == "__main__":
    main()
