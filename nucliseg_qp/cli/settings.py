"""``nucliseg-qp settings``: all settings as TOML."""

from __future__ import annotations

from nucliseg_qp.cli.options import Config
from nucliseg_qp.config import Settings

__all__ = ["settings"]


def settings(*, config: Config = None, values: Settings | None = None) -> int:
    """Print all settings as TOML, with what they mean, ready for --config.

    Example: `nucliseg-qp settings > mine.toml`
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.jobs import merge_settings
    from nucliseg_qp.config import settings_toml

    show.plain(settings_toml(merge_settings(values, config)))
    return 0
