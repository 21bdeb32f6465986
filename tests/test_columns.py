"""The dictionary of columns: every row keeps to it, and the page of definitions is made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.lab.analysis.columns import axis_label, columns
from csmkit.lab.sweep import make_recipe, read_rows, run_sweep
from experiments.columns import PAGE, filled

ALL_METRICS = ["latency", "artifacts", "seams", "distances", "levels", "codes", "loudness"]


def test_each_column_of_a_turn_is_defined_and_no_other():
    with StreamingConversationalChatbot(generator="fake", llm="echo", asr=False) as chatbot:
        row = list(chatbot.process_streaming("Hello."))[-1]["metrics"]
    assert set(row) == {name for name, column in columns().items() if column.rows in ("turn", "both")}


@pytest.mark.parametrize("metrics", [ALL_METRICS, ["codes", "levels"], ["latency", "wer", "cer"]])
def test_each_column_of_a_trial_is_defined(metrics: list[str], tmp_path: Path):
    texts = ["one two three"]
    table = {"texts": texts, "seeds": [0], "metrics": metrics, "speech": "fake", "asr": "fake"}
    recipe = make_recipe("small", {**table, "axes": {"codec": "fake"}})
    run_sweep(recipe, tmp_path / "small", progress=False)
    known = {name for name, column in columns().items() if column.rows in ("trial", "both")}
    (row,) = read_rows(tmp_path / "small")
    assert row["error"] is None
    assert set(row) - known == set()
    assert {"onset_ms", "commit", "version_torch", "cpu", "trial_id"} <= set(row)
    assert ("ttfa_audible_ms" in row) == ("latency" in metrics)


def test_every_definition_is_written_and_every_number_has_a_unit():
    for name, column in columns().items():
        assert column.definition, name
        numbers = column.margin is not None or column.share or column.weight or name.endswith(("_ms", "_db", "_s"))
        assert not numbers or axis_label(name).endswith(")"), name


def test_the_page_of_definitions_is_made_from_the_dictionary():
    assert PAGE.read_text() == filled(PAGE.read_text()), "run python -m experiments.columns"
