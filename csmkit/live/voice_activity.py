"""Detection of speech in windows of 32 ms, by the Silero model or by loudness, and of the end of a turn by a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from csmkit.audio import level_dbfs
from csmkit.errors import InputError
from csmkit.plugins import library

RATE_HZ = 16_000
WINDOW = 512  # samples at 16 kHz: 32 ms, what Silero takes
WINDOW_S = WINDOW / RATE_HZ
_CONTEXT = 64  # samples before a window that Silero reads again
_END_OF_TURN_S = 8  # seconds of sound that an end-of-turn model reads, the newest


class VoiceActivity(Protocol):
    """Rates one window of sound after another; holds the state that is carried from window to window."""

    def probability(self, window: np.ndarray) -> float:
        """The probability, in [0, 1], that somebody speaks in ``(512,)`` float32 samples at 16 kHz."""
        ...

    def reset(self) -> None:
        """Discard the state of the earlier windows."""
        ...


class SileroVoiceActivity:
    """Silero VAD v6 as an ONNX model, its recurrent state carried on from window to window.

    The model reads 64 samples of the window before in front of each window. One call takes about 0.1 ms.

    Args:
        path: the ONNX file; None takes the one in the faster-whisper package.

    Raises:
        MissingDependencyError: faster-whisper or onnxruntime is not installed.
        InputError: no such file in this version of faster-whisper, or a file that is no such model.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._session = open_onnx(
            _bundled() if path is None else Path(path), ("c", "h", "input"), "a Silero VAD v6 model"
        )
        self.reset()

    def probability(self, window: np.ndarray) -> float:
        """As `VoiceActivity.probability`."""
        joined = np.concatenate([self._context, window])[None]
        (rated,), self._h, self._c = self._session.run(None, {"input": joined, "h": self._h, "c": self._c})
        self._context = window[-_CONTEXT:]
        return float(np.ravel(rated)[0])

    def reset(self) -> None:
        """As `VoiceActivity.reset`."""
        self._context = np.zeros(_CONTEXT, np.float32)
        self._h = self._c = np.zeros((1, 1, 128), np.float32)


class LoudnessActivity:
    """Takes every window that is loud enough for speech: for tests, and where onnxruntime is missing.

    Args:
        threshold_dbfs: root mean square of a window from which on it counts as speech.
    """

    def __init__(self, threshold_dbfs: float = -40.0) -> None:
        self._threshold_dbfs = threshold_dbfs

    def probability(self, window: np.ndarray) -> float:
        """1 for a loud window, 0 for a quiet one."""
        return float(level_dbfs(window) >= self._threshold_dbfs)

    def reset(self) -> None:
        """Do nothing: this rule has no state."""


class EndOfTurnModel:
    """A model of the form of smart-turn v3 (pipecat-ai/smart-turn, BSD-2): Whisper features of 8 s to a probability.

    It is not part of csmkit; download ``smart-turn-v3.2-cpu.onnx`` and give its path.

    Args:
        path: the ONNX file, with the input ``input_features`` ``(1, 80, 800)`` and one output.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        InputError: no such file, or another kind of model.
    """

    def __init__(self, path: str | Path) -> None:
        from transformers import WhisperFeatureExtractor

        self._session = open_onnx(Path(path), ("input_features",), "an end-of-turn model like smart-turn v3")
        self._features = WhisperFeatureExtractor(chunk_length=_END_OF_TURN_S)

    def __call__(self, sound_16k: np.ndarray) -> float:
        """The probability, in [0, 1], that the user has finished.

        Args:
            sound_16k: ``(samples,)`` float32 of the turn so far; the last 8 s count, shorter ones are padded in front.
        """
        newest = sound_16k[-_END_OF_TURN_S * RATE_HZ :]
        padded = np.pad(newest, (_END_OF_TURN_S * RATE_HZ - len(newest), 0))
        features = self._features(padded, sampling_rate=RATE_HZ, return_tensors="np", do_normalize=True).input_features
        (rated,) = self._session.run(None, {"input_features": features.astype(np.float32)})
        return float(np.ravel(rated)[0])


def open_onnx(path: Path, inputs: Sequence[str], kind: str) -> Any:
    """An ONNX model for one thread of the CPU.

    Args:
        path: the ONNX file.
        inputs: names of the inputs that the model must have, sorted.
        kind: what to give where it has others.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        InputError: no such file, one that onnxruntime cannot read, or a model with other inputs.
    """
    onnxruntime = library("onnxruntime", "asr")
    if not path.is_file():
        raise InputError(f"no ONNX model at {str(path)!r}: check the path")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen error types without a common base
        raise InputError(f"onnxruntime cannot read {str(path)!r} ({error}): give a whole ONNX model") from error
    names = sorted(given.name for given in session.get_inputs())
    if names != list(inputs):
        raise InputError(f"{str(path)!r} takes {', '.join(names)}: give {kind}, which takes {', '.join(inputs)}")
    return session


def _bundled() -> Path:
    assets = Path(library("faster_whisper", "asr").__file__).parent / "assets"
    path = assets / "silero_vad_v6.onnx"
    if not path.is_file():
        found = ", ".join(sorted(file.name for file in assets.glob("*.onnx"))) or "none"
        raise InputError(
            f"this faster-whisper has no silero_vad_v6.onnx (models there: {found}): pip install -U faster-whisper, "
            "or give the path of the model"
        )
    return path
