"""The page of the server in a real browser: typed, spoken into a microphone that plays a WAV, stopped, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_server import CHROMIUM, CHROMIUM_ARGUMENTS, need

need("starlette", "uvicorn", "websockets", "playwright", "faster_whisper", browser=True, extra="serve")
from playwright import sync_api
from serving import PATIENCE_S, pocket_models, serving, wait_until

from csmkit.audio import SAMPLE_RATE, write
from csmkit.serve import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
HERE = Path(__file__).parent
TOKEN = "a-token-of-tests-0123456789"


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


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """The page, connected; an error in its console fails the test."""
    opened = browser.new_page()
    opened.set_default_timeout(PATIENCE_S * 1000)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.add_init_script(path=HERE / "listener.js")
    opened.goto(server.address)
    shows(opened, "#state", "connected")
    yield opened
    opened.close()
    assert complaints == []


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
