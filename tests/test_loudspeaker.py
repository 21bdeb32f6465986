"""The sound card of the command line: every sample once, in order, and silence at once when it is wanted.

There is no sound card where tests run: sounddevice is stood in for, and asked for blocks as a card would.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from csmkit.cli.console import Console
from csmkit.cli.loudspeaker import Loudspeaker, SoundCard, find_loudspeaker
from csmkit.errors import DeviceError, InputError, MissingDependencyError


class Card:
    """What `sounddevice.OutputStream` is to its user; ``ask`` is what the hardware does."""

    def __init__(self, rate: int, channels: int, dtype: str, callback: Any) -> None:
        assert (rate, channels, dtype) == (24_000, 1, "float32")
        self.callback, self.state, self.latency = callback, "new", 0.005
        made.append(self)

    def start(self) -> None:
        self.state = "started"

    def stop(self) -> None:
        self.state = "stopped"

    def close(self) -> None:
        self.state = f"{self.state}, closed"

    def ask(self, n_samples: int) -> np.ndarray:
        block = np.full((n_samples, 1), np.nan, dtype=np.float32)
        self.callback(block, n_samples, None, None)
        return block[:, 0]


made: list[Card] = []


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("sounddevice")
    module.PortAudioError = type("PortAudioError", (Exception,), {})
    module.OutputStream = Card
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    made.clear()
    return module


@pytest.mark.parametrize("block", [1, 7, 480, 1920, 5000])
def test_the_card_gets_every_sample_once_and_then_zeros(sounddevice: ModuleType, block: int):
    chunks = [torch.randn(n) for n in (1920, 1, 3840, 700)]
    sound = torch.cat(chunks).numpy()
    with SoundCard() as speaker:
        for chunk in chunks:
            speaker.put(chunk)
        heard = np.concatenate([made[0].ask(block) for _ in range(-(-len(sound) // block) + 1)])
    assert np.array_equal(heard[: len(sound)], sound) and not heard[len(sound) :].any()
    assert made[0].state == "stopped, closed"


def test_silence_forgets_the_rest_and_what_comes_later_is_heard(sounddevice: ModuleType):
    with SoundCard() as speaker:
        speaker.put(torch.ones(1000))
        assert made[0].ask(100).all()
        speaker.silence()
        assert not made[0].ask(2000).any()
        speaker.put(torch.ones(10))
        assert made[0].ask(20).tolist() == [1.0] * 10 + [0.0] * 10


def test_what_was_played_is_counted_for_each_answer_without_what_is_in_the_card(sounddevice: ModuleType):
    with SoundCard() as speaker:
        speaker.put(torch.ones(960))
        assert speaker.is_playing and speaker.played_ms == 0
        made[0].ask(480)
        assert speaker.is_playing and speaker.played_ms == pytest.approx(20 - 5)
        made[0].ask(960)
        assert not speaker.is_playing and speaker.played_ms == pytest.approx(40 - 5), "silence is not counted"
        speaker.begin()
        assert speaker.played_ms == 0


def test_waiting_lasts_until_everything_was_asked_for(sounddevice: ModuleType):
    with SoundCard() as speaker:
        speaker.put(torch.ones(960))
        waiting = threading.Thread(target=speaker.wait)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        made[0].ask(960)
        waiting.join(10)
        assert not waiting.is_alive()


def test_where_there_is_no_card_auto_goes_on_and_yes_says_why(
    sounddevice: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def missing(*_: Any, **__: Any) -> None:
        raise sounddevice.PortAudioError("no default device")

    monkeypatch.setattr(sounddevice, "OutputStream", missing)
    assert type(find_loudspeaker("auto", Console(False))) is Loudspeaker
    assert "Not played here: no usable sound card (no default device)" in capsys.readouterr().out
    with pytest.raises(DeviceError, match="no default device"):
        find_loudspeaker("yes", Console(False))
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'csmkit\[play\]'"):
        find_loudspeaker("yes", Console(False))


def test_nothing_is_played_unless_asked_for(sounddevice: ModuleType):
    assert type(find_loudspeaker("no", Console(False))) is Loudspeaker and made == []
    with pytest.raises(InputError, match="--play 'loud': give yes, no, or auto"):
        find_loudspeaker("loud", Console(False))


def test_a_command_plays_what_it_says(sounddevice: ModuleType, tmp_path, monkeypatch: pytest.MonkeyPatch):
    from typer.testing import CliRunner

    from csmkit.audio import read
    from csmkit.cli import app

    heard: list[np.ndarray] = []

    def asked(speaker: SoundCard) -> None:
        while speaker.is_playing:
            heard.append(made[0].ask(960))

    monkeypatch.setattr(SoundCard, "wait", asked)
    saved = tmp_path / "speech.wav"
    done = CliRunner().invoke(app, ["say", "hello.", "--save", str(saved), "--play", "yes", "--seed", "1"])
    assert done.exit_code == 0, done.output
    sound = read(saved)
    assert np.abs(np.concatenate(heard)[: len(sound)] - sound).max() < 2**-15  # a WAV has 16 bits
