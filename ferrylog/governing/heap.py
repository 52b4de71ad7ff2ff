"""The C library's heap, where it is glibc's: what is free goes back to the system."""

import ctypes
import gc
from collections.abc import Callable
from typing import Any, Final

ARENA_MAX: Final = -8
MMAP_THRESHOLD: Final = -3
TRIM_THRESHOLD: Final = -1


def _of_c(name: str) -> Callable[..., Any] | None:
    try:
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
    return found


def give_back() -> None:
    """All that is free: a fraction of a second, only where memory is short."""
    gc.collect()
    if trim := _of_c("malloc_trim"):
        trim(ctypes.c_size_t(0))
