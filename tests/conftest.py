"""What several test files share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from tiny import save_voice, tiny_csm


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models run fastest on one thread, and tests must not take all cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def keys_that_interrupt() -> None:
    """Let Ctrl-C reach the tests that press it: a shell starts jobs in the background with the signal ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def voice_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny voice with random weights; read only."""
    return save_voice(tiny_csm(), tmp_path_factory.mktemp("voice"))
