"""csmkit talk, on a recording in place of the microphone, as a machine without a sound card runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from csmkit.asr.directory import live_note, resolve
from csmkit.audio import SAMPLE_RATE, read, write
from csmkit.cli import app, loudspeaker
from csmkit.errors import AudioFileError, DeviceError, InputError
from csmkit.speech.generator import Generator

PAUSE = np.zeros(SAMPLE_RATE, np.float32)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence of the bundled voice between two seconds of silence."""
    sentence = Generator.load("pocket", device="cpu").generate("good morning, how are you today?", 1, seed=3).numpy()
    path = tmp_path_factory.mktemp("sound") / "user.wav"
    write(path, np.concatenate([PAUSE, sentence, PAUSE]))
    return path


def test_a_recording_is_heard_and_answered_and_both_sides_are_kept(recording: Path, tmp_path: Path):
    both = tmp_path / "both.wav"
    run = CliRunner().invoke(
        app, ["talk", "--input", str(recording), "--save", str(both), "--seed", "1", "--json"], catch_exceptions=False
    )
    assert run.exit_code == 0, run.output
    events = [json.loads(line) for line in run.output.splitlines()]
    (text,) = [event["text"] for event in events if event.get("type") == "user_text"]
    assert "morning" in text
    (row,) = [event["metrics"] for event in events if event.get("type") == "turn_done"]
    assert row["end_to_audible_ms"] > row["silence_ms"] == 500
    assert any("synthetic voices only" in event.get("note", "") for event in events)
    kept, heard = read(both), read(recording)
    assert len(kept) > len(heard)
    after = kept[len(heard) :]
    assert np.abs(after).max() > 0.01, "the answer"


def test_what_goes_in_and_out_is_checked_before_anything_is_loaded(recording: Path, tmp_path: Path):
    for given, error, message in (
        (["--input", str(recording)], InputError, "--input without --save"),
        (["--save", str(tmp_path / "both.wav")], InputError, "--save without --input"),
        (["--input", "nowhere.wav", "--save", str(tmp_path / "both.wav")], AudioFileError, "no sound file"),
    ):
        with pytest.raises(error, match=message):
            CliRunner().invoke(app, ["talk", *given], catch_exceptions=False)


def test_without_a_sound_card_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    class NoCards:
        PortAudioError = RuntimeError

        def OutputStream(self, *given: object, **options: object) -> None:
            raise RuntimeError("no default output device")

    monkeypatch.setattr(loudspeaker, "import_sounddevice", lambda: NoCards())
    with pytest.raises(DeviceError, match=r"no default output device.*--input speech\.wav --save both\.wav"):
        CliRunner().invoke(app, ["talk"], catch_exceptions=False)


def test_openais_whisper_is_asked_for_by_name():
    assert resolve("openai/base.en") == resolve("openai/whisper-base.en") == "Systran/faster-whisper-base.en"
    assert resolve("openai/other") == "openai/other", "any other hub id stays what it is"
    assert live_note("openai/base.en") is None
    assert "csmkit talk --whisper openai/base.en" in (live_note("tiny.en") or "")
