"""A JupyterLab that has no JavaScript of anywidget, as a managed server may be: everything is heard all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from lab_server import CHROMIUM, CHROMIUM_ARGUMENTS, LabPage, choose_settings, lab_server, need

need("anywidget", "ipykernel", "jupyterlab", "playwright", browser=True)
from playwright import sync_api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

NO_ANSWER = "No front end answered the player"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPage]:
    folder = tmp_path_factory.mktemp("bare")
    choose_settings(folder, "JupyterLab Light")
    page_config = folder / "jupyter_config_dir" / "labconfig" / "page_config.json"
    page_config.parent.mkdir(parents=True)
    page_config.write_text(json.dumps({"disabledExtensions": {"anywidget": True}}))
    with lab_server(folder) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield LabPage(browser.new_page(), address)
        browser.close()


def test_a_player_becomes_a_plain_control_and_says_why_once(lab: LabPage) -> None:
    lab.run(
        "from csmkit.speech.generator import FakeGenerator\nfrom csmkit.lab.notebook import Player, Studio\n"
        "player = Player()\nplayer.play(FakeGenerator().generate_streaming('one two three'))"
    )
    control = lab.page.locator(".jp-OutputArea audio")
    control.wait_for()
    lab.page.wait_for_function("document.querySelector('.jp-OutputArea audio').duration > 0.4")
    assert NO_ANSWER in lab.page.locator(".jp-OutputArea").last.inner_text()
    assert not lab.page.locator(".csmkit-player").count()
    lab.run("player.play(FakeGenerator().generate_streaming('four five six'))")
    lab.page.wait_for_function("document.querySelectorAll('.jp-OutputArea audio').length === 2")
    assert lab.page.locator(f".jp-OutputArea:has-text('{NO_ANSWER}')").count() == 1


def test_the_studio_speaks_and_shows_a_plain_control_for_its_recording(lab: LabPage) -> None:
    lab.run("studio = Studio('pocket')\nstudio")
    lab.page.locator(".csmkit-studio-speak").click()
    lab.page.locator(".csmkit-studio audio").wait_for()
    assert NO_ANSWER in lab.page.locator(".csmkit-studio").inner_text()
    seconds = float(lab.run("print(len(studio.recordings[0].trial.audio) / 24_000)"))
    assert lab.page.evaluate("document.querySelector('.csmkit-studio audio').duration") == pytest.approx(
        seconds, abs=0.1
    )
