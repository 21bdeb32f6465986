"""Several trials spoken at once, where nobody asks when their sound came."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.errors import InputError
from csmkit.lab.metrics.registry import USUAL, Measure
from csmkit.lab.trials.decoding import codec_of, decoded
from csmkit.lab.trials.trial import FINAL_TIMEOUT_S, Trial, TrialSettings, Utterance
from csmkit.mimi.codecs import Codec
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.batch import SpeechBatch
from csmkit.speech.long_text import Page, Reading, Speech
from csmkit.speech.settings import Segment
from csmkit.speech.streams import chunk_schedule

UNTIMED = tuple(name for name in USUAL if name != "latency")


def run_trials_together(
    generator: SpeechGenerator,
    texts: Sequence[str],
    settings: Sequence[TrialSettings],
    asr: StreamingWhisperASR | None = None,
    *,
    contexts: Sequence[Sequence[Segment]] = (),
    metrics: Sequence[str] = UNTIMED,
) -> list[Trial]:
    """Speak several texts in one batch, and measure each; the sound of each is that of `run_trial`.

    Args:
        settings: one a trial, all with the same codec and chunk size.
        asr: a recogniser that hears each whole when all are spoken; None for none.
        contexts: one a trial; empty for none.
        metrics: plugins that do not ask for times.

    Returns:
        Trials whose ``arrivals`` are empty and whose rows lack the columns of time.

    Raises:
        InputError: settings that cannot share a batch, or a metric of times.
        CsmkitError, TimeoutError: as `run_trial`.
    """
    schedule, codec = _shared(generator, settings, metrics)
    rows = zip(settings, texts, contexts or [()] * len(texts), strict=True)
    requests = [item.request(generator, text, context) for item, text, context in rows]
    if any(item.raw_text for item in settings):
        streams = decoded(generator, requests, codec, [schedule] * len(requests))
        chunks = _drained(streams)
    else:
        streams = [Reading(generator, Page(request)) for request in requests]
        chunks = _read_together(generator, streams, codec, schedule)
    spoken = [Utterance(*one[:3], codec, one[3]) for one in zip(settings, requests, streams, chunks, strict=True)]
    heard = [None if asr is None else asr.transcribe(one.audio, FINAL_TIMEOUT_S) for one in spoken]
    return [one.trial(asr, transcript, metrics) for one, transcript in zip(spoken, heard, strict=True)]


def _read_together(
    generator: SpeechGenerator, readings: Sequence[Reading], codec: Codec, schedule: Sequence[int]
) -> list[list[torch.Tensor]]:
    """Speak the first passages of all texts in one batch, then the second ones of those that have one, and so on."""
    chunks: list[list[torch.Tensor]] = [[] for _ in readings]
    while following := [(row, request) for row, text in enumerate(readings) if (request := text.following())]:
        schedules = [schedule[len(chunks[row]) :] or schedule[-1:] for row, _ in following]
        streams = decoded(generator, [request for _, request in following], codec, schedules)
        for (row, request), stream in zip(following, streams, strict=True):
            readings[row].add(request, stream)
        for (row, _), more in zip(following, _drained(streams), strict=True):
            chunks[row] += more
    return chunks


def _drained(streams: Sequence[Speech]) -> list[list[torch.Tensor]]:
    """The chunks of each stream, read in turn."""
    chunks: list[list[torch.Tensor]] = [[] for _ in streams]
    with SpeechBatch(streams) as batch:
        for row, chunk in batch:
            chunks[row].append(chunk)
    return chunks


def _shared(
    generator: SpeechGenerator, settings: Sequence[TrialSettings], metrics: Sequence[str]
) -> tuple[tuple[int, ...], Codec]:
    """The chunk sizes and the codec of all trials of a batch."""
    ways = {(item.codec, chunk_schedule(item.chunk_frames), item.raw_text) for item in settings}
    if len(ways) != 1:
        raise InputError(
            f"{len(ways)} sets of codec, chunk size and raw_text: trials of one batch share them, split them"
        )
    timed = [name for name in metrics if Measure.of(name).needs("arrivals")]
    if timed:
        raise InputError(f"metric {timed[0]!r} asks for times, which a batch does not have: use run_trial")
    ((name, schedule, _),) = ways
    return schedule, codec_of(generator, name)
