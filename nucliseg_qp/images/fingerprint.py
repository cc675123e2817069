"""Whether two image files are the same, told without reading all of a slide."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["fingerprint"]

SAMPLE_BYTES = 1 << 16


def fingerprint(path: Path) -> str | None:
    """Hash size, first and last 64 kB of a file; scripts inside QuPath do the same.

    Returns
    -------
    str or None
        SHA-256 as hexadecimal text; None when it cannot be read or is no file.
    """
    # A pipe would keep its reader waiting for ever.
    if not os.path.isfile(path):
        return None
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(SAMPLE_BYTES)
            file.seek(max(0, size - SAMPLE_BYTES))
            tail = file.read(SAMPLE_BYTES)
        return hashlib.sha256(str(size).encode("ascii") + head + tail).hexdigest()
    except OSError:
        return None
