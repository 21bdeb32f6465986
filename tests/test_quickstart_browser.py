"""The quickstart as its user has it: a real JupyterLab, a browser, the bundled models; what is heard, stopped, chosen.

With CSMKIT_SCREENSHOTS=docs/images it leaves the pictures of the README there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from lab_server import CHROMIUM, CHROMIUM_ARGUMENTS, SILENCE_MS, LabPage, choose_settings, lab_server, least_ms, need

need("anywidget", "ipykernel", "jupyterlab", "matplotlib", "playwright", browser=True)
from playwright import sync_api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

QUICKSTART = Path(__file__).parent.parent / "notebooks" / "00_quickstart.ipynb"
SHA = "import hashlib, numpy\nprint(hashlib.sha256(numpy.concatenate([{}]).tobytes()).hexdigest())"
LONG = """
long = Player()
words = "the weather is nice and warm, and we would like to go for a walk. " * 8
stream = voice.generate_streaming(words, max_audio_length_ms=60_000, chunk_frames=2, seed=1)
long.play(stream)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    folder = tmp_path_factory.mktemp("quickstart")
    choose_settings(folder, "JupyterLab Light")
    with lab_server(folder, QUICKSTART) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        view = browser.new_page(viewport={"width": 1340, "height": 960}, device_scale_factor=1.5)
        page = LabPage(view, address)
        view.evaluate("jupyterapp.shell.collapseLeft()")
        page.listen()
        page.run_all()
        page.wait_for_silence()
        yield page
        browser.close()


def same_as(lab: LabPage, heard: np.ndarray, expression: str) -> bool:
    """Whether what was heard is bit for bit what an expression in the kernel gives, arrays with commas between."""
    return hashlib.sha256(heard.tobytes()).hexdigest() == lab.run(SHA.format(expression)).strip()


def test_all_that_the_quickstart_plays_is_heard_bit_for_bit(lab: LabPage) -> None:
    heard = lab.heard()
    assert len(heard) > 4 * 24_000
    assert same_as(lab, heard, "player.audio, streaming.audio, reply.audio, turn.audio")
    rates = lab.page.evaluate("heard.starts.map((start) => start.rate)")
    assert set(rates) == {24_000}


def test_running_all_cells_plays_one_sound_at_a_time(lab: LabPage) -> None:
    starts = lab.page.evaluate("heard.starts.map((s) => [s.when, s.when + s.samples.length / s.rate])")
    assert len(starts) > 8
    for (_, end), (begin, _) in pairwise(sorted(starts)):
        assert begin >= end - 1e-9


def test_the_players_stand_in_their_cells_and_no_plain_control_does(lab: LabPage) -> None:
    lab.run_until("[p.phase for p in (player, streaming, reply, turn)]", "['ended', 'ended', 'ended', 'ended']")
    assert lab.page.locator(".jp-OutputArea .csmkit-player:not(.csmkit-talk)").count() == 5  # four cells, the studio
    assert lab.page.locator(".jp-OutputArea .csmkit-talk").count() == 1
    assert not lab.page.locator(".jp-OutputArea audio").count()
    lab.page.locator(".csmkit-player").nth(2).scroll_into_view_if_needed()
    lab.picture("#main", "quickstart")


def test_a_click_on_a_recognised_word_of_the_chatbot_s_answer_plays_from_it(lab: LabPage) -> None:
    words = lab.page.locator(".jp-OutputArea .csmkit-player").nth(3).locator(".csmkit-player-word")
    lab.run("(final,) = [event for event in events if event['type'] == 'final_text']")
    assert " ".join(words.all_inner_texts()) == lab.run("print(' '.join(w.text for w in final['words']))").strip()
    assert words.count() > 2
    lab.listen()
    words.nth(1).click()
    lab.wait_for_silence()
    assert same_as(lab, lab.heard(), "turn.audio[round(final['words'][1].start_s * 24_000):]")


def test_stop_silences_the_voice_and_ends_it(lab: LabPage) -> None:
    def click_until_silence_ms() -> float:
        lab.listen()
        lab.run(LONG)
        lab.wait_for_sound()
        lab.page.locator(".csmkit-player-button").last.click()
        lab.wait_for_silence()
        lab.run_until("long.wait(1), long.phase, stream.finish_reason", "(True, 'stopped', 'interrupted')")
        return lab.page.evaluate("heard.lastLoudMs - heard.clickMs")

    assert least_ms(click_until_silence_ms) < SILENCE_MS


def speak(lab: LabPage, n_recordings: int) -> None:
    lab.page.locator(".csmkit-studio-speak").click()
    if n_recordings == 2:
        lab.moving_picture(".csmkit-studio", "studio")
    lab.page.wait_for_function(
        "n => document.querySelectorAll('.csmkit-studio-recordings button').length === 2 * n", arg=n_recordings
    )
    lab.wait_for_silence()


def test_the_studio_speaks_what_its_sliders_say_and_plays_it_bit_for_bit(lab: LabPage) -> None:
    lab.listen()
    speak(lab, 1)
    assert same_as(lab, lab.heard(), "studio.recordings[0].trial.audio")
    handle = lab.page.locator(".csmkit-studio-temperature .noUi-handle")
    for _ in range(15):
        handle.press("ArrowRight")
    shown = lab.page.locator(".csmkit-studio-temperature .widget-readout").inner_text()
    lab.page.locator(".csmkit-studio-chunk-frames .noUi-handle").press("ArrowLeft")
    lab.listen()
    speak(lab, 2)
    assert same_as(lab, lab.heard(), "studio.recordings[1].trial.audio")
    told = lab.run("row = studio.recordings[1].row; print(f\"{row['temperature']:.2f}\", row['chunk_frames'])").split()
    assert told == [shown, "4"] and shown == "0.70"
    assert not lab.page.locator(".csmkit-studio [role=alert]").count()
    lab.picture(".csmkit-studio", "studio")


def test_an_earlier_recording_is_heard_again_by_its_button(lab: LabPage) -> None:
    lab.listen()
    lab.page.locator(".csmkit-studio-recordings button[title='hear recording 1 again']").click()
    lab.wait_for_silence()
    assert same_as(lab, lab.heard(), "studio.recordings[0].trial.audio")


def test_an_error_is_one_line_in_the_studio(lab: LabPage) -> None:
    lab.page.locator(".csmkit-studio-seed input").fill("one")
    lab.page.locator(".csmkit-studio-speak").click()
    line = lab.page.locator(".csmkit-studio [role=alert]")
    line.wait_for()
    assert line.inner_text() == "seed 'one': give a whole number, or nothing for a new one each time"


def test_the_studio_fits_a_page_of_600_pixels_and_a_long_error_leaves_its_buttons_alone(lab: LabPage) -> None:
    size = lab.page.viewport_size
    lab.page.set_viewport_size({"width": 600, "height": 960})
    speak_button = lab.page.locator(".csmkit-studio-speak")
    before = speak_button.bounding_box()
    lab.page.locator(".csmkit-studio-seed input").fill("no number " * 40)
    speak_button.click()
    lab.page.locator(".csmkit-studio [role=alert]", has_text="no number no number").wait_for()
    after = speak_button.bounding_box()
    assert (after["width"], after["height"]) == (before["width"], before["height"])
    outside = lab.page.evaluate(
        """() => Array.from(document.querySelectorAll(".csmkit-studio :is(button, input, canvas)"))
          .filter((one) => !one.closest(".csmkit-studio-recordings") && one.getBoundingClientRect().width > 0)
          .filter((one) => one.getBoundingClientRect().right > window.innerWidth)
          .map((one) => one.outerHTML)"""
    )
    assert outside == []
    lab.page.set_viewport_size(size)


def test_two_recordings_are_compared_blind_with_their_boxes_and_buttons(lab: LabPage) -> None:
    boxes = lab.page.locator(".csmkit-studio-recordings input[type=checkbox]")
    comparison = lab.page.locator(".csmkit-studio-comparison")
    hear_first = comparison.get_by_role("button", name="Hear 1st")
    assert not hear_first.is_enabled()
    for index in range(2):
        boxes.nth(index).check()
    lab.run_until("studio.comparison.ready", "True")
    lab.listen()
    hear_first.click()
    lab.wait_for_silence()
    comparison.get_by_role("button", name="2nd is better").click()
    comparison.get_by_text("You preferred recording").wait_for()
    assert lab.run("studio.comparison.votes[0]['preferred'] == studio.comparison.votes[0]['second']") == "True"
