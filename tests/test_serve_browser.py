"""The page of the server in a real browser: typed, spoken into a microphone that plays a WAV, stopped, on a phone."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_server import CHROMIUM, CHROMIUM_ARGUMENTS, SCREENSHOTS, need

need("starlette", "uvicorn", "websockets", "playwright", "faster_whisper", browser=True, extra="serve")
from playwright import sync_api
from serving import PATIENCE_S, fake_models, pocket_models, serving, wait_until

from csmkit.audio import SAMPLE_RATE, resample, write
from csmkit.llm.contract import FakeLLM
from csmkit.serve import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
HERE = Path(__file__).parent
TURNS = (
    "hello, how are you?",
    "can you tell me a joke?",
    "thank you, that is enough.",
    "what is the weather like?",
    "thank you very much, good bye.",
)
BROKEN = 1  # the answer that the user breaks into
TOKEN = "a-token-of-tests-0123456789"
MICROPHONE_HZ = 44_100  # as many have; the page works at 24 000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(pocket_models()) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, whose microphone says good morning once and is silent for half a minute."""
    said = pocket_models().voice.generate("good morning how are you today?", speaker=1, seed=1).numpy()
    sound = tmp_path_factory.mktemp("microphone") / "said.wav"
    write(sound, np.concatenate([np.zeros(SAMPLE_RATE, np.float32), said, np.zeros(30 * SAMPLE_RATE, np.float32)]))
    microphone = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    arguments = [*CHROMIUM_ARGUMENTS, *microphone, f"--use-file-for-fake-audio-capture={sound}"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Any, server: Server) -> Iterator[Any]:
    """The page, connected; an error in its console fails the test."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(path=HERE / "listener.js")
    page.goto(server.address)
    shows(page, "#state", "connected")
    yield page
    page.close()
    assert complaints == []


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    with opened(browser, server) as page:
        yield page


def shows(page: Any, selector: str, text: str) -> None:
    """Wait until an element shows a text."""
    sync_api.expect(page.locator(selector)).to_contain_text(text, timeout=PATIENCE_S * 1000)


def comes_true(page: Any, expression: str) -> None:
    """Wait for an expression, asked from outside: the page's own policy forbids what Playwright would wait with."""
    wait_until(lambda: page.evaluate(expression), expression)


def test_what_is_typed_is_answered_aloud_with_its_text_and_timeline(page: Any) -> None:
    page.get_by_label("Your message").fill("Hello!")
    page.keyboard.press("Enter")
    comes_true(page, "heard.lastLoudMs > 0")
    shows(page, "#figures", "Time to first audio")
    lines = page.locator("#conversation li").all_inner_texts()
    assert lines[0] == "You: Hello!" and lines[1].startswith("csmkit: ") and len(lines[1]) > 12
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    assert page.locator("#timeline").evaluate(drawn)
    samples = page.evaluate("heard.starts.map((start) => start.samples.length).reduce((a, b) => a + b, 0)")
    assert samples > SAMPLE_RATE // 2


def test_what_is_said_into_the_microphone_is_recognised_and_answered(page: Any) -> None:
    page.get_by_role("button", name="Start microphone").click()
    sync_api.expect(page.get_by_role("button", name="Stop microphone")).to_have_attribute("aria-pressed", "true")
    shows(page, "#conversation", "morning")
    comes_true(page, "heard.lastLoudMs > 0")
    shows(page, "#figures", "Time to first audio")
    page.get_by_role("button", name="Stop microphone").click()
    assert [line.split(":")[0] for line in page.locator("#conversation li").all_inner_texts()] == ["You", "csmkit"]


class Sent:
    """What the server sends to a page on its WebSocket, noted by the browser."""

    def __init__(self, page: Any) -> None:
        self.sounds: dict[str, list[np.ndarray]] = {}  # by the item of the answer
        self.transcripts: dict[str, str] = {}  # of the answers that were truncated
        self.kinds: list[str] = []
        page.on("websocket", lambda socket: socket.on("framereceived", self._take))

    def _take(self, payload: str | bytes) -> None:
        event = json.loads(payload)
        self.kinds.append(event["type"])
        if event["type"] == "response.output_audio.delta":
            samples = np.frombuffer(base64.b64decode(event["delta"]), "<i2")
            self.sounds.setdefault(event["item_id"], []).append(samples)
        elif event["type"] == "conversation.item.truncated":
            self.transcripts[event["item_id"]] = event["csmkit"]["transcript"]

    def made(self) -> dict[str, np.ndarray]:
        """The whole sound of each answer, ``(samples,)`` int16."""
        return {item: np.concatenate(pieces) for item, pieces in self.sounds.items()}


def played(page: Any) -> np.ndarray:
    """Every sample that the page scheduled, in order, ``(samples,)`` int16."""
    starts = page.evaluate("heard.starts.map((start) => start.samples)")
    return np.concatenate([np.rint(32_767 * np.float64(samples)).astype(np.int16) for samples in starts])


def n_common(first: np.ndarray, second: np.ndarray) -> int:
    """How many samples two sounds have in common at their beginnings."""
    n_shorter = min(len(first), len(second))
    (differ,) = np.nonzero(first[:n_shorter] != second[:n_shorter])
    return int(differ[0]) if len(differ) else n_shorter


SPEAKING_MICROPHONE = """
const start = AudioBufferSourceNode.prototype.start;
const context = new AudioContext({ sampleRate: RATE });
const destination = context.createMediaStreamDestination();
navigator.mediaDevices.getUserMedia = async () => destination.stream;
window.speak = (samples) => {
  const buffer = context.createBuffer(1, samples.length, RATE);
  buffer.copyToChannel(Float32Array.from(samples), 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(destination);
  start.call(source);
};
"""
ANSWERS = (
    "I am fine, thank you.",
    "I know a good one. A man goes to the station in the morning. The weather is nice and warm. He would like to go to "
    "the park, and he has all the time that he needs. But he likes to read books, and he reads until the evening.",
    "Very well.",
    "It is nice and warm today.",
    "Good bye, my friend.",
)


def speak_turns(page: Any, sent: Sent) -> None:
    """Speak all turns, each after the answer to the one before it; the third breaks into the second answer."""
    generator = pocket_models().voice
    for n_before, text in enumerate(TURNS):
        spoken = generator.generate(text, speaker=1, seed=3 + n_before).numpy()
        page.evaluate("heard.lastLoudMs = 0")
        page.evaluate("samples => window.speak(samples)", resample(spoken, SAMPLE_RATE, MICROPHONE_HZ).tolist())
        if n_before == BROKEN:
            comes_true(page, "heard.lastLoudMs > 0")
            continue
        wait_until(lambda n=n_before + 1: page.evaluate("1") and sent.kinds.count("response.done") == n, text)
        comes_true(page, "heard.lastLoudMs > 0 && performance.now() - heard.lastLoudMs > 500")


def test_five_turns_with_one_interruption_are_held_and_what_is_played_is_what_was_made(browser: Any) -> None:
    models = replace(pocket_models(), llm=FakeLLM(ANSWERS))
    with serving(models) as server, contextlib.closing(browser.new_page(color_scheme="dark")) as page:
        page.set_default_timeout(PATIENCE_S * 1000)
        page.add_init_script(SPEAKING_MICROPHONE.replace("RATE", str(MICROPHONE_HZ)))
        page.add_init_script(path=HERE / "listener.js")
        sent = Sent(page)
        page.goto(server.address)
        shows(page, "#state", "connected")
        page.get_by_role("button", name="Start microphone").click()
        speak_turns(page, sent)
        page.get_by_role("button", name="Stop microphone").click()
        if SCREENSHOTS:
            page.set_viewport_size({"width": 760, "height": 800})
            page.screenshot(path=Path(SCREENSHOTS) / "page.png")
        lines, rest = page.locator("#conversation li").all_inner_texts(), played(page)
    assert [line.split(":")[0] for line in lines] == ["You", "csmkit"] * len(TURNS)
    ((interrupted, kept),) = sent.transcripts.items()
    assert list(sent.sounds).index(interrupted) == BROKEN and lines[2 * BROKEN + 1] == f"csmkit: {kept} (stopped)"
    assert ANSWERS[BROKEN].startswith(kept) and kept != ANSWERS[BROKEN]
    for item, sound in sent.made().items():
        n_played = n_common(sound, rest)
        assert item == interrupted or n_played == len(sound)
        rest = rest[n_played:]
    assert not len(rest), "nothing was played that was not made"


def test_stop_silences_at_once_and_the_server_forgets_what_was_not_heard(page: Any, server: Server) -> None:
    page.get_by_label("Your message").fill("Tell me a joke.")
    page.keyboard.press("Enter")
    comes_true(page, "heard.lastLoudMs > 0")
    page.keyboard.press("Escape")
    comes_true(page, "performance.now() - heard.lastLoudMs > 500")
    shows(page, "#conversation", "(stopped)")
    wait_until(lambda: server.service.admission.idle, "nothing is generated any more")
    assert page.get_by_role("button", name="Stop", exact=True).is_disabled()


def test_a_phone_shows_everything_without_scrolling_sideways_in_light_and_dark(browser: Any, server: Server) -> None:
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 360, "height": 640}, color_scheme=scheme)
        page.goto(server.address)
        shows(page, "#state", "connected")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(24, 24, 27)"}[scheme]
        page.close()


def test_every_control_has_a_name_and_can_be_reached_by_the_keyboard(page: Any) -> None:
    names = [page.evaluate("document.activeElement.id") for _ in range(4) if page.keyboard.press("Tab") is None]
    assert names == ["text", "send", "microphone", "voice"]
    for role, name in (("textbox", "Your message"), ("button", "Send"), ("combobox", "Voice"), ("log", "")):
        assert page.get_by_role(role, name=name or None).count() == 1


def test_a_server_with_a_token_asks_for_it(browser: Any) -> None:
    with serving(pocket_models(), token=TOKEN) as server:
        page = browser.new_page()
        page.goto(server.address)
        page.get_by_label("Token of this server").fill(TOKEN)
        page.get_by_role("button", name="Connect").click()
        shows(page, "#state", "connected")
        page.close()


REPLACE_MICROPHONE = """(kind) => {
  const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wishes) => {
    window.wishes = wishes;
    if (kind === "unplugged") return (window.microphone = await real(wishes));
    if (kind === "silent") return new AudioContext().createMediaStreamDestination().stream;
    throw new DOMException("by the test", kind);
  };
}"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("NotAllowedError", "the browser does not allow the microphone; allow it for this page"),
        ("NotFoundError", "no microphone was found; connect one and press Start microphone again"),
        ("silent", "the microphone is silent: check that it is not muted"),
        ("unplugged", "the microphone was unplugged; connect it and press Start microphone again"),
    ],
)
def test_a_microphone_that_is_refused_absent_silent_or_unplugged_is_named_with_the_remedy(
    page: Any, kind: str, message: str
) -> None:
    page.evaluate(REPLACE_MICROPHONE, kind)
    page.get_by_role("button", name="Start microphone").click()
    if kind == "unplugged":
        sync_api.expect(page.get_by_role("button", name="Stop microphone")).to_be_visible()
        page.evaluate("window.microphone.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    shows(page, "#state", message)
    assert page.evaluate("window.wishes.audio.echoCancellation && window.wishes.audio.noiseSuppression")
    if kind == "silent":
        page.get_by_role("button", name="Stop microphone").click()
    sync_api.expect(page.get_by_role("button", name="Start microphone")).to_have_attribute("aria-pressed", "false")


def test_two_pages_at_once_have_a_conversation_each(browser: Any, server: Server) -> None:
    with opened(browser, server) as first, opened(browser, server) as second:
        for page, text in ((first, "Hello!"), (second, "Tell me a joke.")):
            page.get_by_label("Your message").fill(text)
            page.keyboard.press("Enter")
        for page, text in ((first, "Hello!"), (second, "Tell me a joke.")):
            shows(page, "#figures", "Time to first audio")
            lines = page.locator("#conversation li").all_inner_texts()
            assert lines[0] == f"You: {text}" and len(lines) == 2
            assert page.evaluate("heard.starts.length") > 1


def test_a_server_that_ends_during_a_conversation_is_named(browser: Any) -> None:
    with serving(fake_models(frame_s=0.02)) as server:
        page = browser.new_page()
        page.add_init_script(path=HERE / "listener.js")
        page.goto(server.address)
        shows(page, "#state", "connected")
        page.get_by_label("Your message").fill("Hello!")
        page.keyboard.press("Enter")
        comes_true(page, "heard.starts.length > 0")
    shows(page, "#state", "the connection is closed")
    assert "load the page again" in page.locator("#state").inner_text()
    page.close()
