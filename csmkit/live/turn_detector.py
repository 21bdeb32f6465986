"""Finds the beginnings and ends of a user's turns while their sound arrives."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import soxr

from csmkit.audio import SAMPLE_RATE, Waveform, as_mono, level_dbfs
from csmkit.checks import check_number, is_finite
from csmkit.errors import InputError
from csmkit.live.voice_activity import RATE_HZ, WINDOW, WINDOW_S, SileroVoiceActivity, VoiceActivity

_HYSTERESIS = 0.15  # speech that has begun goes on down to this much below the threshold, as in Silero's own rule
_GAP_WINDOWS = 2  # that a user who breaks in may be quieter than the echo, in the middle of a word
_KEPT_S = 0.5  # sound before the prefix that is kept while nobody speaks

# The echo of the voice
_QUIET_DBFS = -55.0  # the echo of quieter sound is ignored
_DELAY_WINDOWS = 16  # of 32 ms: an echo comes back within half a second of what the listener reports as played
_KNOWN_WINDOWS = 5  # measurements that a coupling needs
_MEMORY_WINDOWS = 120  # of them, the newest that count: about four seconds of echo, or of noise
_ASSUMED_DB = -6.0  # coupling as long as none was measured: a loud speaker beside the microphone
_LOUD_DB = 6.0  # windows this far below the loudest one played still measure the coupling
_LEAST_ECHO = 0.5  # power of the echo, as a share of the noise's: a weaker echo cannot be told from noise

Kind = Literal["speech_started", "probable_end", "speech_resumed", "speech_stopped"]
EndOfTurn = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class TurnDetection:
    """The settings of turn detection; the first three are those of ``server_vad`` in OpenAI's Realtime API.

    Attributes:
        threshold: probability of speech, in (0, 1), from which on a window of 32 ms counts as speech.
        prefix_ms: sound before the first speech that belongs to the turn.
        silence_ms: silence that ends a turn.
        probable_end_ms: silence after which the answer is prepared; it is dropped if the user goes on.
        speech_ms: speech that begins a turn; shorter sounds are ignored.
        barge_in_threshold: probability of speech from which on a window counts while the voice speaks.
        barge_in_ms: speech that begins a turn while the voice speaks.
        echo_margin_db: while the voice speaks, the user must be louder than its echo by this much.
        unsure_silence_ms: silence that ends a turn where the end-of-turn model says that the user has more to say.
        longest_turn_s: a turn ends here, also in the middle of speech.

    Raises:
        InputError: a value out of its range.
    """

    threshold: float = 0.5
    prefix_ms: float = 300.0
    silence_ms: float = 500.0
    probable_end_ms: float = 200.0
    speech_ms: float = 96.0
    barge_in_threshold: float = 0.7
    barge_in_ms: float = 96.0
    echo_margin_db: float = 6.0
    unsure_silence_ms: float = 1500.0
    longest_turn_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("threshold", "barge_in_threshold"):
            value = getattr(self, name)
            if not is_finite(value) or not 0 < value < 1:
                raise InputError(f"{name}={value!r}: give a probability above 0 and below 1, such as 0.5")
        for name, low, high in (
            ("prefix_ms", 0, 5_000),
            ("silence_ms", 32, 10_000),
            ("probable_end_ms", 32, 10_000),
            ("speech_ms", 0, 2_000),
            ("barge_in_ms", 0, 2_000),
            ("unsure_silence_ms", 32, 30_000),
            ("longest_turn_s", 1, 600),
            ("echo_margin_db", 0, 60),
        ):
            check_number(name, getattr(self, name), low, high)


class TurnChange(NamedTuple):
    """A change of turn that was found in a frame.

    Attributes:
        kind: ``speech_started`` · ``probable_end``, the user may have ended · ``speech_resumed``, they had not ·
            ``speech_stopped``, the turn is over.
        at_s: when the speech began or ended, in seconds of sound since the first frame.
        decided_s: the end of the window that decided it, on the same clock.
    """

    kind: Kind
    at_s: float
    decided_s: float


class EchoLevel:
    """Estimates the level of the echo from what is being played.

    The coupling is the level of the echo at the microphone minus the level that is played, in dB: the 95th percentile
    over the newest windows in which the voice is loud and nobody was found to speak over it. The power of the room's
    noise, measured while the voice is silent, is subtracted first. The coupling outlives an answer: loudspeaker and
    microphone rarely move.
    """

    def __init__(self) -> None:
        self._played: deque[float] = deque([-120.0] * _DELAY_WINDOWS, maxlen=_DELAY_WINDOWS)
        self._noise: deque[float] = deque(maxlen=_MEMORY_WINDOWS)  # dBFS
        self._measured: deque[tuple[float, float]] = deque(maxlen=_MEMORY_WINDOWS)  # dBFS played, dBFS of its echo

    @property
    def coupling_db(self) -> float:
        """Level of the echo minus level played; assumed to be high before it is known."""
        if len(self._measured) < _KNOWN_WINDOWS:
            return _ASSUMED_DB
        played, echo = np.asarray(self._measured).T
        loud = played >= min(played.max() - _LOUD_DB, np.sort(played)[-_KNOWN_WINDOWS])
        return float(np.percentile((echo - played)[loud], 95))

    def expected_dbfs(self) -> float:
        """The level that an echo may have now; -120 where nothing was played in the last half second."""
        loudest = max(self._played)
        return loudest + self.coupling_db if loudest > _QUIET_DBFS else -120.0

    def add(self, played_dbfs: float, heard_dbfs: float, *, by_user: bool) -> None:
        """Note a window of 32 ms.

        Args:
            played_dbfs: level of the voice's sound that was played meanwhile.
            heard_dbfs: level at the microphone.
            by_user: whether the user speaks in it; such a window says nothing about echo or noise.
        """
        self._played.append(played_dbfs)
        loudest = max(self._played)
        if by_user:
            return
        if loudest > _QUIET_DBFS:
            self._measured.append((loudest, self._without_noise(heard_dbfs)))
        else:
            self._noise.append(heard_dbfs)

    def _without_noise(self, heard_dbfs: float) -> float:
        """The level of the echo in what was heard."""
        noise = 10 ** (float(np.median(self._noise)) / 10) if self._noise else 0.0
        return 10 * float(np.log10(max(10 ** (heard_dbfs / 10) - noise, _LEAST_ECHO * noise, 1e-12)))


class TurnDetector:
    """Finds the turns of one speaker.

    Frames go in through `put`, of any length; 20 to 40 ms are usual. Not for several threads at once. Silence is only
    counted where there is sound: a microphone that stops sending ends no turn.

    Args:
        detection: what counts as a turn.
        activity: rates windows; None loads `SileroVoiceActivity`.
        end_of_turn: rates the turn's sound, ``(samples,)`` at 16 kHz, at a probable end: the probability that the user
            has finished, such as `csmkit.live.voice_activity.EndOfTurnModel`. From 0.5 on the turn is over at once;
            below, after ``unsure_silence_ms``. None ends turns by silence alone.

    Attributes:
        detection: what counts as a turn; may be replaced between frames.
        voice_level_dbfs: level of the voice's sound that is being played, None while it is silent. While it is set, a
            turn has to begin louder, longer and surer (``barge_in_threshold``, ``barge_in_ms``, ``echo_margin_db``).
    """

    def __init__(
        self,
        detection: TurnDetection | None = None,
        activity: VoiceActivity | None = None,
        end_of_turn: EndOfTurn | None = None,
    ) -> None:
        self.detection = detection or TurnDetection()
        self.voice_level_dbfs: float | None = None
        self._activity = activity or SileroVoiceActivity()
        self._end_of_turn = end_of_turn
        self._echo = EchoLevel()
        self._start_over()

    @property
    def in_turn(self) -> bool:
        """Whether a turn has begun and not ended."""
        return self._in_turn

    @property
    def heard_s(self) -> float:
        """Seconds of sound put in so far."""
        return self._n_put / SAMPLE_RATE

    def put(self, frame: Waveform) -> list[TurnChange]:
        """Add the next frame, ``(samples,)`` at 24 kHz; returns the changes of turn found in it, usually none.

        Raises:
            InputError: not a waveform, or NaN in it.
        """
        samples = as_mono(frame)
        self._kept = np.concatenate([self._kept, samples])
        self._n_put += len(samples)
        self._waiting = np.concatenate([self._waiting, self._resampler.resample_chunk(samples)])
        changes: list[TurnChange] = []
        while len(self._waiting) >= WINDOW:
            window, self._waiting = self._waiting[:WINDOW], self._waiting[WINDOW:]
            changes += self._rate(window)
        if not self._in_turn:
            self._forget_before(self.heard_s - self.detection.prefix_ms / 1000 - _KEPT_S)
        return changes

    def sound(self) -> np.ndarray:
        """The sound of the turn so far, ``(samples,)`` at 24 kHz, from its prefix to the newest frame.

        After ``speech_stopped`` it is there until the next frame.
        """
        first = round(max(0.0, self._began_s - self.detection.prefix_ms / 1000) * SAMPLE_RATE)
        return self._kept[max(0, first - (self._n_put - len(self._kept))) :].copy()

    def reset(self) -> None:
        """Discard all sound; the measured level of the echo is kept."""
        self._activity.reset()
        self._start_over()

    def _start_over(self) -> None:
        self._resampler = soxr.ResampleStream(SAMPLE_RATE, RATE_HZ, 1, dtype="float32", quality="MQ")  # lags 6 ms
        self._waiting = np.zeros(0, np.float32)  # at 16 kHz, less than a window
        self._kept = np.zeros(0, np.float32)  # at 24 kHz, up to the newest sample
        self._n_put = self._n_windows = 0
        self._in_turn = self._quiet = self._prepared = False
        self._began_s = self._spoke_until_s = 0.0
        self._silence_s = self.detection.silence_ms / 1000
        self._n_onset = self._n_gap = 0  # windows of speech that may become a turn, and windows since the last of them
        self._onset_s = 0.0

    def _forget_before(self, second: float) -> None:
        n_kept = self._n_put - round(max(0.0, second) * SAMPLE_RATE)
        if len(self._kept) > 2 * n_kept:  # copied rarely, not for every frame
            self._kept = self._kept[-n_kept:].copy()

    def _rate(self, window: np.ndarray) -> list[TurnChange]:
        self._n_windows += 1
        probability, level = self._activity.probability(window), level_dbfs(window)
        end_s = self._n_windows * WINDOW_S
        by_user = self._is_user(probability, level)
        self._echo.add(-120.0 if self.voice_level_dbfs is None else self.voice_level_dbfs, level, by_user=by_user)
        return self._within(probability, end_s) if self._in_turn else self._before(by_user, end_s)

    def _is_user(self, probability: float, level: float) -> bool:
        """Whether a window is the user's speech; while the voice plays, its probability and level must be higher."""
        if self.voice_level_dbfs is None:
            return probability >= self.detection.threshold
        louder = level > self._echo.expected_dbfs() + self.detection.echo_margin_db
        return louder and probability >= self.detection.barge_in_threshold

    def _before(self, by_user: bool, end_s: float) -> list[TurnChange]:
        """Wait for the beginning of a turn: enough windows of speech, with short gaps over the voice."""
        over_voice = self.voice_level_dbfs is not None
        if by_user:
            self._onset_s = end_s - WINDOW_S if not self._n_onset else self._onset_s
            self._n_onset, self._n_gap = self._n_onset + 1, 0
        else:
            self._n_gap += 1
            if not over_voice or self._n_gap > _GAP_WINDOWS:
                self._n_onset = 0
        wanted_ms = self.detection.barge_in_ms if over_voice else self.detection.speech_ms
        if not by_user or self._n_onset * WINDOW_S * 1000 < wanted_ms - 1e-6:
            return []
        self._in_turn, self._quiet, self._prepared, self._n_onset = True, False, False, 0
        self._began_s, self._spoke_until_s = self._onset_s, end_s
        self._silence_s = self.detection.silence_ms / 1000
        return [TurnChange("speech_started", self._began_s, end_s)]

    def _within(self, probability: float, end_s: float) -> list[TurnChange]:
        """Wait for the end of the turn."""
        wanted = self.detection
        if end_s - self._began_s >= wanted.longest_turn_s:
            return [self._stop(end_s)]
        if probability >= wanted.threshold:
            resumed, self._quiet, self._prepared = self._prepared, False, False
            self._spoke_until_s = end_s
            return [TurnChange("speech_resumed", end_s - WINDOW_S, end_s)] if resumed else []
        self._quiet = self._quiet or probability < wanted.threshold - _HYSTERESIS
        if not self._quiet:
            self._spoke_until_s = end_s
            return []
        return self._count_silence(end_s)

    def _count_silence(self, end_s: float) -> list[TurnChange]:
        wanted, silent_s, changes = self.detection, end_s - self._spoke_until_s + 1e-9, list[TurnChange]()
        if not self._prepared and silent_s >= wanted.probable_end_ms / 1000:
            self._prepared = True
            changes.append(TurnChange("probable_end", self._spoke_until_s, end_s))
            self._silence_s = self._silence_to_wait_s()
        if silent_s >= self._silence_s:
            changes.append(self._stop(end_s))
        return changes

    def _silence_to_wait_s(self) -> float:
        if self._end_of_turn is None:
            return self.detection.silence_ms / 1000
        finished = self._end_of_turn(soxr.resample(self.sound(), SAMPLE_RATE, RATE_HZ)) >= 0.5
        return 0.0 if finished else self.detection.unsure_silence_ms / 1000

    def _stop(self, end_s: float) -> TurnChange:
        self._in_turn = False
        return TurnChange("speech_stopped", self._spoke_until_s, end_s)
