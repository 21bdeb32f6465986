"""Tensors at constant addresses for a batch of streams, so that a recorded frame can be launched again and again."""

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

N_HOST_FRAMES = 2  # one is written by the device while the other is read


@dataclass
class HostFrame:
    """One frame on the host, in page-locked memory where there is a GPU.

    Attributes:
        frame: ``(batch, n_codebooks + 1)`` int64, as `csmkit.csm.execution.step.packed` returns it.
        sound: ``(batch, 1920)`` float32; unused where the frame is not decoded.
    """

    frame: Tensor
    sound: Tensor

    def made(self, rows: Sequence[int], aloud: bool) -> Made:
        """Copy these rows."""
        index = list(rows)
        return Made.of(self.frame[index], self.sound[index] if aloud else None)

    def load(self, row: int, other: HostFrame, other_rows: Sequence[int]) -> None:
        """Copy rows of another frame to the rows from ``row`` on."""
        rows, index = slice(row, row + len(other_rows)), list(other_rows)
        self.frame[rows], self.sound[rows] = other.frame[index], other.sound[index]

    @property
    def finite(self) -> bool:
        """Whether codes and sound of all rows come from finite values."""
        return bool(self.frame[:, -1].all()) and bool(self.sound.isfinite().all())


@dataclass(eq=False)
class FrameBuffers:
    """Buffers for ``batch`` streams, with the recordings that use them. No tensor is ever replaced by another.

    Streams take buffers when they begin and give them back when they end. The cache has one row more than streams may
    use; unused positions are written there.

    Attributes:
        batch: number of streams.
        n_positions: number of positions of each stream.
        state: the state that the model uses.
        position: ``(batch,)`` int64 on the device, number of cache rows that each stream has.
        finite: ``(batch,)`` bool on the device, whether all values since the stream's first frame are finite.
        frame: ``(batch, n_codebooks + 1)`` int64 on the device, as `csmkit.csm.execution.step.packed` returns it.
        sound: ``(batch, 1920)`` float32 on the device.
        host_frames: the last frames on the host.
        codec_state: the decoder's state; None where frames are decoded elsewhere.
        recorded: the step's recordings by their keys.
        prompts: buffers of prompt rows by their length.
        n_launched: number of frames launched so far.
        wait: waits for everything launched so far.
        damaged: whether no other stream may use them: a value was not finite, or an error interrupted a launch.
        unchecked: whether rows were written that no launched frame tells to be finite.
    """

    batch: int
    n_positions: int
    state: CsmState
    position: Tensor
    finite: Tensor
    frame: Tensor
    sound: Tensor
    host_frames: list[HostFrame]
    codec_state: FrameDecoderState | None
    recorded: dict[Hashable, object] = field(default_factory=dict)
    prompts: dict[int, PromptBuffers] = field(default_factory=dict)
    n_launched: int = 0
    wait: Callable[[], object] = field(default=lambda: None)
    damaged: bool = False
    unchecked: bool = False

    @classmethod
    def make(cls, model: CsmModel, batch: int, n_positions: int, decoder: FrameDecoder | None) -> FrameBuffers:
        """Make buffers for ``batch`` streams of ``n_positions`` positions each, on the model's device."""
        config, device = model.config, model.device
        on_gpu = device.type == "cuda"
        frame = torch.ones(batch, config.n_codebooks + 1, dtype=torch.int64)
        sound = torch.zeros(batch, FRAME_SAMPLES if decoder is not None else 0)

        def host_frame() -> HostFrame:
            copies = (tensor.clone() for tensor in (frame, sound))
            return HostFrame(*(copy.pin_memory() if on_gpu else copy for copy in copies))

        return cls(
            batch,
            n_positions,
            state=model.new_state(n_positions + 1, Noise(config, [Sampling()] * batch, [0] * batch, device), batch),
            position=torch.zeros(batch, dtype=torch.int64, device=device),
            finite=torch.ones(batch, dtype=torch.bool, device=device),
            frame=frame.to(device, copy=True),
            sound=sound.to(device, copy=True),
            host_frames=[host_frame() for _ in range(N_HOST_FRAMES)],
            codec_state=None if decoder is None else decoder.new_state(batch),
        )

    def next_host_frame(self) -> HostFrame:
        """Return the host memory of the frame to launch now."""
        self.n_launched += 1
        return self.host_frames[self.n_launched % N_HOST_FRAMES]

    def reusable(self) -> bool:
        """Whether another stream may begin here; waits for frames that were launched and not read."""
        if self.damaged:
            return False
        self.wait()
        return all(host.finite for host in self.host_frames)

    @torch.inference_mode()
    def clear_unchecked(self) -> None:
        """Erase what no frame has checked, without waiting: rows behind a mask must be finite, as 0 * NaN is NaN."""
        if self.unchecked:
            for tensor in (*self.state.backbone.layers, *(prompt.tokens for prompt in self.prompts.values())):
                tensor.zero_()
            self.unchecked = False

    def set_positions(self, lengths: Sequence[int]) -> None:
        """Set the number of cache rows that each stream has, without waiting for the device."""
        for row, length in enumerate(lengths):
            self.position[row].fill_(length)

    def load(self, row: int, other: FrameBuffers, other_rows: Sequence[int]) -> None:
        """Copy streams of other buffers to the rows from ``row`` on, except their frames on the host."""
        self.unchecked = True
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
        if self.codec_state is not None and other.codec_state is not None:
            self.codec_state.load(other.codec_state, index, row)


@dataclass
class PromptBuffers:
    """Buffers of prompt rows, of a constant length.

    Attributes:
        tokens: ``(1, bucket, slots)`` int64 on the device.
        mask: bool of the same shape as ``tokens``; True for the slots that are used.
        start: ``(1,)`` int64 on the device, the cache row of the first prompt row.
        n_rows: ``(1,)`` int64 on the device, number of rows that are used.
    """

    tokens: Tensor
    mask: Tensor
    start: Tensor
    n_rows: Tensor

    @classmethod
    def make(cls, bucket: int, n_slots: int, device: torch.device) -> PromptBuffers:
        """Make buffers of ``bucket`` rows."""
        one = torch.zeros(2, dtype=torch.int64, device=device)
        tokens = torch.zeros(1, bucket, n_slots, dtype=torch.int64, device=device)
        return cls(tokens, torch.zeros_like(tokens, dtype=torch.bool), one[:1], one[1:])

    def fill(self, start: int, tokens: Tensor, mask: Tensor) -> None:
        """Copy rows ``(1, n_rows, slots)``, which begin at cache row ``start``; the other rows are unused."""
        n_rows = tokens.shape[1]
        self.tokens[:, :n_rows] = tokens
        self.mask[:, :n_rows] = mask
        self.mask[:, n_rows:] = False
        self.start.fill_(start)
        self.n_rows.fill_(n_rows)
