"""The C library's heap, where it is glibc's: what is free goes back to the system.

With an arena for each thread, as glibc has it by default, each keeps for itself what a batch took:
16 workers on documents of 300 KB held 243 MiB at their peak, with one arena 170, for less processor
time (docs/limits.md). The interpreter's lock leaves little to contend for.
"""

import ctypes
import gc
import os
from collections.abc import Callable
from typing import Any, Final

ARENA_MAX: Final = -8


def share_one() -> None:
    """For all threads that begin after this; an operator's MALLOC_ARENA_MAX wins."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        _call("mallopt", ARENA_MAX, 1)


def give_back() -> None:
    """All that is free."""
    gc.collect()
    _call("malloc_trim", 0)


def _call(name: str, *numbers: int) -> None:
    try:
        function: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return  # another C library
    function(*numbers)
