"""An independent listener: Debian's pocketsphinx with its en-us models, which nobody here trained."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

MODELS = Path("/usr/share/pocketsphinx/model/en-us")  # of Debian's package pocketsphinx-en-us


def recognise(clips: list[np.ndarray]) -> list[str]:
    """What pocketsphinx hears in 24 kHz clips, open vocabulary, default settings."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"clip{i:04d}" for i in range(len(clips))]
        for name, clip in zip(names, clips, strict=True):
            audio = soxr.resample(np.pad(clip, 4800), 24_000, 16_000)
            soundfile.write(Path(folder) / f"{name}.wav", np.clip(audio, -1, 1), 16_000, subtype="PCM_16")
        control, heard = Path(folder) / "clips", Path(folder) / "heard"
        control.write_text("\n".join(names))
        command = ["pocketsphinx_batch", "-adcin", "yes", "-adchdr", "44", "-cepdir", folder, "-cepext", ".wav"]
        command += ["-hmm", str(MODELS / "en-us"), "-lm", str(MODELS / "en-us.lm.bin")]
        command += ["-dict", str(MODELS / "cmudict-en-us.dict"), "-ctl", str(control), "-hyp", str(heard)]
        subprocess.run(command, capture_output=True, check=True)
        lines = heard.read_text().splitlines()
    return [re.sub(r"\s*\(clip\d+ -?\d+\)$", "", line).strip() for line in lines]
