"""When chunks came, and who was busy when in a turn: rows of its events, and their pictures.

An event's ``t`` is when it was handed out. What happens in other threads or between events is in the spans that
``complete`` carries. A row's ``lane`` says what was busy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from csmkit.audio import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE
from csmkit.chat.events import LANES, Event
from csmkit.errors import InputError
from csmkit.lab.analysis.columns import axis_label
from csmkit.lab.analysis.rows import Row, Rows, grouped, measured, records
from csmkit.lab.plots.paper import (
    BLACK,
    COLOURS,
    COLUMN_INCHES,
    GREY,
    MARKERS,
    Manner,
    PaperFigure,
    legend_above,
    note,
    paper,
)
from csmkit.timing import Arrivals

_HATCHES = ("", "////", "", "\\\\\\\\", "", "....")
_MOMENTS = {  # the lane and the label of events that are moments
    "audio_chunk": ("chunks", "handed out"),
    "partial_text": ("recogniser", "partial"),
    "final_text": ("recogniser", "final"),
}
_MANY = 12  # in a lane: their edges are drawn thin and their marks small, or they would hide each other


def chunk_latency(rows: Rows, group: str | None = None) -> PaperFigure:
    """Two panels over the seconds of sound before each chunk.

    Above, when it arrived; the line of its first chunk is when playback reaches it, and what lies above that came late.
    Below, the time since the chunk before, per frame of 80 ms; what lies above the line is slower than real time. The
    first chunk is left out there, as it also waited for the prompt.

    Args:
        rows: one a chunk, in order, with ``arrival_ms`` and ``duration_ms``; `chunk_rows` makes them.
        group: column that tells several answers apart, at most six; None is one answer.
    """
    by = [group] if group else []
    answers = grouped(records(rows, ["arrival_ms", "duration_ms", *by]), by)
    with paper(3.3) as figure:
        arrival, per_frame = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for index, (names, chunks) in enumerate(answers.items()):
            _draw_chunks(arrival, per_frame, chunks, Manner.of(index), str(names[0]) if names else "arrived")
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


def _draw_chunks(arrival: Any, per_frame: Any, chunks: list[Row], manner: Manner, label: str) -> None:
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


def turn_timeline(rows: Rows, width_inches: float = COLUMN_INCHES) -> PaperFigure:
    """One turn on one time axis: a lane for each part, bars for spans and marks for moments.

    A moment whose ``label`` is unlike that of others in its lane gets the next mark, and the legend tells them apart.
    Holes in the playback are waits that a listener hears.

    Args:
        rows: spans and moments with ``lane``, ``label``, ``start_ms``, ``end_ms`` (None is a moment); `turn_rows` makes
            them. Lanes of other names follow the known ones.
        width_inches: one column of a paper; more for a screen.
    """
    found = records(rows, ["lane", "label", "start_ms", "end_ms"])
    present = {row["lane"] for row in found}
    order = list(dict.fromkeys([*LANES, *(row["lane"] for row in found)]))  # a known lane always looks the same
    lanes = [lane for lane in order if lane in present]
    with paper(0.75 + 0.27 * len(lanes), width_inches) as figure:
        axes = figure.subplots()
        moments: dict[str, int] = {}
        crowded = {lane for lane in lanes if [row["lane"] for row in found].count(lane) > _MANY}
        for row in found:
            lane = row["lane"]
            _draw(axes, row, lanes.index(lane), order.index(lane), moments, 0.4 if lane in crowded else 1.0)
        axes.set_yticks(range(len(lanes)), lanes)
        axes.set_ylim(len(lanes) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(left=0)
        axes.set_xlabel("time since the call (ms)")
        legend_above(figure, axes, columns=6 if width_inches > COLUMN_INCHES else 4)
    return figure


def _draw(axes: Any, row: Any, lane: int, look: int, moments: dict[str, int], scale: float) -> None:
    start, end = measured(row["start_ms"]), measured(row["end_ms"])
    if start is None or (end is not None and end < start):
        raise InputError(f"span of {row['lane']!r} from {start} to {end} ms: give a start and an end not before it")
    if end is not None:
        look_of = {"color": COLOURS[look % len(COLOURS)], "hatch": _HATCHES[look % len(_HATCHES)], "alpha": 0.75}
        axes.barh(lane, end - start, 0.56, start, edgecolor=BLACK, linewidth=0.5 * scale, **look_of)
        return
    label = str(row["label"])
    named = {} if label in moments else {"label": label}
    mark = moments.setdefault(label, len(moments))
    face = "white" if mark % 2 else COLOURS[mark % len(COLOURS)]
    look = {"markersize": max(2.5, 4 * scale), "markerfacecolor": face, "markeredgewidth": 0.7} | named
    # The first ones stand on the axis, which would clip them.
    axes.plot(start, lane, MARKERS[mark % len(MARKERS)], markeredgecolor=BLACK, zorder=3, clip_on=False, **look)


def chunk_rows(events: Iterable[Event]) -> list[dict[str, Any]]:
    """One row a chunk: ``turn_id``, ``chunk`` from 1, ``arrival_ms`` since the call, ``duration_ms``, ``n_frames``."""
    return [
        {
            "turn_id": event["turn_id"],
            "chunk": event["chunk_num"],
            "arrival_ms": event["t"] * 1000,
            "duration_ms": len(event["data"]) * 1000 / SAMPLE_RATE,
            "n_frames": len(event["data"]) / FRAME_SAMPLES,
        }
        for event in events
        if event["type"] == "audio_chunk"
    ]


def turn_rows(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The spans and moments of one turn.

    Args:
        events: the events of one turn, in order; without ``complete``, what only its spans say is missing.

    Returns:
        Rows of ``turn_id``, ``lane``, ``label``, ``start_ms`` and ``end_ms``, from the call on; ``end_ms`` is None for
        a moment. Playback is what a listener hears who starts with the first chunk and waits for each late one.
    """
    kept = list(events)
    turns = {event["turn_id"] for event in kept}
    if len(turns) != 1:
        raise InputError(f"events of {len(turns)} turns: give those of one, all with the same turn_id")
    spans = [span for event in kept if event["type"] == "complete" for span in event["spans"]]
    moments = [_event_row(*_MOMENTS[one["type"]], one["t"] * 1000) for one in kept if one["type"] in _MOMENTS]
    rows = [*spans, *moments, *_playback(chunk_rows(kept))]
    turn_id = turns.pop()
    return [{"turn_id": turn_id, **row} for row in sorted(rows, key=lambda row: LANES.index(row["lane"]))]


def _event_row(lane: str, label: str, start_ms: float, end_ms: float | None = None) -> dict[str, Any]:
    return {"lane": lane, "label": label, "start_ms": start_ms, "end_ms": end_ms}


def _playback(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    arrivals = Arrivals([c["arrival_ms"] / 1000 for c in chunks], [c["duration_ms"] / 1000 for c in chunks])
    starts_ms = [1000 * start_s for start_s in arrivals.starts_s()]
    return [
        _event_row("playback", f"chunk {chunk['chunk']}", start_ms, start_ms + chunk["duration_ms"])
        for chunk, start_ms in zip(chunks, starts_ms, strict=True)
    ]
