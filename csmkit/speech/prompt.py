"""Turns text and recordings into the rows that the backbone reads, and counts the positions that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad

from csmkit.audio import FRAME_MS
from csmkit.csm.config import CsmConfig
from csmkit.csm.tokenizer import TextTokenizer
from csmkit.errors import ContextOverflowError, InputError
from csmkit.speech.settings import Request, Segment

# A prompt is always cut at the same rows, so that neither load nor kept rows change how values are rounded.
# On one CPU core a row of the pocket voice takes 0.17 ms in a block of 64, 0.15 ms in one of 256.
BLOCK_ROWS = 64


@dataclass(frozen=True, eq=False)
class Block:
    """Rows that are read in one pass: a turn, or 64 rows of a longer one.

    Attributes:
        rows: ``(n_rows, slots)`` int64 on the CPU, -1 in slots that do not count.
    """

    rows: Tensor

    @property
    def n_rows(self) -> int:
        """Positions it takes."""
        return self.rows.shape[0]

    @property
    def key(self) -> bytes:
        """Equal for blocks of equal content."""
        return self.rows.numpy().tobytes()

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Tokens and mask for a batch of one, ``(1, n_rows, slots)`` int64 and bool on the CPU."""
        rows = self.rows.unsqueeze(0)
        return rows.clamp(min=0), rows >= 0


class PromptBuilder:
    """Lays out requests as rows of slots: the codebooks, then the text.

    A context segment is its text rows, its audio rows and one end frame of zeros; the text to speak comes last.

    Args:
        config: the model's sizes.
        tokenizer: splits text into the model's ids.
        encode: turns ``(samples,)`` at 24 kHz into ``(n_codebooks or more, n_frames)`` int64. The codes and rows of
            a segment are kept for as long as the segment exists.
    """

    def __init__(self, config: CsmConfig, tokenizer: TextTokenizer, encode: Callable[[Tensor], Tensor]) -> None:
        self._config, self._tokenizer, self._encode = config, tokenizer, encode
        self._encoded: WeakKeyDictionary[Segment, Tensor] = WeakKeyDictionary()
        self._texts: WeakKeyDictionary[Segment, Tensor] = WeakKeyDictionary()
        self._laid_out: WeakKeyDictionary[Segment, Tensor] = WeakKeyDictionary()

    def n_rows(self, request: Request) -> int:
        """Positions the prompt of a request takes, counted without encoding any audio."""
        turns = sum(self._n_segment_rows(segment) for segment in request.context)
        return turns + len(self._tokenizer.ids(request.speaker, request.text))

    def check(self, request: Request) -> int:
        """Count the rows of a request's prompt, and check that prompt and answer fit the model.

        Raises:
            ContextOverflowError: they do not fit.
            InputError: a segment has codes that this model does not have.
        """
        for segment in request.context:
            if segment.codes is not None:
                self._codes(segment)
        n_rows, limit = self.n_rows(request), self._config.backbone.max_positions
        if n_rows + request.max_frames <= limit:
            return n_rows
        n_text = len(self._tokenizer.ids(request.speaker, request.text))
        raise ContextOverflowError(
            f"text of {n_text} positions, context of {n_rows - n_text} and an answer of up to {request.max_frames} "
            f"frames ({request.max_frames * FRAME_MS} ms) exceed the {limit} positions of this voice: "
            "drop the oldest segments, shorten the voice prompt, shorten the text or lower max_audio_length_ms"
        )

    def fit(self, request: Request, n_lead: int = 0) -> Request:
        """The request without the oldest segments that leave no room, see `SpeechGenerator.fit`.

        Raises:
            ContextOverflowError: the text alone is too long, or with the ``n_lead`` segments that stay.
        """
        room = self._config.backbone.max_positions - self.check(replace(request, context=())) - request.max_frames
        lead, rest = request.context[:n_lead], request.context[n_lead:]
        n_lead_rows = sum(self._n_segment_rows(segment) for segment in lead)
        if n_lead_rows > room:
            n_frames = sum(segment.n_frames for segment in lead)
            raise ContextOverflowError(
                f"voice prompt of {n_frames * FRAME_MS / 1000:.1f} s and its text take {n_lead_rows} positions, beside "
                f"the text to speak and an answer of up to {request.max_frames} frames there are {room}: "
                "give a shorter voice prompt, shorten the text or lower max_audio_length_ms"
            )
        room -= n_lead_rows
        kept: list[Segment] = []
        for segment in reversed(rest):
            room -= self._n_segment_rows(segment)
            if room < 0:
                break
            kept.insert(0, segment)
        return replace(request, context=(*lead, *kept))

    def build(self, request: Request) -> tuple[list[Block], list[Block]]:
        """Lay out the context and the text to speak, each cut into blocks. Encodes context audio not encoded before.

        Raises:
            InputError: codes of a segment that this model does not have.
        """
        return self.context(request.context), _blocks(self._text_rows(request.speaker, request.text))

    def context(self, segments: Iterable[Segment]) -> list[Block]:
        """Lay out a context as `build` does."""
        return [block for segment in segments for block in _blocks(self._segment_rows(segment))]

    def _segment_rows(self, segment: Segment) -> Tensor:
        if segment not in self._laid_out:
            rows = self._said(segment)
            if segment.n_frames:
                frames = pad(self._codes(segment), (0, 1)).t()  # the end frame of zeros comes last
                rows = torch.cat((rows, pad(frames, (0, 1), value=-1)))
            self._laid_out[segment] = rows
        return self._laid_out[segment]

    def _n_segment_rows(self, segment: Segment) -> int:
        return len(self._said(segment)) + (segment.n_frames + 1 if segment.n_frames else 0)

    def _said(self, segment: Segment) -> Tensor:
        """The text rows of a segment."""
        if segment not in self._texts:
            self._texts[segment] = self._text_rows(segment.speaker, segment.text)
        return self._texts[segment]

    def _text_rows(self, speaker: int, text: str) -> Tensor:
        """``(n, slots)`` with -1 in the slots that do not count."""
        ids = torch.tensor(self._tokenizer.ids(speaker, text))
        rows = torch.full((len(ids), self._config.n_slots), -1)
        rows[:, -1] = ids
        return rows

    def _codes(self, segment: Segment) -> Tensor:
        if segment in self._encoded:
            return self._encoded[segment]
        codes = self._encode(segment.audio) if segment.codes is None else segment.codes
        n_codebooks, size = self._config.n_codebooks, self._config.codebook_size
        codes = codes[:n_codebooks].to("cpu", torch.int64)
        largest = int(codes.max()) if codes.numel() else 0
        if codes.shape[0] < n_codebooks or largest >= size:
            raise InputError(
                f"context codes of shape {tuple(codes.shape)} up to {largest}: this voice has {n_codebooks} codebooks "
                f"with codes from 0 to {size - 1}; encode the audio with its own codec"
            )
        self._encoded[segment] = codes
        return codes


def _blocks(rows: Tensor) -> list[Block]:
    return [Block(part) for part in rows.split(BLOCK_ROWS)]
