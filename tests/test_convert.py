"""A checkpoint written in the other layout: bit for bit, loaded by plain transformers, all of it or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from full_disk import largest_file
from safetensors.torch import load_file, save_file
from tiny import AUDIO, BOS, save_voice, tiny_csm
from tiny_sesame import VALUES, save_sesame, sesame_tensors
from torch import Tensor
from transformers import CsmForConditionalGeneration, MimiModel
from typer.testing import CliRunner

from csmkit import Generator, cli
from csmkit.convert import convert
from csmkit.csm.checkpoint import load_model
from csmkit.csm.layouts import IGNORED
from csmkit.errors import CheckpointError, CheckpointNotFoundError, CheckpointWriteError, InputError
from csmkit.files.writer import SafetensorsWriter
from csmkit.mimi.codecs import StreamingCodec

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def model() -> CsmForConditionalGeneration:
    return tiny_csm(seed=5)


@pytest.fixture(scope="module")
def transformers(model: CsmForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in transformers' layout; read only."""
    return save_voice(model, tmp_path_factory.mktemp("transformers"))


@pytest.fixture(scope="module")
def sesame(model: CsmForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in Sesame's layout; read only."""
    return save_sesame(model, tmp_path_factory.mktemp("sesame"))


@pytest.fixture(scope="module")
def converted(sesame: Path, transformers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sesame's turned into transformers'; read only."""
    target = tmp_path_factory.mktemp("converted") / "voice"
    convert(sesame, target, codec=transformers)
    return target


def assert_same_bits(path: Path, expected: dict[str, Tensor]) -> None:
    tensors = load_file(path)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickled"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_there_and_back_gives_the_same_bits(
    model: CsmForConditionalGeneration, transformers: Path, tmp_path: Path, dtype: torch.dtype, pickled: bool
):
    source = save_sesame(model, tmp_path / "sesame", dtype=dtype, pickled=pickled)
    there = convert(source, tmp_path / "there", codec=transformers)
    back = convert(tmp_path / "there", tmp_path / "back")
    assert (there.layouts, back.layouts) == (("sesame", "transformers"), ("transformers", "sesame"))
    weights = {name: t.to(dtype) for name, t in sesame_tensors(model).items() if name not in IGNORED}
    assert_same_bits(tmp_path / "back" / "model.safetensors", weights)
    values = json.loads((tmp_path / "back" / "config.json").read_text())
    norm = {"norm_eps": 1e-5}
    assert {key: values[key] for key in VALUES if not key.endswith("flavor")} == {
        key: value for key, value in VALUES.items() if not key.endswith("flavor")
    }
    assert values["backbone_flavor"].keys() == {*VALUES["backbone_flavor"], *norm}
    codec = load_file(transformers / "model.safetensors")
    prefix = "codec_model."
    in_full = {name.removeprefix(prefix): t for name, t in codec.items() if name.startswith(prefix)}
    assert_same_bits(tmp_path / "back" / "mimi" / "model.safetensors", in_full)


def test_plain_transformers_loads_what_was_converted(
    model: CsmForConditionalGeneration, converted: Path, transformers: Path
):
    loaded, info = CsmForConditionalGeneration.from_pretrained(converted, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    expected = model.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    for ours, theirs in (
        (loaded.backbone_model, model.backbone_model),
        (loaded.depth_decoder.model, model.depth_decoder.model),
    ):
        assert torch.equal(ours.rotary_emb.inv_freq, theirs.rotary_emb.inv_freq)
    ids = (loaded.config.bos_token_id, loaded.config.pad_token_id, loaded.config.audio_token_id)
    assert ids == (BOS, AUDIO, AUDIO)


def test_what_was_converted_speaks_as_before(converted: Path, transformers: Path, tmp_path: Path):
    """Both ways, also from shards; what has become Sesame's brings its codec along."""
    back = convert(converted, tmp_path / "back").target
    shards = save_voice(tiny_csm(seed=5), tmp_path / "shards", max_shard_size="100KB")
    from_shards = convert(shards, tmp_path / "from shards").target
    expected = None
    for directory in (transformers, converted, back, from_shards):
        speech = Generator.load(directory, device="cpu").generate("Hello.", temperature=0.0, max_audio_length_ms=960)
        expected = speech if expected is None else expected
        assert torch.equal(speech, expected), directory
    MimiModel.from_pretrained(back / "mimi")


def test_the_layout_may_stay_and_only_the_files_change(transformers: Path, sesame: Path, tmp_path: Path):
    shards = save_voice(tiny_csm(seed=5), tmp_path / "shards", max_shard_size="100KB")
    done = convert(shards, tmp_path / "single", to="transformers")
    assert done.layouts == ("transformers", "transformers")
    assert_same_bits(tmp_path / "single" / "model.safetensors", load_file(transformers / "model.safetensors"))
    convert(sesame, tmp_path / "sesame", to="sesame")
    expected = {name: t for name, t in load_file(sesame / "model.safetensors").items() if name not in IGNORED}
    assert_same_bits(tmp_path / "sesame" / "model.safetensors", expected)


def test_moshis_codec_comes_out_in_transformers_names(sesame: Path, transformers: Path, tmp_path: Path):
    pytest.importorskip("moshi")
    from csmkit.mimi.files import CodecFiles
    from csmkit.mimi.moshi import moshi_model

    folder = tmp_path / "moshi"
    folder.mkdir()
    tensors = moshi_model(CodecFiles(transformers)).state_dict()
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "tokenizer-tiny.safetensors")
    codec_config = json.loads((transformers / "config.json").read_text())["codec_config"]
    (folder / "config.json").write_text(json.dumps(codec_config))
    done = convert(sesame, tmp_path / "voice", codec=folder)
    assert done.notes[0] == f"the codec of {str(folder)!r} is inside the checkpoint"
    _, info = CsmForConditionalGeneration.from_pretrained(tmp_path / "voice", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    codes = torch.randint(64, (4, 5), generator=torch.Generator().manual_seed(0))
    expected = StreamingCodec.load(transformers).decode_whole(codes)
    torch.testing.assert_close(StreamingCodec.load(tmp_path / "voice").decode_whole(codes), expected)


def test_a_codec_that_is_not_there_is_asked_for(sesame: Path, transformers: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"no codec in '.*', .*: give --codec .* or --codec none"):
        convert(sesame, tmp_path / "voice")
    with pytest.raises(CheckpointNotFoundError, match=r"no codec at '.*absent'"):
        convert(sesame, tmp_path / "voice", codec=tmp_path / "absent")
    assert not (tmp_path / "voice").exists()
    done = convert(sesame, tmp_path / "voice", codec="none")
    assert done.notes[0].startswith("written without a codec: load it with codec_weights=")
    assert load_model(tmp_path / "voice").config.codebook_size == load_model(transformers).config.codebook_size


def test_what_is_left_out_is_named(sesame: Path, tmp_path: Path):
    source = Path(shutil.copytree(sesame, tmp_path / "source"))
    (source / "tokenizer.json").unlink()
    (source / "prompts").mkdir()
    (source / "ckpt.pt").touch()
    (source / "README.md").write_text("a voice")
    notes = convert(source, tmp_path / "voice", codec="none").notes
    assert notes[1:] == (
        "left out: backbone_causal_mask, decoder_causal_mask, which are computed at loading",
        f"not copied from {str(source)!r}: ckpt.pt, prompts/",
        "the source has no tokenizer.json: load it with tokenizer=",
    )
    assert (tmp_path / "voice" / "README.md").read_text() == "a voice"


def test_embeddings_of_two_kinds_do_not_fit_sesames_layout(transformers: Path, tmp_path: Path):
    source = Path(shutil.copytree(transformers, tmp_path / "source"))
    tensors = load_file(source / "model.safetensors")
    held = tensors["depth_decoder.model.embed_tokens.weight"]
    tensors["backbone_model.embed_tokens.embed_audio_tokens.weight"] = held.clone()
    save_file(tensors, source / "model.safetensors")
    assert convert(source, tmp_path / "equal").layouts[1] == "sesame"
    tensors["backbone_model.embed_tokens.embed_audio_tokens.weight"] += 1
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError, match="different audio embeddings, and Sesame's layout has one"):
        convert(source, tmp_path / "different")
    assert_same_bits(convert(source, tmp_path / "kept", to="transformers").target / "model.safetensors", tensors)


def test_a_target_with_files_in_it_is_never_overwritten(sesame: Path, tmp_path: Path):
    file = tmp_path / "precious"
    file.write_text("mine")
    for target in (tmp_path, file):
        with pytest.raises(InputError, match="are never overwritten: give a new directory"):
            convert(sesame, target, codec="none")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    (tmp_path / "empty").mkdir()
    assert convert(sesame, tmp_path / "empty", codec="none").target.is_dir()
    with pytest.raises(InputError, match="to='moshi': give 'transformers' or 'sesame'"):
        convert(sesame, tmp_path / "voice", to="moshi")


def test_a_target_that_cannot_be_written_is_one_error_and_leaves_nothing(
    sesame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointWriteError, match=r"cannot write '.*file/voice' .*: give a directory"):
        convert(sesame, tmp_path / "file" / "voice", codec="none")
    with (
        largest_file(50_000),
        pytest.raises(CheckpointWriteError, match=r"cannot write '.*voice' .* GB free"),
    ):
        convert(sesame, tmp_path / "voice", codec="none")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(CheckpointWriteError, match=r"has 0\.0 GB free, the checkpoint takes"):
        convert(sesame, tmp_path / "voice", codec="none")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_writer_writes_what_the_library_reads(tmp_path: Path):
    tensors = {
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        "turned": torch.arange(6.0).view(2, 3).t(),
        "odd": torch.ones(3, dtype=torch.int8),
        "half": torch.randn(5).bfloat16(),
    }
    writer = SafetensorsWriter({name: lambda tensor=tensor: tensor for name, tensor in tensors.items()})
    told: list[int] = []
    writer.write(tmp_path / "a.safetensors", told.append)
    assert (tmp_path / "a.safetensors").stat().st_size == writer.n_bytes
    assert sum(told) == sum(tensor.nbytes for tensor in tensors.values())
    assert_same_bits(tmp_path / "a.safetensors", tensors)
    with pytest.raises(CheckpointError, match=r"'wave' has dtype torch\.complex64: give a checkpoint in float32"):
        SafetensorsWriter({"wave": lambda: torch.zeros(1, dtype=torch.complex64)})


def test_the_command_tells_what_it_did(transformers: Path, tmp_path: Path):
    out = CliRunner().invoke(cli.app, ["convert", str(transformers), str(tmp_path / "voice"), "--to", "sesame"])
    assert out.exit_code == 0, out.output
    assert out.output.startswith("transformers -> sesame: ")
    assert "is in the folder 'mimi'" in out.output and "Sesame has no flavor of these sizes" in out.output
    with pytest.raises(InputError, match="never overwritten"):
        cli.app(["convert", str(transformers), str(tmp_path / "voice")], standalone_mode=False)
