"""A JupyterLab server in a folder of its own, and a chromium that looks at it."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
SILENCE_MS = 300  # within which Stop silences
START_S = 180  # of a server or a page on a busy machine
SILENT = "heard.lastLoudMs > 0 && performance.now() - heard.lastLoudMs > 500"
UNTIL_S = 60  # for the kernel and the browser to agree
SCREENSHOTS = os.environ.get("CSMKIT_SCREENSHOTS")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]
EMPTY_NOTEBOOK = {
    "cells": [],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def need(*packages: str, browser: bool = False, extra: str = "browser") -> None:
    """Skip the test, or its file, where a package or the browser is missing, and say which.

    Where CSMKIT_REQUIRE_BROWSER is set, as .ci/run does, that is a failure: there, nothing may be left out unseen.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    reasons = [f"needs {', '.join(missing)}: pip install 'csmkit[{extra}]'"] if missing else []
    if browser and CHROMIUM is None:
        reasons.append("needs chromium, or chrome, on the PATH: apt-get install chromium")
    if not reasons:
        return
    if os.environ.get("CSMKIT_REQUIRE_BROWSER"):
        pytest.fail("; ".join(reasons), pytrace=False)
    pytest.skip("; ".join(reasons), allow_module_level=True)


def kernel_environment(folder: Path) -> dict[str, str]:
    """Environment variables that keep Jupyter's files in a folder and let a kernel import this checkout."""
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    settings = {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    return {**os.environ, **own, **settings, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}


def choose_settings(folder: Path, theme: str) -> None:
    """Choose a theme, no news from the network, and that the browser's messages wait until no cell runs.

    That is how every kernel behaves that has no subshells, and the harder case for a player.
    """
    for name, values in {
        "themes": {"theme": theme},
        "notification": {"fetchNews": "false", "checkForUpdates": False},
        "kernels-settings": {"commsOverSubshells": "disabled"},
    }.items():
        path = folder / "settings" / "@jupyterlab" / "apputils-extension" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


def least_ms(measure: Callable[[], float]) -> float:
    """The least of up to five measurements, one where that is quick: a busy machine only ever adds to it."""
    times_ms: list[float] = []
    while len(times_ms) < 5 and (not times_ms or min(times_ms) >= SILENCE_MS):
        times_ms.append(measure())
    return min(times_ms)


@contextmanager
def lab_server(folder: Path, notebook: Path | None = None) -> Iterator[str]:
    """Serve a folder with a copy of a notebook, or with an empty one; gives the address that opens it."""
    (folder / "work").mkdir()
    name = "test.ipynb" if notebook is None else notebook.name
    (folder / "work" / name).write_text(json.dumps(EMPTY_NOTEBOOK) if notebook is None else notebook.read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "ServerApp.root_dir": folder / "work",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "test",
        "LabApp.expose_app_in_browser": True,
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=kernel_environment(folder), stdout=log, stderr=log)
        try:
            _wait_for(server, f"http://127.0.0.1:{port}/api?token=test", folder / "server.log")
            yield f"http://127.0.0.1:{port}/lab/tree/{name}?token=test"
        finally:
            server.terminate()
            server.wait(START_S)


def _wait_for(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(address, timeout=START_S).close()
            return
        except urllib.error.URLError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


class LabPage:
    """An open notebook whose kernel is ready.

    Args:
        page: of Playwright.
        address: of the notebook.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        page.set_default_timeout(START_S * 1000)
        page.add_init_script(path=HERE / "listener.js")
        page.goto(address)
        page.wait_for_function("window.kernelStatus() === 'idle'")
        page.set_default_timeout(UNTIL_S * 1000)

    def run(self, source: str) -> str:
        """Run a new cell; what it printed and its value as text. An error of the cell fails the test."""
        outputs = self.page.evaluate("source => runCell(source)", source)
        errors = [output for output in outputs if output["output_type"] == "error"]
        assert not errors, "\n".join(errors[0]["traceback"])
        texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
        return "".join("".join(text) for text in texts)

    def run_all(self) -> None:
        """Run the notebook from top to bottom. An error of a cell fails the test."""
        errors = self.page.evaluate("runAll()")
        assert not errors, errors

    def run_until(self, source: str, wanted: str) -> None:
        """Run a cell until its output is as wanted: messages of the browser are read between cells."""
        deadline = time.monotonic() + UNTIL_S
        while (seen := self.run(source)) != wanted:
            assert time.monotonic() < deadline, f"{source}: still {seen}, not {wanted}"

    def listen(self) -> None:
        """Forget what was heard so far."""
        self.page.evaluate("Object.assign(heard, { starts: [], lastLoudMs: 0, clickMs: 0 })")

    def heard(self) -> np.ndarray:
        """Every sample that was scheduled, in order, ``(samples,)`` float32."""
        starts = self.page.evaluate("heard.starts.map((start) => start.samples)")
        return np.concatenate([np.zeros(0, np.float32), *(np.float32(samples) for samples in starts)])

    def picture(self, selector: str, name: str) -> None:
        """Keep a picture of the last element of that kind, if CSMKIT_SCREENSHOTS names a folder."""
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            element = self.page.locator(selector).last
            element.scroll_into_view_if_needed()
            element.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", animations="disabled")

    def moving_picture(self, selector: str, name: str, most_s: float = 12.0) -> None:
        """Film the last element of that kind until nothing is audible: a GIF, if CSMKIT_SCREENSHOTS names a folder."""
        if not SCREENSHOTS:
            return
        from PIL import Image

        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        element = self.page.locator(selector).last
        element.scroll_into_view_if_needed()
        times, frames = [], []
        while not times or (time.monotonic() - times[0] < most_s and not self.page.evaluate(SILENT)):
            times.append(time.monotonic())
            frames.append(Image.open(io.BytesIO(element.screenshot(type="png", scale="css"))).convert("RGB"))
        palette = frames[-1].quantize(64)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        lengths_ms = [round(1000 * (after - before)) for before, after in pairwise(times)] + [1500]
        frames[0].save(
            Path(SCREENSHOTS) / f"{name}.gif",
            save_all=True,
            append_images=frames[1:],
            duration=lengths_ms,
            loop=0,
            optimize=True,
        )

    def wait_for_sound(self) -> None:
        """Wait until the output is audible."""
        self.page.wait_for_function("heard.lastLoudMs > 0")

    def wait_for_silence(self) -> None:
        """Wait until nothing was audible for half a second."""
        self.page.wait_for_function(SILENT)
