"""What a report concludes: which values to choose, whether settings act alone, and what it may not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csmkit.lab.analysis.pairs import EQUAL, HIGHER, LOWER, SAME, TOO_FEW
from csmkit.lab.analysis.statistics import central, crossed_interval
from csmkit.lab.report import analyse, choice_rule, sentences
from csmkit.lab.report.figures import draw_figures

Effect = Callable[[dict[str, Any]], float]


def trials(
    ttfa_ms: Effect, wer: Effect = lambda _: 0.25, n_texts: int = 14, n_seeds: int = 3, **axes: list[Any]
) -> list[dict[str, Any]]:
    """Rows of two axes with a little noise."""
    random = np.random.default_rng(0)
    axes = axes or {"chunk_frames": [2, 6], "whisper": ["tiny.en", "base.en"]}
    points: list[dict[str, Any]] = [{}]
    for name, values in axes.items():
        points = [point | {name: value} for point in points for value in values]
    return [
        point
        | {"trial_id": f"{point}{text}{seed}", "metrics": "latency,wer", "error": None, "n_words": 5}
        | {"text": f"text {text}", "seed": seed, "finish_reason": "end_of_speech"}
        | {"ttfa_ms": 100 + 10 * text + ttfa_ms(point) + random.normal(0, 1), "wer": wer(point)}
        for point in points
        for text in range(n_texts)
        for seed in range(n_seeds)
    ]


def test_a_bundled_recogniser_is_not_called_by_the_name_of_openais():
    rows = [row | {"preset": "pocket"} for row in trials(lambda point: 0.0)]
    findings = analyse(rows, {"whisper": "base.en"})
    assert findings.axes["whisper"] == ["pocket tiny.en", "pocket base.en"]
    assert findings.baseline["whisper"] == "pocket base.en"
    told = [text for found in sentences(findings).values() for text in found]
    assert any("pocket base.en" in text for text in told)
    assert not any("base.en" in text.replace("pocket base.en", "") for text in told)
    theirs = analyse([row | {"preset": "sesame"} for row in rows], {"whisper": "base.en"})
    assert theirs.axes["whisper"] == ["tiny.en", "base.en"] and theirs.baseline["whisper"] == "base.en"


def test_settings_that_act_alone_have_no_interaction_and_those_that_do_not_have_one():
    def alone(point: dict[str, Any]) -> float:
        return 5 * point["chunk_frames"] + 20 * (point["whisper"] == "base.en")

    def together(point: dict[str, Any]) -> float:
        return 5 * point["chunk_frames"] * (2 if point["whisper"] == "base.en" else 1)

    base = {"chunk_frames": 6, "whisper": "tiny.en"}
    for effect, verdict in ((alone, EQUAL), (together, LOWER)):
        findings = analyse(trials(effect), base)
        (found,) = [i for i in findings.interactions if i.beside.headline.column == "ttfa_ms"]
        assert (found.axis, found.value, found.beside.axis, found.beside.value) == (
            "chunk_frames",
            2,
            "whisper",
            "base.en",
        )
        assert found.beside.verdict == verdict and found.beside.difference.n == 42
        told = sentences(findings)
        clear = "what chunk size 2 adds to 6 is lower at recogniser base.en than at tiny.en by "
        assert any(clear in text for text in told["shown"]) == (verdict == LOWER)
        apart = "chunk size and recogniser act alone, to within the margin: time to first audio (ms)"
        assert any(apart in text for text in told["shown"]) == (verdict == EQUAL)
    assert found.beside.difference.median is not None
    assert abs(found.beside.difference.median + 20) < 1.5  # 20 - 60 minus 10 - 30


def test_words_count_before_time_and_what_is_not_clearly_worse_stays():
    rows = trials(
        lambda point: 2 * point["chunk_frames"],
        lambda point: 0.5 if point["chunk_frames"] == 1 else 0.25,
        chunk_frames=[1, 4, 6, 40],
    )
    findings = analyse(rows, {"chunk_frames": 6})
    choice = findings.choice
    assert choice is not None and choice.settings == ["chunk size 4", "chunk size 6"]
    assert [(item.value, item.headline.column, item.verdict) for item in choice.worse] == [
        ("chunk size 1", "wer", HIGHER),
        ("chunk size 40", "ttfa_ms", HIGHER),
    ]
    told = sentences(findings)["choice"]
    assert told[0] == "chunk size 4; or chunk size 6"
    worse = "clearly worse than chunk size 4: chunk size 1 by 0.250 [0.250, 0.250]"
    assert told[1] == f"left out by word error rate (errors/word), as {worse}"
    rule = choice_rule(findings)
    assert rule.index("word error rate") < rule.index("time to first audio")


def test_a_setting_that_only_harms_beside_another_is_not_blamed_alone():
    rows = trials(
        lambda point: -40 * point["context_turns"],
        lambda point: 0.75 if point["context"] == "text" and point["context_turns"] else 0.25,
        context_turns=[0, 3],
        context=["sound", "text"],
    )
    choice = analyse(rows).choice
    assert choice is not None and choice.settings == ["earlier turns 3, earlier turns given as sound"]
    assert choice.worse[0].value == "earlier turns 3, earlier turns given as text"


def test_where_nothing_differs_or_trials_are_few_the_data_does_not_choose():
    (told,) = sentences(analyse(trials(lambda _: 0, chunk_frames=[2, 6])))["choice"]
    assert told == "the data does not choose: none is clearly worse than another, beyond a margin"
    findings = analyse(trials(lambda point: -50 * point["chunk_frames"], n_texts=11, chunk_frames=[2, 6]))
    (told,) = sentences(findings)["choice"]
    assert "too few texts, at least 12 texts" in told and findings.choice.settings == [
        "chunk size 2",
        "chunk size 6",
    ]


def test_the_kind_of_context_is_compared_where_there_is_one():
    rows = trials(
        lambda point: 30 * (point["context"] == "text" and point["context_turns"] > 0),
        context_turns=[0, 3],
        context=["sound", "text"],
    )
    found = {(item.axis, item.headline.column): item for item in analyse(rows).comparisons}
    kind = found["context", "ttfa_ms"]
    assert kind.difference.n == 42 and kind.verdict == HIGHER and abs(kind.difference.median - 30) < 1.5
    assert found["context", "wer"].verdict == SAME
    (none,) = [
        c for c in analyse([r for r in rows if not r["context_turns"]]).comparisons if c.headline.column == "wer"
    ]
    assert none.verdict == TOO_FEW


def test_one_setting_has_figures_and_nothing_to_choose():
    findings = analyse(trials(lambda _: 0, chunk_frames=[6]))
    assert len(findings.table) == 1 and not findings.comparisons
    assert not any(sentences(findings).values())


def test_failures_alone_have_nothing_to_compare_with_a_former_sweep():
    former = trials(lambda _: 0)
    failed = [row | {"error": "no memory"} for row in former]
    assert analyse(failed, against=former).against == []


def test_a_figure_holds_what_it_does_not_show_at_the_baseline(tmp_path: Path):
    rows = trials(
        lambda point: 1000 * (point["speaker"] == 1),
        chunk_frames=[2, 6],
        temperature=[0.3, 0.9],
        speaker=[0, 1],
    )
    findings = analyse(rows, {"speaker": 0, "chunk_frames": 6, "temperature": 0.3})
    captions = {picture.path.stem: picture.caption for picture in draw_figures(findings, tmp_path)}
    said = "Time to first audio (ms), median, by chunk size, a line for each temperature, speaker 0"
    assert captions["ttfa_ms_by_chunk_frames"] == said
    assert "wer_by_speaker" not in captions  # the same everywhere
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {f"{name}.{kind}" for name in captions for kind in ("pdf", "png", "svg")}


@pytest.mark.parametrize("weight", [None, "w"])
def test_the_bootstrap_is_that_of_a_plain_loop(weight: str | None):
    random = np.random.default_rng(2)
    texts, seeds = random.uniform(0, 3, 12), random.uniform(0, 2, 9)
    rows = [
        {"text": t, "seed": s, "v": texts[t] + seeds[s] + random.uniform(0, 2), "w": int(random.integers(1, 9))}
        for t in range(12)
        for s in range(9)
    ]
    drawn = [
        central([rows[t * 9 + s] for t in random.integers(0, 12, 12) for s in again], "v", weight=weight)
        for again in random.integers(0, 9, (2000, 9))
    ]
    found = crossed_interval(rows, "v", weight=weight)
    np.testing.assert_allclose((found.low, found.high), np.percentile(drawn, [2.5, 97.5]), atol=0.12)
    values, weights = ([row[name] for row in rows] for name in "vw")
    assert found.median == pytest.approx(np.median(values) if weight is None else np.average(values, weights=weights))


def test_figures_are_drawn_from_the_table_and_make_no_interval_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    findings = analyse(trials(lambda point: 30 * point["chunk_frames"], chunk_frames=[2, 6]))
    monkeypatch.setattr("csmkit.lab.analysis.statistics.drawn_figures", None)
    captions = [picture.caption for picture in draw_figures(findings, tmp_path)]
    assert captions[0].startswith("Paired differences by chunk size") and len(captions) == 2


def test_what_a_figure_shows_is_told_in_numbers_to_those_who_do_not_see_it(tmp_path: Path):
    findings = analyse(trials(lambda point: 30 * point["chunk_frames"], chunk_frames=[2, 6]))
    (alt,) = [picture.alt for picture in draw_figures(findings, tmp_path) if "ttfa" in picture.path.name]
    said = "Time to first audio (ms), median, by chunk size: chunk size 2 "
    assert alt.startswith(said) and "; chunk size 6 " in alt and "[" in alt
