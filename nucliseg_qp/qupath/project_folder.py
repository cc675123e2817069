"""The only place that names a file inside a QuPath project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nucliseg_qp.errors import QuPathError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ProjectFolder"]


@dataclass(frozen=True)
class ProjectFolder:
    """Where things lie in a project; what is QuPath's own carries QuPath's names.

    Parameters
    ----------
    root : Path
        The folder that holds ``project.qpproj``.
    """

    root: Path

    @property
    def project(self) -> Path:
        """List of images."""
        return self.root / "project.qpproj"

    @property
    def classes(self) -> Path:
        """Classes and their colours."""
        return self.root / "classifiers" / "classes.json"

    def script(self, name: str) -> Path:
        """Give a script, as it shows under Automate > Project scripts."""
        return self.root / "scripts" / name

    @property
    def readme(self) -> Path:
        """How to finish in QuPath."""
        return self.root / "README.txt"

    def data(self, entry_id: int) -> Path:
        """Give the folder of what QuPath stores about one image."""
        return self.root / "data" / str(entry_id)

    def nuclei(self, entry_id: int) -> Path:
        """Give the detections to import into one image."""
        return self.root / "nucliseg" / f"{entry_id}.geojson.gz"

    def manifest(self, entry_id: int) -> Path:
        """Give what the import script must know about one image."""
        return self.root / "nucliseg" / f"{entry_id}.json"

    def palette(self, name: str) -> Path:
        """Give a palette for the script that reclassifies."""
        return self.root / "nucliseg" / "palettes" / f"{name}.json"

    @property
    def engine(self) -> Path:
        """Where scripts find the engine."""
        return self.root / "nucliseg" / "engine.json"

    @property
    def writer_lock(self) -> Path:
        """Locked by the one process that may write images."""
        return self.root / "nucliseg" / ".writer.lock"

    @property
    def run_lock(self) -> Path:
        """Locked by the one run that works on the project."""
        return self.root / "nucliseg" / ".run.lock"

    @property
    def journal(self) -> Path:
        """What each run did, a line an image."""
        return self.root / "nucliseg" / "journal.jsonl"

    def work(self, entry_id: int) -> Path:
        """Give the folder of tiles that are done of an image that is not."""
        return self.root / "nucliseg" / "work" / str(entry_id)

    def staged(self, entry_id: int) -> Path:
        """Give the folder of a result that waits to be written."""
        return self.root / "nucliseg" / "staged" / str(entry_id)

    def result(self, entry_id: int) -> Path:
        """Give the numbers of one image."""
        return self.root / "nucliseg" / "results" / f"{entry_id}.json"

    def thumbnail(self, entry_id: int) -> Path:
        """Give the picture of one image with its nuclei."""
        return self.root / "nucliseg" / "results" / f"{entry_id}.jpg"

    def run(self, run_id: str) -> Path:
        """Give everything needed to repeat a run."""
        return self.root / "nucliseg" / "runs" / f"{run_id}.json"

    def report(self, name: str) -> Path:
        """Give a table of all images, or the report."""
        return self.root / "nucliseg" / "report" / name

    def check_inside(self) -> None:
        """Refuse a project whose folders lead elsewhere.

        Raises
        ------
        QuPathError
            When writing into the project would write outside of it.
        """
        root = self.root.resolve()
        folders = (self.script("x").parent, self.manifest(0).parent, self.palette("x").parent)
        ours = (self.project, self.classes, *folders)
        for path in (*ours, *self._data_folders()):
            if not path.resolve().is_relative_to(root):
                raise QuPathError(
                    f"{path} leads out of the project", "Replace the link by a real folder."
                )

    def _data_folders(self) -> Iterator[Path]:
        data = self.root / "data"
        yield data
        if data.is_dir():
            yield from data.iterdir()
