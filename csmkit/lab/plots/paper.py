"""How all figures look, and how they reach a file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from csmkit.errors import InputError

PNG_DPI = 300
COLUMN_INCHES = 3.4  # one column of the usual two-column papers
_LEGEND_LETTERS = 84  # in such a column, a handle taking as much as 8
BLACK, GREY = "#000000", "#767676"
# Okabe and Ito, "Color Universal Design" (2008), in an order whose lightness alternates; yellow is too pale for lines.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
# Black on white becomes white on black, colours keep their hue, and black takes the colour of the page behind.
DARK = "filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen"
_DARK_NOTEBOOKS = ('[data-jp-theme-light="false"] .csmkit-figure', ".vscode-dark .csmkit-figure")
_SCREEN_DPI = 140  # letters of 7.5 points are then as large as those of a page
MARKERS = ("o", "s", "^", "D", "v", "P")

_LOOK: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on all machines
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 7.5,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "svg.fonttype": "none",  # letters stay letters, and a page can be searched for them
    "svg.hashsalt": "csmkit",  # the same figure has the same names inside
    "pdf.fonttype": 42,  # letters stay letters: journals refuse the default
}


class PaperFigure(Figure):
    """A matplotlib Figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        with matplotlib.rc_context(_LOOK):
            self.savefig(picture, format="png", dpi=200)
        return picture.getvalue()

    def _repr_html_(self) -> str:
        """The same picture for a notebook, with its lightness inverted where the notebook is dark."""
        address = base64.b64encode(self._repr_png_()).decode()
        width = round(self.get_figwidth() * _SCREEN_DPI)
        image = f'<img class="csmkit-figure" width="{width}" src="data:image/png;base64,{address}">'
        return f"<style>{', '.join(_DARK_NOTEBOOKS)} {{ {DARK} }}</style>{image}"


@dataclass(frozen=True)
class Manner:
    """How the lines of one group are drawn, so that they differ with and without colour."""

    color: str
    linestyle: Any
    marker: str

    @classmethod
    def of(cls, index: int) -> Manner:
        """The manner of the group ``index``, from 0; six differ, and more raise InputError."""
        if index >= len(COLOURS):
            most = f"{len(COLOURS)} can be told apart in one figure"
            raise InputError(f"{index + 1} groups: {most}, draw several figures")
        return cls(COLOURS[index], LINES[index], MARKERS[index])


@contextmanager
def paper(height_inches: float, width_inches: float = COLUMN_INCHES) -> Iterator[PaperFigure]:
    """A new figure, one column wide unless it says otherwise; what is drawn within has the common look."""
    with matplotlib.rc_context(_LOOK):
        yield PaperFigure(figsize=(width_inches, height_inches), layout="constrained")


def legend_above(figure: Figure, axes: Axes, title: str | None = None, columns: int = 3, least: int = 2) -> None:
    """A legend over the axes, where it hides nothing, in as many columns as fit; none below ``least`` entries."""
    handles, labels = axes.get_legend_handles_labels()
    fitting = max(1, _LEGEND_LETTERS // (8 + max(map(len, labels), default=0)))
    if len(labels) >= least:
        look = {"loc": "outside upper left", "alignment": "left", "columnspacing": 1.2, "borderpad": 0.1}
        figure.legend(handles, labels, title=title, ncols=min(columns, fitting, len(labels)), **look)


def note(axes: Axes, text: str, place: tuple[float, float], above: float = 2, **options: Any) -> None:
    """A small grey text that ends at a place, in fractions of the axes unless ``xycoords`` differs.

    Args:
        place: right end of the text.
        above: distance from the place upward, in points.
    """
    look = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "color": GREY, "fontsize": 6.5}
    axes.annotate(text, place, xytext=(0, above), **look | options)


def save(figure: Figure, path: str | PathLike[str]) -> tuple[Path, Path, Path]:
    """Write a figure as PDF for the paper, as PNG of 300 dpi and 256 colours for a screen, and as SVG for a page.

    Args:
        figure: any matplotlib figure.
        path: without a suffix, as one raises InputError; its folder is made if it is not there.

    Returns:
        The three files, PDF, PNG and SVG. The same figure gives the same bytes.
    """
    target = Path(path)
    if target.suffix.lower() in (".pdf", ".png", ".svg"):
        raise InputError(f"path {str(path)!r}: give it without {target.suffix}, a PDF, a PNG and an SVG are written")
    target.parent.mkdir(parents=True, exist_ok=True)
    pdf, png, svg = (target.with_name(target.name + suffix) for suffix in (".pdf", ".png", ".svg"))
    picture = io.BytesIO()
    with matplotlib.rc_context(_LOOK):
        figure.savefig(pdf, metadata={"CreationDate": None})
        figure.savefig(svg, metadata={"Date": None})
        figure.savefig(picture, format="png", dpi=PNG_DPI)
    # A palette is all that lines and one colour map need, and makes the file a third as large.
    pixels = Image.open(picture).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    pixels.save(png, optimize=True, dpi=(PNG_DPI, PNG_DPI))
    return pdf, png, svg
