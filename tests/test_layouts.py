"""One voice in every published layout: the same frames, and a clear word about what is missing or wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import CODEBOOK_SIZE, N_CODEBOOKS, save_voice, tiny_csm
from tiny_sesame import BACKBONE, in_pairs, save_sesame, sesame_tensors
from tokenizers import Tokenizer, decoders, models
from torch import Tensor

from csmkit import Generator
from csmkit.csm.checkpoint import load_model
from csmkit.csm.config import CsmConfig
from csmkit.csm.config_json import read_config, sesame_values, transformers_values
from csmkit.csm.layouts import tensor_shapes
from csmkit.csm.tokenizer import load_tokenizer
from csmkit.csm.transformer import inverse_frequencies
from csmkit.errors import CheckpointError, CheckpointNotFoundError
from csmkit.files import hub as voices
from csmkit.files.tensors import halves_to_pairs, layout_of, pairs_to_halves

N_FRAMES = 14
PUBLISHED = {
    "backbone_flavor": "llama-1B",
    "decoder_flavor": "llama-100M",
    "text_vocab_size": 128_256,
    "audio_vocab_size": 2_051,
    "audio_num_codebooks": 32,
}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One random model, a directory for every layout; read only."""
    model, home = tiny_csm(seed=5), tmp_path_factory.mktemp("layouts")
    return {
        "transformers": save_voice(model, home / "single"),
        "transformers in shards": save_voice(model, home / "shards", max_shard_size="100KB"),
        "sesame": save_sesame(model, home / "sesame"),
        "sesame pickled": save_sesame(model, home / "pickled", pickled=True),
    }


@pytest.fixture(params=["model.safetensors", "ckpt.pt"])
def weights(request: pytest.FixtureRequest, layouts: dict[str, Path], tmp_path: Path) -> Path:
    """The weights of a Sesame checkpoint that a test may damage."""
    source = layouts["sesame" if request.param.endswith("safetensors") else "sesame pickled"]
    return Path(shutil.copytree(source, tmp_path / "voice")) / request.param


@pytest.fixture
def voice(layouts: dict[str, Path], tmp_path: Path) -> Path:
    """A Sesame directory that a test may damage."""
    return Path(shutil.copytree(layouts["sesame"], tmp_path / "voice"))


def edit_config(voice: Path, **changes: object) -> None:
    values = json.loads((voice / "config.json").read_text()) | changes
    (voice / "config.json").write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def edit_weights(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    if path.suffix == ".pt":
        tensors = torch.load(path, weights_only=True)
        change(tensors)
        torch.save(tensors, path)
    else:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)


def greedy(directory: Path, codec: Path) -> Tensor:
    generator = Generator.load(directory, codec_weights=codec, device="cpu")
    frames = generator.frames("Hello there!", 1, temperature=0.0, max_audio_length_ms=80 * N_FRAMES)
    return torch.stack(list(frames))


def test_every_layout_speaks_the_same_frames(layouts: dict[str, Path]):
    codec = layouts["transformers"]
    expected = greedy(codec, codec)
    assert expected.shape == (N_FRAMES, N_CODEBOOKS) and len(expected.unique()) > N_CODEBOOKS
    for name, directory in layouts.items():
        assert torch.equal(greedy(directory, codec), expected), name


def test_every_layout_gives_the_same_parameters(layouts: dict[str, Path]):
    assert not (layouts["transformers in shards"] / "model.safetensors").exists()
    expected = load_model(layouts["transformers"]).state_dict()
    for name, directory in layouts.items():
        for key, tensor in load_model(directory).state_dict().items():
            assert torch.equal(tensor, expected[key]), (name, key)


def test_adjacent_pairs_and_half_splits_attend_alike():
    """Scores of rotated queries and keys, by Sesame's rotation of its rows and by transformers' of its own."""
    head_dim, dim, generator = 8, 5, torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, head_dim, dim, generator=generator)
    x = torch.randn(6, dim, generator=generator)
    angles = torch.outer(torch.arange(6.0), 100.0 ** -(torch.arange(4.0) / 4))

    def by_pairs(weight: Tensor) -> Tensor:
        even, odd = (x @ weight.t()).unflatten(1, (4, 2)).unbind(-1)
        turned = (even * angles.cos() - odd * angles.sin(), odd * angles.cos() + even * angles.sin())
        return torch.stack(turned, dim=-1).flatten(1)

    def by_halves(weight: Tensor) -> Tensor:
        first, second = (x @ weight.t()).chunk(2, dim=1)
        turned = (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin())
        return torch.cat(turned, dim=1)

    expected = by_pairs(queries) @ by_pairs(keys).t()
    ours = by_halves(pairs_to_halves(queries, 1)) @ by_halves(pairs_to_halves(keys, 1)).t()
    torch.testing.assert_close(ours, expected)
    many = torch.randn(3 * head_dim, dim, generator=generator)
    assert torch.equal(halves_to_pairs(many, 3), in_pairs(many, head_dim))
    assert torch.equal(pairs_to_halves(halves_to_pairs(many, 3), 3), many)


def test_the_published_flavors_are_csm_1b():
    config = read_config(PUBLISHED)
    shapes = tensor_shapes(config)
    assert len(shapes) == 187
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 1_552_791_552
    assert (config.backbone.max_positions, config.depth.max_positions, config.codebook_size) == (2_048, 33, 2_048)
    assert sesame_values(config) == PUBLISHED


def test_the_published_rope_is_the_same_in_both_forms():
    config = read_config(PUBLISHED)
    values = transformers_values(config)
    published = {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 1_024}
    assert values["rope_scaling"] == {**published, "low_freq_factor": 0.125, "high_freq_factor": 0.5}
    depth = {**published, "original_max_position_embeddings": 16}
    assert values["depth_decoder_config"]["rope_scaling"] == {
        **depth,
        "low_freq_factor": 0.001953125,
        "high_freq_factor": 0.0078125,
    }
    theirs = CsmConfig.from_transformers(values)
    for ours, other in ((config.backbone, theirs.backbone), (config.depth, theirs.depth)):
        assert torch.equal(inverse_frequencies(ours), inverse_frequencies(other))
    assert sesame_values(theirs) == PUBLISHED
    assert sesame_values(read_config({**PUBLISHED, "backbone_flavor": BACKBONE}))["backbone_flavor"] == {
        **BACKBONE,
        "norm_eps": 1e-5,
    }


def test_the_layout_is_told_by_the_tensors_and_not_by_the_files(layouts: dict[str, Path], tmp_path: Path):
    expected = load_model(layouts["sesame"]).first_head
    voice = Path(shutil.copytree(layouts["sesame"], tmp_path / "renamed"))
    (voice / "model.safetensors").rename(voice / "transformers.safetensors")
    assert torch.equal(load_model(voice).first_head, expected)
    shards = Path(shutil.copytree(layouts["transformers in shards"], tmp_path / "without index"))
    (shards / "model.safetensors.index.json").unlink()
    assert torch.equal(load_model(shards).first_head, expected)
    pickled = Path(shutil.copytree(layouts["transformers"], tmp_path / "pickled"))
    torch.save(load_file(pickled / "model.safetensors"), pickled / "any.pt")
    (pickled / "model.safetensors").unlink()
    assert torch.equal(load_model(pickled).first_head, expected)
    assert layout_of(["lm_head.weight", "model.norm.weight"]) is None


def test_of_two_layouts_in_a_directory_transformers_counts(layouts: dict[str, Path], tmp_path: Path):
    voice = Path(shutil.copytree(layouts["transformers in shards"], tmp_path / "both"))
    other = sesame_tensors(tiny_csm(seed=6))
    save_file(other, voice / "model.safetensors")
    index = (voice / "model.safetensors.index.json").rename(voice / "transformers.safetensors.index.json")
    edit_config(voice, transformers_weights=index.name, **PUBLISHED | {"text_vocab_size": 64})
    expected = load_model(layouts["transformers"]).text_embedding
    assert torch.equal(load_model(voice).text_embedding, expected)
    for shard in voice.glob("model-*.safetensors"):  # fetched alone, Sesame's file is a whole model
        shard.unlink()
    assert torch.equal(load_model(voice).text_embedding, other["text_embeddings.weight"])


def test_sesame_weights_of_half_precision_are_cast_module_by_module(tmp_path: Path):
    voice = save_sesame(tiny_csm(seed=5), tmp_path, dtype=torch.bfloat16)
    assert load_model(voice).first_head.dtype == torch.float32
    assert load_model(voice, dtype=torch.bfloat16).audio_embedding.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors: tensors.pop("audio_head"), r"no tensor 'audio_head' among \d+ in '.*{file}': .* partial"),
        (
            lambda tensors: tensors.update({"projection.weight": torch.zeros(3, 3)}),
            r"'projection\.weight' in '.*{file}' has shape \(3, 3\) but config\.json asks for \(32, 48\)",
        ),
        (
            lambda tensors: [tensors.pop(name) for name in list(tensors)] and tensors.update({"a": torch.zeros(1)}),
            r"'.*{file}' holds another model, with tensors such as 'a': give a CSM",
        ),
    ],
)
def test_what_is_wrong_with_the_weights_is_said(weights: Path, damage, message: str):
    edit_weights(weights, damage)
    with pytest.raises(CheckpointError, match=message.replace("{file}", weights.name)):
        load_model(weights.parent)


def test_corrupt_weights_are_named(weights: Path):
    whole = weights.read_bytes()
    for broken in (whole[: len(whole) // 2], b"nonsense" * 9, b""):
        weights.write_bytes(broken)
        with pytest.raises(CheckpointError, match=rf"cannot read '.*{weights.name}' as .*: fetch the file again"):
            load_model(weights.parent)


def test_a_pickle_of_more_than_tensors_is_refused(voice: Path):
    (voice / "model.safetensors").unlink()
    torch.save({"epoch": 3, "model": {}}, voice / "ckpt.pt")
    with pytest.raises(CheckpointError, match=r"ckpt\.pt' holds more than tensors .* save the model's state_dict"):
        load_model(voice)
    torch.save({"code": Path("anything")}, voice / "ckpt.pt")
    with pytest.raises(CheckpointError, match=r"ckpt\.pt' as a file of tensors only"):
        load_model(voice)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone_flavor": "llama-8B"}, "backbone_flavor 'llama-8B': give 'llama-1B' or 'llama-100M', or an object"),
        ({"decoder_flavor": {"dim": 3}}, r"unreadable decoder_flavor .* missing \d+ required"),
        ({"decoder_flavor": None}, r"lacks 'decoder_flavor': in Sesame's form it has backbone_flavor"),
        ({"backbone_flavor": None}, r"model_type None: a voice needs 'csm', or Sesame's backbone_flavor"),
        ({"audio_num_codebooks": 5}, r"'audio_embeddings\.weight' in '.*' has shape \(268, 48\) .* \(335, 48\)"),
        ({"decoder_flavor": "llama-100M"}, r"has shape \(\d+, 32\) but config\.json asks for \(\d+, 1024\)"),
    ],
)
def test_what_is_wrong_with_the_config_is_said(voice: Path, changes: dict[str, object], message: str):
    edit_config(voice, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(voice)


def test_no_weights_no_tokenizer_and_no_codec_are_each_named(voice: Path, layouts: dict[str, Path]):
    with pytest.raises(CheckpointError, match=r"no codec in '.*voice': .* by codec_weights="):
        Generator.load(voice, device="cpu")
    with pytest.raises(CheckpointNotFoundError, match=r"no \.safetensors file of a codec .* by codec_weights="):
        Generator.load(layouts["sesame pickled"], device="cpu")
    (voice / "tokenizer.json").unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"no tokenizer\.json in '.*voice': .* by tokenizer="):
        Generator.load(voice, codec_weights=layouts["transformers"], device="cpu")
    given = {"codec_weights": layouts["transformers"], "tokenizer": layouts["transformers"]}
    assert Generator.load(voice, **given, device="cpu").config.codebook_size == CODEBOOK_SIZE
    (voice / "model.safetensors").unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"no weights at '.*', no index of shards and no ckpt\.pt"):
        Generator.load(voice, **given, device="cpu")


def llama_tokenizer(path: Path, *, first_special: int = 128_000, letters: str = "[0]Hi") -> Path:
    """A tokenizer of a few letters with Llama 3's special ids."""
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    vocabulary |= {"<|begin_of_text|>": first_special, "<|end_of_text|>": first_special + 1}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    tokenizer.save(str(path))
    return path


def test_a_voice_of_llamas_vocabulary_takes_only_llamas_tokenizer(tmp_path: Path):
    config = read_config(PUBLISHED)
    path = llama_tokenizer(tmp_path / "tokenizer.json")
    assert load_tokenizer(path, config, PUBLISHED).ids(0, "Hi") == [128_000, 0, 1, 2, 3, 4, 128_001]
    llama_tokenizer(path, first_special=100)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json' gives .* ids 100 and 101; .* 128000 and 128001"):
        load_tokenizer(path, config, PUBLISHED)
    llama_tokenizer(path, letters="[0]hi")
    with pytest.raises(CheckpointError, match=r"turns '\[0\]Hi' into \[.*\], which reads .*: give Llama 3\.2's"):
        load_tokenizer(path, config, PUBLISHED)


def test_only_what_is_needed_is_fetched(layouts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    asked: list[list[str]] = []

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(here)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    here = layouts["sesame pickled"]
    assert voices.find_voice("someone/voice") == here
    assert asked == [["*.json"], ["*.json", "model.safetensors"], ["*.json", "ckpt.pt"]]
    asked.clear()
    here = tmp_path
    (here / "tokenizer-e351c8d8.safetensors").touch()
    assert voices.find_codec("kyutai/moshiko") == here and voices.find_tokenizer("meta/llama") == here
    assert asked == [["*.json", "tokenizer-*.safetensors"], ["tokenizer.json"]]
    asked.clear()
    here = layouts["transformers"]
    assert voices.find_codec("kyutai/mimi") == here
    assert asked == [["*.json", "tokenizer-*.safetensors"], ["*.json", "model.safetensors"]]
    asked.clear()
    assert voices.find_codec(here) == here and voices.find_tokenizer("tests/absent.json") == Path("tests/absent.json")
    assert not asked
