"""``nucliseg-qp settings``: all settings as TOML."""

from __future__ import annotations

from nucliseg_qp.cli.options import AsJson, Config, SaidSettings

__all__ = ["settings"]


def settings(
    *, config: Config = None, as_json: AsJson = False, values: SaidSettings | None = None
) -> int:
    """Print all settings as TOML, with what they mean, ready for --config.

    Example: `nucliseg-qp settings > mine.toml`
    """
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.jobs import merge_settings
    from nucliseg_qp.config import settings_toml

    merged = merge_settings(values, config)
    answer(as_json, {"settings": merged.model_dump(mode="json")}, settings_toml(merged))
    return 0
