"""Figures for a paper: rows or waveforms in, a matplotlib Figure out.

A figure is one column wide, readable without colour, has units on its axes and shows itself in a notebook. There is no
current figure and no window: draw, then `save`. No rows, a missing column, nothing measured, too many groups, and
arguments out of their range raise InputError.
"""

from csmkit.errors import MissingDependencyError

try:
    import matplotlib
except ImportError as error:
    raise MissingDependencyError.for_extra("matplotlib", "eval") from error

from csmkit.lab.plots.forest import forest
from csmkit.lab.plots.paper import PaperFigure, save
from csmkit.lab.plots.sound import seam_close_up, spectrogram_pair
from csmkit.lab.plots.timeline import chunk_latency, turn_timeline
from csmkit.lab.plots.trade_off import pareto, trade_off
