"""Better class rules from reviews, and what they are worth on slides they have not seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from nucliseg_qp.errors import InputError
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.palette.user import user_palette
from nucliseg_qp.review.agreement import Agreement, agreement
from nucliseg_qp.review.fitting import fit_palette, joined
from nucliseg_qp.review.judged import JudgedRows, judged_rows
from nucliseg_qp.review.palette_file import save_palette, settings_text
from nucliseg_qp.review.vectors import stain_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.palette.classes import Palette
    from nucliseg_qp.review.folder import Review

__all__ = ["Calibration", "calibrate", "fit_palette", "judged_rows", "save_calibration"]


@dataclass(frozen=True)
class Calibration:
    """A new palette and how it was judged.

    Parameters
    ----------
    before, palette : Palette
        The old and the new one.
    slides : tuple of JudgedRows
        What it was fitted to.
    held_out : str
        How it was judged: ``slide`` (each slide by a palette fitted to the others) or ``nuclei``
        (parts of the only slide, which flatters).
    old, new : Agreement
        With the person, of the old and of the new palettes, on what they were not fitted to.
    left_out : int
        Nuclei of classes the palette does not have, or without measurements.
    """

    before: Palette
    palette: Palette
    slides: tuple[JudgedRows, ...]
    held_out: str
    old: Agreement
    new: Agreement
    left_out: int

    @property
    def changed(self) -> bool:
        """Tell whether the new palette is another one."""
        return self.palette.rule is not self.before.rule


def calibrate(
    reviews: Sequence[Review], base: Palette, name: str, keep: Sequence[str] = ()
) -> Calibration:
    """Fit a palette to everything that was reviewed.

    Parameters
    ----------
    reviews : sequence of Review
        Of one or more people and projects; a nucleus in two of them counts twice.
    base : Palette
        The palette the nuclei got their classes by.
    name : str
        Of the new one.
    keep : sequence of str
        Classes that stay as they are.

    Returns
    -------
    Calibration
        The new ``palette``, and how ``old`` and ``new`` agree with the people.

    Raises
    ------
    InputError
        When there is too little; the message says how much is missing.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nucliseg_qp import calibrate_palette, collect_review, copy_sample, load_palette
    >>> project = copy_sample("review_round_trip", "to_calibrate").parent
    >>> review = collect_review(project, Path("review_ben"), sent=True)
    >>> learnt = calibrate_palette([review], load_palette("dab"), "pale-dab")
    >>> learnt.changed, learnt.new.accuracy > learnt.old.accuracy
    (True, True)
    """
    slides = _by_slide([judged_rows(image, base) for one in reviews for image in one.images])
    filled = tuple(rows for rows in slides if len(rows.truth))
    new = replace(fit_palette(base, slides, keep), name=name)
    held = _held_out(base, filled, keep)
    return Calibration(
        before=base,
        palette=new,
        slides=filled,
        held_out="slide" if len(filled) > 1 else "nuclei",
        old=agreement([rows.told(base) for rows, _ in held]),
        new=agreement([rows.told(palette) for rows, palette in held]),
        left_out=sum(rows.left_out for rows in slides),
    )


def _by_slide(rows: Sequence[JudgedRows]) -> list[JudgedRows]:
    """Put the nuclei of an image together, whoever reviewed them: none may judge what it taught."""
    slides: dict[str, list[JudgedRows]] = {}
    for one in rows:
        slides.setdefault(one.slide, []).append(one)
    return [joined(parts) for parts in slides.values()]


def _held_out(
    base: Palette, slides: Sequence[JudgedRows], keep: Sequence[str]
) -> list[tuple[JudgedRows, Palette]]:
    """Pair what is judged with the palette fitted to the rest."""
    if len(slides) > 1:
        parts = [([one for one in slides if one is not held], held) for held in slides]
    else:
        number = np.random.default_rng(1).permutation(len(slides[0].truth)) % 4
        parts = [
            ([slides[0].take(number != part)], slides[0].take(number == part)) for part in range(4)
        ]
    return [(held, _fitted_or_base(base, learn, keep)) for learn, held in parts]


def _fitted_or_base(base: Palette, slides: Sequence[JudgedRows], keep: Sequence[str]) -> Palette:
    try:
        return fit_palette(base, slides, keep)
    except InputError:
        # Without the slide that is judged there is too little: then nothing would be changed.
        return base


def save_calibration(result: Calibration, path: Path | None, out: Path | None) -> Path:
    """Write the palette, and what tells whether to trust it.

    Parameters
    ----------
    result : Calibration
        From `calibrate`.
    path : Path, optional
        The palette's file; one in the user's folder under its name when not given.
    out : Path, optional
        Folder for ``calibration.json``, ``calibration.png`` and ``settings.toml``.

    Returns
    -------
    Path
        The palette's file.

    Raises
    ------
    OutputError
        When something cannot be written.
    """
    target = path or user_palette(result.palette.name)
    save_palette(target, result.palette, _story(result))
    if out is not None:
        from nucliseg_qp.review.picture import save_picture

        make_folder(out)
        save_picture(result, out / "calibration.png")
        vectors = stain_vectors(joined(result.slides))
        with whole_file(out / "settings.toml") as partial:
            partial.write_text(settings_text(target, vectors), encoding="utf-8")
        with whole_file(out / "calibration.json") as partial:
            partial.write_bytes(orjson.dumps(_content(result), option=orjson.OPT_INDENT_2))
    return target


def _story(result: Calibration) -> list[str]:
    nuclei = sum(len(rows.truth) for rows in result.slides)
    return [
        f"Calibrated from {result.before.name} with {nuclei} reviewed nuclei of "
        f"{len(result.slides)} slide(s).",
        f"Accuracy on held-out {result.held_out}: {result.old.accuracy:.3f} before, "
        f"{result.new.accuracy:.3f} after.",
    ]


def _content(result: Calibration) -> dict[str, Any]:
    return {
        "palette": result.palette.name,
        "before": result.before.name,
        "changed": result.changed,
        "held_out": result.held_out,
        "slides": {rows.slide: len(rows.truth) for rows in result.slides},
        "left_out": result.left_out,
        "old": asdict(result.old),
        "new": asdict(result.new),
    }
