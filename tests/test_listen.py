"""Listening tests: blind, balanced, of equal loudness, resumable; and what answers say."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_server import CHROMIUM, CHROMIUM_ARGUMENTS, need

from csmkit.audio import SAMPLE_RATE
from csmkit.errors import InputError
from csmkit.lab.listen import (
    AnswerFile,
    ListeningServer,
    ListeningTest,
    listening_rows,
    listening_sentences,
    plan_test,
    read_answers,
)
from csmkit.lab.metrics.levels import loudness_lufs
from csmkit.lab.report import build_report
from csmkit.lab.sweep import make_recipe, run_sweep

TEXTS = [f"one two three {name}" for name in "abcdefghijklmn"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over two temperatures and all its sound."""
    folder = tmp_path_factory.mktemp("kept") / "temperature"
    table = {"texts": TEXTS, "seeds": [0], "metrics": ["codes"], "speech": "fake", "keep": "audio"}
    axes = {"codec": "fake", "temperature": [0.3, 0.6, 0.9]}
    run_sweep(make_recipe("temperature", {**table, "axes": axes}), folder, progress=False)
    # The fake voice sounds the same at any temperature: each row gets sound of its own, of its own loudness.
    path = folder / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        from csmkit.lab.sweep.worker import write_clip

        noise = np.random.default_rng(number).normal(0, 0.02 + 0.1 * row["temperature"], SAMPLE_RATE // 2)
        row["clip"] = f"clips/{number}.flac"
        write_clip(folder / row["clip"], noise)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(kept, tmp_path / "temperature"))


def ab(folder: Path, listener: str = "Ada", **options: Any) -> ListeningTest:
    return plan_test(folder, "ab", "temperature", [0.3, 0.9], listener, **options)


def test_each_listener_has_an_order_of_their_own_and_keeps_it(folder: Path):
    first, again, other = ab(folder), ab(folder), ab(folder, "Bob")
    assert first == again and len(first.items) == len(TEXTS)
    assert [item.item_id for item in first.items] != [item.item_id for item in other.items]
    assert {item.item_id for item in first.items} == {item.item_id for item in other.items}
    orders = [item.names for listener in range(20) for item in ab(folder, f"{listener}").items]
    assert 0.4 < sum(names[0] == "0.3" for names in orders) / len(orders) < 0.6
    assert len(ab(folder, n_items=3).items) == 3


def test_sounds_are_of_equal_loudness(folder: Path):
    (item, *_) = ab(folder).items
    levels = [loudness_lufs(item.sound(index)) for index in (0, 1)]
    assert levels == pytest.approx([-23, -23], abs=0.1)


def test_x_is_one_of_the_two_and_the_anchor_has_no_treble(folder: Path):
    test = plan_test(folder, "abx", "temperature", [0.3, 0.9], "Ada")
    assert {item.x for item in test.items} == {0, 1}
    for item in test.items:
        assert np.array_equal(item.sound(2), item.sound(item.x))
    (item, *_) = plan_test(folder, "mushra", "temperature", [0.3, 0.6, 0.9], "Ada").items
    assert sorted(item.names) == ["0.6", "0.9", "anchor", "reference"]

    def treble(sound: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(sound)) ** 2
        return float(power[len(power) // 2 :].sum() / power.sum())

    assert treble(item.sound(item.names.index("anchor"))) < 1e-6 < treble(item.sound(item.names.index("reference")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("abc", "temperature", [0.3, 0.9]), "give one of ab, abx, mushra"),
        (("ab", "temperature", [0.3]), "ab compares two"),
        (("ab", "temperature", [0.3, 0.4]), "'0.4' has no sound: there is 0.3, 0.6, 0.9"),
        (("ab", "loudness", [1, 2]), "these rows have none"),
    ],
)
def test_what_cannot_be_asked_is_refused(folder: Path, arguments: tuple[Any, ...], message: str):
    with pytest.raises(InputError, match=message):
        plan_test(folder, *arguments, "Ada")


@pytest.mark.parametrize(("kind", "n_sounds"), [("ab", 2), ("abx", 3), ("mushra", 5)])
def test_a_notebook_asks_the_same_questions_and_keeps_the_same_rows(folder: Path, kind: str, n_sounds: int):
    need("anywidget", "ipywidgets")
    from csmkit.lab.notebook import Listen

    values = [0.3, 0.6, 0.9] if kind == "mushra" else [0.3, 0.9]
    test = Listen(folder, kind, "temperature", values, "Ada", n_items=2)
    first = test.item
    assert first is not None and len(test.sounds) == n_sounds
    for place, sound in enumerate(test.sounds):
        assert all(choice.disabled for choice in test.choices), "not each sound was played"
        sound.click()
        wanted = first.sound(first.names.index("reference") if kind == "mushra" and place == 4 else place)
        assert test.player.wait_sent(60) and np.array_equal(test.player.audio, wanted)
    for rating in test.ratings:
        rating.value = 80
    test.choices[-1].click()
    (row,) = read_answers(folder)
    assert row["item_id"] == first.item_id and test.item is not first
    assert row["ratings" if kind == "mushra" else "chosen"] == (
        dict.fromkeys(first.names, 80) if kind == "mushra" else first.names[1]
    )
    again = Listen(folder, kind, "temperature", values, "Ada", n_items=2)
    again.answer([10] * 4 if kind == "mushra" else 0)
    assert again.item is None and "Thank you" in again.widget.children[0].value and not again.choices


def test_answers_are_kept_one_by_one_and_the_test_goes_on_where_it_was(folder: Path):
    test = ab(folder)
    answers = AnswerFile(folder, test)
    first = answers.following()
    row = answers.add(first, 1, 2.5)
    assert row["chosen"] == first.names[1] and row["listener"] == "Ada" and row["text"] == first.text
    with pytest.raises(InputError, match="answered already"):
        answers.add(first, 0, 1.0)
    for wrong in (2, "a", None, True):
        with pytest.raises(InputError, match="choose sound 0 or 1"):
            answers.add(answers.following(), wrong, 1.0)
    path = folder / "listening" / "answers.jsonl"
    path.write_text(path.read_text() + '{"listener": "Ada", "item_')
    again = AnswerFile(folder, test)
    assert again.following() == test.items[1] and AnswerFile(folder, ab(folder, "Bob")).following() is not None
    assert [row["item_id"] for row in read_answers(folder)] == [first.item_id]
    again.add(test.items[1], 0, 1.0)
    assert [row["item_id"] for row in read_answers(folder)] == [first.item_id, test.items[1].item_id]


def answered(folder: Path, kind: str, listeners: int, right: float, seed: int = 0) -> list[dict[str, Any]]:
    """Answers of listeners who take the first value, or are right, with a probability."""
    chance = random.Random(seed)
    for listener in range(listeners):
        test = plan_test(folder, kind, "temperature", [0.3, 0.9], f"listener {listener}")
        answers = AnswerFile(folder, test)
        while (item := answers.following()) is not None:
            wanted = item.x if kind == "abx" else item.names.index("0.3")
            answers.add(item, wanted if chance.random() < right else 1 - wanted, 1.0)
    return read_answers(folder)


def test_a_preference_is_found_with_exact_bounds_and_guessing_shows_nothing(folder: Path, tmp_path: Path):
    (row,) = listening_rows(answered(folder, "ab", 1, 1.0))
    assert (row["value"], row["high"], row["n"]) == (1.0, 1.0, 14)
    assert row["low"] == pytest.approx(0.025 ** (1 / 14)) and row["p"] == pytest.approx(2 * 0.5**14)
    assert "a preference is shown" in listening_sentences(read_answers(folder))[0]


def test_who_guesses_does_not_hear_a_difference(folder: Path):
    answers = answered(folder, "abx", 3, 0.5)
    (row,) = listening_rows(answers)
    assert row["n"] == 42 and row["n_listeners"] == 3 and row["low"] < 0.5 < row["high"]
    assert "that anyone hears it is not shown, at most" in listening_sentences(answers)[0]


def test_several_listeners_have_bounds_at_least_as_wide_as_the_exact_ones(folder: Path):
    answers = answered(folder, "ab", 3, 0.8)
    (row,) = listening_rows(answers)
    alone = [{**answer, "listener": "one"} for answer in answers]
    (exact,) = listening_rows(alone)
    assert row["low"] <= exact["low"] and exact["high"] <= row["high"] and row["value"] == exact["value"]


def test_ratings_are_differences_from_the_hidden_reference_of_who_finds_it(folder: Path):
    for listener, finds in (("careful", True), ("careless", False)):
        test = plan_test(folder, "mushra", "temperature", [0.3, 0.6, 0.9], listener)
        answers = AnswerFile(folder, test)
        scores = {"reference": 95 if finds else 40, "0.6": 80, "0.9": 60, "anchor": 20}
        while (item := answers.following()) is not None:
            answers.add(item, [scores[name] for name in item.names], 1.0)
    rows = {row["figure"]: row for row in listening_rows(read_answers(folder))}
    assert {row["n_listeners"] for row in rows.values()} == {1}  # the careless one is left out
    assert rows["rating of temperature 0.9 minus the hidden reference"]["value"] == -35
    assert rows["rating of temperature anchor minus the hidden reference"]["value"] == -75


def test_the_report_says_what_listeners_say(folder: Path):
    answered(folder, "ab", 1, 1.0)
    page = build_report(folder).read_text()
    assert "What listeners say" in page and "preferred temperature 0.3 to 0.9: 100%" in page


def test_the_page_is_for_this_machine_and_does_not_tell_settings(folder: Path):
    with ListeningServer(folder, ab(folder)) as server:

        def asked(path: str, **options: Any) -> bytes:
            request = urllib.request.Request(server.address + path, **options)
            return urllib.request.urlopen(request, timeout=10).read()

        told = json.loads(asked("question"))
        assert "0.3" not in json.dumps(told) and "0.9" not in json.dumps(told) and "clip" not in json.dumps(told)
        assert asked(f"sound/{told['item']}/0")[:4] == b"RIFF"
        for path, options in (
            ("question", {"headers": {"Host": "evil.example:80"}}),
            (f"sound/{told['item']}/7", {}),
            ("sound/none/0", {}),
            ("answer", {"data": b"{}"}),  # not JSON by its header: a foreign page could send it
            ("answer", {"data": b'{"item": "other"}', "headers": {"Content-Type": "application/json"}}),
        ):
            with pytest.raises(urllib.error.HTTPError, match=r"40[034]"):
                asked(path, **options)
        assert read_answers(folder) == []


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["ab", "abx", "mushra"])
def test_a_test_is_taken_in_a_browser_with_the_keyboard_alone_and_gone_on_with(folder: Path, kind: str):
    need("playwright", browser=True)
    from playwright import sync_api

    values = [0.3, 0.6, 0.9] if kind == "mushra" else [0.3, 0.9]
    test = plan_test(folder, kind, "temperature", values, "Ada", n_items=2)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        for part in range(2):
            with ListeningServer(folder, test) as server:
                page = browser.new_page()
                page.goto(server.address)
                page.wait_for_selector("#sounds button")
                assert page.locator("#text").inner_text().endswith(f"({part + 1} of 2)")
                page.keyboard.press("Enter")  # nothing was heard yet: no answer
                assert len(read_answers(folder)) == part
                keys = {"ab": "12", "abx": "123", "mushra": "01234"}[kind]
                for index, key in enumerate(keys):
                    page.keyboard.press(key)
                    left = len(keys) - 1 - index
                    told = f"Listen to {left} more" if left else ("Press Enter" if kind == "mushra" else "Choose")
                    page.wait_for_function(
                        "told => document.getElementById('status').textContent.includes(told)", arg=told
                    )
                page.keyboard.press("ArrowRight" if kind == "mushra" else "b")
                page.keyboard.press("Enter")
                if part == 0:
                    page.wait_for_function("document.getElementById('text').textContent.includes('2 of 2')")
                else:
                    page.wait_for_selector("body[data-done]")
                    assert server.finished.wait(10)
                page.close()
        browser.close()
    answers = read_answers(folder)
    assert [row["item_id"] for row in answers] == [item.item_id for item in test.items]
    if kind == "mushra":
        assert all(row["ratings"][item.names[3]] == 51 for row, item in zip(answers, test.items, strict=True))
    else:
        assert all(row["chosen"] == item.names[1] for row, item in zip(answers, test.items, strict=True))
