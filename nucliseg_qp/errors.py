"""The errors of this package: each says what was seen, what to do, and how the process exits."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CalibrationError",
    "DeviceError",
    "InputError",
    "ModelError",
    "NucliSegError",
    "OutputError",
    "QuPathError",
    "UsageError",
    "nearest_name",
]


class NucliSegError(Exception):
    """Base of every error a user can act on.

    Parameters
    ----------
    message : str
        What was seen, with the file's name where there is one.
    hint : str
        What to do about it, as an instruction.

    Examples
    --------
    >>> from nucliseg_qp import NucliSegError, open_slide
    >>> try:
    ...     open_slide("missing.svs")
    ... except NucliSegError as error:
    ...     (error.message, error.hint, error.exit_code)
    ('missing.svs does not exist', 'Check the path.', 3)
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Give message and hint on one line, as the command line prints them."""
        stop = "" if self.message.endswith("?") else "."
        text = f"{self.message}{stop} {self.hint}" if self.hint else self.message
        return " ".join(text.split())


class UsageError(NucliSegError):
    """An option or setting that does not exist or contradicts another one."""

    exit_code: ClassVar[int] = 2


class InputError(NucliSegError):
    """An image, region or annotation file that is missing, broken or of a kind not supported."""

    exit_code: ClassVar[int] = 3


class CalibrationError(InputError):
    """An image without a (believable) pixel size."""


class ModelError(NucliSegError):
    """A keypoint model that is missing, altered or not one of ours."""

    exit_code: ClassVar[int] = 4


class DeviceError(ModelError):
    """A device that was asked for and is not there."""


class QuPathError(NucliSegError):
    """QuPath, Java or a QuPath project that cannot be used."""

    exit_code: ClassVar[int] = 5


class OutputError(NucliSegError):
    """A place that cannot be written to: read-only, full, or occupied by something else."""

    exit_code: ClassVar[int] = 6


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Give the known name that somebody who typed ``name`` most likely meant, empty for none."""
    from difflib import get_close_matches

    by_lower = {one.lower(): one for one in known}
    found = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else ""
