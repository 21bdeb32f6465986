"""Whisper on CTranslate2: short windows if the model allows them, word times, repeated text cut off."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from csmkit.asr.directory import WhisperOptions, check_directory, resolve
from csmkit.asr.transcriber import RATE_HZ, SHORTEST_S, Hypothesis, Transcriber, Word
from csmkit.audio import SILENT_DBFS, amplitude, window_rms
from csmkit.checks import check_integer
from csmkit.errors import CheckpointError, DeviceError, DeviceMemoryError, InputError
from csmkit.files.hub import DEFAULT_WHISPER, find_whisper
from csmkit.plugins import library

__all__ = ["Hypothesis", "Transcriber", "WhisperTranscriber", "Word", "resolve"]

HOP = 160  # samples a mel frame at 16 kHz: 10 ms
SLACK_FRAMES = 20  # zero mel frames that follow the sound, at least
STEP_FRAMES = 50  # short windows are multiples of half a second
UNLIKELY = -2.5  # log probability a token: speech stays above -0.7, noise falls below -4
TOKENS_PER_S = 16  # faster than anybody speaks: limits a model that does not end


class WhisperTranscriber:
    """A loaded Whisper; blocking, for one thread.

    Partial texts are decoded greedily, final texts with a beam of 5 and one retry with a low temperature if the text
    repeats itself; the length of the sound limits both. Earlier text is never given to the model as a prompt, so that
    its errors can be counted.

    Args:
        model: a name that `resolve` takes, a directory, or a hub id, which is downloaded.
        device: ``cpu`` or ``cuda``.
        compute_type: CTranslate2's type of the weights, such as ``int8``, ``float32`` or ``float16``.
        cpu_threads: number of CPU threads of one decode, at least 1; more than one is slower beside a busy generator.

    Attributes:
        whisper: the loaded model, a faster_whisper.WhisperModel.
        options: how this model is decoded.
        window_s: the longest sound that one call can take, in seconds.

    Raises:
        MissingDependencyError: faster-whisper is not installed.
        CheckpointNotFoundError: the model, or a file of it, is missing.
        CheckpointError: CTranslate2 cannot load it.
        DeviceError: no such device, or one that this CTranslate2 cannot use.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_WHISPER,
        *,
        device: str = "cpu",
        compute_type: str = "int8",
        cpu_threads: int = 1,
    ) -> None:
        check_integer("cpu_threads", cpu_threads)
        tokenizer = library("faster_whisper.tokenizer", "asr").Tokenizer
        directory = find_whisper(resolve(str(model)))
        check_directory(directory)
        self.options = WhisperOptions.of(directory)
        self.whisper = _load(directory, device, compute_type, cpu_threads)
        language = {"task": "transcribe", "language": "en"} if self.whisper.model.is_multilingual else {}
        self._tokenizer = tokenizer(self.whisper.hf_tokenizer, self.whisper.model.is_multilingual, **language)
        self._prompt = [*self._tokenizer.sot_sequence, self._tokenizer.no_timestamps]
        self._max_frames: int = self.whisper.feature_extractor.nb_max_frames
        self.window_s = min(self.options.window_s, (self._max_frames - SLACK_FRAMES) * HOP / RATE_HZ)

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        """Recognise up to ``window_s`` of sound.

        Args:
            audio_16k: ``(samples,)`` float32 in [-1, 1] at 16 kHz.
            final: beam search instead of a greedy partial.

        Raises:
            InputError: wrong shape or dtype, NaN, or too long.
            DeviceMemoryError: the device is too small for the model's work.
        """
        self._check(audio_16k)
        try:
            return self._read(audio_16k, final)
        except RuntimeError as error:  # CTranslate2 has no type of its own for it
            if "out of memory" not in str(error):
                raise
            raise DeviceMemoryError.during("transcribing", error) from error

    def _read(self, audio_16k: np.ndarray, final: bool) -> Hypothesis:
        if len(audio_16k) < SHORTEST_S * RATE_HZ or is_silent(audio_16k):
            return Hypothesis()
        n_frames = math.ceil(len(audio_16k) / HOP)
        encoded = self._encode(audio_16k, n_frames)
        tokens = self._decode(encoded, len(audio_16k) / RATE_HZ, final)
        text = self._tokenizer.decode(tokens).strip()
        if not any(letter.isalnum() for letter in text):  # for noise Whisper writes one or three full stops
            return Hypothesis()
        return Hypothesis(text, self._words(encoded, tokens, n_frames))

    def _check(self, audio: np.ndarray) -> None:
        if not isinstance(audio, np.ndarray) or audio.ndim != 1 or audio.dtype != np.float32:
            given = f"{audio.dtype} of shape {audio.shape}" if isinstance(audio, np.ndarray) else type(audio).__name__
            raise InputError(f"audio is {given}: give float32 (samples,) at 16 kHz")
        if not np.isfinite(audio).all():
            raise InputError("audio holds NaN or infinite samples: clean it first, for example with numpy.nan_to_num")
        if len(audio) > self.window_s * RATE_HZ:
            seconds = len(audio) / RATE_HZ
            raise InputError(f"{seconds:.1f} s of sound, but one window is {self.window_s} s: use transcribe_long")

    def _encode(self, audio: np.ndarray, n_frames: int) -> Any:
        """Encode the mel frames, with zeros after them to the end of the window."""
        size = self._max_frames
        if self.options.short_windows:
            size = min(size, math.ceil((n_frames + SLACK_FRAMES) / STEP_FRAMES) * STEP_FRAMES)
        mel = self.whisper.feature_extractor(audio)[:, :n_frames]
        window = np.zeros((mel.shape[0], size), np.float32)
        window[:, : mel.shape[1]] = mel
        return self.whisper.encode(window)

    def _decode(self, encoded: Any, audio_s: float, final: bool) -> list[int]:
        """The text tokens, by greedy or beam search; a repetition at the end is cut, for a final text after a retry."""
        tokens = self._generate(encoded, audio_s, beam_size=5 if final else 1)
        if final and cut_loop(tokens) != tokens:
            again = self._generate(encoded, audio_s, beam_size=1, sampling_topk=0, sampling_temperature=0.4)
            tokens = min(cut_loop(tokens), cut_loop(again), key=len) if cut_loop(again) != again else again
        return cut_loop(tokens)

    def _generate(self, encoded: Any, audio_s: float, **search: Any) -> list[int]:
        import ctranslate2

        ctranslate2.set_random_seed(0)  # a retry samples: the same sound must give the same text
        bound = len(self._prompt) + 8 + math.ceil(audio_s * TOKENS_PER_S)
        (result,) = self.whisper.model.generate(
            encoded,
            [self._prompt],
            max_length=min(bound, self.options.max_length),
            suppress_blank=self.options.suppress_blank,
            return_scores=True,
            return_no_speech_prob=True,
            **search,
        )
        if self.options.short_windows:  # such a model was not taught the token for "no speech"
            unsure = result.scores[0] < UNLIKELY
        else:
            unsure = result.no_speech_prob > 0.6 and result.scores[0] < -1.0  # Whisper's own rule for silence
        if unsure:
            return []
        return [token for token in result.sequences_ids[0] if token < self._tokenizer.eot]

    def _words(self, encoded: Any, tokens: list[int], n_frames: int) -> tuple[Word, ...]:
        """Words with their times by attention alignment; punctuation belongs to the word before it."""
        (aligned,) = self.whisper.find_alignment(self._tokenizer, [tokens], encoded, n_frames)
        words: list[Word] = []
        for item in aligned:
            text, start_s, end_s = item["word"], float(item["start"]), float(item["end"])
            if not text.strip():
                continue
            if words and not text.startswith(" "):
                words[-1] = Word(words[-1].text + text, words[-1].start_s, end_s)
            else:
                words.append(Word(text.strip(), start_s, end_s))
        return tuple(words)


def is_silent(audio_16k: np.ndarray) -> bool:
    """Whether no 20 ms of the sound are louder than -60 dBFS."""
    return bool(window_rms(audio_16k, RATE_HZ // 50).max(initial=0.0) < amplitude(SILENT_DBFS))


def cut_loop(tokens: list[int]) -> list[int]:
    """Cut a repetition at the end to one period; it counts from four periods and eight tokens on."""
    for period in range(1, len(tokens) // 4 + 1):
        n_same = 0
        while n_same + period < len(tokens) and tokens[-1 - n_same] == tokens[-1 - n_same - period]:
            n_same += 1
        if n_same >= max(3 * period, 8 - period):
            return tokens[: len(tokens) - n_same]
    return tokens


def _load(directory: Path, device: str, compute_type: str, cpu_threads: int) -> Any:
    import ctranslate2
    from faster_whisper import WhisperModel

    if device not in ("cpu", "cuda"):
        raise InputError(f"device={device!r}: Whisper runs on cpu or cuda")
    if device == "cuda" and not ctranslate2.get_cuda_device_count():
        raise DeviceError("device='cuda', but CTranslate2 sees no GPU: use device='cpu'")
    try:
        return WhisperModel(str(directory), device=device, compute_type=compute_type, cpu_threads=cpu_threads)
    except ValueError as error:
        raise InputError(f"compute_type={compute_type!r} on {device}: {error}") from error
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise DeviceMemoryError.during(f"loading Whisper on {device}", error) from error
        if device == "cuda":
            hint = "CTranslate2 needs the CUDA 12 libraries (libcublas.so.12): install them, or use device='cpu'"
            raise DeviceError(f"Whisper cannot use the GPU: {error}; {hint}") from error
        remedy = "convert the model again"
        raise CheckpointError(f"CTranslate2 cannot load {str(directory)!r}: {error}; {remedy}") from error
