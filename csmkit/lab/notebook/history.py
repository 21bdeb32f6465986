"""The takes of a studio as a table: each with its figures, a button to hear it and one to keep it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets

from csmkit.lab.notebook.recordings import Take

COLUMNS = {  # heading: width in px
    "take": 40,
    "chunk": 66,
    "temp.": 50,
    "top-k": 42,
    "seed": 44,
    "Whisper": 66,
    "first audio": 76,
    "RTF": 36,
    "sound": 50,
    "late": 32,
    "WER": 40,
    "ended by": 104,
    "heard": 300,
}
_BUTTON_PX = 34


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
            [_fixed(ipywidgets.HTML(), _BUTTON_PX), _fixed(ipywidgets.HTML(), _BUTTON_PX), _cells(list(COLUMNS), 600)]
        )
        self.widget = ipywidgets.VBox([])
        self.widget.add_class("csmkit-studio-takes")

    def add(self, take: Take) -> None:
        """Show a take."""
        play = _fixed(ipywidgets.Button(icon="play", tooltip=f"hear take {take.number} again"), _BUTTON_PX)
        keep = _fixed(ipywidgets.Button(icon="save", tooltip=f"keep take {take.number} as WAV and row"), _BUTTON_PX)
        play.on_click(lambda _: self._play(take))
        keep.on_click(lambda _: self._keep(take))
        row = ipywidgets.HBox([play, keep, _cells(figures(take))])
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


def _fixed(widget: Any, width: int) -> Any:
    widget.layout = ipywidgets.Layout(width=f"{width}px", flex="0 0 auto", padding="0", margin="2px")
    return widget


def _cells(texts: list[str], weight: int = 400) -> ipywidgets.HTML:
    """Texts side by side in the columns; one that is too long is cut, and whole when pointed at."""
    cut = "flex:none;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;padding-right:6px"
    cells = [
        f'<span title="{escape(text)}" style="{cut};width:{width}px">{escape(text)}</span>'
        for text, width in zip(texts, COLUMNS.values(), strict=True)
    ]
    row = f'<div style="display:flex;font-variant-numeric:tabular-nums;font-weight:{weight}">{"".join(cells)}</div>'
    return ipywidgets.HTML(row, layout={"flex": "0 0 auto"})
