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


def save_run(folder: Path, seed: int) -> Path:
    """A run of a tiny.en that nobody trained."""
    from experiments.pocket.training import Averaged
    from experiments.pocket.whisper import WhisperTrainee, whisper_config

    torch.manual_seed(seed)
    trainee = WhisperTrainee(whisper_config("tiny.en"))
    trainee.model.model.encoder.embed_positions.requires_grad_(False)
    folder.mkdir()
    state = {"trainee": trainee.state_dict(), "average": Averaged(trainee).state_dict()}
    torch.save(state, folder / "checkpoint.pt")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_a_mean_of_weights_has_each_weight_between_those_it_was_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from experiments.pocket import mean_weights
    from experiments.pocket.train_whisper import trained

    runs = [save_run(tmp_path / name, seed) for seed, name in enumerate("ab")]
    command = ["mean_weights", "--size", "tiny.en", "--of", *map(str, runs), "--shares", "0.25", "0.75"]
    monkeypatch.setattr("sys.argv", [*command, "--out", str(tmp_path / "mean")])
    mean_weights.main()
    a, b, mean = (trained("tiny.en", run).model.model.state_dict() for run in (*runs, tmp_path / "mean"))
    for name, value in mean.items():
        torch.testing.assert_close(value, 0.25 * a[name] + 0.75 * b[name])
    assert not torch.equal(a["decoder.embed_tokens.weight"], b["decoder.embed_tokens.weight"])
    assert (tmp_path / "mean" / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.6], [0.2, 0.3, 0.5]])
def test_shares_of_a_mean_that_do_not_fit_are_refused(shares: list[float], tmp_path: Path):
    from experiments.pocket.mean_weights import mean_of

    with pytest.raises(SystemExit, match="1 in sum"):
        mean_of("tiny.en", [tmp_path, tmp_path], shares)


def test_every_exported_whisper_is_made_by_an_earlier_step():
    from experiments.pocket.all import steps

    made: set[str] = set()
    exported = 0
    for step in steps(Path("work"), Path("out")):
        arguments = dict(zip(step.arguments, step.arguments[1:], strict=False))
        if step.arguments[0] == "whisper":
            assert arguments["--run"] in made
            exported += 1
        made.add(arguments["--out"])
    assert exported == 3


def test_a_word_has_the_same_tokens_with_a_capital_and_comes_back_as_it_was_written():
    from experiments.pocket.train_llm import CAPITAL, train_tokenizer

    talk = {
        "messages": [{"role": "user", "content": "my name is Charlie"}, {"role": "assistant", "content": "Oh. I'm X."}]
    }
    tokenizer = train_tokenizer([talk] * 3, vocab_size=300)
    text = "Hello, Charlie Ivanov. I'm here. It's nice. OK?"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    marked = tokenizer(" Charlie", add_special_tokens=False)["input_ids"]
    small = tokenizer(" charlie", add_special_tokens=False)["input_ids"]
    assert marked == [tokenizer.convert_tokens_to_ids(CAPITAL), *small]
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Charlie"}], tokenize=False)
    assert prompt.endswith(" charlie<|eot_id|>")


def test_a_new_tokenizer_spells_rare_words_with_frequent_tokens_and_a_model_takes_it_over(monkeypatch):
    import torch

    from experiments.pocket import train_llm

    said = [*["the kids sat in the kitchen"] * 60, "angelina and angelo", "angelina and angelo"]
    talks = [{"messages": [{"role": "user", "content": text}]} for text in said]
    monkeypatch.setattr(train_llm, "LEAST_SHARE", 0)
    old = train_llm.train_tokenizer(talks, vocab_size=320)
    monkeypatch.setattr(train_llm, "LEAST_SHARE", 0.02)
    new = train_llm.train_tokenizer(talks, vocab_size=320)
    assert len(new) < len(old)
    assert new.tokenize(" kitchen") == old.tokenize(" kitchen") == ["Ġkitchen"]
    assert len(new.tokenize(" angelina")) > len(old.tokenize(" angelina"))
    assert new.decode(new(" Angelina", add_special_tokens=False)["input_ids"]) == " Angelina"
    model = train_llm.build_model(old)
    before = model.get_input_embeddings().weight.clone()
    train_llm.respell(model, old, new)
    rows = model.get_input_embeddings().weight
    assert rows.shape[0] == len(new)
    for token in ("Ġkitchen", "Ġ", "<|eot_id|>", train_llm.CAPITAL):
        assert torch.equal(rows[new.get_vocab()[token]], before[old.get_vocab()[token]])
    train_llm.respell(model, new, old)
    pieces = new.convert_tokens_to_ids(new.tokenize(" angelina"))
    assert torch.allclose(
        model.get_input_embeddings().weight[old.convert_tokens_to_ids("Ġangelina")], rows[pieces].mean(0)
    )


def test_a_space_that_is_missing_before_a_name_is_written_and_no_other():
    from tokenizers import Tokenizer

    from experiments.pocket.train_llm import CAPITAL, with_template

    bundled = str(BUNDLED / "llm" / "tokenizer.json")
    tokenizer = with_template(Tokenizer.from_file(bundled))

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    mark = tokenizer.convert_tokens_to_ids(CAPITAL)
    skipped = [*ids("nice to meet you,"), mark, *ids("ketmoser.")]
    assert tokenizer.decode(skipped) == "nice to meet you, Ketmoser."
    for text in ("Nice to meet you, Ketmoser.", "OK, McDonald. It's Bo's.", "Yes! I am. Oh, Ann?"):
        assert tokenizer.decode(ids(text)) == text
    exported = Tokenizer.from_file(bundled)
    assert exported.get_vocab() == tokenizer.get_vocab()
    assert exported.decode(skipped) == "nice to meet you, Ketmoser."


def exchange(user: str, answer: str) -> dict:
    return {
        "messages": [
            {"role": "user", "content": user, "learn": False},
            {"role": "assistant", "content": answer, "learn": True},
        ]
    }


def test_the_tokens_of_a_name_to_copy_count_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.pocket import train_llm

    monkeypatch.setattr(train_llm, "COPIED_SHARE", 0.01)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(BUNDLED / "llm")
    often = [exchange("hello there", "Hello there, how are you?") for _ in range(60)]
    *_, named = train_llm.encode(tokenizer, [*often, exchange("I'm Xandra, hello", "Hello, Xandra.")])
    heavy = [token for token, weight in zip(named.ids, named.weights, strict=True) if weight == train_llm.COPIED_WEIGHT]
    assert tokenizer.decode(heavy) == " xandra"
    assert set(named.weights) == {1.0, train_llm.COPIED_WEIGHT}
    ids, labels, weights = train_llm.collate([named, train_llm.Example([1, 2], [-100, 2], [1.0, 1.0])], pad=0)
    assert ids.shape == labels.shape == weights.shape
    assert train_llm.answer_weights(labels, weights).tolist().count(train_llm.COPIED_WEIGHT) == len(heavy)


@pytest.mark.parametrize("n_positions", [7, 600])
def test_attention_of_the_language_models_training_is_causal_attention(n_positions: int) -> None:
    from experiments.pocket.train_llm import SHORT, causal_attention

    noise = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, heads, n_positions, 8, generator=noise) for heads in (6, 2, 2))
    mixed, _ = causal_attention(torch.nn.Identity(), query, key, value, None, scaling=0.3)
    repeated = (part.repeat_interleave(3, 1) for part in (key, value))
    right = torch.nn.functional.scaled_dot_product_attention(query, *repeated, is_causal=True, scale=0.3)
    assert mixed.shape == (2, n_positions, 6, 8)
    torch.testing.assert_close(mixed, right.transpose(1, 2), rtol=1e-4, atol=1e-5)
    assert 7 <= SHORT < 600  # both ways are tried
