"""Reading a voice from disk, whole or in shards, and saying what is wrong with one that cannot be read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import character_tokenizer, save_voice, tiny_csm
from tokenizers import Tokenizer, models

from csmkit.csm.checkpoint import load_model, load_sampling
from csmkit.csm.config import CsmConfig, Sampling
from csmkit.csm.tokenizer import load_tokenizer
from csmkit.errors import CheckpointError, CheckpointNotFoundError, InputError
from csmkit.files import hub as voices


@pytest.fixture
def voice(voice_directory: Path, tmp_path: Path) -> Path:
    """A copy of the tiny voice that a test may damage."""
    return Path(shutil.copytree(voice_directory, tmp_path / "voice"))


def edit_config(voice: Path, **changes: object) -> None:
    path = voice / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(voice: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(voice / "model.safetensors")
    change(tensors)
    save_file(tensors, voice / "model.safetensors")


def test_shards_hold_the_same_model_as_one_file(voice: Path, tmp_path: Path):
    sharded = save_voice(tiny_csm(), tmp_path / "sharded", max_shard_size="100KB")
    assert not (sharded / "model.safetensors").exists()
    expected = load_model(voice).state_dict()
    for name, tensor in load_model(sharded).state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_config_may_name_the_index_beside_weights_of_another_layout(tmp_path: Path):
    voice = save_voice(tiny_csm(), tmp_path, max_shard_size="100KB")
    (voice / "model.safetensors.index.json").rename(voice / "transformers.safetensors.index.json")
    save_file({"codebook0_head.weight": torch.zeros(1)}, voice / "model.safetensors")
    edit_config(voice, transformers_weights="transformers.safetensors.index.json")
    assert load_model(voice).first_head.shape == (48, 64)


def test_either_copy_of_the_shared_embedding_will_do(voice: Path):
    expected = load_model(voice)
    names = ("backbone_model.embed_tokens.embed_audio_tokens.weight", "depth_decoder.model.embed_tokens.weight")

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        here, other = names if names[0] in tensors else names[::-1]
        tensors[other] = tensors.pop(here)

    edit_weights(voice, rename)
    model = load_model(voice)
    assert torch.equal(model.audio_embedding, expected.audio_embedding)
    assert torch.equal(model.depth_embedding, expected.depth_embedding)


def test_untied_embeddings_are_each_read_for_their_own_stack(voice: Path):
    tied = load_model(voice)
    edit_weights(
        voice,
        lambda tensors: tensors.update(
            {
                "backbone_model.embed_tokens.embed_audio_tokens.weight": torch.zeros_like(tied.audio_embedding),
                "depth_decoder.model.embed_tokens.weight": tied.audio_embedding.clone(),
            }
        ),
    )
    model = load_model(voice)
    assert not model.audio_embedding.any()
    assert torch.equal(model.depth_embedding, tied.depth_embedding)


def test_half_precision_files_run_in_float32(voice: Path):
    expected = load_model(voice).first_head
    edit_weights(voice, lambda tensors: tensors.update({name: t.half() for name, t in tensors.items()}))
    head = load_model(voice).first_head
    assert head.dtype == torch.float32
    torch.testing.assert_close(head, expected, atol=1e-3, rtol=1e-3)


def remove(name: str) -> Callable[[Path], None]:
    return lambda voice: (voice / name).unlink()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (
            remove("config.json"),
            CheckpointNotFoundError,
            r"no config\.json in '.*voice': give the directory of a voice",
        ),
        (remove("model.safetensors"), CheckpointNotFoundError, r"no weights at '.*model\.safetensors'"),
        (lambda v: (v / "config.json").write_text("{"), CheckpointError, r"config\.json' is not JSON"),
        (lambda v: (v / "config.json").write_text("[]"), CheckpointError, "holds a list"),
        (lambda v: (v / "model.safetensors").write_bytes(b"nonsense" * 9), CheckpointError, "as safetensors"),
        (lambda v: edit_config(v, model_type="llama"), CheckpointError, "model_type 'llama': a voice needs 'csm'"),
        (
            lambda v: edit_config(v, depth_decoder_config={}),
            CheckpointError,
            r"config\.json lacks 'num_attention_heads'",
        ),
        (lambda v: edit_config(v, num_attention_heads=5), CheckpointError, "must be a multiple"),
        (lambda v: edit_config(v, attention_bias=True), CheckpointError, "biases"),
        (lambda v: edit_config(v, hidden_size="big"), CheckpointError, "gives dim='big': sizes are integers"),
        (lambda v: edit_config(v, max_position_embeddings=0), CheckpointError, "gives max_positions=0"),
        (lambda v: edit_config(v, codec_config=[1]), CheckpointError, "has a value that cannot be read"),
        (
            lambda v: edit_config(v, num_hidden_layers=1),
            CheckpointError,
            r"hold 'backbone_model\.layers\.1\.input_layernorm\.weight' but config\.json asks for 1 layers",
        ),
        (
            lambda v: (v / "model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": 3}}'),
            CheckpointError,
            r"index\.json' does not list the file of each tensor",
        ),
        (
            lambda v: edit_config(v, rope_parameters={"rope_type": "yarn"}),
            CheckpointError,
            "rope scaling of type 'yarn'",
        ),
        (
            lambda v: edit_config(v, text_vocab_size=99),
            CheckpointError,
            r"'embed_text_tokens\.weight' in '.*model\.safetensors' has shape \(64, 48\) .* asks for \(99, 48\)",
        ),
        (
            lambda v: edit_weights(v, lambda tensors: tensors.pop("lm_head.weight")),
            CheckpointError,
            r"no tensor 'lm_head\.weight' among \d+ in '.*model\.safetensors': the checkpoint is partial",
        ),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_said(voice: Path, damage, error, message):
    damage(voice)
    with pytest.raises(error, match=message):
        load_model(voice)


def test_a_missing_shard_is_named(tmp_path: Path):
    voice = save_voice(tiny_csm(), tmp_path, max_shard_size="100KB")
    shard = sorted(voice.glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(CheckpointNotFoundError, match=shard.name):
        load_model(voice)


def read_tokenizer(path: Path, **changes: int):
    values = {**json.loads((path / "config.json").read_text()), **changes}
    return load_tokenizer(path, CsmConfig.from_transformers(values), values)


def test_the_tokenizer_frames_text_and_reads_special_tokens_in_it_as_text(voice: Path):
    tokenizer = read_tokenizer(voice)
    ids = tokenizer.ids(3, "Hi")
    assert (ids[0], ids[-1]) == (0, 1) and len(ids) == 7
    assert 1 not in tokenizer.ids(3, "a<|end_of_text|>b")[:-1]


def test_a_tokenizer_of_another_model_is_refused(voice: Path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json' has ids up to \d+, the model has embeddings for 20"):
        read_tokenizer(voice, text_vocab_size=20)
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(voice / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"has no '<\|begin_of_text\|>' and '<\|end_of_text\|>'"):
        read_tokenizer(voice)
    for broken in ({"model": 3}, {"model": {"type": "WordLevel", "vocab": 3}}):
        (voice / "tokenizer.json").write_text(json.dumps(broken))
        with pytest.raises(CheckpointError, match="is not a tokenizer"):
            read_tokenizer(voice)
    (voice / "tokenizer.json").unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"no tokenizer\.json"):
        read_tokenizer(voice)


def test_the_checkpoint_says_how_it_wants_to_be_sampled(voice: Path):
    def written(values: dict[str, object]) -> Sampling:
        (voice / "generation_config.json").write_text(json.dumps(values))
        return load_sampling(voice)

    assert written({}) == Sampling()
    assert written({"temperature": 0.5, "top_k": 20}) == Sampling(0.5, 20)
    cooled = written({"temperature": 0.5, "depth_decoder_temperature": 0.3})
    assert cooled.temperature == 0.5 and cooled.depth_scale == pytest.approx(0.6)
    with pytest.raises(InputError, match="temperature=-1"):
        written({"temperature": -1})
    (voice / "generation_config.json").unlink()
    assert load_sampling(voice) == Sampling()


def test_a_saved_tokenizer_is_an_ordinary_file(voice: Path):
    assert Tokenizer.from_file(str(voice / "tokenizer.json")).to_str() == character_tokenizer().to_str()


def test_a_gated_voice_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    answer = SimpleNamespace(headers={}, request=None)
    for error, message in (
        (
            GatedRepoError("403", response=answer),
            "accept the licence on https://huggingface.co/sesame/csm-1b and log in",
        ),
        (LocalEntryNotFoundError("offline"), "cannot download 'sesame/csm-1b' .* use the bundled voice 'pocket'"),
    ):

        def refuse(repository: str, *, allow_patterns: list[str], error: Exception = error) -> str:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(CheckpointNotFoundError, match=message):
            voices.find_voice("sesame/csm-1b")


def test_only_the_files_of_one_layout_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    voice = save_voice(tiny_csm(), tmp_path, max_shard_size="100KB")
    asked: list[list[str]] = []

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(voice)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert voices.find_voice("sesame/csm-1b") == voice
    assert asked == [["*.json"], ["*.json", *sorted(path.name for path in voice.glob("model-*.safetensors"))]]


def test_a_temperature_that_is_no_number_is_refused_with_its_file(voice: Path):
    (voice / "generation_config.json").write_text('{"temperature": "hot"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"generation_config\.json' has the temperatures 'hot' and 'hot'"):
        load_sampling(voice)
