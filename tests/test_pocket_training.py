"""A training can go on from an exported model: what is read back is the model that was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from csmkit import Generator

ctranslate2 = pytest.importorskip("ctranslate2")
BUNDLED = Path(__file__).parents[1] / "csmkit" / "pocket"
QUANTISER = Path(__file__).parents[1] / "experiments" / "pocket" / "quantiser.safetensors"


@pytest.mark.skipif(transformers.__version__ < "5", reason="training was made for transformers 5")
def test_an_exported_whisper_comes_back_as_the_network_that_it_was():
    from experiments.pocket.train_whisper import trained

    mel = torch.randn(1, 400, 80, generator=torch.Generator().manual_seed(0)) * 0.3
    with torch.inference_mode():
        ours = trained("tiny.en", BUNDLED / "whisper-tiny.en").eval().encode(mel)[0].numpy()
    model = ctranslate2.models.Whisper(str(BUNDLED / "whisper-tiny.en"), compute_type="float32")
    features = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel.mT.numpy()))
    theirs = np.array(model.encode(features, to_cpu=True))[0]
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


def test_an_exported_codec_comes_back_as_the_networks_that_it_was():
    from experiments.pocket.exported import exported_codec

    encoder, decoder = exported_codec(BUNDLED / "voice", QUANTISER)
    generator = Generator.load("pocket", device="cpu")
    noise = torch.randn(20 * 1920, generator=torch.Generator().manual_seed(0)) * 0.1
    codes = generator.codec.encode(noise)
    with torch.inference_mode():
        made = decoder(codes.T[None])[0]
        semantic = encoder(noise[None])[0][0]
    nearest = torch.cdist(semantic, decoder.codebooks[0]).argmin(1)
    assert (nearest == codes[0]).float().mean() > 0.9  # a tie may fall to the other side
    assert (made - generator.codec.decode_whole(codes)).abs().max() < 5e-3


def test_a_downsampling_step_is_the_convolution_that_its_weights_name():
    from experiments.pocket.codec import CausalConv

    step = CausalConv(4, 6, 10, 5)
    x = torch.randn(2, 4, 60)
    wanted = torch.nn.functional.conv1d(torch.nn.functional.pad(x, (5, 0)), step.conv.weight, step.conv.bias, stride=5)
    torch.testing.assert_close(step(x), wanted, rtol=1e-4, atol=1e-5)


def test_a_clip_at_another_speed_keeps_each_word_where_it_sounds():
    from experiments.pocket.whisper import Clip, faster

    audio = np.zeros(32_000, dtype=np.float32)
    audio[16_000:19_200] = np.sin(np.arange(3_200) * 0.2)  # a "word" from 1.0 to 1.2 s
    phones = np.zeros(100, dtype=np.int64)
    phones[50:60] = 7
    for factor in (0.9, 1.1):
        clip = faster(Clip(audio, "word", phones, [(50, 60)]), factor)
        loud = np.flatnonzero(np.abs(clip.audio) > 0.3)
        (first, last), labelled = clip.spans[0], np.flatnonzero(clip.phones == 7)
        assert len(clip.audio) == pytest.approx(32_000 / factor, abs=2)
        assert abs(loud[0] / 320 - first) < 1 and abs(loud[-1] / 320 - last) < 1.5
        assert abs(labelled[0] - first) <= 1 and abs(labelled[-1] + 1 - last) <= 1


def test_a_room_adds_sound_behind_a_click_and_none_before_it():
    from experiments.pocket.whisper import in_room

    click = np.zeros(8_000, dtype=np.float32)
    click[2_000] = 1.0
    heard = in_room(click, np.random.default_rng(0))
    assert np.abs(heard[:1_990]).max() < 1e-6
    assert 0.0 < np.abs(heard[2_010:3_000]).max() < 1.0
