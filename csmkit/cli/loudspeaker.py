"""This machine's sound card: a command's sound is played while it is still being made."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from csmkit.audio import SAMPLE_RATE
from csmkit.cli.console import Console
from csmkit.errors import DeviceError, InputError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class Loudspeaker:
    """None: what is put here is not heard."""

    def put(self, chunk: Tensor) -> None:
        """Play ``(samples,)`` at 24 kHz after all that was put before; returns at once."""

    def wait(self) -> None:
        """Block until everything was played; Ctrl-C ends it, and the sound."""

    def silence(self) -> None:
        """Forget what was not played yet."""

    def close(self) -> None:
        """Let go of the sound card."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class SoundCard(Loudspeaker):
    """Plays chunks one after another; where they come too late, it is silent until the next.

    Raises:
        MissingDependencyError: sounddevice is not installed.
        DeviceError: no sound card, or one that does not take 24 kHz.
    """

    def __init__(self) -> None:
        sounddevice = _sounddevice()
        self._waiting: deque[np.ndarray] = deque()
        self._lock = threading.Lock()
        try:
            self._stream = sounddevice.OutputStream(SAMPLE_RATE, channels=1, dtype="float32", callback=self._fill)
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise DeviceError(f"no sound card that can be used ({error}): listen to the WAV file") from error

    def put(self, chunk: Tensor) -> None:
        with self._lock:
            self._waiting.append(chunk.numpy())

    def wait(self) -> None:
        try:
            while self._waiting:
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
        """What the card asks for, in a thread of its own: the next samples, then zeros."""
        n_done = 0
        with self._lock:
            while n_done < n_samples and self._waiting:
                chunk = self._waiting.popleft()
                part, rest = chunk[: n_samples - n_done], chunk[n_samples - n_done :]
                out[n_done : n_done + len(part), 0] = part
                n_done += len(part)
                if len(rest):
                    self._waiting.appendleft(rest)
        out[n_done:] = 0


def find_loudspeaker(play: str, console: Console) -> Loudspeaker:
    """The sound card, or none: not wanted, or with ``auto`` not there, which is said in a line.

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


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise MissingDependencyError.for_extra("sounddevice", "play") from error
    except OSError as error:  # PortAudio is part of it on macOS and Windows only
        raise DeviceError(f"{error}: on Linux install it (apt-get install libportaudio2)") from error
    return sounddevice
