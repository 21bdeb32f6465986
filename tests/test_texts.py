"""Sets of texts: what they hold, and that a sweep draws from them at random."""

from __future__ import annotations

from pathlib import Path

import pytest

from csmkit.errors import InputError
from csmkit.lab.sweep import load_recipe, make_recipe
from csmkit.lab.texts import TEXT_SETS, draw_texts, read_texts
from csmkit.text.normalize import in_words

ROOT = Path(__file__).parents[1]
HELD_OUT = ROOT / "experiments/pocket/text/held_out.txt"


@pytest.mark.parametrize("name", TEXT_SETS)
def test_a_set_has_enough_texts_for_an_error_rate_each_once_and_ready_to_be_spoken(name: str):
    texts = read_texts(name)
    assert len(texts) >= 72 and len(set(texts)) == len(texts)
    assert all(in_words(text) == text and text[-1] in ".?" and 3 <= len(text.split()) <= 12 for text in texts)


def test_no_text_of_a_set_is_an_acceptance_sentence():
    kept = {line.lower() for line in HELD_OUT.read_text().splitlines()}
    assert not kept & {text.lower() for name in TEXT_SETS for text in read_texts(name)}


def test_texts_are_drawn_at_random_by_the_recipes_seed_and_not_from_the_top():
    lines = read_texts("harvard")
    drawn = make_recipe("a", {"texts": "harvard", "n_texts": 30}).texts
    assert set(drawn) <= set(lines) and len(set(drawn)) == 30
    assert len(set(drawn) & set(lines[:30])) < 20
    other = make_recipe("a", {"texts": "harvard", "n_texts": 30, "order_seed": 1}).texts
    assert set(other) != set(drawn)


def test_more_texts_keep_the_fewer_so_that_their_trials_are_not_run_again():
    assert draw_texts("harvard", 60)[:30] == draw_texts("harvard", 30)


def test_lines_that_are_remarks_are_not_spoken(tmp_path: Path):
    (tmp_path / "a.txt").write_text("# a remark\n\nhello there.\n")
    assert make_recipe("a", {"texts": str(tmp_path / "a.txt")}).texts == ("hello there.",)


def test_an_unknown_set_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"texts='harvrad': no such file.* conversation, harvard"):
        read_texts("harvrad")
    with pytest.raises(InputError, match="n_texts=3: there are 2 different texts, give at least 1"):
        draw_texts(["a", "b"], 3)


def test_every_reference_recipe_has_enough_texts_and_those_with_an_error_rate_thirty():
    for path in sorted((ROOT / "experiments").glob("*.toml")):
        recipe = load_recipe(path)
        assert len(recipe.texts) >= (30 if {"wer", "cer"} & set(recipe.metrics) else 12), path.name
