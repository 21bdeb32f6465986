"""Waveforms and spectra around the borders of chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from csmkit.audio import SAMPLE_RATE
from csmkit.errors import InputError
from csmkit.lab.metrics.distances import decibels, magnitudes
from csmkit.lab.metrics.waveforms import checked_seams, one_channel
from csmkit.lab.plots.paper import BLACK, GREY, Manner, legend_above, paper

if TYPE_CHECKING:
    from csmkit.audio import Waveform
    from csmkit.lab.metrics.waveforms import Seams
    from csmkit.lab.plots.paper import PaperFigure

WINDOW, HOP = 600, 120  # 25 and 5 ms, the usual of speech
RANGE_DB = 80.0


def seam_close_up(versions: Mapping[str, Waveform], seam: int, span_ms: float = 20.0) -> PaperFigure:
    """The waveforms of several versions around one border, over each other.

    Args:
        versions: name to waveform, at most six, ``(samples,)`` at 24 kHz each; each is drawn over the one before, and
            thinner, so that equal ones are all seen.
        seam: index of the first sample after the border, the same in all.
        span_ms: shown in all, half of it each side, at least 1 ms.
    """
    waves = _checked(versions)
    if span_ms < 1:
        raise InputError(f"span_ms={span_ms!r}: give at least 1 ms")
    half = round(span_ms * SAMPLE_RATE / 2000)
    with paper(2.0) as figure:
        axes = figure.subplots()
        for index, (name, samples) in enumerate(waves.items()):
            checked_seams([seam], len(samples))
            start, end = max(0, seam - half), min(len(samples), seam + half)
            time_ms = (np.arange(start, end) - seam) * 1000 / SAMPLE_RATE
            manner = Manner.of(index)
            width = 0.8 + 2.0 * (len(waves) - 1 - index) / len(waves)
            look = {"color": manner.color, "linestyle": manner.linestyle, "linewidth": width}
            axes.plot(time_ms, samples[start:end], label=name, **look)
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        axes.set_xlim(-span_ms / 2, span_ms / 2)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.set_xlabel("time from the border (ms)")
        axes.set_ylabel("amplitude (full scale = 1)")
        legend_above(figure, axes)
    return figure


def spectrogram_pair(versions: Mapping[str, Waveform], seams: Seams = ()) -> PaperFigure:
    """Two spectrograms on one scale, the loudest bin of both at its top, chunk borders marked above each.

    Args:
        versions: two, by name, ``(samples,)`` at 24 kHz each, at least 50 ms.
        seams: borders, in samples, of both; empty marks none.
    """
    if len(versions) != 2:
        raise InputError(f"{len(versions)} versions: give two, by name, such as {{'whole': a, 'chunks': b}}")
    waves = _checked(versions, shortest_ms=50)
    pictures = {name: decibels(magnitudes(samples, WINDOW, HOP)).T for name, samples in waves.items()}
    top = max(float(picture.max()) for picture in pictures.values())
    with paper(3.3) as figure:
        both = figure.subplots(2, 1, sharex=True, sharey=True)
        for axes, (name, picture) in zip(both, pictures.items(), strict=True):
            left_s, step_s = (WINDOW - HOP) / 2 / SAMPLE_RATE, HOP / SAMPLE_RATE
            extent = (left_s, left_s + picture.shape[1] * step_s, 0, SAMPLE_RATE / 2000)
            look = {"vmin": top - RANGE_DB, "vmax": top, "cmap": "cividis", "interpolation": "nearest"}
            image = axes.imshow(picture, origin="lower", aspect="auto", extent=extent, **look)
            axes.set_title(name, loc="left", pad=7 if len(seams) else 3)
            axes.set_ylabel("frequency (kHz)")
            # Triangles on the upper edge: lines across would hide what they mark.
            at_s = checked_seams(seams, len(waves[name])) / SAMPLE_RATE
            look = {"color": BLACK, "markersize": 3, "clip_on": False, "transform": axes.get_xaxis_transform()}
            axes.plot(at_s, np.full(len(at_s), 1.02), "v", scalex=False, **look)
        both[-1].set_xlabel("time (s)")
        figure.colorbar(image, ax=both, label="level (dB, full-scale sine = 0)", aspect=40, pad=0.02)
    return figure


def _checked(versions: Mapping[str, Waveform], shortest_ms: float = 20.0) -> dict[str, np.ndarray]:
    if not versions:
        raise InputError("no versions: give waveforms by name, such as {'streaming': audio}")
    return {name: one_channel(samples, shortest_ms, repr(name)) for name, samples in versions.items()}
