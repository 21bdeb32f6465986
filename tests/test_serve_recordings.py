"""Voices of a folder of recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lab_server import need

need("starlette", extra="serve")
from serving import ask, fake_models, serving

from csmkit.audio import SAMPLE_RATE, write
from csmkit.errors import AudioFileError, InputError
from csmkit.serve.models import read_speakers


def record(folder: Path, name: str, text: str | None = "what is said") -> None:
    write(folder / f"{name}.wav", (0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.1)).astype(np.float32))
    if text is not None:
        (folder / f"{name}.txt").write_text(text)


def test_a_recording_leads_the_context_of_its_voice(tmp_path: Path) -> None:
    record(tmp_path, "anna")
    (anna,) = read_speakers(tmp_path)
    models = fake_models()
    models.speakers = {**models.speakers, anna.name: anna}
    with serving(models) as server:
        assert ask(server, "hello there", voice="anna").status_code == 200
    assert [segment.text for segment in models.voice.requests[-1].context] == ["what is said"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="no folder"):
        read_speakers(tmp_path / "missing")
    with pytest.raises(InputError, match="no recording"):
        read_speakers(tmp_path)
    record(tmp_path, "anna", None)
    with pytest.raises(InputError, match=r"without 'anna\.txt'"):
        read_speakers(tmp_path)


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    record(tmp_path, "anna maria")
    with pytest.raises(InputError, match="letters, digits"):
        read_speakers(tmp_path)
