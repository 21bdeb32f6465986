"""Figures are judged by what they show: labels with units, lines at the right values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas
import planted
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Text

from csmkit.errors import InputError
from csmkit.lab import plots
from csmkit.lab.analysis.columns import axis_label
from csmkit.lab.plots.paper import COLOURS, DARK, LINES, MARKERS

CHUNKS = [{"codec": "a", "arrival_ms": 200.0 + 120 * i, "duration_ms": 160.0} for i in range(5)]
TURN = [
    {"lane": "playback", "label": "chunk 1", "start_ms": 300.0, "end_ms": 460.0},
    {"lane": "language model", "label": "writes", "start_ms": 50.0, "end_ms": 400.0},
    {"lane": "recogniser", "label": "partial", "start_ms": 350.0, "end_ms": None},
    {"lane": "recogniser", "label": "partial", "start_ms": 400.0, "end_ms": float("nan")},
    {"lane": "recogniser", "label": "final", "start_ms": 500.0, "end_ms": None},
    {"lane": "network", "label": "send", "start_ms": 310.0, "end_ms": 320.0},
]
TRIALS = [
    {"chunk_frames": frames, "model": model, "ttfa_ms": 100.0 * frames + seed + (50 if model == "big" else 0)}
    for frames in (1, 2, 6)
    for model in ("small", "big")
    for seed in range(5)
]


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return planted.speech_like(1.0)


def legend(figure: plots.PaperFigure) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def overlap(figure: plots.PaperFigure, first: Text, second: Text) -> bool:
    figure._repr_png_()  # lays it out
    return first.get_window_extent().overlaps(second.get_window_extent())


def test_chunk_latency_shows_arrivals_and_the_line_of_playback():
    figure = plots.chunk_latency(CHUNKS)
    arrival, per_frame = figure.axes
    drawn, needed = (line.get_xydata() for line in arrival.get_lines()[:2])
    assert np.allclose(drawn[:, 0], np.arange(5) * 0.16) and np.allclose(drawn[:, 1], 0.2 + 0.12 * np.arange(5))
    assert np.allclose(needed[:, 1], 0.2 + 0.16 * np.arange(5))
    assert np.allclose(per_frame.get_lines()[0].get_ydata(), 60), "120 ms for two frames"
    assert per_frame.get_lines()[1].get_ydata()[0] == 80
    assert arrival.get_ylabel().split() == ["arrival", "since", "the", "call", "(s)"]
    assert per_frame.get_ylabel().split() == ["time", "per", "frame", "(ms)"]
    assert not overlap(figure, arrival.yaxis.label, per_frame.yaxis.label)
    assert per_frame.get_xlabel() == "sound before the chunk (s)"


def test_chunk_latency_tells_answers_apart():
    other = [{**row, "codec": "b", "arrival_ms": row["arrival_ms"] * 2} for row in CHUNKS]
    figure = plots.chunk_latency(pandas.DataFrame(CHUNKS + other), "codec")
    assert legend(figure) == ["a", "b", "needed for playback"]
    assert figure.legends[0].get_title().get_text() == "codec"
    first, second = figure.axes[0].get_lines()[0:4:2]
    for look in ("color", "linestyle", "marker"):
        assert getattr(first, f"get_{look}")() != getattr(second, f"get_{look}")()


def test_the_timeline_has_a_lane_for_each_part_in_the_order_of_the_data():
    figure = plots.turn_timeline(TURN)
    axes = figure.axes[0]
    lanes = [label.get_text() for label in axes.get_yticklabels()]
    assert lanes == ["language model", "playback", "recogniser", "network"]
    bars = {round(bar.get_y() + bar.get_height() / 2): (bar.get_x(), bar.get_width()) for bar in axes.patches}
    assert bars == {0: (50, 350), 1: (300, 160), 3: (310, 10)}
    assert [line.get_xdata()[0] for line in axes.get_lines()] == [350, 400, 500]
    assert legend(figure) == ["partial", "final"]
    assert axes.get_xlabel() == "time since the call (ms)"


def test_a_trade_off_is_a_median_with_its_interval_at_each_value():
    axes = plots.trade_off(TRIALS, "chunk_frames", "ttfa_ms").axes[0]
    line = axes.get_lines()[0]
    assert line.get_xdata().tolist() == [1, 2, 6]
    assert line.get_ydata().tolist() == [127, 227, 627]
    bars = next(item for item in axes.collections if isinstance(item, LineCollection)).get_segments()
    assert all(low <= middle <= high for ((_, low), (_, high)), middle in zip(bars, [127, 227, 627], strict=True))
    assert axes.get_xlabel() == "chunk size (frames of 80 ms)" and axes.get_ylabel() == "time to first audio (ms)"


def test_a_trade_off_has_a_line_for_each_group_side_by_side():
    figure = plots.trade_off(pandas.DataFrame(TRIALS), "chunk_frames", "ttfa_ms", "model")
    assert legend(figure) == ["small", "big"]
    small, big = (container.lines[0] for container in figure.axes[0].containers)
    assert small.get_ydata().tolist() == [102, 202, 602] and big.get_ydata().tolist() == [152, 252, 652]
    assert (small.get_xdata() < big.get_xdata()).all()


def test_a_parameter_over_decades_has_a_logarithmic_axis_that_says_its_values():
    rows = [{"topk": topk, "wer": 0.1} for topk in (500, 1, 5, 50)]
    axes = plots.trade_off(rows, "topk", "wer").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "50", "500"]
    assert np.allclose(np.float64(axes.get_lines()[0].get_xdata()), np.log10([1, 5, 50, 500]))


def test_real_time_is_a_line_across_and_so_is_any_value_to_compare_with():
    rows = [{"chunk_frames": size, "rtf": 0.4 * size} for size in (1, 2)]
    axes = plots.trade_off(rows, "chunk_frames", "rtf").axes[0]
    assert set(axes.get_lines()[-1].get_ydata()) == {1.0} and axes.texts[0].get_text() == "real time"
    assert axes.get_ylim()[1] > 1
    added = plots.trade_off(rows, "chunk_frames", "rtf", line=(0.0, "alone"), decades=False).axes[0]
    assert set(added.get_lines()[-1].get_ydata()) == {0.0} and added.texts[0].get_text() == "alone"
    assert plots.trade_off(TRIALS, "chunk_frames", "ttfa_ms", decades=True).axes[0].get_yscale() == "log"


def test_in_a_crowded_lane_edges_are_thin_and_marks_small():
    frames = [{"lane": "frames", "label": "f", "start_ms": 9.0 * i, "end_ms": 9.0 * i + 8} for i in range(40)]
    axes = plots.turn_timeline([*TURN, *frames]).axes[0]
    assert max(bar.get_linewidth() for bar in axes.patches[3:]) < min(bar.get_linewidth() for bar in axes.patches[:3])


def test_names_stand_side_by_side_without_a_line_between_them_and_keep_their_order():
    axes = plots.trade_off(TRIALS, "model", "ttfa_ms", metric_label="wait (ms)").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["small", "big"]
    assert axes.get_lines()[0].get_linestyle() == "None"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("model", "wait (ms)")


def test_a_single_trial_has_a_point_and_no_bar_and_what_was_not_measured_has_neither():
    rows = [{"c": 1, "v": 2.0}, {"c": 2, "v": None}, {"c": 3, "v": float("nan")}]
    axes = plots.trade_off(rows, "c", "v").axes[0]
    assert axes.get_lines()[0].get_xydata().tolist() == [[1, 2]]
    (bar,) = next(item for item in axes.collections if isinstance(item, LineCollection)).get_segments()
    assert bar[0][1] == bar[1][1] == 2


def test_a_close_up_shows_each_version_around_the_border(speech):
    border = planted.borders(speech)[0]
    figure = plots.seam_close_up({"whole": speech, "click": planted.click(speech)}, border, span_ms=10)
    whole, click, mark = figure.axes[0].get_lines()
    assert len(whole.get_xdata()) == 240 and whole.get_xdata()[120] == 0 == mark.get_xdata()[0]
    assert np.argmax(np.abs(click.get_ydata() - whole.get_ydata())) == 120
    assert whole.get_linewidth() > click.get_linewidth(), "so that equal waveforms are both seen"
    assert figure.axes[0].get_xlabel() == "time from the border (ms)"
    assert figure.axes[0].get_ylabel() == "amplitude (full scale = 1)"


def test_two_spectrograms_share_one_scale_and_mark_the_borders(speech):
    quiet = speech / 10
    figure = plots.spectrogram_pair({"loud": speech, "quiet": quiet}, planted.borders(speech))
    loud_axes, quiet_axes, bar = figure.axes
    loud, soft = loud_axes.images[0], quiet_axes.images[0]
    assert loud.get_clim() == soft.get_clim() and loud.get_clim()[1] == pytest.approx(loud.get_array().max())
    assert loud.get_array().max() - soft.get_array().max() == pytest.approx(20, abs=0.1)
    assert np.allclose(loud_axes.get_lines()[0].get_xdata(), np.array(planted.borders(speech)) / 24_000)
    assert (loud_axes.get_title("left"), quiet_axes.get_title("left")) == ("loud", "quiet")
    assert loud_axes.get_ylabel() == "frequency (kHz)" and quiet_axes.get_xlabel() == "time (s)"
    assert bar.get_ylabel() == "level (dB, full-scale sine = 0)"


def test_a_tone_is_at_its_frequency_and_level():
    tone = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000)
    image = plots.spectrogram_pair({"a": tone, "b": tone / 2}).axes[0].images[0]
    picture, (_, _, low_khz, high_khz) = image.get_array(), image.get_extent()
    row = picture[:, 50].argmax()
    assert low_khz + (row + 0.5) * (high_khz - low_khz) / len(picture) == pytest.approx(1.0, abs=0.02)
    assert picture.max() == pytest.approx(0, abs=0.1)


def test_a_figure_is_saved_as_pdf_and_png_the_same_each_time(tmp_path: Path):
    first = plots.save(plots.turn_timeline(TURN), tmp_path / "new folder" / "turn.v1")
    again = plots.save(plots.turn_timeline(TURN), tmp_path / "again")
    assert [file.name for file in first] == ["turn.v1.pdf", "turn.v1.png", "turn.v1.svg"]
    assert first[0].read_bytes().startswith(b"%PDF") and first[1].read_bytes().startswith(b"\x89PNG")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]


@pytest.mark.parametrize("draw", ["latency", "timeline", "trade", "names", "close_up", "pair"])
def test_every_figure_fits_a_column_and_draws_without_a_warning(draw, speech):
    many = [{**row, "codec": f"{name} codec"} for name in "abcdef" for row in CHUNKS]
    figure = {
        "latency": lambda: plots.chunk_latency(many, "codec"),
        "timeline": lambda: plots.turn_timeline(TURN),
        "trade": lambda: plots.trade_off(TRIALS, "chunk_frames", "ttfa_ms", "model"),
        "names": lambda: plots.trade_off(TRIALS, "model", "ttfa_ms", "chunk_frames"),
        "close_up": lambda: plots.seam_close_up({name: speech for name in "abcdef"}, 1920),
        "pair": lambda: plots.spectrogram_pair({"a": speech, "b": speech}, [1920]),
    }[draw]()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure.get_figwidth() == pytest.approx(3.4)


def test_in_a_dark_notebook_the_same_picture_is_shown_with_its_lightness_inverted():
    html = plots.turn_timeline(TURN)._repr_html_()
    assert html.count("data:image/png;base64,") == 1
    assert f'[data-jp-theme-light="false"] .csmkit-figure, .vscode-dark .csmkit-figure {{ {DARK} }}' in html


def test_the_front_of_two_aims_is_filled_and_named_above_the_axes():
    rows = [
        {"setting": f"chunk size {size}, temperature {warm}", "ttfa_ms": 10.0 * size, "wer": wer}
        for size, warm, wer in ((1, 0.3, 0.2), (2, 0.3, 0.1), (3, 0.3, 0.3), (2, 0.9, 0.25))
    ]
    figure = plots.pareto(rows, {"ttfa_ms": "lower", "wer": "lower"}, "setting")
    assert legend(figure) == ["chunk size 1, temperature 0.3", "chunk size 2, temperature 0.3"]
    filled = [item.lines[0].get_markerfacecolor() != "white" for item in figure.axes[0].containers]
    assert filled == [True, True, False, False]
    assert legend(plots.pareto(rows[1:2], {"ttfa_ms": "lower", "wer": "lower"}, "setting")) == [rows[1]["setting"]]


def test_groups_differ_in_colour_in_line_and_in_mark():
    assert len(set(COLOURS)) == len(set(map(str, LINES))) == len(set(MARKERS)) == len(COLOURS)


@pytest.mark.parametrize(
    ("column", "label"),
    [
        ("gap_p95_ms", "95th percentile of gap (ms)"),
        ("n_clauses", "clauses (count)"),
        ("seam_click_z", "seam click (residual / MAD)"),
        ("silence_ratio", "silence (share)"),
        ("loudness_lufs", "loudness (LUFS)"),
        ("something", "something (no unit)"),
        ("rtf", "real-time factor (s/s)"),
    ],
)
def test_every_column_gets_a_label_with_its_unit(column, label):
    assert axis_label(column) == label


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.chunk_latency([]), "at least one dict"),
        (lambda: plots.chunk_latency(CHUNKS, "model"), "no column 'model': choose among arrival_ms"),
        (lambda: plots.chunk_latency([{**CHUNKS[0], "duration_ms": 0}]), "without sound"),
        (lambda: plots.chunk_latency([{**CHUNKS[0], "codec": i} for i in range(7)], "codec"), "6 can be told apart"),
        (lambda: plots.turn_timeline([{**TURN[0], "end_ms": 1.0}]), "from 300.0 to 1.0 ms"),
        (lambda: plots.trade_off([{"c": 1, "v": None}], "c", "v"), "measured in none of 1 rows"),
        (lambda: plots.seam_close_up({}, 100), "no versions"),
        (lambda: plots.seam_close_up({"a": np.zeros(4800)}, 0), "within 10 ms of an end"),
        (lambda: plots.seam_close_up({"a": np.zeros(4800)}, 2400, 0.1), "span_ms=0.1"),
        (lambda: plots.spectrogram_pair({"a": np.zeros(4800)}), "1 versions: give two"),
        (lambda: plots.spectrogram_pair({"a": np.zeros(480), "b": np.zeros(480)}), "'a' of 20 ms: at least 50 ms"),
        (lambda: plots.save(plots.turn_timeline(TURN), "figure.png"), "without .png"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_plots_leave_pyplot_and_the_settings_alone():
    before = dict(matplotlib.rcParams)
    plots.turn_timeline(TURN)
    assert dict(matplotlib.rcParams) == before
    program = "import sys, csmkit.lab.plots; print([m for m in ('matplotlib.pyplot', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_matplotlib_names_the_extra():
    program = "import sys; sys.modules['matplotlib'] = None; import csmkit.lab.plots"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'csmkit[eval]'" in done.stderr


def text_rows(rtf: float) -> list[dict]:
    """Two settings of 12 texts and 3 seeds."""
    return [
        {"chunk_frames": size, "text": f"t{text}", "seed": seed, "rtf": rtf * (1 + text / 100), "seam_click_auc": 0.55}
        for size in (1, 2)
        for text in range(12)
        for seed in range(3)
    ]


def test_a_line_far_from_the_data_is_told_so_that_the_axis_shows_the_data():
    axes = plots.trade_off(text_rows(0.07), "chunk_frames", "rtf", units=("text", "seed")).axes[0]
    assert axes.get_ylim()[1] < 0.1 and axes.texts[0].get_text() == "real time: 1, above this axis"


def test_a_probability_has_a_line_at_one_half():
    axes = plots.trade_off(text_rows(0.07), "chunk_frames", "seam_click_auc", units=("text", "seed")).axes[0]
    assert axes.texts[0].get_text().startswith("like anywhere else")


def test_each_text_is_a_point_and_their_number_is_told():
    axes = plots.trade_off(text_rows(0.07), "chunk_frames", "rtf", units=("text", "seed")).axes[0]
    faint = [line for line in axes.get_lines() if line.get_alpha() == 0.3]
    assert [len(line.get_ydata()) for line in faint] == [12, 12]
    assert "12 texts" in [text.get_text() for text in axes.texts]
    alone = plots.trade_off(text_rows(0.07), "chunk_frames", "rtf").axes[0]
    assert "72 trials" in [text.get_text() for text in alone.texts]


def forest_rows() -> list[dict]:
    row = {"group": "time to first audio (ms)", "margin": 20}
    return [
        row | {"label": "1 against 6", "difference": -24, "low": -26, "high": -22, "clear": True},
        row | {"label": "2 against 6", "difference": -4, "low": -9, "high": 1, "clear": False},
        {
            "group": "rtf",
            "label": "1 against 6",
            "difference": 1,
            "low": 0.9,
            "high": 1.1,
            "margin": 0.05,
            "clear": True,
        },
    ]


def test_a_forest_shows_differences_in_margins_and_which_are_clear():
    axes = plots.forest(forest_rows()).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["time to first audio (ms)", "1 against 6", "2 against 6", "rtf", "1 against 6"]
    points = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == [-1.2, -0.2, 4.0], "what lies beyond the edge is at it"
    assert points[1].get_markerfacecolor() == "white" != points[0].get_markerfacecolor()
    assert [line.get_marker() for line in axes.get_lines()].count(">") == 1, "an arrow says so"
    with pytest.raises(InputError, match="no margin above 0"):
        plots.forest([{**forest_rows()[0], "margin": None}])
