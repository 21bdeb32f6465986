"""Sound as bytes, piece by piece: raw samples, WAV, FLAC, MP3 and Opus."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import soundfile

from csmkit.audio import SAMPLE_RATE

MEDIA_TYPES = {
    "pcm": f"audio/pcm;rate={SAMPLE_RATE}",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg;codecs=opus",
}
_UNKNOWN = b"\xff\xff\xff\xff"  # size of what has no known end: as large as it can be
_PCM_FORMAT = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
WAV_HEADER = b"RIFF" + _UNKNOWN + b"WAVEfmt " + _PCM_FORMAT + b"data" + _UNKNOWN
"""The 44 bytes before mono samples of 16 bits at 24 kHz; by its sizes players read on until the end."""
PAGE_LATENCY_MS = 80.0  # most sound in a page of Ogg; libsndfile's own choice is a second
CONSTANT_RATE: dict[str, Any] = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
"""Of MP3, 80 kbit/s: without a header that says so, readers take the rate of the beginning for that of the whole."""
_SET_PAGE_LATENCY = 0x1302  # a command of libsndfile's sf_command


def new_encoder(name: str) -> PcmEncoder | FileEncoder:
    """The encoder of a format in `MEDIA_TYPES`."""
    if name in ("pcm", "wav"):
        return PcmEncoder(WAV_HEADER if name == "wav" else b"")
    container, subtype = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}[name]
    return FileEncoder(container, subtype)


def pcm16(samples: np.ndarray) -> bytes:
    """``(samples,)`` in [-1, 1] as 16-bit little-endian integers; beyond is clipped."""
    return np.rint(np.clip(samples, -1.0, 1.0) * 32_767.0).astype("<i2").tobytes()


def from_pcm16(data: bytes) -> np.ndarray:
    """16-bit little-endian integers as ``(samples,)`` float32."""
    return np.frombuffer(data, "<i2").astype(np.float32) / 32_768.0


class PcmEncoder:
    """Turns chunks of sound into samples of 16 bits, behind a header or none."""

    def __init__(self, header: bytes = b"") -> None:
        self._header = header

    def encode(self, samples: np.ndarray) -> bytes:
        """The bytes that are ready after ``(samples,)`` float32 at 24 kHz; may be empty."""
        header, self._header = self._header, b""
        return header + pcm16(samples)

    def finish(self) -> bytes:
        """The last bytes, a header that was not asked for before."""
        return self.encode(np.zeros(0))


class FileEncoder:
    """A format of libsndfile, written to memory as it comes: nothing that was handed out is changed later.

    The header of a FLAC or MP3 file therefore does not say how long it is; decoders find out at the end.
    """

    def __init__(self, container: str, subtype: str) -> None:
        self._sink = _Sink()
        more = CONSTANT_RATE if container == "MP3" else {}
        self._file = soundfile.SoundFile(self._sink, "w", SAMPLE_RATE, 1, subtype=subtype, format=container, **more)
        if container == "OGG":
            _set_page_latency(self._file)

    def encode(self, samples: np.ndarray) -> bytes:
        """As `PcmEncoder.encode`."""
        self._file.write(np.clip(samples, -1.0, 1.0))
        self._file.flush()
        return self._sink.take()

    def finish(self) -> bytes:
        """The last bytes."""
        self._file.close()
        return self._sink.take()


class _Sink:
    """A file that is only ever appended to; what libsndfile goes back to write again, such as a length, is dropped."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._position = self._end = 0

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken

    def write(self, data: bytes) -> int:
        piece = bytes(data)
        if self._position == self._end:
            self._bytes += piece
        self._position += len(piece)
        self._end = max(self._end, self._position)
        return len(piece)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = (0, self._position, self._end)[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, n_bytes: int) -> bytes:
        return b""


def _set_page_latency(file: object) -> None:
    """Ask for short pages, by a command that soundfile has no method for; without it Opus comes a second late."""
    library, ffi = getattr(soundfile, "_snd", None), getattr(soundfile, "_ffi", None)
    handle = getattr(file, "_file", None)
    if library is not None and ffi is not None and handle is not None:
        library.sf_command(handle, _SET_PAGE_LATENCY, ffi.new("double*", PAGE_LATENCY_MS), ffi.sizeof("double"))
