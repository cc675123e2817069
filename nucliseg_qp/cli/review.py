"""``nucliseg-qp review``: what people correct in QuPath teaches the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from nucliseg_qp.cli.options import AsJson
from nucliseg_qp.review.finetune_settings import FineTuning

__all__ = ["review"]

review = App(name="review", help="Learn from what people correct in QuPath.")

_Folders = Annotated[list[Path], Parameter(negative=())]
_Some = Annotated[list[str] | None, Parameter(negative=())]
_Out = Annotated[Path, Parameter(name=("--out", "-o"))]


@review.command
def collect(
    project: Path,
    /,
    *,
    out: _Out,
    reviewer: str | None = None,
    image: _Some = None,
    sent: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
) -> int:
    """Collect everything people did to the nuclei of a project since the run.

    Example: `nucliseg-qp review collect my_project -o review_anna --reviewer Anna`

    Reclassified, deleted, added, redrawn and confirmed nuclei, of each image and annotation. A
    nucleus counts as looked at when it was changed or locked, or when it lies in an annotation
    with the name or class "Reviewed"; nothing else does. An image that cannot be read is told and
    left out; the exit code is then 1.

    Parameters
    ----------
    project
        project.qpproj or its folder; nothing in it is changed.
    out
        Folder to write: `review.json` and `images/*.geojson`.
    reviewer
        Who reviewed; the user of this computer when not given.
    image
        Only these: name, pattern with * and ?, or # and number.
    sent
        Without QuPath: take the files that the script send_corrections wrote.
    """
    from nucliseg_qp.cli import show, show_review
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.progress import CountView
    from nucliseg_qp.cli.show_project import warn_of_version
    from nucliseg_qp.cli.tables import grid
    from nucliseg_qp.projects.selection import open_project, project_root
    from nucliseg_qp.review import collect as work

    root = project_root(project) or project
    warn_of_version(open_project(root))
    with CountView("collecting") as view:
        found = work.collect(
            root, out, reviewer=reviewer, images=image or (), sent=sent, advance=view.advance
        )
    file = out / "review.json"
    rows = show_review.collected_rows(found)
    about = {"reviewer": found.reviewer, "notes": found.notes, "problems": found.problems}
    answer(as_json, {"review": file, "images": rows, **about}, grid(rows), str(file))
    for text in found.notes:
        show.warn(text)
    for text in found.problems:
        show.error(text)
    return int(bool(found.problems))


@review.command
def calibrate(
    reviews: _Folders,
    /,
    *,
    name: str,
    palette: Annotated[str, Parameter(name=("--palette", "-p"))] = "hsv",
    file: Path | None = None,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    keep: _Some = None,
    replace: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
) -> int:
    """Make a palette that gives the classes people gave.

    Example: `nucliseg-qp review calibrate review_anna --name our-scanner -o calibration`

    Its accuracy is told on slides it was not fitted to. Use it by its name in `detect -p`,
    `annotate -p`, `review apply --palette` and `scripts install --palette`.

    Parameters
    ----------
    reviews
        Folders made by `review collect`.
    name
        Name of the new palette.
    palette
        The palette by which the nuclei got their classes: it gives classes and kind of rule.
    file
        Write the palette here, and not into your own folder of palettes.
    out
        Folder for `calibration.json`, `calibration.png` and `settings.toml` with stain vectors.
    keep
        Class that stays as it is, such as one nobody reviewed; may be repeated.
    replace
        Replace the palette that has the name, or lies in the file, already.
    """
    from nucliseg_qp.cli import show, show_review
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.palette.classes import load_palette
    from nucliseg_qp.review import calibrate as work
    from nucliseg_qp.review.folder import read_review
    from nucliseg_qp.review.palette_file import new_palette_file

    path = new_palette_file(name, file, replace)
    read = [read_review(one) for one in reviews]
    found = work.calibrate(read, load_palette(palette), name, keep or ())
    work.save_calibration(found, path, out)
    notes = show_review.calibration_notes(found)
    content = {"palette": path, "before": found.old, "after": found.new, "notes": notes}
    tables = show_review.calibration_table(found), show_review.confusion_table(found.new)
    answer(as_json, content, *tables, str(path))
    for text in notes:
        show.warn(text)
    return 0


@review.command
def apply(
    project: Path,
    /,
    *,
    palette: Annotated[str, Parameter(name=("--palette", "-p"))],
    image: _Some = None,
    as_json: AsJson = False,
) -> int:
    """Give all nuclei of a project new classes from stored measurements, without detection.

    Example: `nucliseg-qp review apply my_project --palette our-scanner`

    What people decided stays: nuclei they reclassified, locked, redrew, added, or left as they are
    in annotations with the name or class "Reviewed".

    Parameters
    ----------
    project
        project.qpproj or its folder; close it in QuPath first.
    palette
        Name of a palette, or path of a TOML file.
    image
        Only these: name, pattern with * and ?, or # and number.
    """
    from nucliseg_qp.cli import show, show_review
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.progress import CountView
    from nucliseg_qp.cli.show_project import warn_of_version
    from nucliseg_qp.palette.classes import load_palette
    from nucliseg_qp.projects.selection import open_project, project_root
    from nucliseg_qp.review.apply import apply_palette

    root = project_root(project) or project
    warn_of_version(open_project(root))
    with CountView("reclassifying") as view:
        done = apply_palette(root, load_palette(palette), image or (), view.advance)
    answer(as_json, {"images": done}, show_review.applied_table(done))
    for one in done:
        if one.problem:
            show.error(one.problem)
    show.note(f"renew the numbers: nucliseg-qp report {root} --refresh")
    return int(any(one.exit_code for one in done))


@review.command
def train(
    reviews: _Folders,
    /,
    *,
    as_json: AsJson = False,
    how: Annotated[FineTuning, Parameter(name="*")],
) -> int:
    """Fine-tune the model that finds nuclei on what was reviewed; keep it only if it is better.

    Example: `nucliseg-qp review train review_anna review_ben -o our_model --minutes 15`

    Areas named "Reviewed" teach best: there it is known where nuclei are and where none are. A
    third of the images is held out, to choose the weights and to judge them.

    Parameters
    ----------
    reviews
        Folders made by `review collect`.
    """
    from nucliseg_qp.cli import show, show_review
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.progress import TrainView
    from nucliseg_qp.review.finetune import fine_tune, refuse_worse
    from nucliseg_qp.review.folder import read_review

    with TrainView() as watcher:
        found = fine_tune([read_review(one) for one in reviews], how, watcher)
    table = show_review.tuned_table(found)
    if found.model is None and not as_json:
        show.result(table)
    refuse_worse(found)
    answer(as_json, vars(found), table, str(found.model))
    show.note(f"use it: nucliseg-qp detect IMAGE -o RESULTS -m {found.model}")
    return 0


@review.command
def report(reviews: _Folders, /, *, out: _Out, as_json: AsJson = False) -> int:
    """Tell how people and engine agree, over time, and which nuclei to look at next.

    Example: `nucliseg-qp review report review_anna review_ben -o review_report`

    Writes `review_report.json`, the same as a picture for a browser, and `next_hour.csv`: nuclei
    nobody looked at, by how likely their class is wrong times how much that would change the score.

    Parameters
    ----------
    reviews
        Folders made by `review collect`.
    out
        Folder to write to.
    """
    from nucliseg_qp.cli import show_review
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.review import report as work
    from nucliseg_qp.review.folder import read_review

    found = work.report([read_review(one) for one in reviews])
    file = work.write_review_report(found, out)
    people = [show_review.people_table(found.people)] if found.people else []
    tables = (
        show_review.engine_table(found.engine),
        *people,
        show_review.next_table(found.next_hour),
    )
    picture = file.with_suffix(".svg")
    content = {"report": file, "picture": picture, **vars(found)}
    answer(as_json, content, *tables, str(file), str(picture))
    return 0


@review.command
def compare(
    first: Path,
    second: Path,
    /,
    *,
    merge: Path | None = None,
    prefer: str | None = None,
    as_json: AsJson = False,
) -> int:
    """Compare two reviews of one run; list the conflicts; perhaps write both as one.

    Example: `nucliseg-qp review compare review_anna review_ben --merge review_both`

    A nucleus about which the two disagree counts as not looked at in the merged review.

    Parameters
    ----------
    first, second
        Folders made by `review collect`.
    merge
        Folder for the merged review, with `conflicts.json`.
    prefer
        With --merge, the reviewer who decides the conflicts; it is noted with each of them.
    """
    from nucliseg_qp.cli import show, show_review
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.errors import UsageError
    from nucliseg_qp.review import compare as work
    from nucliseg_qp.review.folder import read_review

    if prefer is not None and merge is None:
        raise UsageError("--prefer decides the conflicts of a merged review", "Give --merge, too.")
    reviews = read_review(first), read_review(second)
    found = work.compare(*reviews)
    merged = None if merge is None else work.merge(first, second, reviews, merge, prefer)
    file = None if merge is None else merge / "review.json"
    conflicts = [show_review.conflict_table(found.conflicts)] if found.conflicts else []
    told = [] if file is None else [str(file)]
    people, content = show_review.people_table([found]), {"comparison": found, "merged": file}
    answer(as_json, content, people, *conflicts, *told)
    if len(found.conflicts) > show_review.LISTED:
        show.note(f"and {len(found.conflicts) - show_review.LISTED} more conflicts")
    if merged is not None:
        show.note(f"{merged.looked_at} nuclei, {len(merged.conflicts)} conflicts listed")
    return 0
