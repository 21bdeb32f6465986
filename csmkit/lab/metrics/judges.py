"""Metrics by models that the user gives: nothing is bundled, and nothing is downloaded unless a hub name is given.

Each takes a model from an environment variable, so that a recipe may name the metric. A variable holds a path, or a
file of a hub repository, such as ``owner/name/model.pt``; a Whisper is a directory or a hub id.

- ``utmos``: ``CSMKIT_UTMOS``, a TorchScript of UTMOS (Saeki et al., Interspeech 2022): ``(1, samples)`` at 16 kHz in,
  a score out.
- ``dnsmos``: ``CSMKIT_DNSMOS``, the ONNX of DNSMOS P.835 (Reddy et al., ICASSP 2022): ``(1, 144160)`` at 16 kHz in,
  ``(1, 3)`` out: speech, background, overall. Its raw outputs are mapped by the polynomials of its authors.
- ``speaker_similarity``: ``CSMKIT_SPEAKER``, a TorchScript of ECAPA-TDNN, WavLM or alike: ``(1, samples)`` at 16 kHz
  in, an embedding out; ``CSMKIT_SPEAKER_REFERENCE``, a sound file of the speaker.
- ``judge_wer``: ``CSMKIT_JUDGE``, a directory of a Whisper for CTranslate2, larger than the one under test.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.asr.transcriber import RATE_HZ
from csmkit.asr.windows import transcribe_long
from csmkit.audio import SAMPLE_RATE, read, resample
from csmkit.errors import CheckpointError, CheckpointNotFoundError
from csmkit.files.hub import find_file, find_whisper, locate
from csmkit.lab.metrics.words import word_error_rate
from csmkit.plugins import library

if TYPE_CHECKING:
    from csmkit.audio import Waveform

_read = cache(read)
DNSMOS_SAMPLES = 144_160  # 9.01 s at 16 kHz, the length that the model was trained on
# Of the authors of DNSMOS P.835 for speech, background and overall: from the raw output to the scale of listeners.
_DNSMOS_SCALES = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)


def utmos(audio: Waveform) -> float:
    """Predicted naturalness, a mean opinion score from 1 to 5.

    Raises:
        CheckpointNotFoundError: no model is named, or there is none at that path.
        CheckpointError: it cannot be loaded.
    """
    return float(_script(_given("CSMKIT_UTMOS", "a TorchScript of UTMOS"))(_at_16_khz(audio)).squeeze())


def dnsmos(audio: Waveform) -> dict[str, float]:
    """``dnsmos_sig``, ``dnsmos_bak`` and ``dnsmos_ovrl``, mean opinion scores from 1 to 5; errors as `utmos`.

    Sound that is shorter than the model's 9 seconds is repeated, as its authors do; of longer sound the windows are
    averaged.
    """
    session = _onnx(_given("CSMKIT_DNSMOS", "the ONNX of DNSMOS P.835"))
    sound = resample(audio, SAMPLE_RATE, RATE_HZ)
    whole = np.tile(sound, -(-DNSMOS_SAMPLES // max(1, len(sound))))[: max(len(sound), DNSMOS_SAMPLES)]
    starts = range(0, len(whole) - DNSMOS_SAMPLES + 1, RATE_HZ)
    name = session.get_inputs()[0].name
    raw = np.mean([session.run(None, {name: whole[None, s : s + DNSMOS_SAMPLES]})[0][0] for s in starts], axis=0)
    scores = [float(np.polyval(scale, value)) for scale, value in zip(_DNSMOS_SCALES, raw, strict=True)]
    return dict(zip(("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"), scores, strict=True))


def speaker_similarity(audio: Waveform) -> float:
    """Cosine between the speaker embeddings of the sound and of the reference, -1 to 1; errors as `utmos`."""
    model = _script(_given("CSMKIT_SPEAKER", "a TorchScript of a speaker encoder"))
    reference = _read(_given("CSMKIT_SPEAKER_REFERENCE", "a sound file of the speaker"))
    first, second = (model(_at_16_khz(sound)).flatten() for sound in (audio, reference))
    return float(first @ second / (first.norm() * second.norm()))


def judge_wer(said: str, audio: Waveform) -> float:
    """Word error rate by a recogniser that is not under test; errors as `utmos`."""
    name = _named("CSMKIT_JUDGE", "a directory or a hub id of a Whisper for CTranslate2")
    judge = _whisper(find_whisper(locate(name, "Whisper model")))
    return word_error_rate(said, transcribe_long(judge, resample(audio, SAMPLE_RATE, RATE_HZ), final=True).text)


def _given(variable: str, what: str) -> Path:
    """The file that the user has named, fetched where it is one of the hub."""
    path = find_file(_named(variable, what))
    if not path.exists():
        raise CheckpointNotFoundError(f"{variable}={str(path)!r}: there is nothing at that path; give {what}")
    return path


def _named(variable: str, what: str) -> str:
    """The value of a variable that the user has set."""
    name = os.environ.get(variable)
    if not name:
        raise CheckpointNotFoundError(
            f"{variable} is not set: give the path of {what}; csmkit downloads none by itself"
        )
    return name


def _at_16_khz(audio: Waveform) -> Any:
    import torch

    return torch.from_numpy(resample(audio, SAMPLE_RATE, RATE_HZ).copy())[None]


@cache
def _script(path: Path) -> Any:
    import torch

    try:
        model = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        raise CheckpointError(f"{str(path)!r} is no TorchScript ({error}): export it with torch.jit.save") from error

    def run(sound: Any) -> Any:
        with torch.inference_mode():
            return model(sound)

    return run


@cache
def _onnx(path: Path) -> Any:
    return library("onnxruntime", "int4").InferenceSession(str(path), providers=["CPUExecutionProvider"])


@cache
def _whisper(path: Path) -> Any:
    from csmkit.asr.whisper import WhisperTranscriber

    return WhisperTranscriber(path)
