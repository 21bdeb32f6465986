"""The takes of a studio as a table: each with its figures, a button to hear it and one to keep it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets

from csmkit.lab.takes import Take

COLUMNS = {  # heading: width in px
    "take": 36,
    "chunk": 74,
    "temperature": 84,
    "top-k": 48,
    "seed": 60,
    "Whisper": 64,
    "first audio": 74,
    "RTF": 44,
    "sound": 56,
    "late": 36,
    "word errors": 80,
    "ended by": 110,
    "heard": 240,
}
_BUTTON = {"width": "62px"}


class History:
    """Rows of takes, the newest above.

    Args:
        play: takes the take whose button was pressed.
        keep: likewise.

    Attributes:
        widget: the table.
    """

    def __init__(self, play: Callable[[Take], object], keep: Callable[[Take], object]) -> None:
        self._play, self._keep = play, keep
        self._heading = ipywidgets.HBox(
            [_label("", 62), _label("", 62), ipywidgets.HTML(_cells(list(COLUMNS), "font-weight:600"))]
        )
        self.widget = ipywidgets.VBox([])
        self.widget.add_class("csmkit-studio-takes")

    def add(self, take: Take) -> None:
        """Show a take."""
        play = ipywidgets.Button(description="Play", icon="play", layout=_BUTTON, tooltip="hear this take again")
        keep = ipywidgets.Button(description="Keep", icon="save", layout=_BUTTON, tooltip="write it as WAV and row")
        play.on_click(lambda _: self._play(take))
        keep.on_click(lambda _: self._keep(take))
        row = ipywidgets.HBox([play, keep, ipywidgets.HTML(_cells(figures(take)))])
        earlier = self.widget.children[1:]
        self.widget.children = (self._heading, row, *earlier)


def figures(take: Take) -> list[str]:
    """What a take's row shows, a text a column; a dash where nothing was measured."""
    row = take.row
    return [
        str(take.number),
        _listed(row["chunk_frames"]),
        f"{row['temperature']:.2f}",
        str(row["topk"]),
        str(row["seed"]),
        row["whisper"] or "–",
        _number(row["ttfa_ms"], "{:.0f} ms"),
        _number(row["rtf"], "{:.2f}"),
        f"{row['audio_s']:.2f} s",
        _number(row["n_underruns"], "{}"),
        _number(row["wer"], "{:.0%}"),
        str(row["finish_reason"]).replace("_", " "),
        row["transcript"] or "–",
    ]


def _listed(sizes: Any) -> str:
    return str(sizes) if isinstance(sizes, int) else ", ".join(map(str, sizes))


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _label(text: str, width: int) -> ipywidgets.Widget:
    return ipywidgets.HTML(escape(text), layout={"width": f"{width}px", "margin": "2px"})


def _cells(texts: list[str], style: str = "") -> str:
    """Texts side by side in the columns; one that is too long is cut, and whole when pointed at."""
    cut = "flex:none;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;padding-right:6px"
    cells = [
        f'<span title="{escape(text)}" style="{cut};width:{width}px">{escape(text)}</span>'
        for text, width in zip(texts, COLUMNS.values(), strict=True)
    ]
    return f'<div style="display:flex;font-variant-numeric:tabular-nums;{style}">{"".join(cells)}</div>'
