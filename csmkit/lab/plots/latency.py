"""When chunks came, and whether a listener had to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.audio import FRAME_MS
from csmkit.errors import InputError
from csmkit.lab.analysis.columns import axis_label
from csmkit.lab.analysis.rows import grouped, records
from csmkit.lab.plots.paper import GREY, Manner, legend_above, note, paper

if TYPE_CHECKING:
    from csmkit.lab.analysis.rows import Row, Rows
    from csmkit.lab.plots.paper import PaperFigure


def chunk_latency(rows: Rows, group: str | None = None) -> PaperFigure:
    """Two panels over the seconds of sound before each chunk.

    Above, when it arrived; the line of its first chunk is when playback reaches it, and what lies above that came late.
    Below, the time since the chunk before, per frame of 80 ms; what lies above the line is slower than real time. The
    first chunk is left out there, as it also waited for the prompt.

    Args:
        rows: one a chunk, in order, with ``arrival_ms`` and ``duration_ms``; `chunk_rows` makes them.
        group: column that tells several answers apart, at most six; None is one answer.

    Raises:
        InputError: no rows, missing columns, a chunk without sound, or too many groups.
    """
    by = [group] if group else []
    answers = grouped(records(rows, ["arrival_ms", "duration_ms", *by]), by)
    with paper(3.3) as figure:
        arrival, per_frame = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for index, (names, chunks) in enumerate(answers.items()):
            _draw(arrival, per_frame, chunks, Manner.of(index), str(names[0]) if names else "arrived")
        per_frame.axhline(FRAME_MS, color=GREY, linewidth=0.8)
        note(per_frame, f"real time, {FRAME_MS} ms", (1, FRAME_MS), xycoords=("axes fraction", "data"))
        per_frame.set_ylim(0, 1.15 * max(per_frame.get_ylim()[1], FRAME_MS))
        arrival.set_ylim(bottom=0)
        arrival.set_ylabel("arrival since\nthe call (s)")  # one line would reach into the panel below
        per_frame.set_ylabel("time per\nframe (ms)")
        per_frame.set_xlabel("sound before the chunk (s)")
        arrival.plot([], [], color=GREY, linewidth=0.8, label="needed for playback")
        legend_above(figure, arrival, axis_label(group, [name for (name,) in answers]) if group else None)
    return figure


def _draw(arrival: Any, per_frame: Any, chunks: list[Row], manner: Manner, label: str) -> None:
    arrived_s = np.array([chunk["arrival_ms"] for chunk in chunks], dtype=float) / 1000
    duration_s = np.array([chunk["duration_ms"] for chunk in chunks], dtype=float) / 1000
    if not (duration_s > 0).all():
        raise InputError("a chunk has no duration_ms above 0: leave chunks without sound out")
    before_s = np.cumsum(duration_s) - duration_s
    look = {"color": manner.color, "marker": manner.marker}
    arrival.plot(before_s, arrived_s, label=label, linestyle=manner.linestyle, **look)
    arrival.plot(before_s, arrived_s[0] + before_s, color=GREY, linewidth=0.8, zorder=1)
    frames = duration_s[1:] * 1000 / FRAME_MS
    per_frame.plot(before_s[1:], np.diff(arrived_s) * 1000 / frames, linestyle=manner.linestyle, **look)
