"""``nucliseg-qp doctor``: is everything there."""

from __future__ import annotations

from nucliseg_qp.cli.options import AsJson

__all__ = ["doctor"]


def doctor(*, as_json: AsJson = False) -> int:
    """Look at Python, torch, device, readers, QuPath, model and disk, and say what to mend.

    Example: `nucliseg-qp doctor --json`

    Exits with 1 when something does not work, with 0 when there are only warnings.
    """
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.tables import check_table
    from nucliseg_qp.doctor import examine

    checks = examine()
    answer(as_json, {"checks": checks}, check_table(checks))
    return int(any(check.status == "fail" for check in checks))
