"""Who was busy when in a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csmkit.errors import InputError
from csmkit.lab.analysis.rows import measured, records
from csmkit.lab.plots.paper import BLACK, COLOURS, COLUMN_INCHES, MARKERS, legend_above, paper
from csmkit.lab.plots.turn_rows import LANES

if TYPE_CHECKING:
    from csmkit.lab.analysis.rows import Rows
    from csmkit.lab.plots.paper import PaperFigure

_HATCHES = ("", "////", "", "\\\\\\\\", "", "....")
_MANY = 12  # in a lane: their edges are drawn thin and their marks small, or they would hide each other


def turn_timeline(rows: Rows, width_inches: float = COLUMN_INCHES) -> PaperFigure:
    """One turn on one time axis: a lane for each part, bars for spans and marks for moments.

    A moment whose ``label`` is unlike that of others in its lane gets the next mark, and the legend tells them apart.
    Holes in the playback are waits that a listener hears.

    Args:
        rows: with ``lane``, ``label``, ``start_ms``, ``end_ms`` (None is a moment); `turn_rows` makes
            them. Lanes of other names follow the known ones.
        width_inches: one column of a paper; more for a screen.

    Raises:
        InputError: no rows, missing columns, a span without a start or one that ends before it.
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
        colour = COLOURS[look % len(COLOURS)]
        hatch = _HATCHES[look % len(_HATCHES)]
        edge = {"edgecolor": BLACK, "linewidth": 0.5 * scale}
        axes.barh(lane, end - start, 0.56, start, color=colour, alpha=0.75, hatch=hatch, **edge)
        return
    label = str(row["label"])
    new = label not in moments
    mark = moments.setdefault(label, len(moments))
    axes.plot(
        start,
        lane,
        linestyle="",
        zorder=3,
        clip_on=False,  # the first ones stand on the axis
        marker=MARKERS[mark % len(MARKERS)],
        markersize=max(2.5, 4 * scale),
        markerfacecolor="white" if mark % 2 else COLOURS[mark % len(COLOURS)],
        markeredgecolor=BLACK,
        markeredgewidth=0.7,
        label=label if new else None,
    )
