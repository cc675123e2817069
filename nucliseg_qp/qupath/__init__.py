"""Into QuPath and back: GeoJSON, project folders with and without Java, import scripts.

Nothing here imports paquo or starts Java when it is imported; only ``java.py`` ever does, and only
in a process of its own.
"""

from __future__ import annotations
