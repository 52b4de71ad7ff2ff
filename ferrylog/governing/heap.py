"""The C library's heap, where it is glibc's: what is free goes back to the system.

With an arena for each thread, as glibc has it by default, each keeps for itself what a batch took:
16 workers on documents of 300 KB held 243 MiB at their peak, with one arena 170, for less processor
time (docs/limits.md). The interpreter's lock leaves little to contend for.

Batches come from that arena and not from the system, where each of their pages would be a page
fault again: a quarter of what dumping large documents costs.
"""

import ctypes
import gc
import os
from collections.abc import Callable
from typing import Any, Final

OPTIONS: Final = {
    "MALLOC_ARENA_MAX": (-8, 1),
    "MALLOC_MMAP_THRESHOLD_": (-3, 32 << 20),
    "MALLOC_TRIM_THRESHOLD_": (-1, 64 << 20),
}
"""What an operator may set otherwise by its name; numbers of `mallopt` and values. What is asked
for in pieces of more than the second comes from the system still; more than the third that is free
at the end goes back to it."""


def share_one() -> None:
    """One arena for all threads that begin after this."""
    for name, (option, value) in OPTIONS.items():
        if name not in os.environ:
            _call("mallopt", option, value)


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
