"""Drawing codes: top-k, temperature, seeds, and the codes that must never come."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import CODEBOOK_SIZE, N_CODEBOOKS, save_voice, tiny_csm

from csmkit import Generator
from csmkit.csm.config import CsmConfig, Sampling, TransformerConfig
from csmkit.csm.execution.eager import EagerStep
from csmkit.csm.sampling import Noise, sample
from csmkit.errors import InputError


def config(n_codebooks: int = 2, codebook_size: int = 6) -> CsmConfig:
    stack = TransformerConfig(
        dim=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, ffn_dim=8, max_positions=32, rope_theta=1e4
    )
    return CsmConfig(stack, stack, 10, codebook_size, n_codebooks, codebook_size)


def draw_many(logits: torch.Tensor, n_draws: int, topk: int, **sampling: float) -> torch.Tensor:
    """How often each id is drawn, as shares."""
    noise = Noise(config(codebook_size=len(logits)), [Sampling(**sampling)], [0], torch.device("cpu"))
    counts = torch.zeros(len(logits))
    for _ in range(n_draws):
        counts[sample(logits[None], noise.draw()[:, 0], topk)[0]] += 1
    return counts / n_draws


def test_draws_follow_the_softmax_at_the_temperature():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5, 3.0])
    for temperature in (0.5, 1.0, 2.0):
        shares = draw_many(logits, 8_000, topk=6, temperature=temperature)
        torch.testing.assert_close(shares, (logits / temperature).softmax(0), atol=0.02, rtol=0)


def test_topk_keeps_the_largest_and_those_equal_to_the_last_of_them():
    logits = torch.tensor([2.0, 1.0, 1.0, 0.0, 1.0, -5.0])
    shares = draw_many(logits, 2_000, topk=2, temperature=3.0)
    assert (shares > 0).tolist() == [True, True, True, False, True, False]


def test_topk_of_one_and_temperature_zero_are_greedy():
    logits = torch.tensor([0.1, 0.2, 0.15, 0.0, 0.1, 0.19])
    assert draw_many(logits, 50, topk=1, temperature=1.0)[1] == 1
    assert draw_many(logits, 50, topk=50, temperature=0.0)[1] == 1


def test_noise_of_temperature_zero_is_zero_and_never_nan():
    noise = Noise(config(codebook_size=512), [Sampling(temperature=0.0)], [1], torch.device("cpu"))
    assert all(torch.equal(noise.draw(), torch.zeros(1, 2, 512)) for _ in range(20))


def lea_mix(x: int) -> int:
    """Doug Lea's mixing function as the LXM paper prints it, on Python's integers."""
    x = ((x ^ (x >> 32)) * 0xDABA0B6EB09322E3) & (2**64 - 1)
    x = ((x ^ (x >> 32)) * 0xDABA0B6EB09322E3) & (2**64 - 1)
    return x ^ (x >> 32)


@pytest.mark.parametrize("codebook_size", [6, 7])
def test_noise_is_the_published_hash_of_seed_frame_codebook_and_index(codebook_size: int):
    seed, n_codebooks, n_words = 2**62 + 12345, 3, (codebook_size + 1) // 2
    cpu = torch.device("cpu")
    noise = Noise(config(n_codebooks, codebook_size), [Sampling(0.7), Sampling(1.0)], [1, seed], cpu)
    for frame in range(9):
        expected = torch.empty(n_codebooks, codebook_size, dtype=torch.float64)
        for codebook in range(n_codebooks):
            for index in range(codebook_size):
                place = (frame * n_codebooks + codebook) * n_words + index // 2 + 1
                word = lea_mix((lea_mix(seed) + place * 0x9E3779B97F4A7C15) % 2**64)
                half = (word >> 32 * (index % 2)) % 2**32
                signed = half - 2**32 if half >= 2**31 else half
                expected[codebook, index] = 0.5 + signed * 2.0**-32
        expected = -(-expected.log()).log()
        torch.testing.assert_close(noise.draw()[1].double(), expected, atol=1e-5, rtol=1e-5)


def test_noise_is_the_same_bits_a_frame_at_a_time_several_at_once_and_in_place():
    several = [Noise(config(2, 2048), [Sampling()], [7], torch.device("cpu")) for _ in range(2)]
    alone = Noise(config(2, 2048), [Sampling()] * 64, range(7, 71), torch.device("cpu"))
    assert several[0].n_at_once > 10
    place = several[1].counter.data_ptr()
    for _ in range(40):
        drawn = several[0].draw()
        assert torch.equal(several[1].draw_in_place(), drawn)
        assert torch.equal(alone.draw()[:1], drawn)
    assert several[1].counter.data_ptr() == place


def test_noise_of_seeds_frames_codebooks_and_neighbours_is_uniform_and_unrelated():
    seeds = [*range(12), *(2**n for n in range(4, 63, 5))]
    noise = Noise(config(8, 2048), [Sampling(temperature=1.0)] * len(seeds), seeds, torch.device("cpu"))
    drawn = torch.stack([noise.draw() for _ in range(6)], dim=1)  # (seeds, frames, codebooks, values)
    uniform = torch.exp(-torch.exp(-drawn.double()))
    counts = torch.histc(uniform, 256, 0.0, 1.0)
    expected = uniform.numel() / 256
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert 160 < chi_square < 370, "255 degrees of freedom: 5 standard deviations either way"
    rows = (uniform - 0.5).flatten(0, 2) * 12**0.5
    correlation = rows @ rows.t() / rows.shape[1]
    correlation.fill_diagonal_(0.0)
    assert correlation.abs().max() < 6.5 / 2048**0.5, "of any two frames of codes, of any seed"
    for shift in range(1, 33):
        related = float((rows * rows.roll(shift, dims=1)).mean())
        assert abs(related) < 5 / rows.numel() ** 0.5, f"neighbours {shift} apart"


def test_depth_scale_cools_every_codebook_but_the_first():
    plain = Noise(config(), [Sampling(temperature=0.8)], [5], torch.device("cpu")).draw()
    cooled = Noise(config(), [Sampling(temperature=0.8, depth_scale=0.5)], [5], torch.device("cpu")).draw()
    assert torch.equal(cooled[:, 0], plain[:, 0])
    torch.testing.assert_close(cooled[:, 1:], 0.5 * plain[:, 1:])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": float("nan")}, "temperature=nan: give a finite number"),
        ({"temperature": float("inf")}, "temperature=inf: give a finite number"),
        ({"temperature": -0.1}, r"temperature=-0\.1: give a finite number of at least 0"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"temperature": True}, "temperature=True"),
        ({"depth_scale": -1.0}, r"depth_scale=-1\.0"),
        ({"topk": 0}, "topk=0: give an integer of at least 1"),
        ({"topk": 2.5}, r"topk=2\.5"),
    ],
)
def test_sampling_refuses_what_cannot_be_used(values, message):
    with pytest.raises(InputError, match=message):
        Sampling(**values)


def test_a_seed_gives_the_same_codes_in_any_row_of_a_batch(voice_directory: Path):
    generator = Generator.load(voice_directory, device="cpu")
    model, step = generator.model, EagerStep(generator.model)
    samplings, seeds = [Sampling(0.7), Sampling(1.2), Sampling(0.0)], [11, 12, 13]
    tokens = torch.randint(0, 40, (1, 9, model.config.n_slots), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[..., -1] = True

    def codes(rows: list[int]) -> torch.Tensor:
        noise = Noise(model.config, [samplings[i] for i in rows], [seeds[i] for i in rows], model.device)
        state = model.new_state(32, noise, batch=len(rows))
        whole = [tokens.expand(len(rows), -1, -1), mask.expand(len(rows), -1, -1)]
        step.read(state, *whole)
        return torch.stack([step.first(state).codes, *(step.next(state).codes for _ in range(15))], dim=1)

    together = codes([2, 0, 1])
    for row, index in enumerate([2, 0, 1]):
        assert torch.equal(codes([index])[0], together[row])


def test_ids_that_the_codec_does_not_know_are_never_drawn(tmp_path: Path):
    model = tiny_csm(seed=1)
    model.lm_head.weight[CODEBOOK_SIZE:] *= 100  # left to themselves they would win every second time
    model.depth_decoder.codebooks_head.weight[:, :, CODEBOOK_SIZE:] *= 100
    generator = Generator.load(save_voice(model, tmp_path), device="cpu")
    for temperature in (0.0, 5.0):
        frames = list(
            generator.frames("hello", temperature=temperature, topk=10_000, seed=2, max_audio_length_ms=4_000)
        )
        assert int(torch.stack(frames).max()) < CODEBOOK_SIZE
        assert frames[0].shape == (N_CODEBOOKS,)
