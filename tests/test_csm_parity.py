"""Greedy codes against transformers' own generate, on the same random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import AUDIO, AUDIO_END, BOS, CODEBOOK_SIZE, EOS, N_CODEBOOKS, character_tokenizer, save_voice, tiny_csm
from torch import Tensor
from transformers import CsmForConditionalGeneration

from csmkit import Generator, Segment
from csmkit.csm.attention import masked_span, prefix_span
from csmkit.csm.config import TransformerConfig
from csmkit.csm.transformer import KvCache, inverse_frequencies

N_FRAMES = 30
UNKNOWN_CODES = [64, 65, 66]  # transformers samples them; ours never does, so they are taken from both


def turn(speaker: int, text: str) -> list[int]:
    return [BOS, *character_tokenizer().encode(f"[{speaker}]{text}", add_special_tokens=False).ids, EOS]


def reference(model: CsmForConditionalGeneration, ids: list[int], audio: list[Tensor]) -> Tensor:
    """Greedy codes of transformers, ``(N_FRAMES, n_codebooks)``."""
    sound = {}
    if audio:
        ends = torch.tensor([len(waveform) for waveform in audio]).cumsum(0)
        sound = {"input_values": torch.cat(audio).view(1, 1, -1), "input_values_cutoffs": ends[None]}
    return model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),  # else it guesses one that hides the audio
        do_sample=False,
        max_new_tokens=N_FRAMES,
        suppress_tokens=UNKNOWN_CODES,
        depth_decoder_do_sample=False,
        depth_decoder_suppress_tokens=UNKNOWN_CODES,
        **sound,
    )[0]


def ours(generator: Generator, text: str, context: tuple[Segment, ...] = ()) -> Tensor:
    frames = generator.frames(text, 1, context, temperature=0.0, max_audio_length_ms=80 * N_FRAMES)
    return torch.stack(list(frames))


@pytest.fixture(scope="module", params=[True, False], ids=["llama3 rope", "unscaled rope"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    model = tiny_csm(seed=3, scaled_rope=request.param)
    directory = save_voice(model, tmp_path_factory.mktemp("parity"))
    return model, Generator.load(directory, device="cpu")


def test_greedy_frames_equal_those_of_transformers(both):
    model, generator = both
    expected = reference(model, turn(1, "hello there, how are you?"), [])
    frames = ours(generator, "Hello there, how are you?")
    assert expected.shape == (N_FRAMES, N_CODEBOOKS)
    assert len(expected.unique(dim=0)) > N_FRAMES // 2, "a voice that repeats itself would prove little"
    assert torch.equal(frames, expected)


def test_greedy_frames_after_spoken_turns_equal_those_of_transformers(both):
    model, generator = both
    noise = torch.Generator().manual_seed(0)
    audio = [0.3 * torch.randn(n, generator=noise) for n in (1920 * 5, 1920 * 8)]
    texts = ("good morning.", "what is the time?")
    ids: list[int] = []
    for speaker, (text, waveform) in enumerate(zip(texts, audio, strict=True)):
        ids += [*turn(speaker, text), *[AUDIO] * (len(waveform) // 1920), AUDIO_END]
    context = tuple(Segment(i, text, waveform) for i, (text, waveform) in enumerate(zip(texts, audio, strict=True)))
    assert len(generator.codec.encode(audio[0]).unique()) > 4, "a codec that says nothing would prove little"
    expected = reference(model, ids + turn(1, "ten past nine."), audio)
    assert torch.equal(ours(generator, "ten past nine.", context), expected)
    assert not torch.equal(expected, reference(model, turn(1, "ten past nine."), [])), "the context must matter"


def test_inverse_frequencies_equal_those_of_transformers(both):
    model, generator = both
    for config, reference_stack in (
        (generator.config.backbone, model.backbone_model),
        (generator.config.depth, model.depth_decoder.model),
    ):
        torch.testing.assert_close(inverse_frequencies(config), reference_stack.rotary_emb.inv_freq)


def test_rope_given_the_older_way_reads_the_same():
    sizes = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 8,
        "max_position_embeddings": 16,
    }
    scaling = {
        "factor": 32.0,
        "low_freq_factor": 0.125,
        "high_freq_factor": 0.5,
        "original_max_position_embeddings": 1024,
    }
    older = {**sizes, "rope_theta": 500_000, "rope_scaling": {**scaling, "rope_type": "llama3"}}
    newer = {**sizes, "rope_parameters": {**scaling, "rope_type": "llama3", "rope_theta": 500_000.0}}
    assert TransformerConfig.from_transformers(older) == TransformerConfig.from_transformers(newer)


def test_a_position_in_a_tensor_gives_what_a_host_integer_gives(both):
    _, generator = both
    backbone = generator.model.backbone
    x = torch.randn(1, 9, backbone.config.dim, generator=torch.Generator().manual_seed(1))
    sliced, whole = (KvCache.empty(backbone.config, 1, 40, x) for _ in range(2))
    for cache in (sliced, whole):
        backbone(x[:, :8], prefix_span(backbone, 0, 8), cache)
    expected = backbone(x[:, 8:], prefix_span(backbone, 8, 1), sliced)
    torch.testing.assert_close(backbone(x[:, 8:], masked_span(backbone, torch.tensor([8]), 40), whole), expected)


def test_a_prompt_read_in_two_parts_gives_what_one_gives(both):
    _, generator = both
    backbone = generator.model.backbone
    x = torch.randn(1, 12, backbone.config.dim, generator=torch.Generator().manual_seed(2))
    at_once, in_parts = (KvCache.empty(backbone.config, 1, 12, x) for _ in range(2))
    expected = backbone(x, prefix_span(backbone, 0, 12), at_once)
    backbone(x[:, :5], prefix_span(backbone, 0, 5), in_parts)
    torch.testing.assert_close(backbone(x[:, 5:], prefix_span(backbone, 5, 7), in_parts), expected[:, 5:])


def test_bfloat16_speaks_codes_of_the_codec(voice_directory: Path):
    generator = Generator.load(voice_directory, device="cpu", dtype=torch.bfloat16)
    frames = ours(generator, "hello")
    assert frames.shape == (N_FRAMES, N_CODEBOOKS)
    assert int(frames.min()) >= 0 and int(frames.max()) < CODEBOOK_SIZE
