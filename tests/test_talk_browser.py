"""A spoken conversation in JupyterLab: a browser whose microphone is a sound file, and microphones that fail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_server import CHROMIUM, CHROMIUM_ARGUMENTS, LabPage, choose_settings, lab_server, need

need("anywidget", "ipykernel", "jupyterlab", "playwright", "faster_whisper", browser=True)
from playwright import sync_api
from talk_script import TURNS, Script, make_script

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

MICROPHONE_HZ = 44_100  # as many have; the widget works at 24 000
SHA = "import hashlib, numpy\nprint(hashlib.sha256(numpy.concatenate({}).tobytes()).hexdigest())"


@pytest.fixture(scope="module")
def script() -> Script:
    return make_script()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, script: Script) -> Iterator[LabPage]:
    """One notebook for all tests here, and a kernel with loaded models. The microphone plays the script once."""
    folder = tmp_path_factory.mktemp("talk")
    choose_settings(folder, "JupyterLab Light")
    wav = script.write(folder / "microphone.wav", MICROPHONE_HZ)
    microphone = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={wav}%noloop",
    ]
    with lab_server(folder) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*CHROMIUM_ARGUMENTS, *microphone])
        page = LabPage(browser.new_page(viewport={"width": 1000, "height": 800}, device_scale_factor=2), address)
        page.page.evaluate("jupyterapp.shell.collapseLeft()")
        page.run("from csmkit.lab.notebook import Player, Talk\ntalk = Talk('pocket')\ntalk.load()\ntalk")
        yield page
        browser.close()


def text_of(lab: LabPage, selector: str) -> str:
    return lab.page.locator(selector).last.inner_text()


def wait_for_message(lab: LabPage, part: str) -> None:
    lab.page.locator(".csmkit-talk-message", has_text=part).last.wait_for()


def press(lab: LabPage, name: str) -> None:
    lab.page.locator(".csmkit-talk").last.get_by_role("button", name=name, exact=True).click()


def test_five_turns_with_one_interruption_are_held_and_what_is_played_is_what_was_made(lab: LabPage) -> None:
    lab.listen()
    press(lab, "Talk")
    lab.page.wait_for_function("document.querySelectorAll('.csmkit-talk-user').length >= 3")
    lab.picture(".csmkit-talk", "talk")
    n_turns = len(TURNS)
    lab.page.wait_for_function(f"document.querySelectorAll('.csmkit-talk-latency').length === {n_turns}")
    press(lab, "Stop")
    lab.run_until("talk.running", "False")
    assert lab.run("[turn['interrupted'] for turn in talk.turns]") == "[False, True, False, False, False]"
    assert lab.run("[row['breaks_in'] for row in talk.rows]") == "[False, False, True, False, False]"
    assert lab.run("all(turn['user'] and turn['voice'] for turn in talk.turns)") == "True"
    assert lab.run("talk.rows[1]['barge_in_to_silence_ms'] is not None") == "True"
    digest = hashlib.sha256(lab.heard().tobytes()).hexdigest()
    assert digest == lab.run(SHA.format("talk.answers")).strip()
    assert {start["rate"] for start in lab.page.evaluate("heard.starts.map(({ rate }) => ({ rate }))")} == {24_000}


def test_the_interrupted_answer_is_remembered_as_far_as_it_was_played(lab: LabPage) -> None:
    kept = lab.run("print(talk.turns[1]['voice'])").strip()
    assert kept and lab.run("print(talk.chatbot.history[3]['content'])").strip() == kept
    played_ms = float(lab.run("print(talk.rows[1]['played_ms'])"))
    assert 0 < played_ms < 1000 * float(lab.run("print(len(talk.answers[1]) / 24_000)")) + 1


def test_the_level_the_speaker_and_the_texts_have_names_for_a_screen_reader(lab: LabPage) -> None:
    widget = lab.page.locator(".csmkit-talk").last
    assert widget.get_by_role("meter", name="Level of the microphone in dB").count() == 1
    assert "You" in widget.get_by_role("log", name="What was said").inner_text()
    assert "press Talk and speak" in widget.get_by_role("status").inner_text()


REPLACE_MICROPHONE = """(kind) => {
  const real = (window.realMicrophone ??= navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices));
  navigator.mediaDevices.getUserMedia = async (wishes) => {
    window.wishes = wishes;
    if (kind !== "silent") throw new DOMException("by the test", kind);
    return new AudioContext().createMediaStreamDestination().stream;
  };
  if (kind === "real") navigator.mediaDevices.getUserMedia = async (wishes) => (window.microphone = await real(wishes));
}"""


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("NotAllowedError", "The browser does not allow the microphone. Allow it for this page"),
        ("NotFoundError", "No microphone was found. Connect one"),
        ("silent", "The microphone is silent: check that it is not muted"),
    ],
)
def test_a_microphone_that_is_refused_absent_or_silent_is_named_with_the_remedy(
    lab: LabPage, kind: str, part: str
) -> None:
    lab.page.evaluate(REPLACE_MICROPHONE, kind)
    press(lab, "Talk")
    wait_for_message(lab, part)
    assert lab.page.evaluate("window.wishes.audio") == {
        "echoCancellation": True,
        "noiseSuppression": True,
        "autoGainControl": True,
        "channelCount": 1,
    }
    if kind == "silent":
        press(lab, "Stop")
    lab.run_until("talk.running", "False")


def test_a_microphone_that_is_unplugged_ends_the_conversation_and_is_named(lab: LabPage) -> None:
    lab.page.evaluate(REPLACE_MICROPHONE, "real")
    press(lab, "Talk")
    lab.page.wait_for_function("window.microphone !== undefined")
    lab.run_until("talk.running", "True")
    lab.page.evaluate("window.microphone.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    wait_for_message(lab, "The microphone was unplugged")
    lab.run_until("talk.running", "False")


def test_a_recording_takes_the_place_of_the_microphone(lab: LabPage, script: Script, tmp_path: Path) -> None:
    question = Script(script.audio[: 3 * 24_000], script.texts[:1])
    path = question.write(tmp_path / "question.wav", 16_000)
    n_before = int(lab.run("len(talk.rows)"))
    with lab.page.expect_file_chooser() as chooser:
        press(lab, "Use a recording")
    chooser.value.set_files(path)
    lab.run_until("len(talk.rows)", str(n_before + 1))
    lab.run_until("talk.running", "False")


def test_of_two_conversations_on_a_page_the_second_takes_over(lab: LabPage) -> None:
    lab.run("second = Talk(chatbot=talk.chatbot, asr=talk.asr)\nsecond")
    widgets = lab.page.locator(".csmkit-talk")
    first, second = widgets.nth(0), widgets.nth(1)
    second.wait_for()
    first.get_by_role("button", name="Talk", exact=True).click()
    lab.run_until("talk.running, second.running", "(True, False)")
    second.get_by_role("button", name="Talk", exact=True).click()
    lab.run_until("talk.running, second.running", "(False, True)")
    assert "Another conversation on this page took over" in first.text_content()
    second.get_by_role("button", name="Stop", exact=True).click()
    lab.run_until("talk.running, second.running", "(False, False)")


def test_a_kernel_restarted_while_the_voice_speaks_is_named(lab: LabPage) -> None:
    lab.run("import numpy as np\nthird = Talk(chatbot=talk.chatbot, asr=talk.asr)\nthird")
    lab.page.locator(".csmkit-talk").last.wait_for()
    press(lab, "Talk")
    lab.run_until("third.running", "True")
    lab.run("third.widget.begin(1)\nthird.widget.chunk(1, np.full(24_000 * 60, 0.1, np.float32))")
    lab.listen()
    lab.wait_for_sound()
    lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    wait_for_message(lab, "the kernel was restarted: run the cell again")
    lab.wait_for_silence()
    assert lab.page.locator(".csmkit-talk").last.get_by_role("button", name="Talk", exact=True).is_visible()
