"""What the recogniser costs those beside it: the producer at a put, the voice on its way.

    python -m experiments.benchmarks.worker [--whisper base.en] [--rounds 12] [--save results/benchmarks/worker.json]

Puts are timed from the moment they want to begin, while a real decode runs, and compared with puts that no decode
disturbs. The voice speaks the same sentences alone and beside a recogniser that hears them; the two take turns, so that
a busy machine slows both alike. ``quietest`` compares the fastest round of each, ``cpu`` the processor time of the
voice's own thread, which other programs hardly touch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.utterance import Pass
from csmkit.audio import SAMPLE_RATE
from csmkit.speech.generator import Generator
from experiments.benchmarks.report import add_save, print_json, print_table

TEXTS = (
    "good morning, how are you today? I hope you are well.",
    "would you like a cup of tea, or is coffee better now?",
    "the weather is nice and warm, so let us go out.",
)
CHUNK_FRAMES = 6
PUT_S = 0.08  # of sound a put
PUT_EVERY_S = 0.004


def put_latencies(asr: StreamingWhisperASR, sound: np.ndarray, seconds: float) -> tuple[list[float], list[float]]:
    """Milliseconds of puts during a decode, and of the others, both from sounds of up to 8 s."""
    during: list[float] = []
    others: list[float] = []
    size = round(PUT_S * SAMPLE_RATE)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        asr.start_processing()
        puts = []
        for start in range(0, len(sound) - size, size):
            time.sleep(PUT_EVERY_S)
            began = time.perf_counter()
            asr.put_audio_chunk(sound[start : start + size])
            puts.append((began, time.perf_counter()))
        asr.finish()
        asr.get_final(timeout=60)
        passes = asr.passes()
        for put in puts:
            (during if _within(put, passes) else others).append(1e3 * (put[1] - put[0]))
    return during, others


def _within(put: tuple[float, float], passes: list[Pass]) -> bool:
    return any(decode.started <= put[0] <= decode.ended for decode in passes)


def speaking_s(generator: Generator, asr: StreamingWhisperASR | None) -> tuple[float, float]:
    """Seconds that the voice takes for all sentences, with a recogniser that hears them or alone: wall, processor."""
    spent, worked = 0.0, 0.0
    for text in TEXTS:
        if asr is not None:
            asr.start_processing()
        started, began = time.perf_counter(), time.thread_time()
        for chunk in generator.generate_streaming(text, chunk_frames=CHUNK_FRAMES, seed=3):
            if asr is not None:
                asr.put_audio_chunk(chunk)
                asr.get_latest_partial()
        spent += time.perf_counter() - started
        worked += time.thread_time() - began
        if asr is not None:
            asr.finish()
            asr.get_final(timeout=60)
    return spent, worked


def put_row(name: str, taken_ms: list[float]) -> dict[str, Any]:
    """Percentiles of puts."""
    p50, p99, p999 = np.percentile(taken_ms, [50, 99, 99.9])
    return {"puts": name, "n": len(taken_ms), "p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "max_ms": max(taken_ms)}


def voice_figures(alone: list[tuple[float, float]], beside: list[tuple[float, float]]) -> dict[str, float]:
    """Seconds of the voice alone and beside the recogniser, and what the recogniser adds."""
    walls = [b / a for (a, _), (b, _) in zip(alone, beside, strict=True)]
    return {
        "alone_s": statistics.median(wall for wall, _ in alone),
        "beside_s": statistics.median(wall for wall, _ in beside),
        "ratio": statistics.median(walls),
        "ratio_p90": float(np.percentile(walls, 90)),
        "ratio_quietest": min(wall for wall, _ in beside) / min(wall for wall, _ in alone),
        "ratio_cpu": statistics.median(cpu for _, cpu in beside) / statistics.median(cpu for _, cpu in alone),
    }


def main() -> None:
    """Run both and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whisper", default="base.en")
    parser.add_argument("--rounds", type=int, default=12, help="of the voice, alone and beside")
    parser.add_argument("--seconds", type=float, default=20.0, help="of puts")
    parser.add_argument("--threads", type=int, default=None, help="of torch; default as it comes")
    add_save(parser)
    options = parser.parse_args()
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)
    generator = Generator.load("pocket")
    generator.warm_up()
    with StreamingWhisperASR(options.whisper) as asr:
        asr.prepare()
        sound = np.concatenate([generator.generate(text, seed=3).numpy() for text in TEXTS])[: 8 * SAMPLE_RATE]
        speaking_s(generator, asr)
        alone, beside = [], []
        for _ in range(options.rounds):
            alone.append(speaking_s(generator, None))
            beside.append(speaking_s(generator, asr))
        during, others = put_latencies(asr, sound, options.seconds)
    rows = [put_row("during a decode", during), put_row("between decodes", others)]
    voice = voice_figures(alone, beside)
    print_table(rows)
    print()
    print_table([{"voice": name, "value": value} for name, value in voice.items()])
    print_json("worker", rows, options.save, voice=voice, whisper=options.whisper)


if __name__ == "__main__":
    main()
