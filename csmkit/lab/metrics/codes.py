"""Metrics of the codes alone: repetition within an utterance, and variety between utterances of one text.

Codes of another shape than ``(n_codebooks, n_frames)``, or that are no integers, raise InputError.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from csmkit.errors import InputError
from csmkit.plugins import library
from csmkit.speech.guards import Guards

CYCLE_FRAMES = Guards.cycle_frames  # how far back a repetition is looked for, 0.96 s: as far as the guard looks


def code_metrics(codes: Tensor) -> dict[str, float | int | None]:
    """Length and repetition of one utterance.

    Args:
        codes: ``(n_codebooks, n_frames)`` integers.

    Returns:
        ``n_frames`` of 80 ms each · ``repeated_frames_ratio`` the share of frames that equal, in all codebooks, one of
        the 12 before; None without frames. Speech has next to none, a voice that is stuck has many, and so has
        digital silence.
    """
    frames = [frame.numpy().tobytes() for frame in _checked(codes).t().contiguous()]
    repeated = sum(frame in frames[max(0, index - CYCLE_FRAMES) : index] for index, frame in enumerate(frames))
    return {"n_frames": len(frames), "repeated_frames_ratio": repeated / len(frames) if frames else None}


def variety(utterances: Sequence[Tensor]) -> float | None:
    """How differently the same was said: the mean edit distance between the first codebooks of each two utterances.

    The distance of two (Levenshtein 1966: codes substituted, left out and put in) is divided by the longer length, so
    that 0 is the same each time and 1 shares nothing. Mimi's first codebook holds what is said more than how it
    sounds, so it does not count noise as variety.

    Args:
        utterances: codes of one text under several seeds, ``(n_codebooks, n_frames)`` integers each.

    Returns:
        The mean, or None for less than two utterances.
    """
    levenshtein = library("rapidfuzz.distance.Levenshtein", "eval")
    firsts = [_checked(codes)[0].tolist() for codes in utterances]
    distances = [levenshtein.normalized_distance(*pair) for pair in combinations(firsts, 2)]
    return sum(distances) / len(distances) if distances else None


def _checked(codes: Tensor) -> Tensor:
    if codes.ndim != 2 or codes.is_floating_point():
        raise InputError(f"codes of shape {tuple(codes.shape)}, {codes.dtype}: give (n_codebooks, n_frames) integers")
    return codes if codes.shape[0] else torch.zeros(1, 0, dtype=torch.int64)  # of an utterance without a frame
