"""An end-of-turn model: does the user sound as if they had finished, whatever the silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from csmkit.errors import InputError
from csmkit.live.voice_activity import RATE_HZ, open_onnx

_SECONDS = 8  # of sound that the model reads, the newest


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

        self._session = open_onnx(Path(path))
        names = [given.name for given in self._session.get_inputs()]
        if names != ["input_features"]:
            cure = "give an end-of-turn model like smart-turn v3, whose input is input_features"
            raise InputError(f"{str(path)!r} takes {', '.join(names)}: {cure}")
        self._features = WhisperFeatureExtractor(chunk_length=_SECONDS)

    def __call__(self, sound_16k: np.ndarray) -> float:
        """The probability, in [0, 1], that the user has finished.

        Args:
            sound_16k: ``(samples,)`` float32 of the turn so far; the last 8 s count, shorter ones are padded in front.
        """
        newest = sound_16k[-_SECONDS * RATE_HZ :]
        padded = np.pad(newest, (_SECONDS * RATE_HZ - len(newest), 0))
        features = self._features(padded, sampling_rate=RATE_HZ, return_tensors="np", do_normalize=True).input_features
        (rated,) = self._session.run(None, {"input_features": features.astype(np.float32)})
        return float(np.ravel(rated)[0])
