"""Per-chunk latency as a small picture that is drawn anew with every chunk."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csmkit.timing import Arrivals

WIDTH, HEIGHT = 640, 132
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 18, 30
LEAST_MS = 100.0  # of the scale, so that quick chunks look quick
LEAST_SLOTS = 12  # room for so many chunks before the bars get narrower

_INK = "var(--jp-ui-font-color1, #212121)"
_PALE = "var(--jp-ui-font-color2, #616161)"
_BAR = "var(--jp-brand-color1, #1976d2)"
_LATE = "var(--jp-warn-color1, #ef6c00)"


def latency_svg(arrivals: Arrivals) -> str:
    """A bar a chunk: how long it was waited for, since the call or the chunk before, in ms.

    The step above a bar is how long the chunk before sounds: a bar that ends below it came faster than real time. A
    chunk that came after the sound before it had ended, so that a listener heard a gap, is drawn in the colour of
    warnings.

    Args:
        arrivals: of the chunks so far; none draws the empty axes.

    Returns:
        An ``<svg>`` whose title says the figures in words.
    """
    waits_ms = _waits_ms(arrivals)
    limits_ms = [duration_s * 1000 for duration_s in arrivals.durations_s[:-1]]
    top_ms = max(LEAST_MS, *waits_ms, *limits_ms) if waits_ms else LEAST_MS
    late = [slack_s > 0 for slack_s in arrivals.slack_s()]
    slot = (WIDTH - LEFT - RIGHT) / max(LEAST_SLOTS, len(waits_ms))
    floor, scale = HEIGHT - BOTTOM, (HEIGHT - BOTTOM - TOP) / top_ms
    marks: list[str] = []
    for index, wait_ms in enumerate(waits_ms):
        x, colour = LEFT + index * slot, _LATE if index and late[index - 1] else _BAR
        height = max(1.0, wait_ms * scale)
        marks.append(_rect(x + 0.15 * slot, floor - height, 0.7 * slot, height, colour, first=index == 0))
        if index:
            y = floor - limits_ms[index - 1] * scale
            marks.append(_line(x, y, x + slot, y, _INK, dashed=True))
    axis = [
        _line(LEFT, floor, WIDTH - RIGHT, floor, _PALE),
        _text(LEFT - 6, floor, "0", "end"),
        _text(LEFT - 6, TOP + 4, f"{top_ms:.0f}", "end"),
        _text(LEFT - 6, (TOP + floor) / 2 + 4, "ms", "end"),
        _text(LEFT, HEIGHT - 14, "1", "start"),
        _text(WIDTH - RIGHT, HEIGHT - 14, "chunk; dashed: real time", "end"),
    ]
    said = escape(describe(arrivals))
    return (
        f'<svg class="csmkit-latency" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'style="max-width:100%;font:11px system-ui,sans-serif"><title>{said}</title>{"".join(axis + marks)}</svg>'
    )


def describe(arrivals: Arrivals) -> str:
    """The figures in one line: chunks, first audio, the usual gap, lateness and real-time factor; empty without any."""
    row = arrivals.row()
    if row["ttfa_ms"] is None:
        return ""
    chunks = f"{row['n_chunks']} chunk{'' if row['n_chunks'] == 1 else 's'}"
    parts = [f"first audio {row['ttfa_ms']:.0f} ms", f"{chunks}, {row['audio_s']:.2f} s", f"RTF {row['rtf']:.2f}"]
    if row["gap_p50_ms"] is not None:
        parts.insert(1, f"gap {row['gap_p50_ms']:.0f} ms")
        parts.append(f"{row['n_underruns']} late" if row["n_underruns"] else "none late")
    return " · ".join(parts)


def _waits_ms(arrivals: Arrivals) -> list[float]:
    return [(after - before) * 1000 for before, after in pairwise([0.0, *arrivals.times_s])]


def _rect(x: float, y: float, width: float, height: float, colour: str, *, first: bool) -> str:
    """A bar; the first chunk's is pale, as it waited for the prompt too."""
    opacity = 0.5 if first else 1
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {size} fill="{colour}" fill-opacity="{opacity}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="3 2"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dash}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_PALE}">{escape(text)}</text>'
