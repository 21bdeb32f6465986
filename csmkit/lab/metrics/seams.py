"""What happens where chunks meet: a click, a dip, a step in loudness, each beside the same at places without a border.

The four figures of a place p, on one channel at 24 kHz:

``click_z``, no unit. A linear predictor of order 16 (Makhoul, "Linear prediction: a tutorial review", Proc. IEEE 1975)
    is fitted by least squares to the 30 ms each side of p, leaving out what touches the ±1 ms at p, so that a click
    cannot hide in its own model. With its residual e: ``max |e| within ±1 ms / MAD of e within ±10 ms``, MAD being the
    median of |e - median e|. Gaussian noise gives about 3.6; voiced speech more where a glottal pulse falls on p.
``click_level_db``. How loud the largest click within ±1 ms is beside the speech: its amplitude, estimated from e by the
    filter that matches one wrong sample (Vaseghi and Rayner, "Detection and suppression of impulsive noise in speech
    communication systems", IEE Proc. I 1990), over the RMS of what is above -60 dBFS, in dB. ``click_z`` and its
    ``auc`` say that a click is there, this how loud it is: clicks of -50 dB are detected and hardly heard.
``dip_db``. The quietest of the three 2 ms before, across and after p over the 20 ms each side without those:
    ``20 log10(min RMS / RMS around)``, from -60 (silence) up. None where the surroundings are below -60 dBFS.
``step_db``. ``|20 log10(RMS of the 20 ms after / RMS of the 20 ms before)|``, at most 60; None as for the dip.

Speech has pulses, pauses and onsets of its own, so none of them means anything alone. Each is reported as the median
over the borders, as the median over **controls**, and as ``auc``: how likely a border drawn at random is worse than a
control drawn at random, ties counting half (Mann and Whitney 1947). 0.5 is "like anywhere else", 1 is "each border is
worse than any other place".

Controls are the edges of frames, 80 ms each, that are no borders: the codes change there too, which a codec's sound may
follow, so that places within a frame are quieter for no fault of the chunks. Where each edge is a border, as in chunks
of one frame, the same places of the whole decode are the control, if it is given; else there is none. How often
unharmed sound is called worse is measured in docs/statistics.md.

What they cannot tell: noise and band limits all over the sound (see `csmkit.lab.metrics.distances`); a sudden step in
loudness from a click (it is both); a fade from a pause of the speaker, but by the control; and a gap that swallows the
20 ms on both sides (the border is not judged; ``longest_silence_ms`` of `csmkit.lab.metrics.levels` shows it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE, SILENT_DBFS, amplitude, window_rms
from csmkit.errors import InputError
from csmkit.lab.metrics.waveforms import checked_seams, one_channel, same_length

if TYPE_CHECKING:
    from csmkit.audio import Waveform
    from csmkit.lab.metrics.waveforms import Seams

MS = SAMPLE_RATE // 1000  # samples
ORDER = 16
FIT_MS, AROUND_MS, NEAR_MS, AT_MS = 30, 20, 10, 1
LEAST_RESIDUAL = 2.0**-16  # half a step of 16-bit sound: in digital silence anything smaller is no click
SILENT = amplitude(SILENT_DBFS)
MOST_DB = 60.0


@dataclass(frozen=True)
class Place:
    """The figures of one place; the module's docstring defines them."""

    click_z: float
    click_amplitude: float
    dip_db: float | None
    step_db: float | None


def seam_metrics(audio: Waveform, seams: Seams, reference: Waveform | None = None) -> dict[str, float | int | None]:
    """Judge the borders of a waveform against places that are none.

    Args:
        audio: ``(samples,)`` at 24 kHz, about [-1, 1], whose frames of 1920 samples begin at its first.
        seams: index of the first sample of each chunk but the first; `seams_between` finds them.
        reference: ``(samples,)`` of the same codes decoded whole: the control where each edge of a frame is a border.

    Returns:
        ``n_seams``; ``seam_click_level_db`` and ``seam_click_level_control_db``; and for each other figure three keys,
        such as ``seam_click_z``, ``seam_click_control_z`` and ``seam_click_auc``. None where there is nothing to judge:
        no border, no control, silence.

    Raises:
        InputError: audio that is no single channel or shorter than 20 ms, borders not rising or at the ends, or a
            reference of another length.
    """
    samples = one_channel(audio, shortest_ms=2 * NEAR_MS)
    borders = checked_seams(seams, len(samples))
    at_seams = [judge(samples, place) for place in borders]
    at_controls = [judge(samples, place) for place in control_positions(borders, len(samples))]
    if reference is not None and len(borders) and not at_controls:
        whole = same_length(audio, reference)[1]
        at_controls = [judge(whole, place) for place in borders if place % FRAME_SAMPLES == 0]
    loudness = _speech_rms(samples)
    row: dict[str, float | int | None] = {
        "n_seams": len(borders),
        "seam_click_level_db": _level_db(at_seams, loudness),
        "seam_click_level_control_db": _level_db(at_controls, loudness) if len(borders) else None,
    }
    for figure, unit, worse in (("click", "z", 1), ("dip", "db", -1), ("step", "db", 1)):
        here, elsewhere = ([getattr(p, f"{figure}_{unit}") for p in places] for places in (at_seams, at_controls))
        here, elsewhere = ([value for value in values if value is not None] for values in (here, elsewhere))
        row[f"seam_{figure}_{unit}"] = _median(here)
        row[f"seam_{figure}_control_{unit}"] = _median(elsewhere) if len(borders) else None
        row[f"seam_{figure}_auc"] = _auc(worse * np.array(here), worse * np.array(elsewhere))
    return row


def worst_seam(audio: Waveform, seams: Seams) -> int:
    """The border with the highest ``click_z``, which is the one to look at; arguments and errors as `seam_metrics`.

    Raises:
        InputError: no border, too.
    """
    samples = one_channel(audio, shortest_ms=2 * NEAR_MS)
    borders = checked_seams(seams, len(samples))
    if not len(borders):
        raise InputError("no seams: one chunk meets no other, give smaller chunks or a longer text")
    return int(max(borders, key=lambda place: judge(samples, place).click_z))


def control_positions(seams: Seams, n_samples: int) -> list[int]:
    """The edges of frames that are more than 24 ms from each border and both ends."""
    away = (AROUND_MS + 4) * MS
    kept_free = np.array([0, *seams, n_samples])
    edges = range(FRAME_SAMPLES, n_samples, FRAME_SAMPLES)
    return [edge for edge in edges if np.abs(kept_free - edge).min() > away]


def judge(samples: np.ndarray, place: int) -> Place:
    """The figures at one place of ``(samples,)`` float64, at least 10 ms from both ends."""
    before, after = (_rms(samples[max(0, place - AROUND_MS * MS) : place]), _rms(samples[place:][: AROUND_MS * MS]))
    heard = max(before, after) > SILENT
    step_db = min(MOST_DB, abs(_db(after) - _db(before))) if heard else None
    return Place(*_click(samples, place), _dip_db(samples, place) if heard else None, step_db)


def _click(samples: np.ndarray, place: int) -> tuple[float, float]:
    """``click_z`` and the amplitude of the largest click at a place."""
    start = max(0, place - FIT_MS * MS)
    residual, predictor = _residual(samples[start : place + FIT_MS * MS], place - start)
    centre = place - start - ORDER  # the first residual belongs to the sample after the first ORDER
    first = max(0, centre - AT_MS * MS)
    at = residual[first : centre + AT_MS * MS]
    near = residual[max(0, centre - NEAR_MS * MS) : centre + NEAR_MS * MS]
    spread = np.median(np.abs(near - np.median(near)))
    # What one wrong sample leaves in the residual: itself, and in each prediction after it minus its weight there.
    trace = np.concatenate([[1.0], -predictor[::-1]])
    matched = np.correlate(residual[first : centre + AT_MS * MS + ORDER], trace, "valid") / np.sum(trace**2)
    amplitude = float(np.abs(matched).max()) if len(matched) else 0.0
    return float(np.abs(at).max() / max(spread, LEAST_RESIDUAL)), amplitude


def _residual(samples: np.ndarray, place: int) -> tuple[np.ndarray, np.ndarray]:
    """What a predictor fitted away from ``place`` does not foresee, ``(samples - 16,)``, and its 16 weights."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, ORDER + 1)
    past, present = windows[:, :ORDER], windows[:, ORDER]
    moment = np.arange(ORDER, len(samples))
    untouched = (moment < place - AT_MS * MS) | (moment >= place + AT_MS * MS + ORDER)
    known = past[untouched]
    # Pure tones and silence leave the equations singular; noise 90 dB below the sound settles them.
    power = known.T @ known
    power.flat[:: ORDER + 1] += 1e-9 * np.trace(power) / ORDER + 1e-20
    predictor = np.linalg.solve(power, known.T @ present[untouched])
    return present - past @ predictor, predictor


def _speech_rms(samples: np.ndarray) -> float | None:
    """RMS of the 20 ms that are above -60 dBFS; None where nothing is."""
    levels = window_rms(samples, AROUND_MS * MS)
    audible = levels[levels > SILENT]
    return float(np.sqrt(np.mean(audible**2))) if len(audible) else None


def _level_db(places: list[Place], loudness: float | None) -> float | None:
    """The median amplitude of clicks beside the speech."""
    amplitude = _median([place.click_amplitude for place in places])
    return None if amplitude is None or loudness is None else _db(amplitude) - _db(loudness)


def _dip_db(samples: np.ndarray, place: int) -> float:
    wide, narrow = AROUND_MS * MS, 2 * AT_MS * MS
    around = np.concatenate([samples[max(0, place - wide) : place - narrow], samples[place + narrow : place + wide]])
    starts = (place - narrow, place - narrow // 2, place)
    quietest = min(_rms(samples[start : start + narrow]) for start in starts)
    return max(-MOST_DB, _db(quietest) - _db(_rms(around)))


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def _db(rms: float) -> float:
    return 20 * float(np.log10(max(rms, 1e-10)))


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def _auc(here: np.ndarray, elsewhere: np.ndarray) -> float | None:
    if not len(here) or not len(elsewhere):
        return None
    difference = here[:, None] - elsewhere[None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))
