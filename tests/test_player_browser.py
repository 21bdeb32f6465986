"""The player in a real JupyterLab: what the browser schedules, when it falls silent, what it tells Python."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from lab_server import CHROMIUM, CHROMIUM_ARGUMENTS, SILENCE_MS, LabPage, choose_settings, lab_server, least_ms, need

need("anywidget", "ipykernel", "jupyterlab", "playwright", browser=True)
from playwright import sync_api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

CHUNKS = """
import numpy as np
rng = np.random.default_rng(0)
chunks = [rng.uniform(-0.5, 0.5, n).astype(np.float32) for n in (1920, 7, 1, 4801, 1920, 12000)]
"""
LONG_SPEECH = """
from csmkit.speech.generator import FakeGenerator
generator = FakeGenerator(frame_s=0.02)
stream = generator.generate_streaming("word " * 90, max_audio_length_ms=20_000, chunk_frames=1, seed=1)
player = Player()
player.play(stream)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    """One notebook for all tests here: a server, a page and a kernel take most of the time."""
    folder = tmp_path_factory.mktemp("lab")
    choose_settings(folder, os.environ.get("CSMKIT_THEME", "JupyterLab Light"))
    with lab_server(folder) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        page = LabPage(browser.new_page(device_scale_factor=2), address)
        page.run("import threading, time\nfrom csmkit.lab.notebook import Player")
        yield page
        browser.close()


@pytest.fixture(autouse=True)
def fresh(lab: LabPage) -> None:
    lab.listen()


def sent_chunks() -> list[np.ndarray]:
    names: dict[str, list[np.ndarray]] = {}
    exec(CHUNKS, names)
    return names["chunks"]


def assert_heard(lab: LabPage, sound: np.ndarray) -> None:
    """The browser's output is the sound, sample by sample.

    It keeps times in seconds, of which the rate does not always make the whole sample again: a start may lie 1e-12 of a
    sample beside it, which the browser makes up for with an error of that size in a few samples.
    """
    np.testing.assert_allclose(np.float32(lab.page.evaluate("render()")), sound, rtol=0, atol=1e-9)


def test_the_browser_plays_bit_for_bit_what_was_sent_without_a_gap(lab: LabPage) -> None:
    lab.run(CHUNKS + "player = Player(lead_ms=1000)\nplayer.play(chunks)\nplayer.wait()")
    lab.run_until("player.phase", "'ended'")
    starts = lab.page.evaluate("heard.starts")
    sent = sent_chunks()
    assert {start["rate"] for start in starts} == {24_000}
    assert [len(start["samples"]) for start in starts] == [len(chunk) for chunk in sent]
    for start, chunk in zip(starts, sent, strict=True):
        np.testing.assert_array_equal(np.float32(start["samples"]), chunk)
    for (before, after), chunk in zip(pairwise(start["when"] for start in starts), sent, strict=False):
        assert after - before == pytest.approx(len(chunk) / 24_000, abs=1e-9)
    assert_heard(lab, np.concatenate(sent))


def test_arrivals_and_no_underrun_come_back_to_python(lab: LabPage) -> None:
    lab.run(CHUNKS + "player = Player(lead_ms=1000)\nplayer.play(chunks)")
    lab.run_until("player.phase", "'ended'")
    assert lab.run("player.underruns") == "0"
    assert lab.run("len(player.arrivals), sorted(player.arrivals.times_s) == player.arrivals.times_s") == "(6, True)"
    assert lab.run("player.arrivals.durations_s == player.sent.durations_s") == "True"


def test_a_chunk_that_comes_too_late_is_an_underrun(lab: LabPage) -> None:
    lab.run(
        CHUNKS
        + "gate = threading.Event()\n"
        + "def slow():\n    yield chunks[3]\n    gate.wait()\n    yield chunks[4]\n"
        + "player = Player()\nplayer.play(slow())"
    )
    lab.wait_for_silence()
    assert lab.run("gate.set(); player.wait()") == "True"
    lab.run_until("player.phase", "'ended'")
    assert lab.run("player.underruns") == "1"
    lab.picture(".csmkit-player", "player_underrun")


def test_the_stop_button_silences_at_once_and_closes_the_stream(lab: LabPage) -> None:
    def click_until_silence_ms() -> float:
        lab.listen()
        lab.run(LONG_SPEECH)
        lab.wait_for_sound()
        lab.picture(".csmkit-player", "player_playing")
        lab.page.locator(".csmkit-player-button").last.click()
        lab.wait_for_silence()
        lab.run_until("player.wait(1), stream.finish_reason, player.phase", "(True, 'interrupted', 'stopped')")
        assert int(lab.run("stream.n_frames")) < 180
        return lab.page.evaluate("heard.lastLoudMs - heard.clickMs")

    assert least_ms(click_until_silence_ms) < SILENCE_MS
    lab.picture(".csmkit-player", "player_stopped")


def test_the_stop_button_closes_a_plain_generator_within_its_next_chunk(lab: LabPage) -> None:
    lab.run(
        CHUNKS
        + "closed = threading.Event()\n"
        + "def endless():\n    try:\n        while True:\n            yield chunks[5]\n            time.sleep(0.3)\n"
        + "    finally:\n        closed.set()\n"
        + "player = Player()\nplayer.play(endless())"
    )
    lab.wait_for_sound()
    lab.page.locator(".csmkit-player-button").last.click()
    assert lab.run("closed.wait(60), player.wait(60)") == "(True, True)"


def test_stop_in_python_silences_the_browser_at_once(lab: LabPage) -> None:
    def stop_until_silence_ms() -> float:
        lab.listen()
        lab.run(LONG_SPEECH)
        lab.wait_for_sound()
        stopped_ms = 1000 * float(lab.run("now = time.time(); player.stop(); player.wait(); print(now)"))
        lab.wait_for_silence()
        assert lab.run("stream.finish_reason") == "'interrupted'"
        return lab.page.evaluate("performance.timeOrigin + heard.lastLoudMs") - stopped_ms

    assert least_ms(stop_until_silence_ms) < SILENCE_MS


def test_an_answered_player_shows_no_plain_control_even_if_its_answer_waited_for_the_cell(lab: LabPage) -> None:
    lab.run(CHUNKS + "player = Player()\nplayer.play(chunks)\nplayer.wait()")
    lab.run_until("player.phase, player.shows_audio", "('ended', False)")
    assert not lab.page.locator(".jp-OutputArea audio").count()
    assert lab.page.locator(".csmkit-player").last.is_visible()
    lab.picture(".csmkit-player", "player_ended")


PLAYERS = """
def tone(level, seconds=0.6):
    return np.full(round(24_000 * seconds), level, np.float32)
def streamed(level):
    for _ in range(4):
        yield tone(level, 0.15)
        time.sleep(0.02)
"""


def sounds(lab: LabPage) -> list[tuple[float, float, float]]:
    """When each chunk begins and ends in the page's clock, and its level; in the order in which they begin."""
    starts = lab.page.evaluate("heard.starts.map((s) => [s.when, s.when + s.samples.length / s.rate, s.samples[0]])")
    return sorted((begin, end, round(level, 2)) for begin, end, level in starts)


def assert_one_at_a_time(lab: LabPage) -> list[float]:
    """No two chunks overlap; the level of each player, in the order they sound."""
    heard = sounds(lab)
    assert all(before[1] <= after[0] + 1e-9 for before, after in pairwise(heard))
    return list(dict.fromkeys(level for _, _, level in heard))


def test_players_that_begin_at_once_sound_one_after_the_other_in_their_order(lab: LabPage) -> None:
    lab.run(
        "import numpy as np\n"
        + PLAYERS
        + "players = [Player() for _ in range(4)]\nfor number, player in enumerate(players):\n"
        + "    player.play(streamed(0.1 * (number + 1)))"
    )
    lab.run_until("[player.phase for player in players]", str(["ended"] * 4))
    assert assert_one_at_a_time(lab) == [0.1, 0.2, 0.3, 0.4]
    begins_and_ends = [(begin, end) for begin, end, _ in sounds(lab)]
    assert sum(end - begin for begin, end in begins_and_ends) == pytest.approx(4 * 0.6)


def test_stopping_one_lets_the_next_begin_and_stopping_the_next_takes_it_out_of_the_queue(lab: LabPage) -> None:
    lab.run(
        PLAYERS + "first, second, third = (Player() for _ in range(3))\nfirst.play(tone(0.1, 60))\n"
        "second.play(tone(0.2))\nthird.play(tone(0.3))"
    )
    lab.wait_for_sound()
    lab.run_until("first.phase, second.phase, third.phase", "('playing', 'queued', 'queued')")
    lab.run("second.stop()\nfirst.stop()")
    lab.run_until("first.phase, second.phase, third.phase", "('stopped', 'stopped', 'ended')")
    assert [level for _, _, level in sounds(lab)] == [0.1, 0.3]


def test_the_play_button_takes_the_place_of_what_sounds(lab: LabPage) -> None:
    lab.run(PLAYERS + "short, long = Player(), Player()\nshort.play(tone(0.1))")
    lab.run_until("short.phase", "'ended'")
    button = lab.page.locator(".csmkit-player-button").last
    lab.run("long.play(tone(0.2, 60))")
    lab.run_until("long.phase", "'playing'")
    lab.page.locator(".csmkit-player-button").nth(-2).click()
    lab.run_until("short.phase, long.phase, long.wait()", "('ended', 'stopped', True)")
    assert [level for _, _, level in sounds(lab)] == [0.1, 0.2, 0.1]
    assert button.is_visible()


def test_a_player_whose_source_hangs_does_not_silence_the_page(lab: LabPage) -> None:
    lab.run(
        PLAYERS + "gate = threading.Event()\ndef hangs():\n    yield tone(0.1)\n    gate.wait()\n    yield tone(0.3)\n"
        "stuck, other = Player(), Player()\nstuck.play(hangs())\nother.play(tone(0.2))"
    )
    lab.run_until("other.phase", "'ended'")
    lab.run("gate.set()")
    lab.run_until("stuck.phase", "'ended'")
    assert assert_one_at_a_time(lab) == [0.1, 0.2, 0.3]


def test_the_play_button_plays_the_answer_again(lab: LabPage) -> None:
    lab.run(CHUNKS + "player = Player()\nplayer.play(chunks)")
    lab.run_until("player.phase", "'ended'")
    report = lab.run("player.underruns, player.arrivals")
    lab.listen()
    lab.page.locator(".csmkit-player-button").last.click()
    lab.wait_for_silence()
    assert_heard(lab, np.concatenate(sent_chunks()))
    assert lab.run("player.underruns, player.arrivals") == report


def test_an_error_of_the_source_is_shown_beside_the_sound_and_raised_by_wait(lab: LabPage) -> None:
    lab.run(
        "player = Player()\nplayer.play(FakeGenerator(fails_after=9).generate_streaming('word ' * 20, chunk_frames=3))"
    )
    lab.page.locator(".csmkit-player-error").last.wait_for()
    assert "fail after 9 frames" in lab.page.locator(".csmkit-player-error").last.inner_text()
    raised = lab.run("try:\n    player.wait()\nexcept RuntimeError as error:\n    print(type(error).__name__)")
    assert raised == "DeviceError\n"
    lab.picture(".csmkit-player", "player_error")


def test_once_a_player_was_answered_the_next_cell_waits_until_its_sound_was_heard(lab: LabPage) -> None:
    lab.run(PLAYERS + "player = Player()\nplayer.play(tone(0.1, 0.2))")
    lab.run_until("player.phase", "'ended'")
    lab.listen()
    play = "begun = time.monotonic()\nplayer = Player()\nplayer.play(tone({}, 1.5))\nplayer.wait_sent()\n"
    play += "sent = time.monotonic()\nprint(player.wait(), time.monotonic() - begun >= 1.5 > sent - begun)"
    for level in (0.2, 0.3):
        assert lab.run(play.format(level)).endswith("True True\n")
    lab.run_until("player.phase", "'ended'")
    assert assert_one_at_a_time(lab) == [0.2, 0.3]
    lab.run("player = Player()\nplayer.play(tone(0.4, 60))\nthreading.Timer(0.5, player.stop).start()")
    assert lab.run("print(player.wait(20), player.audio.size)") == "True 1440000\n", "it was stopped: a minute is left"


WORDS = """
from csmkit.asr.transcriber import Word
levels = np.repeat(np.float32([0.1, 0.2, 0.3]), 24_000)
player = Player()
player.play([levels[:30_000], levels[30_000:]])
player.show_words([Word("one", 0.0, 1.0), Word("two", 1.0, 2.0), Word("three", 2.0, 3.0)])
"""


@pytest.fixture
def words(lab: LabPage) -> sync_api.Locator:
    """A player whose sound has three levels with a word each, of one second; it has ended."""
    lab.run("import numpy as np\n" + WORDS)
    lab.run_until("player.phase", "'ended'")
    lab.listen()
    return lab.page.locator(".csmkit-player").last


def first_sample_after_seek(lab: LabPage) -> tuple[int, float]:
    """How many samples were scheduled, and the level of the first."""
    lab.page.wait_for_function("heard.starts.length > 0")
    heard = lab.heard()
    return len(heard), round(float(heard[0]), 2)


def test_a_click_on_the_waveform_plays_from_there_sample_by_sample(lab: LabPage, words: sync_api.Locator) -> None:
    picture = words.locator(".csmkit-player-picture")
    width = picture.bounding_box()["width"]
    picture.click(position={"x": width * 2.5 / 4, "y": 20})  # the waveform shows four seconds at least
    n_samples, level = first_sample_after_seek(lab)
    assert level == 0.3 and n_samples == pytest.approx(12_000, abs=400)
    lab.run_until("player.phase", "'ended'")
    lab.run("assert player.underruns == 0")


def test_a_click_on_a_word_plays_from_it_and_the_word_that_sounds_is_marked(
    lab: LabPage, words: sync_api.Locator
) -> None:
    buttons = words.locator(".csmkit-player-word")
    buttons.nth(2).wait_for()
    assert buttons.all_inner_texts() == ["one", "two", "three"]
    words.evaluate(
        """player => {
          window.marked = [];
          new MutationObserver(() => {
            const word = player.querySelector(".csmkit-player-word-now")?.textContent;
            if (word && window.marked.at(-1) !== word) window.marked.push(word);
          }).observe(player, { subtree: true, attributes: true });
        }"""
    )
    buttons.nth(1).click()
    assert first_sample_after_seek(lab) == (48_000, 0.2)
    lab.run_until("player.phase", "'ended'")
    assert lab.page.evaluate("window.marked") == ["two", "three"]
    lab.picture(".csmkit-player", "player_words")


def test_keys_move_play_and_stop_and_do_not_reach_the_notebook(lab: LabPage, words: sync_api.Locator) -> None:
    slider = words.get_by_role("slider", name="Position in the sound")
    slider.focus()
    slider.press("End")
    assert first_sample_after_seek(lab) == (12_000, 0.3)
    lab.listen()
    slider.press("Home")
    assert first_sample_after_seek(lab) == (72_000, 0.1)
    assert 0 <= float(slider.get_attribute("aria-valuenow")) <= 3 == float(slider.get_attribute("aria-valuemax"))
    slider.press("Space")
    lab.run_until("player.phase", "'ended'")
    n_cells = lab.page.evaluate("jupyterapp.shell.currentWidget.content.model.cells.length")
    slider.press("b")
    n_after = lab.page.evaluate("jupyterapp.shell.currentWidget.content.model.cells.length")
    assert n_after == n_cells, "in command mode, b inserts a cell"


def test_the_spectrogram_shows_where_the_sound_is(lab: LabPage, words: sync_api.Locator) -> None:
    lab.run(
        "player = Player()\nplayer.play((0.5 * np.sin(2 * np.pi * 3000 * np.arange(48_000) / 24_000)).astype('f4'))"
    )
    lab.run_until("player.phase", "'ended'")
    player = lab.page.locator(".csmkit-player").last
    assert not player.locator(".csmkit-player-spectrogram").is_visible()
    player.get_by_role("button", name="Show the spectrogram").click()
    picture = player.get_by_role("img", name="Spectrogram")
    loudest = picture.evaluate(
        """canvas => {
          const { width, height } = canvas;
          const column = canvas.getContext("2d").getImageData(Math.round(width / 4), 0, 1, height).data;
          const rows = Array.from({ length: height }, (_, row) => column[4 * row] * column[4 * row + 3]);
          return rows.indexOf(Math.max(...rows)) / height;
        }"""
    )
    assert loudest == pytest.approx(1 - 3000 / 12_000, abs=0.05)
    lab.picture(".csmkit-player", "player_spectrogram")


def test_the_sound_is_downloaded_as_a_wav_file(lab: LabPage, words: sync_api.Locator, tmp_path: Path) -> None:
    with lab.page.expect_download() as download:
        words.get_by_role("button", name="Download as WAV").click()
    download.value.save_as(tmp_path / "sound.wav")
    with wave.open(str(tmp_path / "sound.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (24_000, 1, 72_000)
        samples = np.frombuffer(file.readframes(72_000), "<i2")
    np.testing.assert_allclose(samples / 32_768, np.repeat([0.1, 0.2, 0.3], 24_000), atol=1 / 32_768)


def test_a_kernel_restarted_while_it_plays_is_named_and_the_sound_can_still_be_played(
    lab: LabPage, words: sync_api.Locator
) -> None:
    lab.run(LONG_SPEECH)
    lab.wait_for_sound()
    lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    player = lab.page.locator(".csmkit-player").last
    player.get_by_role("alert").wait_for()
    assert "the kernel was restarted: run the cell again" in player.inner_text()
    lab.wait_for_silence()
    lab.listen()
    player.locator(".csmkit-player-button").click()
    lab.wait_for_sound()
    lab.picture(".csmkit-player", "player_restarted")
