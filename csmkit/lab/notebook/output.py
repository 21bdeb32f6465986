"""What a cell shows: a player or a plain audio control in its place, and the latency of chunks as a picture."""

from __future__ import annotations

import logging
from collections.abc import Callable
from html import escape
from itertools import pairwise
from typing import Any, ClassVar

import ipywidgets
import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import Audio, DisplayHandle, display

from csmkit.audio import SAMPLE_RATE
from csmkit.timing import Arrivals

log = logging.getLogger(__name__)

NO_ANSWER = "No front end answered the player: here is the whole sound, which would have played while it was made."

WIDTH, HEIGHT = 640, 132  # of the latency picture
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 18, 30
LEAST_MS = 100.0  # smallest range of the scale, so that quick chunks look quick
LEAST_BARS = 12  # room for this many chunks before the bars get narrower

_INK = "var(--jp-ui-font-color1, #212121)"
_PALE = "var(--jp-ui-font-color2, #616161)"
_BAR = "var(--jp-brand-color1, #1976d2)"
_LATE = "var(--jp-warn-color1, #ef6c00)"


class Output:
    """A cell's output that can be replaced later, also while another cell runs.

    Args:
        embedded: True where the caller shows the widget in a layout of its own: nothing is put into an output.

    Attributes:
        shows_audio: whether the audio control is shown in place of the widget.
    """

    _explained: ClassVar[bool] = False  # whether an output has said why there is no widget: once is enough

    def __init__(self, bundle: dict[str, Any], embedded: bool = False) -> None:
        self.shows_audio = self._shows_text = False
        self._embedded = embedded
        self._bundle = bundle
        self._handle: DisplayHandle | None = None
        self._reason: str | None = None

    @property
    def shown(self) -> bool:
        """Whether there is such an output yet."""
        return self._handle is not None

    def show_widget(self) -> None:
        """Show the widget in the output of the running cell; outside IPython this does nothing."""
        self.shows_audio = False
        if InteractiveShell.initialized() and not self._embedded:
            self._handle = display(self._bundle, raw=True, display_id=True)

    def show_audio(self, audio: np.ndarray, error: BaseException | None) -> None:
        """Replace the widget by an audio control, and say once why."""
        if not self.shows_audio and not self._embedded:
            self._reason = None if Output._explained else NO_ANSWER
            Output._explained = True
        if self._handle is not None:
            lines = [self._reason or "", "" if error is None else f"The sound ended early: {error}"]
            self._handle.update(_audio_bundle(audio, [line for line in lines if line]), raw=True)
        elif not self.shows_audio and self._reason:
            log.warning("a player can be heard in a notebook only: here, use the samples in its attribute 'audio'")
        self.shows_audio = True

    def show_text(self, text: str) -> None:
        """Replace the widget by a line of text, until `restore_widget`."""
        if self._handle is not None:
            self._handle.update({"text/plain": text, "text/html": f"<div>{escape(text)}</div>"}, raw=True)
            self._shows_text = True

    def restore_widget(self) -> None:
        """Show the widget again: the front end has answered after all."""
        if (self.shows_audio or self._shows_text) and self._handle is not None:
            self._handle.update(self._bundle, raw=True)
            Output._explained = False  # the explanation is gone, and was wrong
        self.shows_audio = self._shows_text = False


class Shown:
    """Shows ``widget`` where an object is the last line of a cell."""

    widget: ipywidgets.Widget

    def _ipython_display_(self) -> None:
        display(self.widget)


def button(text: str, press: Callable[[], object], width: str = "auto", **options: Any) -> ipywidgets.Button:
    """A button that calls ``press`` without arguments; ``options`` are those of the widget, such as its icon."""
    made = ipywidgets.Button(description=text, layout={"width": width, "flex": "0 0 auto"}, **options)
    made.on_click(lambda _: press())
    return made


def audio_html(audio: np.ndarray) -> str:
    """An audio control for ``(samples,)`` float32 at 24 kHz, at least one sample, that keeps the loudness."""
    return Audio(audio.clip(-1, 1), rate=SAMPLE_RATE, normalize=False)._repr_html_()


def unanswered_html(audio: np.ndarray) -> str:
    """The same below a line that says why it is shown."""
    return f"<div>{escape(NO_ANSWER)}</div>{audio_html(audio)}"


def latency_svg(arrivals: Arrivals) -> str:
    """Draw the time to each chunk as a bar: ms since the call, or since the chunk before.

    The dashed line above a bar is the duration of the chunk before: a bar below it was faster than real time. A chunk
    that came after the sound before it had ended, so that a listener heard a gap, has the warning colour.

    Args:
        arrivals: times and durations of the chunks so far; none draws empty axes.
    """
    waits_ms = [(after - before) * 1000 for before, after in pairwise([0.0, *arrivals.times_s])]
    limits_ms = [duration_s * 1000 for duration_s in arrivals.durations_s[:-1]]
    top_ms = max(LEAST_MS, *waits_ms, *limits_ms) if waits_ms else LEAST_MS
    late = [slack_s > 0 for slack_s in arrivals.slack_s()]
    step = (WIDTH - LEFT - RIGHT) / max(LEAST_BARS, len(waits_ms))
    floor, scale = HEIGHT - BOTTOM, (HEIGHT - BOTTOM - TOP) / top_ms
    marks: list[str] = []
    for index, wait_ms in enumerate(waits_ms):
        x, colour = LEFT + index * step, _LATE if index and late[index - 1] else _BAR
        height = max(1.0, wait_ms * scale)
        size = {"x": x + 0.15 * step, "y": floor - height, "width": 0.7 * step, "height": height}
        marks.append(_tag("rect", **size, fill=colour, fill_opacity=1.0 if index else 0.5))  # the first had the prompt
        if index:
            y = floor - limits_ms[index - 1] * scale
            marks.append(_tag("line", x1=x, y1=y, x2=x + step, y2=y, stroke=_INK, stroke_dasharray="3 2"))
    labels = [
        (LEFT - 6, floor, "0", "end"),
        (LEFT - 6, TOP + 4, f"{top_ms:.0f}", "end"),
        (LEFT - 6, (TOP + floor) / 2 + 4, "ms", "end"),
        (LEFT, HEIGHT - 14, "1", "start"),
        (WIDTH - RIGHT, HEIGHT - 14, "chunk; dashed: real time", "end"),
    ]
    marks.append(_tag("line", x1=LEFT, y1=floor, x2=WIDTH - RIGHT, y2=floor, stroke=_PALE))
    marks += [_tag("text", text, x=x, y=y, text_anchor=anchor, fill=_PALE) for x, y, text, anchor in labels]
    title = escape(describe(arrivals))
    return (
        f'<svg class="csmkit-latency" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'style="max-width:100%;font:11px system-ui,sans-serif"><title>{title}</title>{"".join(marks)}</svg>'
    )


def describe(arrivals: Arrivals) -> str:
    """One line: time to first audio, median gap, chunks, real-time factor, late chunks; empty without chunks."""
    row = arrivals.row()
    if row["ttfa_ms"] is None:
        return ""
    chunks = f"{row['n_chunks']} chunk{'' if row['n_chunks'] == 1 else 's'}"
    parts = [f"first audio {row['ttfa_ms']:.0f} ms", f"{chunks}, {row['audio_s']:.2f} s", f"RTF {row['rtf']:.2f}"]
    if row["gap_p50_ms"] is not None:
        parts.insert(1, f"gap {row['gap_p50_ms']:.0f} ms")
        parts.append(f"{row['n_underruns']} late" if row["n_underruns"] else "none late")
    return " · ".join(parts)


def _audio_bundle(audio: np.ndarray, lines: list[str]) -> dict[str, Any]:
    control = audio_html(audio) if len(audio) else ""
    plain = "\n".join([*lines, f"{len(audio) / SAMPLE_RATE:.2f} s of sound"])
    return {"text/plain": plain, "text/html": "".join(f"<div>{escape(line)}</div>" for line in lines) + control}


def _tag(name: str, content: str = "", **attributes: float | str) -> str:
    """An SVG element; an underscore in the name of an attribute is a hyphen."""
    texts = {key: f"{value:.1f}" if isinstance(value, float) else value for key, value in attributes.items()}
    listed = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in texts.items())
    return f"<{name}{listed}>{content}</{name}>"
