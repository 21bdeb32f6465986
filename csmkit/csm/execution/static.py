"""The frame in constant shapes: positions and noise are tensors, nothing is copied to the host, no tensor is replaced.

Such a frame can be recorded once and launched again (`csmkit.csm.execution.cuda_graph`), and a compiler need not start
anew for each length. Without a recorder it runs operation by operation on any device, which is how it is tested.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from csmkit.codec import FrameDecoder
from csmkit.csm.attention import bucket_span, masked_span
from csmkit.csm.execution.buffers import FrameBuffers, HostFrame, PromptBuffers
from csmkit.csm.execution.eager import depth_spans
from csmkit.csm.execution.step import Made, packed
from csmkit.csm.model import CsmModel, CsmState, Stacks
from csmkit.csm.sampling import Noise
from csmkit.csm.transformer import AttentionSpan, KvCache

SMALLEST_BUCKET = 16  # rows of a prompt; each longer bucket is twice as long
SMALLEST_SPAN = 256  # cache rows that a frame attends to; each longer span is twice as long


class Recorder:
    """Runs the operations of a frame each time; a subclass records them."""

    def run(self, recorded: dict[Hashable, object], key: Hashable, body: Callable[[], None]) -> None:
        """Run the operations of ``body``; a recording of them is stored in ``recorded`` under ``key``.

        Bodies of the same key have the same operations, over other buffers.
        """
        body()

    def wait(self) -> Callable[[], object]:
        """Return a function that waits for everything launched so far."""
        return lambda: None


@dataclass
class Launched:
    """A frame that the device is computing.

    Attributes:
        host: where the frame will be on the host.
        wait: returns once it is there.
    """

    host: HostFrame
    wait: Callable[[], object]


@dataclass(eq=False)
class BufferedState(CsmState):
    """The state of streams that have buffers. When it is garbage, its buffers are free for other streams.

    Attributes:
        buffers: the buffers whose tensors the state consists of.
        rows: the row of the buffers that each stream has; the buffers may have more rows.
        aloud: whether its frames are decoded.
        launched: frames that were launched and not returned yet.
    """

    buffers: FrameBuffers
    rows: list[int]
    aloud: bool = False
    launched: list[Launched] = field(default_factory=list)

    @property
    def n_streams(self) -> int:
        """Number of streams."""
        return len(self.rows)


class StaticStep:
    """See `csmkit.csm.execution.step.Step`.

    Args:
        model: the model with its weights, on its device.
        decoder: decodes each frame as part of it; None where frames are decoded elsewhere.
        recorder: launches the operations; None to run them each time.
        n_ahead: number of frames launched before the last one is read: the device does not wait until the host knows
            whether speech has ended. Frames computed beyond the end are dropped.
        stacks: functions to call in place of the model's own stacks and heads; shapes are constant in the depth
            decoder and in the whole cache as well, so that they are compiled once.
        n_warm_ups: number of utterances to generate before timings are representative.

    Attributes:
        recorder: launches the operations.
        n_ahead: number of frames launched before the last one is read.
        free: the buffers that no stream uses, by their batch size.
    """

    def __init__(
        self,
        model: CsmModel,
        decoder: FrameDecoder | None = None,
        recorder: Recorder | None = None,
        n_ahead: int = 0,
        stacks: Stacks | None = None,
        n_warm_ups: int = 1,
    ) -> None:
        self._model, self._decoder, self._stacks, self.n_ahead = model, decoder, stacks, n_ahead
        self.recorder = recorder or Recorder()
        # Every stream has room for all positions. A prompt attends to the whole cache through a mask, because attention
        # over one length rounds in one way; a frame attends to the first rows of it, as many as are in use or up to
        # twice as many, and each such number is recorded once.
        self._n_positions = model.config.backbone.max_positions
        self._n_keys = _spans(self._n_positions + 1) if stacks is None else (self._n_positions + 1,)
        self.free: dict[int, list[FrameBuffers]] = {}
        self.n_warm_ups = n_warm_ups
        self.makes_sound = decoder is not None
        with torch.inference_mode():
            self._depth_spans = depth_spans(model) if stacks is None else _even_depth_spans(model)

    def warm_up(self, n_streams: int) -> None:
        """As `Step.warm_up`: record prompts of every length, and frames of every batch size and length."""
        if type(self.recorder) is Recorder:
            return
        for _ in range(self.n_warm_ups):
            for n_rows in _buckets(self._n_positions):
                nothing = torch.zeros(1, n_rows, self._model.config.n_slots, dtype=torch.int64)
                self.read(self._state([0]), nothing, nothing.bool())
        for power in range(_power_of_two(n_streams).bit_length()):
            # A stream that joins or leaves makes a batch move from buffers to others.
            states = [self._state([0] * 2**power) for _ in range(min(2, n_streams))]
            for state in states:
                self._warm_up_frames(state)

    def _warm_up_frames(self, state: BufferedState) -> None:
        for n_keys in self._n_keys:
            for _ in range(self.n_warm_ups):
                state.backbone.lengths = [n_keys - 2] * state.n_streams
                self.first(state, self.makes_sound)
                self.next(state)
                for launched in state.launched:
                    launched.wait()
                state.launched.clear()

    def new_state(self, n_positions: int, noise: Noise) -> BufferedState:
        state = self._state([0])
        state.noise.load(0, noise, [0])
        return state

    def join(self, states: Sequence[BufferedState]) -> BufferedState:
        return states[0] if len(states) == 1 else self._gather([(state, range(state.n_streams)) for state in states])

    def split(self, state: BufferedState, rows: Sequence[int]) -> BufferedState:
        return self._gather([(state, rows)])

    def take(self, state: BufferedState, rows: Sequence[int]) -> BufferedState:
        """As `Step.take`. The streams move to smaller buffers where half as many rows or fewer are left."""
        if _power_of_two(len(rows)) != state.buffers.batch:
            return self._gather([(state, rows)])
        state.backbone.lengths = [state.backbone.lengths[row] for row in rows]
        state.rows = [state.rows[row] for row in rows]
        return state

    @torch.inference_mode()
    def _gather(self, parts: Sequence[tuple[BufferedState, Sequence[int]]]) -> BufferedState:
        """Copy these streams of each state to other buffers; frames that were launched go along."""
        gathered = self._state([state.backbone.lengths[row] for state, rows in parts for row in rows])
        buffers, (first, _) = gathered.buffers, parts[0]
        gathered.aloud = first.aloud
        gathered.launched = [Launched(buffers.next_host_frame(), lambda: None) for _ in first.launched]
        begin = 0
        for index, (state, rows) in enumerate(parts):
            chosen = [state.rows[row] for row in rows]
            if index == len(parts) - 1:  # rows without a stream repeat the last one, so that their values are finite
                chosen += [chosen[-1]] * (buffers.batch - begin - len(chosen))
            buffers.load(begin, state.buffers, chosen)
            for new, old in zip(gathered.launched, state.launched, strict=True):
                old.wait()
                new.host.load(begin, old.host, chosen)
            begin += len(chosen)
        return gathered

    @torch.inference_mode()
    def read(self, state: BufferedState, tokens: Tensor, mask: Tensor) -> None:
        buffers = state.buffers
        start, n_rows = state.backbone.length, tokens.shape[1]
        bucket = max(SMALLEST_BUCKET, _power_of_two(n_rows))
        buffers.unchecked = True
        with _damaged_by_errors(buffers):
            if bucket not in buffers.prompts:
                buffers.prompts[bucket] = PromptBuffers.make(bucket, tokens.shape[2], self._model.device)
            prompt = buffers.prompts[bucket]
            prompt.fill(start, tokens, mask)
            self.recorder.run(buffers.recorded, ("read", bucket), partial(self._read, buffers, prompt))
            buffers.wait = self.recorder.wait()
        state.backbone.advance(n_rows)

    @torch.inference_mode()
    def first(self, state: BufferedState, aloud: bool = False) -> Made:
        state.aloud = aloud and self._decoder is not None
        buffers, lengths = state.buffers, state.backbone.lengths
        with _damaged_by_errors(buffers):
            buffers.set_positions([*lengths, *[lengths[-1]] * (buffers.batch - len(lengths))])
            if buffers.codec_state is not None:
                buffers.codec_state.restart()
        self.launch(state, first=True)
        return self.next(state)

    @torch.inference_mode()
    def next(self, state: BufferedState) -> Made:
        while len(state.launched) <= self.n_ahead:
            self.launch(state)
        launched = state.launched.pop(0)
        launched.wait()
        if not launched.host.finite:
            state.buffers.damaged = True
        return launched.host.made(state.rows, state.aloud)

    def launch(self, state: BufferedState, first: bool = False) -> None:
        """Launch a frame and its copy to the host."""
        buffers = state.buffers
        host = buffers.next_host_frame()
        n_rows = 0 if first else min(max(state.backbone.lengths), self._n_positions) + 1
        n_keys = next(n for n in self._n_keys if n >= n_rows)
        with _damaged_by_errors(buffers):
            body = partial(self._frame, buffers, first, state.aloud, n_keys)
            self.recorder.run(buffers.recorded, ("frame", first, state.aloud, n_keys, buffers.batch), body)
            host.frame.copy_(buffers.frame, non_blocking=True)
            if state.aloud:
                host.sound.copy_(buffers.sound, non_blocking=True)
            buffers.wait = self.recorder.wait()
            buffers.unchecked = False
        if not first:
            state.backbone.advance(1)
        state.launched.append(Launched(host, buffers.wait))

    def _frame(self, buffers: FrameBuffers, first: bool, aloud: bool, n_keys: int) -> None:
        """Compute one frame; it reads the buffers, and its results are copied into them."""
        model, state = self._model, buffers.state
        if not first:
            span = masked_span(model.backbone, buffers.position, n_keys)
            state.hidden.copy_(model.read_frame(state, span, self._stacks))
            # A frame beyond the last position is computed and dropped; it must not write beyond the cache.
            buffers.position.add_(1).clamp_(max=self._n_positions)
        noise = state.noise.draw_in_place()
        codes, finite = model.speak_frame(state, noise, state.noise.topk, self._depth_spans, self._stacks)
        state.codes.copy_(codes)
        buffers.finite.copy_(finite if first else finite & buffers.finite)
        buffers.frame.copy_(packed(codes, buffers.finite))
        if aloud and self._decoder is not None and buffers.codec_state is not None:
            buffers.sound.copy_(self._decoder(codes.unsqueeze(2), buffers.codec_state))

    def _read(self, buffers: FrameBuffers, prompt: PromptBuffers) -> None:
        model, state = self._model, buffers.state
        bucket = prompt.tokens.shape[1]
        span = bucket_span(model.backbone, prompt.start, prompt.n_rows, bucket, self._n_positions + 1)
        state.hidden.copy_(model.read_prompt(state, prompt.tokens, prompt.mask, span, prompt.n_rows - 1))

    def _state(self, lengths: list[int]) -> BufferedState:
        """Make a state with free buffers, or with new ones."""
        batch = _power_of_two(len(lengths))
        free = self.free.setdefault(batch, [])
        buffers = self._new_buffers(batch) if (found := _pop_reusable(free)) is None else found
        cache = KvCache(buffers.state.backbone.layers, list(lengths))
        inner = buffers.state
        rows = list(range(len(lengths)))
        state = BufferedState(cache, inner.depth, inner.noise, inner.hidden, inner.codes, buffers, rows)
        weakref.finalize(state, _give_back, buffers, free).atexit = False
        return state

    def _new_buffers(self, batch: int) -> FrameBuffers:
        index = self._model.device.index if self._model.device.type == "cuda" else -1
        # The prompt cache copies into them outside inference mode; page-locked memory belongs to the current device.
        with torch.inference_mode(False), torch.cuda.device(index):
            return FrameBuffers.make(self._model, batch, self._n_positions, self._decoder)


@contextmanager
def _damaged_by_errors(buffers: FrameBuffers) -> Iterator[None]:
    """Mark buffers as damaged after an error, so that no other stream gets them."""
    try:
        yield
    except BaseException:
        buffers.damaged = True
        raise


def _pop_reusable(free: list[FrameBuffers]) -> FrameBuffers | None:
    """Take one of the free buffers; those with values that are not finite are dropped, unchecked ones are cleared."""
    while True:
        try:
            buffers = free.pop()  # another thread may take the last one at any moment
        except IndexError:
            return None
        if buffers.reusable():
            buffers.clear_unchecked()
            return buffers


def _give_back(buffers: FrameBuffers, free: list[FrameBuffers]) -> None:
    """Make buffers free again; called by the garbage collector in any thread, so it must not wait for the device."""
    if not buffers.damaged:
        free.append(buffers)


def _buckets(n_positions: int) -> tuple[int, ...]:
    """List the longest prompt of each bucket, smallest first."""
    sizes = [SMALLEST_BUCKET]
    while sizes[-1] < n_positions - 1:
        sizes.append(2 * sizes[-1])
    return tuple(min(size, n_positions - 1) for size in sizes)


def _spans(n_keys: int) -> tuple[int, ...]:
    """List the numbers of cache rows that frames attend to, up to all ``n_keys``."""
    sizes = []
    while SMALLEST_SPAN << len(sizes) < n_keys - 1:
        sizes.append(SMALLEST_SPAN << len(sizes))
    return (*sizes, n_keys)


def _even_depth_spans(model: CsmModel) -> list[AttentionSpan]:
    """As `depth_spans`, but with the same number of rows in each pass, so that one compiled pass serves all."""
    n_codebooks, depth = model.config.n_codebooks, model.depth
    rows = torch.arange(n_codebooks, device=model.device)
    group = depth.config.group
    both = rows[:2]
    cos, sin = depth.rotation(both)
    mask = (rows <= both[:, None]).repeat_interleave(group, dim=0)
    first = AttentionSpan(both, cos, sin, n_codebooks, mask)
    return [first, *(_copied(masked_span(depth, rows[i : i + 1], n_codebooks)) for i in range(2, n_codebooks))]


def _copied(span: AttentionSpan) -> AttentionSpan:
    """Copy the tensors: views into one table differ in their offsets, and a compiler would start anew for each."""
    mask = None if span.mask is None else span.mask.contiguous()
    return AttentionSpan(span.positions.clone(), span.cos.clone(), span.sin.clone(), span.n_keys, mask)


def _power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least ``n``."""
    return 1 << (n - 1).bit_length()
