"""The commands of docs/serve.md, run as they stand there, and the server as its command starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_server import need

need("starlette", "uvicorn", "websockets", "openai", "faster_whisper", extra="serve")
from serving import PATIENCE_S, pocket_models, serving, wait_until

from csmkit.serve import Server

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(pocket_models()) as server:
        yield server


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("sox")), reason="needs curl and sox on the PATH")
def test_the_lines_for_curl_and_sox_play_and_transcribe(server: Server, tmp_path: Path) -> None:
    (block,) = [block for block in blocks("bash") if "curl" in block]
    heard = block.replace(ADDRESS, server.address).replace("play -q -t wav -", "sox -q -t wav - played.wav")
    done = subprocess.run(["sh", "-ec", heard], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "played.wav").stat().st_size > 10_000 and (tmp_path / "morning.wav").stat().st_size > 10_000
    assert json.loads(done.stdout)["text"].lower().startswith("good morning")


def test_the_lines_of_python_run(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours = [block for block in blocks("python") if "openai" in block]
    assert len(ours) == 2
    for block in ours:
        exec(compile(block.replace(ADDRESS, server.address), "docs/serve.md", "exec"), {})
    assert (tmp_path / "morning.wav").read_bytes().startswith(b"RIFF")


def test_the_command_serves_what_it_says_and_ends_on_a_signal(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from csmkit.cli import run; run()",
        "serve",
        "--port",
        "0",
        "--whisper",
        "tiny.en",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert address is not None
        asked = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{address[0]}/ready"]
        wait_until(lambda: subprocess.run(asked, capture_output=True, text=True).stdout == "200", "ready")
        process.terminate()
        assert process.wait(PATIENCE_S) in (0, -15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "CSMKIT_SERVE_TOKEN"),
        (["--max-streams", "0"], "max_streams=0"),
        (["--port", "70000"], "port=70000"),
        (["--voices", "nowhere"], "no folder"),
        (["--engine", "slurm"], "--engine slurm: give one of local, ray"),
        (["--replicas", "2"], "--replicas without --engine ray"),
    ],
)
def test_a_command_that_cannot_be_is_refused_in_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from csmkit.cli import run

    monkeypatch.delenv("CSMKIT_SERVE_TOKEN", raising=False)
    monkeypatch.setattr(sys, "argv", ["csmkit", "serve", *arguments])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 1 and message in capsys.readouterr().err


def test_the_image_answers_on_the_port_of_sagemaker() -> None:
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "EXPOSE 8080" in image and "/usr/local/bin/serve" in image and "--port 8080" in image
    assert "USER csmkit" in image
