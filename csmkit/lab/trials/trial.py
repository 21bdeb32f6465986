"""One trial: a text spoken once with certain settings, its sound, and all that was measured of it as one flat row.

A notebook, the studio and a sweep make their rows here, so that a column means the same wherever it comes from.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import Transcript
from csmkit.audio import FRAME_SAMPLES, ONSET_MS, SAMPLE_RATE
from csmkit.closing import Closing
from csmkit.lab.metrics.levels import audible_onset_ms
from csmkit.lab.metrics.registry import USUAL, Spoken, measured_columns
from csmkit.lab.metrics.waveforms import seams_between
from csmkit.lab.metrics.words import words
from csmkit.lab.trials.decoding import codec_of, decoded
from csmkit.lab.trials.progress import bar_file
from csmkit.mimi.codecs import Codec
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.long_text import Page, Speech, speak_text
from csmkit.speech.settings import Request, Segment
from csmkit.speech.streams import INTERRUPTED, chunk_schedule
from csmkit.text.passages import spoken_text
from csmkit.timing import Arrivals

FINAL_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class TrialSettings:
    """The settings of a trial.

    Attributes:
        chunk_frames: frames of 80 ms a chunk, or a schedule such as ``(1, 2, 4, 6)`` whose last number repeats.
        temperature, topk: None is the voice's own; the row tells the number.
        seed: None draws one; the row tells it.
        max_audio_length_ms: None is the default of a request.
        codec: plugin that decodes, with the weights of the voice's own codec. "independent" decodes every chunk alone,
            in one call; any other decodes frame by frame.
        raw_text: pass the text to the voice as it is, in one generation.
    """

    speaker: int = 0
    chunk_frames: int | Sequence[int] = 6
    temperature: float | None = None
    topk: int | None = None
    seed: int | None = None
    max_audio_length_ms: float | None = None
    codec: str = "streaming"
    raw_text: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.chunk_frames, list):  # as JSON and a notebook's parameters have it
            object.__setattr__(self, "chunk_frames", tuple(self.chunk_frames))

    def request(self, generator: SpeechGenerator, text: str, context: Sequence[Segment] = ()) -> Request:
        """What a generator is asked for; raises InputError for what cannot be used."""
        asked = {
            name: value for name, value in asdict(self).items() if name not in ("chunk_frames", "codec", "raw_text")
        }
        return generator.request(text, context=context, **asked)

    def spoken(self, text: str) -> str:
        """A text as it is spoken, against which errors are counted."""
        return text if self.raw_text else spoken_text(text)

    def described(self, request: Request, seed: int) -> dict[str, Any]:
        """The text and its length, and the settings as they were used, with the voice's own in place of None."""
        sampling, counted = request.sampling, words(self.spoken(request.text))
        return {
            "text": request.text,
            "n_words": len(counted.split()),
            "n_letters": len(counted),
            **asdict(self),
            "temperature": sampling.temperature,
            "topk": sampling.topk,
            "seed": seed,
            "max_audio_length_ms": request.max_audio_length_ms,
        }


@dataclass(frozen=True)
class Trial:
    """The result of a trial.

    Attributes:
        row: settings and figures, see `run_trial`.
        audio: ``(samples,)`` float32 at 24 kHz.
        transcript: the recogniser's final text; None without a recogniser, or if the trial was stopped.
        codes: ``(n_codebooks, n_frames)`` int64 of ``audio``.
        arrivals: when each chunk was handed out, in seconds since the call.
        partials: what the recogniser understood on the way, and when in seconds since the call; each differs from the
            one before.
    """

    row: dict[str, Any]
    audio: np.ndarray
    transcript: Transcript | None
    codes: Tensor
    arrivals: Arrivals
    partials: tuple[tuple[float, str], ...] = ()

    @property
    def seams(self) -> list[int]:
        """Index of the first sample of each chunk but the first."""
        return seams_between([round(duration * SAMPLE_RATE) for duration in self.arrivals.durations_s])

    def chunk_rows(self) -> list[dict[str, Any]]:
        """One row a chunk: the settings that were varied, and the columns of `chunk_rows`."""
        varied = {name: self.row[name] for name in ("chunk_frames", "codec", "seed", "text")}
        timed = zip(self.arrivals.times_s, self.arrivals.durations_s, strict=True)
        return [
            {**varied, "chunk": index, "arrival_ms": time_s * 1000, "duration_ms": duration_s * 1000}
            for index, (time_s, duration_s) in enumerate(timed, start=1)
        ]


@dataclass(frozen=True)
class Utterance:
    """The sound of a trial, wherever it was spoken.

    Attributes:
        stream: the trial's speech, which has ended.
        chunks: waveforms ``(samples,)`` in the order in which they came.
    """

    settings: TrialSettings
    request: Request
    stream: Speech
    codec: Codec
    chunks: list[Tensor]

    @property
    def audio(self) -> np.ndarray:
        """All chunks, ``(samples,)`` float32."""
        return torch.cat([torch.zeros(0), *self.chunks]).numpy()

    def trial(
        self,
        asr: StreamingWhisperASR | None,
        transcript: Transcript | None,
        metrics: Sequence[str],
        arrivals: Arrivals | None = None,
    ) -> Trial:
        """The trial, whose row docs/metrics.md defines.

        Args:
            metrics: plugins, see `csmkit.lab.metrics.registry`.
            arrivals: when each chunk came; None where nobody asks, and the columns of time are left out.
        """
        audio, said = self.audio, self.settings.spoken(self.request.text)
        heard = None if transcript is None else str(transcript)
        codes = self.stream.codes[:, : len(audio) // FRAME_SAMPLES]
        onset_ms = audible_onset_ms(audio) if len(audio) >= SAMPLE_RATE * ONSET_MS // 1000 else None
        row = {
            **self.settings.described(self.request, self.stream.seed),
            "finish_reason": self.stream.finish_reason,
            "transcript": heard,
            "onset_ms": onset_ms,
            **measured_columns(
                Spoken(said, audio, seams_between(self.chunks), codes, self.codec, heard, arrivals), tuple(metrics)
            ),
        }
        if arrivals is not None:
            heard_at_s = None if onset_ms is None else arrivals.heard_at_s(onset_ms / 1000)
            row["ttfa_audible_ms"] = None if heard_at_s is None else heard_at_s * 1000
        row |= {"whisper": None} if asr is None else {"preset": asr.preset, "whisper": asr.model_name}
        return Trial(row, audio, transcript, codes, arrivals or Arrivals())


class TrialRun(Closing, Iterator[Tensor]):
    """A trial under way: an iterator of its chunks, ``(samples,)`` float32 on the CPU, that measures as it is read.

    Closing it, from any thread, ends the speech within a frame. `result` may then be asked for all the same.

    Args:
        generator: the voice; warm it up before, or the first trial pays for it.
        text: text that is spoken, of any length; numbers and signs are spoken as words.
        asr: a recogniser that hears the chunks as they come; None for none.
        context: turns before, oldest first.

    Raises:
        InputError: settings that cannot be used.
        PluginError: no codec of that name.
        CsmkitError: the codec or the recogniser cannot be loaded, or the text does not fit the voice.
    """

    def __init__(
        self,
        generator: SpeechGenerator,
        text: str,
        settings: TrialSettings,
        asr: StreamingWhisperASR | None = None,
        context: Sequence[Segment] = (),
    ) -> None:
        schedule = chunk_schedule(settings.chunk_frames)
        codec = codec_of(generator, settings.codec)
        request = settings.request(generator, text, context)

        def start(passage: Request, sizes: Sequence[int]) -> Speech:
            (stream,) = decoded(generator, [passage], codec, [sizes])
            return stream

        self._asr = asr
        self._arrivals = Arrivals()
        self._partials: list[tuple[float, str]] = []
        if asr is not None:
            asr.prepare()
        self._called_s, self._called_cpu_s = time.perf_counter(), time.process_time()
        self._spoken_cpu_s = 0.0
        raw = settings.raw_text
        self._stream = start(request, schedule) if raw else speak_text(generator, Page(request), schedule, start)
        self._spoken = Utterance(settings, request, self._stream, codec, [])
        self._heard = None if asr is None else asr.stream()

    def __next__(self) -> Tensor:
        chunk = next(self._stream)
        self._arrivals.add(self._since_call_s(), len(chunk) / SAMPLE_RATE)
        self._spoken_cpu_s = time.process_time() - self._called_cpu_s
        self._spoken.chunks.append(chunk)
        if self._heard is not None:
            self._heard.put_audio_chunk(chunk)
            self._note(str(self._heard.get_latest_partial()))
        return chunk

    def close(self) -> None:
        """Stop; from any thread, more than once, and after the end it does nothing."""
        self._stream.close()

    def cancel(self) -> None:
        """Stop and let the recogniser go, without a result."""
        self.close()
        if self._heard is not None:
            self._heard.cancel()

    @property
    def arrivals(self) -> Arrivals:
        """When each chunk was handed out so far, a copy; from any thread."""
        durations = list(self._arrivals.durations_s)  # written after the times: there are no more of them
        return Arrivals(self._arrivals.times_s[: len(durations)], durations)

    @property
    def partials(self) -> tuple[tuple[float, str], ...]:
        """What the recogniser understood so far, as in `Trial`; from any thread."""
        return tuple(self._partials)

    def result(self, metrics: Sequence[str] = USUAL) -> Trial:
        """Wait for the final text, and measure; call it once, when nothing more is read.

        Args:
            metrics: plugins, see `csmkit.lab.metrics.registry`.

        Raises:
            TimeoutError: the recogniser took longer than two minutes.
            TranscriptionError: it failed.
        """
        self.close()
        transcript, recognised = self._recognised()
        trial = self._spoken.trial(self._asr, transcript, metrics, self._arrivals)
        row = {**trial.row, "cpu_s": self._spoken_cpu_s, **recognised}
        return replace(trial, row=row, partials=self.partials)

    def __exit__(self, *error: object) -> None:
        self.cancel()

    def _since_call_s(self) -> float:
        return time.perf_counter() - self._called_s

    def _note(self, partial: str) -> None:
        if partial and (not self._partials or self._partials[-1][1] != partial):
            self._partials.append((self._since_call_s(), partial))

    def _recognised(self) -> tuple[Transcript | None, dict[str, Any]]:
        """The final text and its columns; neither where there is no recogniser or the trial was stopped."""
        if self._heard is None or self._stream.finish_reason == INTERRUPTED:
            self.cancel()
            return None, {}
        self._heard.finish()
        try:
            transcript = self._heard.get_final(FINAL_TIMEOUT_S)
        except TimeoutError:
            self._heard.cancel()
            raise
        final_s = self._since_call_s()
        last_chunk_s = self._arrivals.times_s[-1] if len(self._arrivals) else 0.0
        return transcript, {
            "first_partial_ms": self._partials[0][0] * 1000 if self._partials else None,
            "final_after_ms": (final_s - last_chunk_s) * 1000,
            "n_partials": len(self._partials),
            "asr_revised": transcript.revised,
            **{f"asr_{name}": value for name, value in self._heard.stats().items()},
        }


def run_trial(
    generator: SpeechGenerator, text: str, settings: TrialSettings, asr: StreamingWhisperASR | None = None
) -> Trial:
    """Speak a text once, and measure; arguments and errors are those of `TrialRun` and its result.

    Returns:
        The trial. Its row is that of `Utterance.trial` and ``cpu_s``; with a recogniser also ``first_partial_ms``,
        ``final_after_ms``, ``n_partials``, ``asr_revised`` and its counters. What has nothing to measure is None.
    """
    with TrialRun(generator, text, settings, asr) as run:
        for _ in run:
            pass
        return run.result()


def run_trials(
    generator: SpeechGenerator,
    texts: Sequence[str],
    settings: Sequence[TrialSettings],
    asr: StreamingWhisperASR | None = None,
) -> list[Trial]:
    """Every text with every setting, one after the other, behind a progress bar; arguments and errors as `run_trial`.

    For a quick look in a notebook: a longer measurement belongs in a sweep, which keeps its rows and can be continued.
    """
    orders = [(text, one) for text in texts for one in settings]
    bar = tqdm(orders, unit="trial", leave=False, file=bar_file())
    return [run_trial(generator, text, one, asr) for text, one in bar]
