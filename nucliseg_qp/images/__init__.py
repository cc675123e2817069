"""Where pixels come from: slides, the tissue on them, and the tiles they are cut into."""

from __future__ import annotations
