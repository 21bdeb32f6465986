"""The memory of a batch of streams that stays where it is, so that a recording of a frame can be launched again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from csmkit.audio import FRAME_SAMPLES
from csmkit.csm.config import Sampling
from csmkit.csm.model import CsmModel, CsmState
from csmkit.csm.sampling import Noise
from csmkit.csm.step import Made, Sounds, SoundState

N_SLOTS = 2  # of what is on its way between host and device: one frame runs while another is prepared


@dataclass
class Slot:
    """What one frame brings back, on the host, page-locked where there is a GPU.

    Attributes:
        codes: ``(batch, n_codebooks)`` int64.
        sound: ``(batch, 1920)`` float32; unused where the frame is not heard.
    """

    codes: Tensor
    sound: Tensor

    def made(self, rows: Sequence[int], aloud: bool) -> Made:
        """A copy of these rows."""
        index = list(rows)
        return Made(self.codes[index], self.sound[index] if aloud else None)


@dataclass(eq=False)
class Seat:
    """Buffers of constant shape for ``batch`` streams, and what was recorded over them.

    A stream takes a seat when it begins and leaves it when it ends. The cache has one row more than streams may use:
    what must be written somewhere and never counts goes there.

    Attributes:
        inner: what the model sees.
        position: ``(batch,)`` int64 on the device, the cache rows each stream has.
        sound: ``(batch, 1920)`` float32 on the device.
        voices: the codec's state; None where frames are decoded elsewhere.
        recorded: by name, whatever the step's recorder keeps.
        prompts: by their length, where rows to read are put.
    """

    batch: int
    n_positions: int
    inner: CsmState
    position: Tensor
    sound: Tensor
    slots: list[Slot]
    voices: SoundState | None
    recorded: dict[Hashable, object] = field(default_factory=dict)
    prompts: dict[int, PromptBuffers] = field(default_factory=dict)
    n_launched: int = 0

    @classmethod
    def make(cls, model: CsmModel, batch: int, n_positions: int, sounds: Sounds | None) -> Seat:
        """A free seat for ``n_positions`` positions a stream."""
        config, device = model.config, model.device
        on_gpu = device.type == "cuda"
        frame = (batch, config.n_codebooks)
        n_samples = FRAME_SAMPLES if sounds is not None else 0

        def slot() -> Slot:
            return Slot(
                torch.zeros(frame, dtype=torch.int64, pin_memory=on_gpu),
                torch.zeros(batch, n_samples, pin_memory=on_gpu),
            )

        return cls(
            batch,
            n_positions,
            inner=model.new_state(n_positions + 1, Noise(config, [Sampling()] * batch, [0] * batch, device), batch),
            position=torch.zeros(batch, dtype=torch.int64, device=device),
            sound=torch.zeros(batch, n_samples, device=device),
            slots=[slot() for _ in range(N_SLOTS)],
            voices=None if sounds is None else sounds.new_state(batch),
        )

    def next_slot(self) -> Slot:
        """The slot of the frame to launch now."""
        self.n_launched += 1
        return self.slots[self.n_launched % N_SLOTS]

    def set_positions(self, lengths: Sequence[int]) -> None:
        """The rows each stream has; without waiting for the device."""
        for row, length in enumerate(lengths):
            self.position[row].fill_(length)

    def load(self, row: int, other: Seat, other_rows: Sequence[int]) -> None:
        """Copy streams of another seat to the rows from ``row`` on: caches, noise, last hidden states and codes."""
        index = list(other_rows)
        rows = slice(row, row + len(index))
        shared = min(self.n_positions, other.n_positions)
        for mine, theirs in zip(self.inner.backbone.layers, other.inner.backbone.layers, strict=True):
            mine[rows, :, :shared] = theirs[index, :, :shared]
        for mine, theirs in (
            (self.inner.hidden, other.inner.hidden),
            (self.inner.codes, other.inner.codes),
            (self.position, other.position),
        ):
            mine[rows] = theirs[index]
        self.inner.noise.load(row, other.inner.noise, index)


@dataclass
class PromptBuffers:
    """Where prompt rows are put, in a bucket of constant length.

    Attributes:
        tokens, mask: ``(1, bucket, slots)`` on the device.
        start, n_rows: ``(1,)`` int64 on the device.
    """

    tokens: Tensor
    mask: Tensor
    start: Tensor
    n_rows: Tensor

    @classmethod
    def make(cls, bucket: int, n_slots: int, device: torch.device) -> PromptBuffers:
        """Empty ones."""
        one = torch.zeros(2, dtype=torch.int64, device=device)
        tokens = torch.zeros(1, bucket, n_slots, dtype=torch.int64, device=device)
        return cls(tokens, torch.zeros_like(tokens, dtype=torch.bool), one[:1], one[1:])

    def fill(self, start: int, tokens: Tensor, mask: Tensor) -> None:
        """Put rows ``(1, n_rows, slots)`` in, which begin at cache row ``start``; the rest does not count."""
        n_rows = tokens.shape[1]
        self.tokens[:, :n_rows] = tokens
        self.mask[:, :n_rows] = mask
        self.mask[:, n_rows:] = False
        self.start.fill_(start)
        self.n_rows.fill_(n_rows)
