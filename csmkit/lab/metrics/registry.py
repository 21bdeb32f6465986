"""Metrics by name: what each wants to know of a trial, and the columns that it adds to the row.

A metric is a plugin of kind ``metric``: a function that takes, by name, any of

- ``said`` the text, ``heard`` what a recogniser made of it
- ``audio`` ``(samples,)`` float32 at 24 kHz, ``seams`` the first sample of each chunk but the first
- ``reference`` the whole decode of the same codes, ``codes`` ``(n_codebooks, n_frames)`` int64
- ``arrivals`` when each chunk was handed out, an `Arrivals`

and returns a number, whose column has the metric's name, or a flat dict of columns. It is called with sound only: where
nothing was said its columns are None, and so they are where no recogniser heard and it wants what was heard.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import csmkit.plugins as plugins
from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE
from csmkit.errors import PluginError
from csmkit.lab.metrics.distances import distances
from csmkit.lab.metrics.levels import levels, loudness
from csmkit.lab.metrics.seams import seam_metrics
from csmkit.lab.metrics.waveforms import one_channel

if TYPE_CHECKING:
    from torch import Tensor

    from csmkit.audio import Waveform
    from csmkit.lab.metrics.waveforms import Seams
    from csmkit.mimi.codecs import Codec
    from csmkit.timing import Arrivals

USUAL = ("artifacts", "latency", "codes", "wer", "cer")
_WITHOUT_REFERENCE = ("snr_db", "max_abs_error", "log_spectral_distance_db", "multi_resolution_distance")
KNOWN = ("said", "heard", "audio", "seams", "reference", "codes", "arrivals")


@dataclass(frozen=True)
class Spoken:
    """What a metric may ask for; the module's docstring says what each is."""

    said: str
    audio: np.ndarray
    seams: list[int]
    codes: Tensor
    codec: Codec
    heard: str | None = None
    arrivals: Arrivals | None = None

    @cached_property
    def reference(self) -> Tensor:
        """The codes decoded whole, once for all metrics that ask for it."""
        return self.codec.decode_whole(self.codes)


@dataclass(frozen=True)
class Measure:
    """A metric that was found and understood.

    Attributes:
        name: name of the column, if the metric returns a number.
        function: the plugin's function.
        wanted: the known names that the function takes.
    """

    name: str
    function: Callable[..., Any]
    wanted: tuple[str, ...]

    @classmethod
    def of(cls, name: str) -> Measure:
        """The metric of a plugin's name or ``"package.module:attribute"``.

        Raises:
            PluginError: no such plugin, or a function that wants something else.
            MissingDependencyError: it needs an extra that is not installed.
        """
        function = plugins.load("metric", name)
        parameters = inspect.signature(function).parameters.values()
        strange = [item.name for item in parameters if item.name not in KNOWN and item.default is item.empty]
        if strange:
            raise PluginError(f"metric {name!r} takes {strange[0]!r}: a metric takes any of {', '.join(KNOWN)}")
        return cls(name.rpartition(":")[2], function, tuple(item.name for item in parameters if item.name in KNOWN))

    def needs(self, known: str) -> bool:
        """Whether it takes one of the known names."""
        return known in self.wanted

    @property
    def version(self) -> str:
        """Its ``version``, if the function has such an attribute, else a checksum of the source it is written in."""
        stated = getattr(self.function, "version", None)
        if stated is not None:
            return str(stated)
        source = inspect.getsourcefile(inspect.unwrap(self.function))
        return "" if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]

    def columns(self, spoken: Spoken) -> dict[str, Any]:
        """What it adds to a row; the same columns for every trial of a kind."""
        if self.needs("heard") and spoken.heard is None:
            return {self.name: None}
        if self.needs("audio") and not len(spoken.audio):
            silence = Spoken(spoken.said, np.zeros(FRAME_SAMPLES, np.float32), [], spoken.codes, _Mute(), spoken.heard)
            return dict.fromkeys(self._measured(silence))
        return self._measured(spoken)

    def _measured(self, spoken: Spoken) -> dict[str, Any]:
        found = self.function(**{name: getattr(spoken, name) for name in self.wanted})
        return dict(found) if isinstance(found, dict) else {self.name: found}


class _Mute:
    """Decodes anything to a frame of silence, to learn the names of columns."""

    def decode_whole(self, codes: Tensor) -> Tensor:
        return torch.zeros(FRAME_SAMPLES)


def metrics_version(names: Iterable[str]) -> str:
    """Twelve digits that change when one of the metrics does."""
    versions = ",".join(f"{name}={Measure.of(name).version}" for name in sorted(names))
    return hashlib.sha256(versions.encode()).hexdigest()[:12]


def measured_columns(spoken: Spoken, metrics: tuple[str, ...]) -> dict[str, Any]:
    """The columns of several metrics, as one row; errors as `Measure.of` and those of the metrics."""
    row: dict[str, Any] = {}
    for name in metrics:
        row |= Measure.of(name).columns(spoken)
    return row


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
    return {
        "audio_s": len(samples) / SAMPLE_RATE,
        **seam_metrics(samples, seams, reference),
        **(dict.fromkeys(_WITHOUT_REFERENCE) if reference is None else distances(samples, reference)),
        **levels(samples),
        **loudness(samples),
    }
