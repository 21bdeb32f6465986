"""Weights of 4 and 8 bits: how they are rounded, that ONNX Runtime's frame is theirs, and what is kept on disk."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_voice, tiny_csm
from torch import Tensor
from typer.testing import CliRunner

from csmkit import Generator, Segment, cli
from csmkit.convert import convert
from csmkit.csm.attention import prefix_span
from csmkit.csm.checkpoint import load_model
from csmkit.csm.execution import onnx as onnx_step
from csmkit.csm.execution import onnx_graph
from csmkit.csm.execution.eager import EagerStep
from csmkit.csm.execution.onnx import OnnxStack, OnnxStep
from csmkit.csm.quantization import BlockWeight, Rounding, quantize, rounded_bits, rounded_places, widen
from csmkit.csm.transformer import KvCache
from csmkit.errors import CheckpointError, DeviceError, InputError, NotFiniteError

MODES = ("int4", "int8")
TEXTS = ("hello there, how are you today?", "no.", "what is the time, please?")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_voice(tiny_csm(seed=3, depth_head_dim=16), tmp_path_factory.mktemp("rounded"))


@pytest.fixture(scope="module", params=MODES)
def rounded(request: pytest.FixtureRequest, directory: Path) -> Generator:
    """The tiny voice, rounded as it is loaded."""
    return Generator.load(directory, device="cpu", execution=request.param)


def codes(generator: Generator, text: str = TEXTS[0], context: tuple[Segment, ...] = (), **how: object) -> Tensor:
    frames = generator.frames(text, 1, context, max_audio_length_ms=80 * 20, **how)
    return torch.stack(list(frames), dim=1)


def turns() -> tuple[Segment, ...]:
    noise = torch.Generator().manual_seed(0)
    drawn = [torch.randint(0, 64, (4, 20 + i), generator=noise) for i in range(3)]
    return tuple(Segment(i % 2, f"turn {i}.", codes=frames) for i, frames in enumerate(drawn))


def error_of(given: Tensor, expected: Tensor) -> float:
    return float((given - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("bits", "block", "low", "high"), [(4, 32, 0.07, 0.09), (4, 128, 0.09, 0.105), (8, 32, 0, 0.006)]
)
def test_rounding_loses_no_more_than_its_bits_and_block_must(bits: int, block: int, low: float, high: float):
    torch.manual_seed(0)
    weight = torch.randn(300, 2_100) * torch.rand(2_100) * 3  # neither size fills its blocks or parts
    narrow = BlockWeight.round(weight, Rounding(bits, block))
    assert narrow.packed.nbytes < weight.nbytes * bits / 32 * 1.4
    assert narrow.wide().shape == weight.shape
    assert low < error_of(narrow.wide(), weight) < high
    plain = weight.t().split(block, dim=1)
    largest = [part.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1) for part in plain]
    naive = torch.cat([(part / scale).round() * scale for part, scale in zip(plain, largest, strict=True)], dim=1).t()
    assert error_of(narrow.wide(), weight) < error_of(naive, weight)


def test_rounding_keeps_what_can_be_kept():
    integers = torch.randint(-7, 8, (64, 5)).float()
    integers[0], integers[32] = -8, -8  # the ends of the range, so that a block's scale is exact
    assert torch.equal(BlockWeight.round(integers * 0.25, Rounding(4, 32)).wide(), integers * 0.25)
    assert torch.equal(BlockWeight.round(torch.zeros(40, 3), Rounding(4, 16)).wide(), torch.zeros(40, 3))
    stacked = torch.randn(3, 32, 6)
    narrow = BlockWeight.round(stacked, Rounding(8, 16))
    for part, weight in zip(narrow.parts(), narrow.wide(), strict=True):
        assert torch.equal(part.wide(), weight)


@pytest.mark.parametrize("numbers", [(3, 32), (4, 48), (8, 0), ("4", 32)])
def test_bits_and_blocks_that_do_not_exist_are_refused(numbers: tuple[int, int]):
    with pytest.raises(InputError, match=r"give \(4, 8\) and \(16, 32, 64, 128, 256\)"):
        Rounding(*numbers)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", ["backbone", "depth"])
def test_a_stack_gives_what_its_rounded_weights_give_in_torch(
    directory: Path, bits: int, name: str, monkeypatch: pytest.MonkeyPatch
):
    """A prompt in several passes, frames after it, a piece after those; with exact products, and with quick ones."""
    monkeypatch.setattr(onnx_step, "PROMPT_ROWS", 24)
    models = [load_model(directory) for _ in range(2)]
    for model in models:
        quantize(model, Rounding(bits, 16))
    widen(models[1])
    ours, theirs = (getattr(model, name) for model in models)
    n_positions = 120 if name == "backbone" else 4
    for level, allowed in ((0, 1e-5), (onnx_graph.INT8_PRODUCTS, 0.03)):
        monkeypatch.setattr(onnx_graph, "INT8_PRODUCTS", level)
        run = OnnxStack(ours, n_positions)
        caches = [KvCache.empty(ours.config, 1, n_positions, torch.empty(0)) for _ in range(2)]
        start, errors = 0, []
        for n_new in (60, 1, 1, 30, 1) if name == "backbone" else (2, 1, 1):
            x = torch.randn(1, n_new, ours.config.dim)
            span = prefix_span(theirs, start, n_new)
            errors.append(error_of(run(x, span, caches[0]), theirs(x, span, caches[1])))
            start += n_new
        assert max(errors) < allowed
        for layer, other in zip(*(cache.layers for cache in caches), strict=True):
            assert error_of(layer, other) < allowed


def test_codes_with_exact_products_are_those_of_the_rounded_weights_in_torch(
    directory: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(onnx_graph, "INT8_PRODUCTS", 0)
    for mode in MODES:
        ours, theirs = (Generator.load(directory, execution=m, dtype=torch.float32) for m in (mode, "eager"))
        quantize(theirs.model, Rounding(ours.model.first_head.bits))
        widen(theirs.model)
        for context in ((), turns()):
            for how in ({"temperature": 0.0}, {"temperature": 1.1, "topk": 9, "seed": 5}):
                assert torch.equal(codes(ours, context=context, **how), codes(theirs, context=context, **how))


def test_a_seed_gives_the_same_codes_whatever_was_said_before_and_beside(rounded: Generator):
    alone = {seed: codes(rounded, TEXTS[0], turns(), seed=seed) for seed in (1, 2)}
    assert not torch.equal(alone[1], alone[2])
    codes(rounded, TEXTS[1], turns()[:2], seed=7)
    codes(rounded, TEXTS[2], seed=8)
    assert torch.equal(codes(rounded, TEXTS[0], turns(), seed=1), alone[1])
    requests = [
        rounded.request(text, 1, context, seed=seed, topk=topk, max_audio_length_ms=80 * 20)
        for text, context, seed, topk in (
            (TEXTS[0], turns(), 1, None),
            (TEXTS[1], (), 4, 5),
            (TEXTS[2], turns()[:1], 9, 64),
        )
    ]
    alone = [torch.stack(list(rounded.run(request))) for request in requests]
    together = [torch.stack(list(frames)) for frames in rounded.run_batch(requests)]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_chunks_change_nothing_and_streams_may_interleave(rounded: Generator):
    def sound(chunk_frames: int) -> Tensor:
        return torch.cat(
            list(rounded.generate_streaming(TEXTS[0], seed=3, max_audio_length_ms=800, chunk_frames=chunk_frames))
        )

    assert len(sound(1)) > 1920 and torch.equal(sound(1), sound(4))
    streams = [rounded.frames(text, seed=6, max_audio_length_ms=1_600) for text in TEXTS * 8]  # more than stay bound
    assert len(streams) > onnx_step.N_BOUND
    interleaved: list[list[Tensor]] = [[] for _ in streams]
    for _ in range(20):
        for frames, stream in zip(interleaved, streams, strict=True):
            frames += [frame for frame in (next(stream, None),) if frame is not None]
    for text, frames in zip(TEXTS * 8, interleaved, strict=True):
        assert torch.equal(
            torch.stack(frames), torch.stack(list(rounded.frames(text, seed=6, max_audio_length_ms=1_600)))
        )


def test_the_number_of_threads_changes_no_code(directory: Path, rounded: Generator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    other = Generator.load(directory, device="cpu", execution=rounded.execution)
    assert torch.equal(codes(other, context=turns(), seed=2), codes(rounded, context=turns(), seed=2))


def test_torch_keeps_to_one_thread_between_the_calls_of_onnx_runtime(directory: Path, monkeypatch: pytest.MonkeyPatch):
    generator = Generator.load(directory, device="cpu", execution="int4")
    speak_frame, n_threads = generator.model.speak_frame, []

    def counted(*arguments: Any) -> Any:
        n_threads.append(torch.get_num_threads())
        if len(n_threads) == 3:
            raise RuntimeError("broken off")
        return speak_frame(*arguments)

    monkeypatch.setattr(generator.model, "speak_frame", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="broken off"):
            codes(generator)
        assert n_threads == [1, 1, 1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("mode", MODES)
def test_a_rounded_folder_speaks_as_the_voice_rounded_at_loading(directory: Path, tmp_path: Path, mode: str):
    done = convert(directory, tmp_path / mode, to=mode)
    assert done.layouts == ("transformers", mode) and done.n_tensors == len(
        load_file(tmp_path / mode / "model.safetensors")
    ) + len(load_file(tmp_path / mode / "mimi" / "model.safetensors"))
    values = json.loads((tmp_path / mode / "config.json").read_text())
    assert values["csmkit_rounding"] == asdict(Rounding(int(mode[3:])))
    kept, fresh = Generator.load(tmp_path / mode, device="cpu"), Generator.load(directory, device="cpu", execution=mode)
    assert kept.execution == mode and isinstance(kept.step, OnnxStep)
    for (owner, name), (other, _) in zip(rounded_places(kept.model), rounded_places(fresh.model), strict=True):
        assert torch.equal(getattr(owner, name).packed, getattr(other, name).packed)
    assert torch.equal(codes(kept, context=turns(), seed=4), codes(fresh, context=turns(), seed=4))
    said = [
        torch.cat(list(voice.generate_streaming("hi.", seed=1, max_audio_length_ms=400))) for voice in (kept, fresh)
    ]
    assert torch.equal(*said), "the codec was kept too"


def test_a_rounded_folder_runs_in_other_modes_by_widening(directory: Path, tmp_path: Path):
    convert(directory, tmp_path / "int8", to="int8")
    generator = Generator.load(tmp_path / "int8", device="cpu", execution="eager", dtype=torch.float32)
    assert generator.execution == "eager" and rounded_bits(generator.model) is None
    reference = Generator.load(directory, device="cpu", execution="eager")
    quantize(reference.model, Rounding(8))
    widen(reference.model)
    reference.model.text_embedding.data = reference.model.text_embedding.to(torch.bfloat16).float()
    first = [voice.model.head(0, torch.ones(1, 48)) for voice in (generator, reference)]
    assert torch.equal(*first)
    assert codes(generator, seed=0).shape == (4, 20)
    with pytest.raises(InputError, match="weights have 8 bits already: load the checkpoint they were made from"):
        Generator.load(tmp_path / "int8", device="cpu", execution="int4")


@pytest.mark.parametrize("name", ["audio_embedding", "text_embedding", "projection"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_an_error_through_rounded_products_too(directory: Path, name: str, value: float):
    generator = Generator.load(directory, device="cpu", execution="int4")
    getattr(generator.model, name).data.fill_(value)
    with pytest.raises(NotFiniteError):
        codes(generator, seed=0)


def test_what_is_rounded_off_cannot_come_back(directory: Path, tmp_path: Path):
    convert(directory, tmp_path / "int4", to="int4")
    for to in ("transformers", "sesame", "int8"):
        with pytest.raises(CheckpointError, match="holds rounded weights, which cannot be converted back"):
            convert(tmp_path / "int4", tmp_path / to, to=to)
        assert not (tmp_path / to).exists()
    with pytest.raises(InputError, match="to='int3': give 'transformers' or 'sesame' or 'int4' or 'int8'"):
        convert(directory, tmp_path / "int3", to="int3")
    damaged = tmp_path / "damaged"
    shutil.copytree(tmp_path / "int4", damaged)
    values = json.loads((damaged / "config.json").read_text())
    for given in (None, {"bits": 5}, {"bits": 4, "blocks": 3}):
        values["csmkit_rounding"] = given
        (damaged / "config.json").write_text(json.dumps(values))
        with pytest.raises(CheckpointError, match="does not say how its weights were rounded"):
            Generator.load(damaged, device="cpu")
    values["csmkit_rounding"] = {"bits": 4, "block": 64}
    (damaged / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"but config\.json asks for"):
        Generator.load(damaged, device="cpu")


def test_convert_rounds_from_the_command_line(directory: Path, tmp_path: Path):
    out = CliRunner().invoke(cli.app, ["convert", str(directory), str(tmp_path / "int4"), "--to", "int4"])
    assert out.exit_code == 0, out.output
    assert out.output.startswith("transformers -> int4: ")


def test_rounded_weights_are_for_the_cpu():
    model = load_model_on_meta()
    with pytest.raises(DeviceError, match="weights of 4 bits are for the CPU, the model is on meta"):
        quantize(model, Rounding(4))


def load_model_on_meta():
    from csmkit.csm.config import CsmConfig, TransformerConfig
    from csmkit.csm.model import CsmModel

    stack = TransformerConfig(dim=16, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=16, ffn_dim=16, max_positions=16)
    with torch.device("meta"):
        return CsmModel(CsmConfig(stack, stack, text_vocab=4, audio_vocab=4, n_codebooks=2, codebook_size=4))


def test_heads_that_its_attention_refuses_fall_back_at_loading(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    save_voice(tiny_csm(depth_head_dim=8), tmp_path)
    with caplog.at_level(logging.WARNING):
        generator = Generator.load(tmp_path, device="cpu", execution="int8")
    assert "cannot run this voice (head_size shall be a multiple of 16" in caplog.text
    assert generator.execution == "eager" and codes(generator, seed=0).shape == (4, 20)


def test_a_runtime_without_an_operator_falls_back_with_one_warning(
    directory: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(onnx_graph, "CONTRIB", "com.nobody")
    with caplog.at_level(logging.WARNING):
        generator = Generator.load(directory, device="cpu", execution="int4")
    (record,) = caplog.records
    assert "execution='int4' is not available: ONNX Runtime" in record.message
    assert "cannot run this voice" in record.message
    assert "install another version, 1.22 or newer, or take execution='eager'" in record.message
    assert generator.execution == "eager" and type(generator.step) is EagerStep
    assert codes(generator, seed=0).shape == (4, 20)
