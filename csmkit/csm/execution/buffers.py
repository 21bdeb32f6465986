"""Memory of constant shape and place for a batch of streams, so that a recording of a frame can be launched again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from csmkit.audio import FRAME_SAMPLES
from csmkit.codec import FrameDecoder, FrameDecoderState
from csmkit.csm.config import Sampling
from csmkit.csm.execution.step import Made
from csmkit.csm.model import CsmModel, CsmState
from csmkit.csm.sampling import Noise

N_SLOTS = 2  # frames on their way from device to host: one runs while another is looked at


@dataclass
class Slot:
    """One frame on the host, page-locked where there is a GPU.

    Attributes:
        frame: ``(batch, n_codebooks + 1)`` int64, as `csmkit.csm.execution.step.packed`.
        sound: ``(batch, 1920)`` float32; unused where the frame is not heard.
    """

    frame: Tensor
    sound: Tensor

    def made(self, rows: Sequence[int], aloud: bool) -> Made:
        """A copy of these rows."""
        index = list(rows)
        return Made.of(self.frame[index], self.sound[index] if aloud else None)

    def load(self, row: int, other: Slot, other_rows: Sequence[int]) -> None:
        """Copy rows of another slot to those from ``row`` on."""
        index = list(other_rows)
        self.frame[row : row + len(index)] = other.frame[index]
        self.sound[row : row + len(index)] = other.sound[index]

    @property
    def finite(self) -> bool:
        """Whether codes and sound of all rows came from finite values."""
        return bool(self.frame[:, -1].all()) and bool(self.sound.isfinite().all())


@dataclass(eq=False)
class FrameBuffers:
    """Buffers for ``batch`` streams, and what was recorded over them. No tensor is ever replaced by another.

    Streams take buffers when they begin and give them back when they end. The cache has one row more than streams may
    use: what must be written somewhere and never counts goes there.

    Attributes:
        state: what the model sees.
        position: ``(batch,)`` int64 on the device, the cache rows each stream has.
        finite: ``(batch,)`` bool on the device, whether all values since the stream's first frame were finite.
        frame: ``(batch, n_codebooks + 1)`` int64 on the device, as `csmkit.csm.execution.step.packed`.
        sound: ``(batch, 1920)`` float32 on the device.
        slots: the last frames on the host.
        voices: the codec's state; None where frames are decoded elsewhere.
        recorded: by name, whatever the step's recorder keeps.
        prompts: by their length, where rows to read are put.
        wait: waits for all that was launched.
        damaged: never to be used by another stream: a value was not finite, or a launch failed midway.
    """

    batch: int
    n_positions: int
    state: CsmState
    position: Tensor
    finite: Tensor
    frame: Tensor
    sound: Tensor
    slots: list[Slot]
    voices: FrameDecoderState | None
    recorded: dict[Hashable, object] = field(default_factory=dict)
    prompts: dict[int, PromptBuffers] = field(default_factory=dict)
    n_launched: int = 0
    wait: Callable[[], object] = field(default=lambda: None)
    damaged: bool = False

    @classmethod
    def make(cls, model: CsmModel, batch: int, n_positions: int, sounds: FrameDecoder | None) -> FrameBuffers:
        """Free buffers for ``n_positions`` positions a stream."""
        config, device = model.config, model.device
        on_gpu = device.type == "cuda"
        frame = torch.ones(batch, config.n_codebooks + 1, dtype=torch.int64)
        sound = torch.zeros(batch, FRAME_SAMPLES if sounds is not None else 0)

        def slot() -> Slot:
            return Slot(*(torch.clone(one).pin_memory() if on_gpu else torch.clone(one) for one in (frame, sound)))

        return cls(
            batch,
            n_positions,
            state=model.new_state(n_positions + 1, Noise(config, [Sampling()] * batch, [0] * batch, device), batch),
            position=torch.zeros(batch, dtype=torch.int64, device=device),
            finite=torch.ones(batch, dtype=torch.bool, device=device),
            frame=frame.to(device, copy=True),
            sound=sound.to(device, copy=True),
            slots=[slot() for _ in range(N_SLOTS)],
            voices=None if sounds is None else sounds.new_state(batch),
        )

    def next_slot(self) -> Slot:
        """The slot of the frame to launch now."""
        self.n_launched += 1
        return self.slots[self.n_launched % N_SLOTS]

    def reusable(self) -> bool:
        """Whether another stream may begin here; waits for frames that nobody looked at."""
        if self.damaged:
            return False
        self.wait()
        return all(slot.finite for slot in self.slots)

    def set_positions(self, lengths: Sequence[int]) -> None:
        """The rows each stream has; without waiting for the device."""
        for row, length in enumerate(lengths):
            self.position[row].fill_(length)

    def load(self, row: int, other: FrameBuffers, other_rows: Sequence[int]) -> None:
        """Copy streams of other buffers to the rows from ``row`` on: all but what is on its way to the host."""
        index = list(other_rows)
        rows = slice(row, row + len(index))
        for mine, theirs in (
            *zip(self.state.backbone.layers, other.state.backbone.layers, strict=True),
            (self.state.hidden, other.state.hidden),
            (self.state.codes, other.state.codes),
            (self.position, other.position),
            (self.finite, other.finite),
        ):
            mine[rows] = theirs[index]
        self.state.noise.load(row, other.state.noise, index)
        if self.voices is not None and other.voices is not None:
            self.voices.load(other.voices, index, row)


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
