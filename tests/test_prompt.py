"""From turns to rows, and whether they fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import BOS, EOS, character_tokenizer

from csmkit import Segment
from csmkit.csm.config import CsmConfig, TransformerConfig
from csmkit.csm.tokenizer import TextTokenizer
from csmkit.errors import ContextOverflowError, InputError
from csmkit.speech.prompt import PromptBuilder
from csmkit.speech.settings import Request

N_CODEBOOKS, CODEBOOK_SIZE = 3, 16
TEXT = N_CODEBOOKS  # the slot of the text


class CountingEncoder:
    """Codes 1, 2, 3 for the codebooks of every frame, and how often it was asked."""

    def __init__(self) -> None:
        self.n_calls = 0

    def __call__(self, audio: torch.Tensor) -> torch.Tensor:
        self.n_calls += 1
        return torch.arange(1, N_CODEBOOKS + 1)[:, None].expand(-1, -(-len(audio) // 1920))


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def prompts(encoder: CountingEncoder) -> PromptBuilder:
    stack = TransformerConfig(
        dim=8, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=8, ffn_dim=8, max_positions=100, rope_theta=1e4
    )
    config = CsmConfig(stack, stack, 64, CODEBOOK_SIZE + 3, N_CODEBOOKS, CODEBOOK_SIZE)
    return PromptBuilder(config, TextTokenizer(character_tokenizer(), BOS, EOS), encoder)


def request(text: str = "hi", *context: Segment, frames: int = 10) -> Request:
    return Request(text, 1, context, max_audio_length_ms=80 * frames)


def rows_of(prompts: PromptBuilder, asked: Request) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask of a whole prompt, ``(1, n_rows, slots)``."""
    context, text = prompts.build(asked)
    both = [block.inputs() for block in (*context, *text)]
    return torch.cat([tokens for tokens, _ in both], dim=1), torch.cat([mask for _, mask in both], dim=1)


def test_text_is_framed_by_its_two_tokens_and_names_the_speaker_without_a_space(prompts):
    tokens, mask = rows_of(prompts, request("hi"))
    ids = tokens[0, :, TEXT].tolist()
    assert ids == [BOS, *character_tokenizer().encode("[1]hi", add_special_tokens=False).ids, EOS]
    assert len(ids) == 7
    assert mask[..., TEXT].all() and not mask[..., :TEXT].any()


def test_a_spoken_turn_is_its_text_its_codes_and_one_end_frame_of_zeros(prompts):
    tokens, mask = rows_of(prompts, request("hi", Segment(0, "yes", torch.zeros(1920 * 2 + 1))))
    audio = mask[0, :, 0]
    assert audio.tolist() == [False] * 8 + [True] * 4 + [False] * 7
    assert torch.equal(tokens[0, audio, :TEXT], torch.tensor([[1, 2, 3]] * 3 + [[0, 0, 0]]))
    assert mask[0, audio, :TEXT].all() and not mask[0, audio, TEXT].any()


def test_a_turn_of_text_alone_has_no_audio_rows(prompts):
    tokens, mask = rows_of(prompts, request("hi", Segment(0, "yes")))
    assert tokens.shape == (1, 15, N_CODEBOOKS + 1)
    assert not mask[..., 0].any()


def test_rows_are_counted_without_encoding(prompts, encoder):
    asked = request("hi", Segment(0, "yes", torch.zeros(1920 * 2 + 1)), Segment(1, "no"))
    assert prompts.n_rows(asked) == 19 + 7
    assert encoder.n_calls == 0
    assert rows_of(prompts, asked)[0].shape[1] == 26


def test_a_segment_is_encoded_once_and_one_with_codes_never(prompts, encoder):
    spoken = Segment(0, "yes", torch.zeros(1920))
    known = Segment(0, "yes", torch.zeros(1920), codes=torch.tensor([[4], [5], [6]]))
    for _ in range(3):
        tokens, mask = rows_of(prompts, request("hi", spoken, known))
    assert encoder.n_calls == 1
    assert tokens[mask[..., 0]][:, 0].tolist() == [1, 0, 4, 0]


def test_codes_of_more_codebooks_than_the_voice_has_are_cut(prompts):
    tokens, mask = rows_of(prompts, request("hi", Segment(0, "a", codes=torch.full((8, 2), 7))))
    assert tokens[mask[..., 0]][:, :TEXT].tolist() == [[7, 7, 7], [7, 7, 7], [0, 0, 0]]


def test_each_turn_is_a_block_and_equal_turns_have_equal_keys(prompts):
    spoken = Segment(0, "yes", torch.zeros(1920))
    (first, second), (text,) = prompts.build(request("hi", spoken, Segment(0, "yes", torch.zeros(1920))))
    assert (first.n_rows, second.n_rows, text.n_rows) == (10, 10, 7)
    assert first.key == second.key != prompts.build(request("hi", Segment(0, "yes")))[0][0].key


def test_what_does_not_fit_is_refused_with_the_numbers(prompts):
    assert prompts.check(request("hi", frames=93)) == 7
    with pytest.raises(
        ContextOverflowError, match=r"text of 7 positions, context of 0 .* 94 frames .* the 100 positions"
    ):
        prompts.check(request("hi", frames=94))
    with pytest.raises(ContextOverflowError, match="text of 205 positions"):
        prompts.check(request("a" * 200))
    with pytest.raises(ContextOverflowError, match="drop the oldest segments"):
        prompts.check(request("hi", Segment(0, "long", torch.zeros(1920 * 90))))


def test_fitting_drops_whole_oldest_turns_and_keeps_the_newest(prompts):
    turns = [Segment(0, "yes", torch.zeros(1920 * 20)) for _ in range(5)]  # 29 rows each
    kept = prompts.fit(request("hi", *turns)).context
    assert kept == tuple(turns[3:])
    assert prompts.fit(request("hi", *turns[:2])).context == tuple(turns[:2])
    with pytest.raises(ContextOverflowError, match="shorten the text"):
        prompts.fit(request("a" * 200, *turns))


def test_fitting_never_drops_what_leads(prompts):
    voice = Segment(1, "so", torch.zeros(1920 * 30))  # 38 rows
    turns = [Segment(0, "yes", torch.zeros(1920 * 20)) for _ in range(5)]  # 29 rows each
    assert prompts.fit(request("hi", voice, *turns), n_lead=1).context == (voice, turns[4])
    assert prompts.fit(request("hi", voice, *turns, frames=40), n_lead=1).context == (voice,)
    assert prompts.fit(request("hi", voice), n_lead=1).context == (voice,)
    with pytest.raises(
        ContextOverflowError,
        match=r"voice prompt of 2\.4 s and its text take 38 positions, .* 60 frames there are 33: give a shorter voice",
    ):
        prompts.fit(request("hi", voice, *turns, frames=60), n_lead=1)
    with pytest.raises(ContextOverflowError, match=r"voice prompt of 4\.0 s"):
        prompts.fit(request("hi", voice, *turns, frames=40), n_lead=2)


def test_codes_that_the_voice_does_not_have_are_refused(prompts):
    for codes in (torch.full((3, 2), CODEBOOK_SIZE), torch.zeros(2, 2, dtype=torch.int64)):
        asked = request("hi", Segment(0, "yes", codes=codes))
        for use in (prompts.check, prompts.build):
            with pytest.raises(InputError, match="this voice has 3 codebooks with codes from 0 to 15"):
                use(asked)


def test_audio_of_a_segment_becomes_mono_at_24_khz():
    stereo = np.ones((2, 16_000), dtype=np.float32) * np.array([[0.2], [0.4]], dtype=np.float32)
    segment = Segment(0, "yes", stereo, sample_rate=16_000)
    assert segment.audio.shape == (24_000,) and segment.audio.dtype == torch.float32
    assert segment.sample_rate == 24_000 and segment.n_frames == 13
    assert abs(float(segment.audio[12_000]) - 0.3) < 0.01


def test_a_segment_keeps_its_sound_when_the_callers_buffer_changes():
    buffer = torch.zeros(1920)
    segment = Segment(0, "yes", buffer)
    buffer += 1
    assert not segment.audio.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, "yes"), "speaker=-1: give a non-negative integer"),
        (("0", "yes"), "speaker='0'"),
        ((0, " "), "text=' ': give a sentence"),
        ((0, "yes", torch.zeros(3, 4, 5)), r"audio of shape \(3, 4, 5\)"),
        ((0, "yes", torch.zeros(100, dtype=torch.int64)), "audio of dtype int64"),
        ((0, "yes", torch.full((100,), torch.nan)), "NaN"),
        ((0, "yes", torch.zeros(100), 0), "sample_rate=0"),
        ((0, "yes", None, 24_000, torch.zeros(3, 4)), r"segment codes of shape \(3, 4\)"),
        ((0, "yes", None, 24_000, [[1]]), "segment codes of type list: give an int64 tensor"),
        ((0, "yes", None, 24_000, -torch.ones(3, 1).long()), "segment codes down to -1"),
    ],
)
def test_a_segment_refuses_what_cannot_be_used(arguments, message):
    with pytest.raises(InputError, match=message):
        Segment(*arguments)
