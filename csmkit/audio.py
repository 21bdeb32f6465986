"""Sound at 24 kHz: its constants, its loudness, and reading, writing and resampling it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from csmkit.closing import Closing
from csmkit.errors import AudioFileError, InputError

if TYPE_CHECKING:
    import torch

Waveform: TypeAlias = "np.ndarray | torch.Tensor | Sequence[float]"

SAMPLE_RATE = 24_000  # Hz, Mimi's rate
FRAME_RATE = 12.5  # codec frames a second
FRAME_SAMPLES = 1_920  # SAMPLE_RATE / FRAME_RATE
FRAME_MS = 80  # one frame
HIGHEST_PEAK = 32.0  # 30 dB above full scale; floating-point samples beyond are on another scale, such as 16-bit's

# Loudness in dBFS is 20 log10(RMS), full scale 1: a full-scale sine has -3.
AUDIBLE_DBFS = -40.0  # windows above it are audible: speech begins there, and pauses end
QUIET_DBFS = -50.0  # sound that stays below it is not speech
SILENT_DBFS = -60.0  # sound that stays below it is not analysed
ONSET_MS = 10  # length of the windows in which an onset is searched
_ONSET_WINDOWS = 5  # in a row: shorter sounds are clicks


def amplitude(dbfs: float) -> float:
    """The RMS of a level in dBFS."""
    return 10 ** (dbfs / 20)


def window_rms(samples: np.ndarray, window: int) -> np.ndarray:
    """The RMS of each whole window of a mono sound, ``(samples,)`` to ``(windows,)`` float64."""
    whole = samples[: len(samples) // window * window].reshape(-1, window)
    return np.sqrt(np.mean(np.square(whole, dtype=np.float64), axis=1))


def level_dbfs(samples: np.ndarray) -> float:
    """The root mean square of ``(samples,)`` in dBFS; -120 for silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10 * float(np.log10(max(power, 1e-12)))


def audible_windows(samples: np.ndarray) -> np.ndarray:
    """Whether each whole window of 10 ms at 24 kHz is above -40 dBFS, ``(windows,)`` bool."""
    return window_rms(samples, SAMPLE_RATE * ONSET_MS // 1000) > amplitude(AUDIBLE_DBFS)


def first_audible(audible: np.ndarray) -> int | None:
    """Index of the first of 5 audible windows in a row; None without them."""
    if len(audible) < _ONSET_WINDOWS:
        return None
    held = np.lib.stride_tricks.sliding_window_view(audible, _ONSET_WINDOWS).all(axis=1)
    return int(held.argmax()) if held.any() else None


def as_mono(audio: Waveform, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Check a waveform and return it as mono float32.

    Args:
        audio: ``(samples,)`` or ``(channels, samples)``, floating point in about [-1, 1], or int16; numpy or torch.
        sample_rate: sample rate of ``audio`` in Hz, which is checked and not changed.

    Returns:
        ``(samples,)`` float32. A new array where a conversion was needed, the same one where not.

    Raises:
        InputError: wrong shape, dtype or scale, NaN or infinite samples, an impossible rate.
    """
    detach: Any = getattr(audio, "detach", None)
    if detach and audio.is_floating_point() and audio.element_size() < 2:
        raise InputError(f"audio of dtype {audio.dtype}: give floating-point samples of 16 bits or more, or int16")
    array = np.asarray(detach().cpu().float().numpy() if detach and audio.is_floating_point() else audio)
    if not isinstance(sample_rate, (int, np.integer)) or not 1_000 <= sample_rate <= 768_000:
        raise InputError(f"sample_rate={sample_rate!r}: give the rate of the audio in Hz, an integer such as 24000")
    if array.dtype == np.int16:
        array = array.astype(np.float32) / 32_768
    elif not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"audio of dtype {array.dtype}: give floating point samples in [-1, 1], or int16")
    if array.ndim == 2 and array.shape[0] <= 8:
        array = array.mean(axis=0)
    if array.ndim != 1:
        shapes = "give (samples,), or (channels, samples) with at most 8 channels"
        raise InputError(f"audio of shape {array.shape}: {shapes}")
    array = array.astype(np.float32, copy=False)
    peak = max(abs(float(array.min())), abs(float(array.max()))) if len(array) else 0.0
    if not np.isfinite(peak):
        raise InputError("audio holds NaN or infinite samples: clean it first, for example with numpy.nan_to_num")
    if peak > HIGHEST_PEAK:
        raise InputError(
            f"audio with a peak of {peak:g}: floating-point samples lie in [-1, 1]; divide 16-bit ones by 32768, or "
            "give them as int16"
        )
    return array


def resample(audio: Waveform, from_hz: int, to_hz: int = SAMPLE_RATE) -> np.ndarray:
    """Resample a whole waveform with soxr (quality HQ) to mono float32 ``(samples,)``."""
    mono = as_mono(audio, from_hz)
    if from_hz == to_hz or not len(mono):
        return mono
    import soxr

    return soxr.resample(mono, from_hz, to_hz).astype(np.float32)


def read(path: str | PathLike[str], to_hz: int = SAMPLE_RATE) -> np.ndarray:
    """Read a sound file as mono float32 at ``to_hz``.

    Raises:
        AudioFileError: the file does not exist, or libsndfile cannot read it.
    """
    import soundfile

    if not Path(path).is_file():
        raise AudioFileError(f"no sound file at {str(path)!r}: check the path")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioFileError(f"cannot read {str(path)!r} as sound ({error}): give WAV, FLAC, OGG or MP3") from error
    return resample(samples.mean(axis=1), rate, to_hz)


def check_wav_path(path: str | PathLike[str]) -> Path:
    """Check that a `WavWriter` can write a path; an existing file is not touched.

    Raises:
        AudioFileError: another suffix, or a folder that does not exist or may not be written to.
    """
    target = Path(path)
    if target.suffix.lower() != ".wav":
        raise AudioFileError(f"cannot write {str(path)!r}: sound is saved as WAV, give a path that ends in .wav")
    if not os.access(target.parent, os.W_OK):
        hint = "give a path in an existing folder that you may write to"
        raise AudioFileError(f"cannot write {str(path)!r}, no folder {str(target.parent)!r} to write to: {hint}")
    return target


class WavWriter(Closing):
    """A 16-bit PCM WAV file that is valid after every chunk, also when a turn is interrupted.

    Args:
        path: path of the new file; its folder must exist.
        sample_rate: samples a second, in Hz.

    Raises:
        AudioFileError: the file cannot be written; it is opened here, before any speech is generated.
    """

    def __init__(self, path: str | PathLike[str], sample_rate: int = SAMPLE_RATE) -> None:
        import soundfile

        self.path = check_wav_path(path)
        try:
            self._file = soundfile.SoundFile(self.path, "w", sample_rate, channels=1, subtype="PCM_16", format="WAV")
        except (soundfile.LibsndfileError, OSError) as error:
            hint = "give a path in an existing folder that you may write to"
            raise AudioFileError(f"cannot write {str(path)!r} ({error}): {hint}") from error

    def write(self, chunk: Waveform) -> None:
        """Append ``(samples,)`` float samples; values outside [-1, 1] are clipped. The header is updated.

        Raises:
            AudioFileError: the disk is full or fails; what was written before is kept.
        """
        samples = np.clip(as_mono(chunk), -1.0, 1.0)
        with self._explained():
            self._file.write(samples)
            self._file.flush()

    def close(self) -> None:
        """Finish the file; may be called more than once. Raises AudioFileError as `write`."""
        with self._explained():
            self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import soundfile

        try:
            yield
        except (soundfile.LibsndfileError, OSError) as error:
            hint = "free some space on that disk, or save to another one"
            raise AudioFileError(f"cannot continue writing {str(self.path)!r} ({error}): {hint}") from error


def write(path: str | PathLike[str], audio: Waveform, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a whole waveform as 16-bit WAV; errors as in `WavWriter`."""
    with WavWriter(path, sample_rate) as wav:
        wav.write(audio)
