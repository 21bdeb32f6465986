"""Sound files that clients send, read from memory up to a limit of time.

libsndfile reads WAV, FLAC, OGG and MP3. FFmpeg, by the package av, reads what phones and browsers record: M4A, AAC and
WebM. FFmpeg also knows formats that name other files or addresses, such as playlists; the format is therefore found by
the first bytes here, and only the ones of `_signature` are opened.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain
from typing import IO, Any

import numpy as np
import soundfile

from csmkit.audio import resample
from csmkit.errors import AudioFileError
from csmkit.serve.errors import RequestError, invalid

BLOCK_SAMPLES = 65_536
RATES_HZ = (4_000, 192_000)
MOST_CHANNELS = 8
CODECS = ("aac", "opus", "vorbis", "mp3", "mp3float", "flac", "alac")  # inside M4A, AAC and WebM
N_SIGNATURE = 12  # bytes that tell the formats apart


def read_sound(file: IO[bytes], most_s: float) -> np.ndarray:
    """The samples of a sound file, ``(samples,)`` float32 at 24 kHz.

    Args:
        file: an open file, no larger than an upload may be.
        most_s: seconds of sound that it may hold.

    Raises:
        AudioFileError: not a sound file.
        RequestError: 413 for more than ``most_s`` seconds, 422 for a rate that no recording has.
    """
    file.seek(0)
    name = _signature(file.read(N_SIGNATURE))
    file.seek(0)
    rate, blocks = _by_libsndfile(file, most_s) if name is None else _by_ffmpeg(file, name, most_s)
    mono = np.concatenate([np.zeros(0, np.float32), *blocks])
    if not len(mono):
        raise invalid("a sound file without a sample: send a recording", "file")
    return resample(np.clip(np.nan_to_num(mono), -1.0, 1.0), rate)


def _signature(begin: bytes) -> str | None:
    """The name of FFmpeg's reader for a file that begins so; None leaves it to libsndfile."""
    if begin[4:8] == b"ftyp":
        return "mp4"
    if begin.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"  # WebM is a subset of Matroska
    if len(begin) > 1 and begin[0] == 0xFF and begin[1] & 0xF6 == 0xF0:
        return "aac"
    return None


def _by_libsndfile(file: IO[bytes], most_s: float) -> tuple[int, list[np.ndarray]]:
    try:
        with _ForwardOnly(file) as sound:
            rate = sound.samplerate
            _check_form(rate, sound.channels)
            return rate, list(_within(_blocks(sound), rate, most_s))
    except soundfile.LibsndfileError as error:
        raise AudioFileError(f"not a sound file: {error}") from error


class _ForwardOnly(soundfile.SoundFile):
    """A sound file that is read without going back, which a FLAC file of unknown length does not allow."""

    def seekable(self) -> bool:
        return False


def _blocks(sound: Any) -> Iterator[np.ndarray]:
    while len(block := sound.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)):
        yield block.mean(axis=1)


def _by_ffmpeg(file: IO[bytes], name: str, most_s: float) -> tuple[int, list[np.ndarray]]:
    import av

    try:
        with av.open(io.BytesIO(file.read()), format=name) as container:  # a spooled file's seek returns nothing
            if not container.streams.audio:
                raise invalid("a file without a sound track: send a recording", "file")
            track = container.streams.audio[0]
            if track.codec_context.name not in CODECS:
                raise AudioFileError(f"a sound track of the kind {track.codec_context.name!r}")
            _check_form(track.rate, track.channels)
            return track.rate, list(_within(_frames(container, track), track.rate, most_s))
    except (av.FFmpegError, ValueError) as error:  # ValueError: a frame with another layout than those before
        raise AudioFileError(f"not a sound file: {error}") from error


def _frames(container: Any, track: Any) -> Iterator[np.ndarray]:
    from av import AudioResampler

    mono = AudioResampler(format="flt", layout="mono", rate=track.rate)
    for frame in chain(container.decode(track), [None]):  # None: what the resampler still holds
        for converted in mono.resample(frame):
            yield converted.to_ndarray()[0]


def _check_form(rate: int, n_channels: int) -> None:
    if not RATES_HZ[0] <= rate <= RATES_HZ[1] or n_channels > MOST_CHANNELS:
        allowed = "give 8 to 48 kHz, mono or stereo"
        raise invalid(f"a sound of an unusual rate or more than {MOST_CHANNELS} channels: {allowed}", "file")


def _within(blocks: Iterator[np.ndarray], rate: int, most_s: float) -> Iterator[np.ndarray]:
    """The blocks, ``(samples,)`` each; raises RequestError once there are more samples than allowed."""
    n_read = 0
    for block in blocks:
        n_read += len(block)
        if n_read > most_s * rate:
            raise RequestError(413, f"a sound of more than {most_s:g} s: send it in parts", "too_long", "file")
        yield block
