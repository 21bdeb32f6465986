"""Recipes: what is refused before anything runs, and what comes of what is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from csmkit.errors import InputError, PluginError
from csmkit.lab.metrics.registry import Measure
from csmkit.lab.sweep.plan import plan, tasks
from csmkit.lab.sweep.recipe import Recipe, load_recipe, make_recipe
from csmkit.plugins import register

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
NO_MODELS = {"voice": None, "base.en": None, "tiny.en": None}


def recipe(**table: Any) -> Recipe:
    return make_recipe("trial", {"texts": ["one two", "three four", "five"], **table})


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_that_ship_are_accepted_and_ask_for_enough_texts(path: Path):
    loaded = load_recipe(path)
    assert loaded.varied and len(loaded.texts) >= 12
    assert loaded.title and loaded.question.endswith("?")
    assert set(loaded.baseline) == set(loaded.varied)


def test_all_six_recipes_are_there():
    wanted = {"chunk_size", "temperature", "whisper_models", "voice_context", "full_grid"}
    assert wanted <= {path.stem for path in EXPERIMENTS.glob("*.toml")}


def test_every_recipe_is_run_for_the_reference_results_and_has_a_place_in_the_log():
    makefile = (EXPERIMENTS.parent / "Makefile").read_text()
    recipes = makefile.partition("RECIPES := ")[2].partition("\n")[0].split()
    assert set(recipes) == {path.stem for path in EXPERIMENTS.glob("*.toml")}
    log = (EXPERIMENTS / "LOG.md").read_text()
    assert [name for name in recipes if f"<!-- figures: {name} -->" not in log] == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"metric": ["wer"]}, "unknown key 'metric': did you mean 'metrics'"),
        ({"temperature": 0.3}, r"'temperature' is an axis: put it under \[axes\]"),
        ({"axes": {"chunk_frame": [2]}}, "unknown axis 'chunk_frame': did you mean 'chunk_frames'"),
        ({"axes": {"chunk_frames": [0]}}, "chunk_frames=0: give a number of frames of at least 1"),
        ({"axes": {"chunk_frames": [2.5]}}, "chunk_frames=2.5"),
        ({"axes": {"temperature": [-1]}}, "temperature=-1"),
        ({"axes": {"temperature": ["warm"]}}, "temperature='warm'"),
        ({"axes": {"temperature": []}}, "axis temperature has no values"),
        ({"axes": {"temperature": [0.3, 0.3]}}, "names a value twice"),
        ({"axes": {"whisper": ["bass.en"]}}, "whisper='bass.en': did you mean 'base.en'"),
        ({"axes": {"codec": ["steaming"]}}, "codec='steaming': did you mean 'streaming'"),
        ({"axes": {"context": ["sounds"]}}, "context='sounds': did you mean 'sound'"),
        ({"axes": [1]}, "axes"),
        ({"metrics": ["latencies"]}, "metrics='latencies': did you mean 'latency'"),
        ({"metrics": []}, "at least one"),
        ({"metrics": ["wer"], "axes": {"whisper": "none"}}, "words are heard by a recogniser"),
        ({"preset": "pokcet"}, "preset='pokcet': did you mean 'pocket'"),
        ({"keep": "everything"}, "keep='everything'"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": [-1]}, "seeds=-1"),
        ({"repeats": 0}, "repeats=0"),
        ({"n_texts": 4}, "there are 3 different texts"),
        ({"texts": "absent.txt"}, "no such file"),
        ({"texts": ["...", " "]}, "hold no word"),
        ({"title": 3}, "title=3: give text"),
        ({"baseline": {"chunk_frames": 3}, "axes": {"chunk_frames": [2, 6]}}, "choose among the values of the axis"),
        ({"baseline": {"chunks": 3}}, "did you mean 'chunk_frames'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_the_nearest_right_one(table: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        recipe(**table)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("temprature=0.3", "did you mean 'temperature'"),
        ("temperature", "give name=value"),
        ("chunk_frames=2,,4", "commas between"),
        ("chunk_frames=[1,2", "schedule in brackets"),
        ("keep=none,all", "keep=none,all: give one value"),
        ("n_texts=many", "n_texts='many'"),
    ],
)
def test_wrong_overrides_are_refused(override: str, message: str):
    with pytest.raises(InputError, match=message):
        load_recipe(EXPERIMENTS / "chunk_size.toml", [override])


def test_overrides_take_the_place_of_what_the_file_says():
    loaded = load_recipe(
        EXPERIMENTS / "chunk_size.toml",
        ["chunk_frames=2,[1,2,4]", "temperature=0.5", "seeds=4", "n_texts=2", "metrics=latency,seams"],
    )
    assert loaded.axes["chunk_frames"] == (2, (1, 2, 4)) and loaded.axes["temperature"] == (0.5,)
    assert (loaded.seeds, len(loaded.texts), loaded.metrics) == ((4,), 2, ("latency", "seams"))
    assert loaded.baseline == {"chunk_frames": 2}


def test_a_missing_recipe_and_a_file_that_is_no_toml_are_told(tmp_path: Path):
    with pytest.raises(InputError, match=r"did you mean '.*chunk_size.toml'"):
        load_recipe(EXPERIMENTS / "chunksize.toml")
    (tmp_path / "bad.toml").write_text("axes = [")
    with pytest.raises(InputError, match="is not TOML"):
        load_recipe(tmp_path / "bad.toml")


def test_texts_are_said_in_words_and_each_once():
    assert recipe(texts=["Room 12.", "", "Room 12."]).texts == ("Room twelve.",)


def test_a_metric_that_wants_what_no_trial_has_is_refused():
    @register("metric", "strange")
    def strange(weather):
        return 0

    with pytest.raises(PluginError, match="takes 'weather': a metric takes any of said, heard"):
        recipe(metrics=["strange"])
    assert Measure.of("csmkit.lab.metrics.words:fake_metric").name == "fake_metric"


def test_what_a_recipe_needs_follows_from_its_metrics():
    assert recipe(metrics=["latency"]).times and not recipe(metrics=["latency"]).hears
    assert recipe(metrics=["wer"]).hears and not recipe(metrics=["wer", "seams"]).times


def test_a_plan_has_each_combination_once_in_a_seeded_random_order():
    made = recipe(axes={"chunk_frames": [2, 6], "temperature": [0.3, 0.9]}, seeds=[0, 1], repeats=2)
    trials = plan(made, NO_MODELS)
    assert len({trial.trial_id for trial in trials}) == len(trials) == 2 * 2 * 3 * 2 * 2
    assert [t.trial_id for t in plan(made, NO_MODELS)] == [t.trial_id for t in trials]
    other = plan(
        recipe(axes={"chunk_frames": [2, 6], "temperature": [0.3, 0.9]}, seeds=[0, 1], repeats=2, order_seed=1),
        NO_MODELS,
    )
    assert {t.trial_id for t in other} == {t.trial_id for t in trials}
    assert [t.trial_id for t in other] != [t.trial_id for t in trials]
    halves = [sum(t.point["chunk_frames"] == 2 for t in part) for part in (trials[:24], trials[24:])]
    assert min(halves) >= 6  # no setting has a half of the time to itself


def test_another_model_text_or_metric_makes_another_trial():
    base = {trial.trial_id for trial in plan(recipe(), NO_MODELS)}
    for other in (
        plan(recipe(), NO_MODELS | {"voice": "trained further"}),
        plan(recipe(), NO_MODELS | {"base.en": "another"}),
        plan(recipe(metrics=["wer"]), NO_MODELS),
        plan(recipe(seeds=[7]), NO_MODELS),
        plan(recipe(axes={"context_turns": 1}), NO_MODELS),
    ):
        assert not base & {trial.trial_id for trial in other}
    more = plan(recipe(seeds=[0, 1, 2, 3]), NO_MODELS)
    assert base < {trial.trial_id for trial in more}  # a sweep can be extended


def test_batches_hold_what_differs_only_in_what_a_row_may():
    made = recipe(axes={"chunk_frames": [2, 6], "temperature": [0.3, 0.9]}, metrics=["wer"], batch=5)
    trials = plan(made, NO_MODELS)
    together = tasks(made, trials)
    assert sorted(t.trial_id for batch in together for t in batch) == sorted(t.trial_id for t in trials)
    assert all(len({t.point["chunk_frames"] for t in batch}) == 1 and len(batch) <= 5 for batch in together)
    assert any(len({t.point["temperature"] for t in batch}) == 2 for batch in together)
    assert {len(task) for task in tasks(recipe(metrics=["latency", "wer"]), trials)} == {1}


def test_margins_are_numbers_above_nought_of_columns():
    assert make_recipe("a", {"texts": ["b"], "margins": {"ttfa_ms": 5}}).margins == {"ttfa_ms": 5.0}
    with pytest.raises(InputError, match=r"margin wer=-1: give the smallest difference that matters"):
        make_recipe("a", {"texts": ["b"], "margins": {"wer": -1}})
