"""Whole QuPath projects: many images, days of work, nothing lost.

`run.annotate_project` is the place to start reading.
"""

from __future__ import annotations
