"""``nucliseg-qp doctor``: is everything there."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

__all__ = ["doctor"]


def doctor(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Look at Python, torch, device, readers, QuPath, model and disk, and say what to mend.

    Example: `nucliseg-qp doctor --json`

    Exits with 1 when something does not work, with 0 when there are only warnings.

    Parameters
    ----------
    json
        Print JSON for a machine.
    """
    from dataclasses import asdict
    from json import dumps

    from nucliseg_qp.cli import show
    from nucliseg_qp.doctor import examine

    checks = examine()
    if json:
        show.plain(dumps([asdict(check) for check in checks], indent=2, ensure_ascii=False))
    else:
        show.result(show.check_table(checks))
    return int(any(check.status == "fail" for check in checks))
