"""The image's command ``serve`` as SageMaker runs it in a container: its port, environment, routes and end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from lab_server import START_S, need

need("starlette", "uvicorn", "websockets", "httpx", "faster_whisper", extra="serve")
import httpx
from serving import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PORT = 8080  # of the contract
FROM_SAGEMAKER = {  # as the hosting agent beside the container sends them
    "Host": f"169.254.180.2:{PORT}",
    "Content-Type": "application/json",
    "Accept": "application/octet-stream",
    "X-Amzn-SageMaker-Target-Model": "none",
    "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
}


@dataclass(frozen=True)
class Container:
    """A running container's process, and the address of its port."""

    process: subprocess.Popen[bytes]
    address: str


def commands(folder: Path) -> Path:
    """The image's command ``serve`` as its Dockerfile writes it, and a ``csmkit`` that runs this checkout."""
    written = re.search(r"printf '(.+?)' > /usr/local/bin/serve", DOCKERFILE)
    assert written is not None
    scripts = {
        "serve": written[1].replace("\\n", "\n"),
        "csmkit": f'#!/bin/sh\nexec {sys.executable} -m csmkit.cli "$@"\n',
    }
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder / "serve"


def contract_port() -> int:
    """8080, or a free one while another program has that."""
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", PORT))
        except OSError:
            probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """What ``docker run IMAGE serve`` starts, with as few variables of the environment as a container has."""
    folder, port = tmp_path_factory.mktemp("container"), contract_port()
    environment = {
        "PATH": os.pathsep.join([str(folder), "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "AWS_REGION": "eu-central-1",
        "SAGEMAKER_BIND_TO_PORT": str(PORT),
        "SAGEMAKER_SAFE_PORT_RANGE": "20000-20999",
        "CSMKIT_PRESET": "pocket",
        "OMP_NUM_THREADS": "1",
    }
    other_port = [] if port == PORT else ["--port", str(port)]
    with subprocess.Popen([commands(folder), *other_port], env=environment, cwd=folder) as process:
        yield Container(process, f"http://127.0.0.1:{port}")
        process.kill()


def test_ping_is_answered_while_the_models_load_and_says_when_they_are_there(container: Container) -> None:
    address, seen = f"{container.address}/ping", set[int]()

    def pinged() -> bool:
        try:
            seen.add(httpx.get(address, headers={"Host": FROM_SAGEMAKER["Host"]}, timeout=PATIENCE_S).status_code)
        except httpx.ConnectError:
            assert container.process.poll() is None
        return 200 in seen

    wait_until(pinged, "ready", START_S)
    assert seen <= {200, 503}


def test_an_invocation_needs_no_token_and_its_sound_is_streamed(container: Container) -> None:
    body = {"input": "Good morning.", "response_format": "pcm", "seed": 1}
    address = f"{container.address}/invocations"
    with httpx.stream("POST", address, json=body, headers=FROM_SAGEMAKER, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200 and answer.headers["transfer-encoding"] == "chunked"
        pieces = list(answer.iter_raw())
    samples = np.frombuffer(b"".join(pieces), "<i2")
    assert len(pieces) > 1 and len(samples) > 12_000 and np.abs(samples).max() > 1_000


def test_an_invocation_that_cannot_be_spoken_is_an_error_in_json(container: Container) -> None:
    address = f"{container.address}/invocations"
    answer = httpx.post(address, json={"text": "Good morning."}, headers=FROM_SAGEMAKER, timeout=PATIENCE_S)
    assert answer.status_code == 422 and "the fields are input" in answer.json()["error"]["message"]


def test_a_container_that_is_stopped_ends_by_itself(container: Container) -> None:
    process = container.process
    process.terminate()
    assert process.wait(PATIENCE_S) in (0, -15)
