"""Playback on this machine's sound card while the sound is being generated."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from csmkit.audio import SAMPLE_RATE
from csmkit.cli.console import Console
from csmkit.closing import Closing
from csmkit.errors import DeviceError, InputError, MissingDependencyError
from csmkit.plugins import library

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class Loudspeaker(Closing):
    """Discards the sound; `SoundCard` plays it."""

    def put(self, chunk: Tensor) -> None:
        """Play ``(samples,)`` float32 at 24 kHz after the chunks before it; returns at once."""

    def wait(self) -> None:
        """Block until every chunk was played; Ctrl-C ends the sound and raises KeyboardInterrupt."""

    def silence(self) -> None:
        """Discard the chunks that were not played yet."""

    def close(self) -> None:
        """Close the sound card."""


class SoundCard(Loudspeaker):
    """Plays chunks one after another; while a chunk is late, there is silence.

    Raises:
        MissingDependencyError: sounddevice is not installed.
        DeviceError: there is no sound card, or it cannot play 24 kHz.
    """

    def __init__(self) -> None:
        sounddevice = import_sounddevice()
        self._waiting: deque[np.ndarray] = deque()
        self._n_taken = 0  # samples that the card has taken since `begin`
        self._lock = threading.Lock()
        try:
            self._stream = sounddevice.OutputStream(SAMPLE_RATE, channels=1, dtype="float32", callback=self._fill)
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise DeviceError(f"no usable sound card ({error}): listen to the WAV file") from error

    @property
    def is_playing(self) -> bool:
        """Whether there are samples that the sound card has not taken yet."""
        return bool(self._waiting)

    def begin(self) -> None:
        """Start to count played samples from zero, for another answer."""
        with self._lock:
            self._n_taken = 0

    @property
    def played_ms(self) -> float:
        """Milliseconds of sound played since `begin`, without those that are still in the card's buffers."""
        return max(0.0, (self._n_taken / SAMPLE_RATE - float(self._stream.latency)) * 1000)

    def put(self, chunk: Tensor) -> None:
        with self._lock:
            self._waiting.append(chunk.numpy())

    def wait(self) -> None:
        try:
            while self.is_playing:
                time.sleep(0.05)
        except KeyboardInterrupt:
            self.silence()
            raise

    def silence(self) -> None:
        with self._lock:
            self._waiting.clear()

    def close(self) -> None:
        self._stream.stop()
        self._stream.close()

    def _fill(self, out: np.ndarray, n_samples: int, at: Any, status: Any) -> None:
        """Fill the buffer of the sound card, ``(n_samples, 1)``, in its own thread: the next samples, then zeros."""
        n_done = 0
        with self._lock:
            while n_done < n_samples and self._waiting:
                chunk = self._waiting.popleft()
                part, rest = chunk[: n_samples - n_done], chunk[n_samples - n_done :]
                out[n_done : n_done + len(part), 0] = part
                n_done += len(part)
                if len(rest):
                    self._waiting.appendleft(rest)
            self._n_taken += n_done
        out[n_done:] = 0


def find_loudspeaker(play: str, console: Console) -> Loudspeaker:
    """The sound card, or a loudspeaker that discards the sound.

    Args:
        play: ``yes``, ``no``, or ``auto``, which prints a line where there is no sound card.
        console: prints that line.

    Raises:
        InputError: another word.
        MissingDependencyError, DeviceError: with ``yes``, as `SoundCard`.
    """
    if play not in ("yes", "no", "auto"):
        raise InputError(f"--play {play!r}: give yes, no, or auto, which plays where there is a sound card")
    if play == "no":
        return Loudspeaker()
    try:
        return SoundCard()
    except (MissingDependencyError, DeviceError) as error:
        if play == "yes":
            raise
        console.say(f"Not played here: {error}")
        return Loudspeaker()


def import_sounddevice() -> Any:
    """The package sounddevice; raises MissingDependencyError, or DeviceError where PortAudio is missing."""
    try:
        return library("sounddevice", "play")
    except OSError as error:  # the package includes PortAudio on macOS and Windows only
        raise DeviceError(f"{error}: on Linux install it (apt-get install libportaudio2)") from error
