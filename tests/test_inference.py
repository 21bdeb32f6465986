"""What is called clear, equal or open: exact shares, corrections, margins and the floor of texts."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from csmkit.lab.analysis.choice import IMPORTANCE, choose
from csmkit.lab.analysis.columns import column_of, columns
from csmkit.lab.analysis.findings import MOST_SNR_DB, analyse
from csmkit.lab.analysis.pairs import (
    EQUAL,
    HIGHER,
    NOT_SHOWN,
    SAME,
    compared_rows,
    corrected,
    holm,
    paired_difference,
    smallest_difference,
)
from csmkit.lab.analysis.sentences import sentences
from csmkit.lab.analysis.statistics import BLOCK, central, crossed_interval, most_unseen, reduced, share_bounds

MARGINS = {name: column.margin for name, column in columns().items() if column.margin is not None}


def rows_of(values: np.ndarray, column: str = "v", **more: Any) -> list[dict[str, Any]]:
    """Rows of ``(texts, seeds)`` values."""
    return [
        {"text": f"t{text}", "seed": seed, column: float(value), **more}
        for text, of_text in enumerate(values)
        for seed, value in enumerate(of_text)
    ]


def test_a_share_that_was_always_one_still_has_a_width_by_the_number_of_texts_not_of_trials():
    few = crossed_interval(rows_of(np.ones((20, 3))), "v", share=True)
    many_trials = crossed_interval(rows_of(np.ones((20, 30))), "v", share=True)
    assert (few.median, few.high) == (1.0, 1.0) and few.low == pytest.approx(0.025 ** (1 / 20))
    assert many_trials.low == few.low and (few.n, many_trials.n) == (60, 600)
    assert crossed_interval(rows_of(np.zeros((20, 3))), "v", share=True).high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_an_error_rate_without_an_error_has_a_width_too():
    found = crossed_interval(rows_of(np.zeros((20, 3)), n_words=5), "v", weight="n_words")
    assert found.low == 0 and found.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_exact_bounds_of_a_share_hold_it_at_least_as_often_as_they_say():
    for true in (0.02, 0.1, 0.5, 0.97):
        held = sum(
            binom.pmf(k, 30, true)
            for k in range(31)
            if share_bounds(k / 30, 30)[0] <= true <= share_bounds(k / 30, 30)[1]
        )
        assert held >= 0.95


def test_what_happened_in_no_text_may_still_happen_in_so_many():
    assert most_unseen(60) == pytest.approx(0.0487, abs=1e-4)
    assert (1 - most_unseen(60)) ** 60 == pytest.approx(0.05)


def test_p_values_are_corrected_by_the_method_of_holm():
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def shifted(shift: float, noise: float, n_texts: int = 30, column: str = "ttfa_ms") -> Any:
    """The comparison of two settings whose pairs differ by a shift and noise."""
    random = np.random.default_rng(3)
    base = random.normal(500, 100, (n_texts, 3))
    moved = base + shift + random.normal(0, noise, (n_texts, 3))
    return compared_rows(rows_of(moved, column), rows_of(base, column), "a", (1, 0), column_of(column))


def test_no_difference_is_said_only_of_what_is_within_the_margin():
    assert shifted(0.5, 5).verdict == EQUAL
    assert shifted(0.0, 300).verdict == NOT_SHOWN
    loose = shifted(0.0, 300)
    assert loose.at_most > MARGINS["ttfa_ms"]
    assert shifted(0.0, 0.0).verdict == SAME


def test_a_clear_difference_below_the_margin_is_said_and_rejects_nothing():
    small, large = shifted(10, 5), shifted(40, 5)
    assert small.verdict == large.verdict == HIGHER
    assert (small.matters, large.matters) == (False, True)


def test_one_of_many_small_p_values_is_no_longer_clear():
    one = shifted(4.5, 10)
    assert one.verdict == HIGHER and 1e-4 < one.difference.p < 0.05
    many = corrected([one, *[shifted(0, 60)] * 400])
    assert many[0].verdict != HIGHER


def noise_trials(n_settings: int, n_texts: int, seed: int) -> list[dict[str, Any]]:
    """Settings between which nothing differs, some figures beside each other."""
    random = np.random.default_rng(seed)
    return [
        {"chunk_frames": size + 1, "text": f"t{text}", "seed": s, "error": None, "n_words": 6}
        | {"ttfa_ms": random.normal(100, 60), "rtf": random.normal(1, 0.3), "wer": random.binomial(6, 0.2) / 6}
        for size in range(n_settings)
        for text in range(n_texts)
        for s in range(3)
    ]


def test_of_settings_that_do_not_differ_hardly_ever_one_is_called_clear_or_left_out():
    clear = left_out = 0
    for seed in range(25):
        findings = analyse(noise_trials(4, 12, seed), figures=["latency", "wer"])
        clear += any(found.verdict in ("lower", "higher") for found in findings.comparisons)
        left_out += bool(findings.choice.worse)
    assert clear <= 4 and left_out <= 2, "nine comparisons each: without correction about every third would have one"


def test_every_figure_that_can_choose_has_a_margin_and_it_is_larger_than_what_is_printed():
    assert set(IMPORTANCE) <= set(MARGINS)
    for column, margin in MARGINS.items():
        assert margin >= 10 ** -column_of(column).digits


def test_rounding_far_below_sixteen_bits_decides_nothing():
    def trials(noise_db: float) -> list[dict[str, Any]]:
        return [
            {"speaker": speaker, "text": f"t{text}", "seed": 0, "snr_db": 134.0 + noise_db * speaker + 0.01 * text}
            for speaker in (0, 1)
            for text in range(20)
        ]

    findings = analyse(trials(0.9), figures=["distances"])
    assert not findings.choice.worse and findings.table[0]["snr_db"].median == MOST_SNR_DB
    assert any(
        "signal-to-noise ratio" in text and "same in every pair" in text for text in sentences(findings)["shown"]
    )
    assert analyse(trials(-80), figures=["distances"]).choice.worse


def test_a_difference_of_exactly_the_margin_rejects_nothing_whatever_its_last_digit():
    margin = MARGINS["wer"]
    for gap in (margin, margin + 1e-12, 0.31 - 0.28):
        base = rows_of(np.full((20, 3), 0.28), "wer", n_words=5)
        worse = rows_of(np.full((20, 3), 0.28 + gap), "wer", n_words=5)
        rows = [row | {"speaker": speaker} for speaker, group in enumerate((base, worse)) for row in group]
        assert not choose(rows, ["speaker"], [column_of("wer")]).worse


def test_a_recipe_may_state_its_own_margins():
    rows = [
        {"speaker": speaker, "text": f"t{text}", "seed": 0, "ttfa_ms": 100.0 + 10 * speaker}
        for speaker in (0, 1)
        for text in range(20)
    ]
    assert not analyse(rows, figures=["latency"]).choice.worse
    assert analyse(rows, figures=["latency"], margins={"ttfa_ms": 5}).choice.worse


def test_shares_of_paired_trials_differ_where_texts_do_and_few_texts_cannot_tell():
    ended = np.ones((30, 3))
    broken = ended.copy()
    broken[:12] = 0
    lost = [{**row, "v": row["v"] - 1.0} for row in rows_of(broken)]
    found = paired_difference(lost, "v", share=True)
    assert found.median == pytest.approx(-0.4) and found.high < 0 and found.p == pytest.approx(2 * 0.5**12)
    same = paired_difference([{**row, "v": 0.0} for row in lost], "v", share=True)
    assert same.same and same.low < -0.1 < 0.1 < same.high, "30 texts cannot exclude one in ten"


def test_fewer_than_three_seeds_are_not_drawn_and_texts_are():
    values = np.random.default_rng(0).normal(0, 1, (20, 1))
    one = crossed_interval(rows_of(values), "v")
    two = crossed_interval(rows_of(np.repeat(values, 2, axis=1)), "v")
    assert one.low < one.median < one.high and (one.low, one.high) == (two.low, two.high)


def test_the_smallest_difference_that_can_be_shown_shrinks_with_texts_and_grows_with_comparisons():
    assert smallest_difference(1.0, 60) == pytest.approx(0.37, abs=0.01)  # 2.85 standard errors of 1 / sqrt(60)
    assert smallest_difference(1.0, 240) < 0.52 * smallest_difference(1.0, 60)
    assert smallest_difference(1.0, 60, 20) > smallest_difference(1.0, 60)


def test_trials_are_reduced_to_one_value_a_text_and_seed_before_anything_is_drawn():
    rows = rows_of(np.arange(60.0).reshape(20, 3)) * 50
    assert len(rows) == 3000 and len(reduced(rows, "v").values) == 60 and reduced(rows, "v").n_rows == 3000
    assert crossed_interval(rows, "v").low == crossed_interval(rows[:60], "v").low
    assert central(rows, "v") == central(rows[:60], "v")


def test_memory_of_an_interval_does_not_grow_with_resamples_times_rows():
    rows = rows_of(np.random.default_rng(0).normal(0, 1, (400, 50)))
    tracemalloc.start()
    crossed_interval(rows, "v")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * BLOCK, "a dense matrix of 2000 resamples of 20000 trials has 320 MB"


def test_the_median_of_each_draw_is_that_of_all_its_cells_however_far_seeds_lie_apart():
    values = np.random.default_rng(1).normal(size=(20, 5)) + 10 * np.arange(5)
    random = np.random.default_rng(0)
    texts, seeds = (random.multinomial(n, [1 / n] * n, 2000) for n in values.shape)
    medians = [np.median(np.repeat(values.ravel(), np.outer(*pair).ravel())) for pair in zip(texts, seeds, strict=True)]
    found = crossed_interval(rows_of(values), "v")
    assert (found.low, found.high) == pytest.approx(np.percentile(medians, [2.5, 97.5]))


def test_a_cell_of_several_rows_is_their_mean_by_weight():
    rows = [{"text": 0, "seed": 0, "v": v, "words": words} for v, words in [(0.5, 2), (0.0, 6), (1.0, 0)]]
    cells = reduced(rows, "v", weight="words")
    assert (cells.values.tolist(), cells.weights.tolist(), cells.n_rows) == ([0.125], [8.0], 3)
