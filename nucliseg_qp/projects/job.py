"""What is asked of a run over a project, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from nucliseg_qp.batch import ImageOutcome
from nucliseg_qp.projects.selection import Selection

if TYPE_CHECKING:
    from pathlib import Path

    from nucliseg_qp.engine import Engine
    from nucliseg_qp.projects.scope import ProjectScope

__all__ = ["EntryOutcome", "ProjectJob"]

Mode = Literal["replace", "replace-all"]


@dataclass(frozen=True)
class ProjectJob:
    """What is asked for.

    Parameters
    ----------
    root : Path
        Folder of the project.
    engine : Engine
        Model, palette and settings.
    scope : ProjectScope
        Where in each image.
    selection : Selection
        Which images.
    slide_mpp : float, optional
        Pixel size in um to assume whatever QuPath says.
    mode : {"replace", "replace-all"}
        Whether what people changed stays.
    again : bool
        Analyse also what is done.
    """

    root: Path
    engine: Engine
    scope: ProjectScope
    selection: Selection = field(default_factory=Selection)
    slide_mpp: float | None = None
    mode: Mode = "replace"
    again: bool = False


@dataclass
class EntryOutcome(ImageOutcome):
    """How one image of a project ended; see `ImageOutcome`.

    Parameters
    ----------
    entry_id : int
        Its number.
    earlier : bool
        Whether an earlier run had done it.
    report : dict of str to int
        Nuclei added, replaced, kept.
    warnings : list of str
        What deserves a second look.
    """

    entry_id: int = 0
    earlier: bool = False
    report: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
