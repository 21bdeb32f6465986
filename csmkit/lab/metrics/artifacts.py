"""All that can be said of one waveform without a model, as one tidy row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csmkit.audio import SAMPLE_RATE
from csmkit.lab.metrics.distances import distances
from csmkit.lab.metrics.levels import LOUDNESS_BLOCK_MS, levels, loudness_lufs
from csmkit.lab.metrics.seams import seam_metrics
from csmkit.lab.metrics.waveforms import one_channel

if TYPE_CHECKING:
    from csmkit.audio import Waveform
    from csmkit.lab.metrics.waveforms import Seams

_WITHOUT_REFERENCE = ("snr_db", "max_abs_error", "log_spectral_distance_db", "multi_resolution_distance")


def artifact_row(
    audio: Waveform, seams: Seams = (), reference: Waveform | None = None
) -> dict[str, float | int | None]:
    """Borders, distances, levels and loudness of a waveform. The keys are always the same.

    Which figure shows which damage, compared with its control::

        damage at each border        seam_click_z   seam_dip_db   seam_step_db   snr_db, distances
        click                        high           -             -              lower
        gap after the border         high           low           high           lower
        fade out and in              - (hidden)     low           -              lower
        gain step                    high           -             high           lower
        chunks resampled alone       high           -             -              lower
        chunks decoded alone         any of the three, by codec                  lower
        narrower band, noise         -              -             -              lower

    so the distances say how much differs; only the figures of the borders say whether it is there that chunks meet.

    Args:
        audio: ``(samples,)`` at 24 kHz, at least 20 ms.
        seams: index of the first sample of each chunk but the first; empty for one chunk.
        reference: ``(samples,)`` of the same length without the damage, or None.

    Returns:
        ``audio_s`` and the keys of `seam_metrics`, `distances`, `levels` and ``loudness_lufs``. None means that there
        is nothing to measure: no border, no reference, sound below a threshold or too short for that figure.

    Raises:
        InputError: wrong shape or dtype, NaN, too short, borders out of range, lengths that differ.
        MissingDependencyError: pyloudnorm is not installed.
    """
    samples = one_channel(audio)
    audio_s = len(samples) / SAMPLE_RATE
    return {
        "audio_s": audio_s,
        **seam_metrics(samples, seams, reference),
        **(dict.fromkeys(_WITHOUT_REFERENCE) if reference is None else distances(samples, reference)),
        **levels(samples),
        "loudness_lufs": loudness_lufs(samples) if audio_s * 1000 >= LOUDNESS_BLOCK_MS else None,
    }
