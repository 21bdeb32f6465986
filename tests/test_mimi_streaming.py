"""The streaming decoder gives the samples of the whole at once, as transformers and moshi decode it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tiny_mimi import random_codes, tiny_csm, tiny_mimi, whole
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MimiModel

from csmkit.errors import CheckpointError, CheckpointNotFoundError
from csmkit.kernels import packed, project
from csmkit.mimi.checkpoint import load_decoder
from csmkit.mimi.codecs import StreamingCodec
from csmkit.mimi.config import MimiConfig
from csmkit.mimi.decoder import MAX_CHUNK_FRAMES, MimiDecoder
from csmkit.mimi.files import CodecFiles
from csmkit.mimi.layers import WORTH_PACKING

N_FRAMES = 41  # 82 latents, eight windows of ten
TOLERANCE = 1e-5  # of full scale


@pytest.fixture(scope="module")
def model() -> MimiModel:
    return tiny_mimi()


@pytest.fixture(scope="module")
def directory(model: MimiModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mimi")
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def decoder(directory: Path) -> MimiDecoder:
    return load_decoder(CodecFiles(directory))


def in_chunks(decoder: MimiDecoder, codes: Tensor, n_frames: int) -> Tensor:
    state = decoder.new_state()
    return torch.cat([decoder(chunk, state) for chunk in codes.split(n_frames, dim=1)])


def assert_same_sound(given: Tensor, expected: Tensor) -> None:
    assert given.shape == expected.shape
    error = float((given - expected).abs().max() / expected.abs().max())
    assert error <= TOLERANCE, f"differs by {error:.1e} of full scale"


@pytest.mark.parametrize("chunk", [1, 2, 5, 6, N_FRAMES + 1])
def test_chunks_of_any_size_join_to_what_transformers_decodes_whole(
    decoder: MimiDecoder, model: MimiModel, chunk: int
) -> None:
    codes = random_codes(model.config, N_FRAMES)
    assert_same_sound(in_chunks(decoder, codes, chunk), whole(model, codes))


@pytest.mark.parametrize(
    "changes",
    [
        {"use_conv_shortcut": True},
        {"upsample_groups": 1},
        {"upsample_groups": 4},
        {"pad_mode": "replicate"},
        {"num_residual_layers": 3},
        {"num_key_value_heads": 1},
        {"head_dim": 4, "num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 12, "upsample_groups": 12},
        {"attention_bias": True},
        {"vector_quantization_hidden_dimension": 16, "codebook_dim": 16},
        {"num_semantic_quantizers": 2},
        {"hidden_act": "silu"},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
        {"sliding_window": 1},
        {"upsampling_ratios": [3, 2], "kernel_size": 3, "last_kernel_size": 1, "residual_kernel_size": 5},
        pytest.param(
            {"frame_rate": 6.25},
            marks=pytest.mark.skipif(
                transformers.__version__ < "5", reason="transformers 4 takes 12.5 whatever its configuration says"
            ),
        ),
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_variant_of_the_architecture_is_exact(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_mimi(**changes)
    model.save_pretrained(tmp_path)
    codes = random_codes(model.config, 12)
    assert_same_sound(in_chunks(load_decoder(CodecFiles(tmp_path)), codes, 1), whole(model, codes))


def test_two_interleaved_streams_do_not_touch_each_other(decoder: MimiDecoder, model: MimiModel) -> None:
    first, second = random_codes(model.config, 12, seed=2), random_codes(model.config, 12, seed=3)
    states, heard = (decoder.new_state(), decoder.new_state()), ([], [])
    for frame in range(12):
        for codes, state, parts in zip((first, second), states, heard, strict=True):
            parts.append(decoder(codes[:, frame : frame + 1], state))
    assert_same_sound(torch.cat(heard[0]), whole(model, first))
    assert_same_sound(torch.cat(heard[1]), whole(model, second))


@pytest.mark.parametrize("changes", [{}, {"pad_mode": "replicate"}, {"num_key_value_heads": 1}])
def test_rows_of_a_batch_sound_as_they_do_alone(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_mimi(**changes)
    model.save_pretrained(tmp_path)
    decoder = load_decoder(CodecFiles(tmp_path))
    codes = torch.stack([random_codes(model.config, 24, seed) for seed in (2, 3, 4)])
    state = decoder.new_state(3)
    heard = [[], [], []]
    rows = [0, 1, 2]
    for frame in range(24):
        if frame == 9:  # the middle one ends, the others change places
            rows = [2, 0]
            state = state.take(rows)
        sound = decoder(codes[rows, :, frame : frame + 1], state)
        for row, samples in zip(rows, sound, strict=True):
            heard[row].append(samples)
    for row, n_frames in ((0, 24), (1, 9), (2, 24)):
        assert_same_sound(torch.cat(heard[row]), whole(model, codes[row, :, :n_frames]))


@pytest.mark.parametrize("changes", [{}, {"pad_mode": "replicate"}, {"num_key_value_heads": 1}])
def test_rows_that_begin_at_different_frames_sound_as_they_do_alone(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_mimi(**changes)
    model.save_pretrained(tmp_path)
    codec = StreamingCodec.load(tmp_path)
    codes = torch.stack([random_codes(model.config, 24, seed) for seed in (2, 3, 4)])
    batch, heard = codec.streams(1), [[], [], []]
    begins, rows = {5: [1], 7: [2]}, [0]
    for frame in range(29):
        if frame == 24:
            batch.take([2, 1])
            rows = [2, 1]
        rows += begins.get(frame, [])
        batch.join(codec.streams(len(begins.get(frame, []))))
        now = torch.stack([codes[row, :, len(heard[row]) % 24] for row in rows])
        for row, samples in zip(rows, batch.decode(now), strict=True):
            heard[row].append(samples)
    for row, n_frames in ((0, 24), (1, 24), (2, 22)):
        assert_same_sound(torch.cat(heard[row]), whole(model, codes[row, :, :n_frames]))


def test_a_state_that_restarts_or_loads_another_goes_on_in_its_own_memory(
    decoder: MimiDecoder, model: MimiModel
) -> None:
    codes = random_codes(model.config, 20)
    used, other = decoder.new_state(), decoder.new_state(2)
    places = [tensor.data_ptr() for tensor in used.tensors]
    decoder(random_codes(model.config, 15, seed=5), used)
    used.restart()
    assert_same_sound(decoder(codes, used), whole(model, codes))
    decoder(torch.stack((random_codes(model.config, 10, seed=6), codes[:, :10])), other)
    used.load(other, [1])
    assert_same_sound(decoder(codes[:, 10:], used), whole(model, codes)[10 * 1920 :])
    assert [tensor.data_ptr() for tensor in used.tensors] == places


def test_the_past_is_heard_so_the_test_above_means_something(decoder: MimiDecoder, model: MimiModel) -> None:
    codes = random_codes(model.config, 12)
    alone = torch.cat([decoder(frame, decoder.new_state()) for frame in codes.split(1, dim=1)])
    expected = whole(model, codes)
    assert float((alone - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt()) > 0.1


def test_state_tensors_stay_where_they_are(decoder: MimiDecoder, model: MimiModel) -> None:
    state = decoder.new_state()
    tensors = [state.position, state.keys, state.values, *state.histories]
    places = [tensor.data_ptr() for tensor in tensors]
    decoder(random_codes(model.config, 3), state)
    after = [state.position, state.keys, state.values, *state.histories]
    assert [tensor.data_ptr() for tensor in after] == places
    assert int(state.position) == 6


class Recorded(TorchDispatchMode):
    """Notes the name of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_every_frame_runs_the_same_operations_and_reads_nothing_back(decoder: MimiDecoder, model: MimiModel) -> None:
    state, runs = decoder.new_state(), []
    for frame in random_codes(model.config, 12).split(1, dim=1):
        with Recorded() as recorded:
            decoder(frame, state)
        runs.append(recorded.names)
    assert all(names == runs[0] for names in runs)  # before, at and past the window: capturable as one graph
    syncing = ("_local_scalar_dense", "nonzero", "masked_select")
    assert not [name for name in runs[0] if any(word in name for word in syncing)]


def test_a_stream_opened_in_inference_mode_runs_outside_it(decoder: MimiDecoder, model: MimiModel) -> None:
    codes = random_codes(model.config, 2)
    with torch.inference_mode():
        state = decoder.new_state()
        first = decoder(codes[:, :1], state)
    assert_same_sound(torch.cat((first, decoder(codes[:, 1:], state))), whole(model, codes))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.15)])
@pytest.mark.parametrize("n_rows", [1, 2, 30])
def test_products_with_packed_weights_are_the_same_products(dtype: torch.dtype, error: float, n_rows: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(n_rows, 1, 48), torch.randn(WORTH_PACKING // 16, 48), torch.randn(WORTH_PACKING // 16)
    exact = torch.nn.functional.linear(x, weight, bias)
    given = packed(weight.to(dtype))
    product = project(x.to(dtype), given, bias.to(dtype))
    torch.testing.assert_close(product.float(), exact, rtol=0.0, atol=error)


def test_weights_that_nothing_is_gained_from_or_that_no_kernel_takes_stay_as_they_are() -> None:
    for weight in (torch.ones(64, 64, dtype=torch.float64), torch.ones(64, 64, device="meta")):
        assert packed(weight) is weight


def test_a_processor_without_the_kernels_decodes_the_same_sound(
    directory: Path, model: MimiModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    decoder, codes = load_decoder(CodecFiles(directory)), random_codes(model.config, 13)
    assert not any(weight.is_mkldnn for weight in decoder.parameters())
    assert_same_sound(in_chunks(decoder, codes, 2), whole(model, codes))


def test_a_prefix_of_the_codes_gives_a_prefix_of_the_sound(decoder: MimiDecoder, model: MimiModel) -> None:
    codes = random_codes(model.config, 2 * MAX_CHUNK_FRAMES)
    changed = codes.clone()
    changed[:, 10:] = 0
    samples, others = decoder(codes, decoder.new_state()), decoder(changed, decoder.new_state())
    assert_same_sound(others[: 10 * 1920], samples[: 10 * 1920])


def test_the_codec_inside_a_csm_checkpoint_is_found(model: MimiModel, tmp_path: Path) -> None:
    codes = random_codes(model.config, 8)
    for name, saving in (("single", {}), ("sharded", {"max_shard_size": "40KB"})):
        directory = tiny_csm(tmp_path / name, model, **saving)
        assert len(list(directory.glob("*.safetensors.index.json"))) == (name == "sharded")
        assert_same_sound(in_chunks(load_decoder(CodecFiles(directory)), codes, 1), whole(model, codes))


def test_a_csm_of_fewer_codebooks_uses_the_first_of_the_codec(model: MimiModel, tmp_path: Path) -> None:
    files = CodecFiles(tiny_csm(tmp_path, model, n_codebooks=3))
    assert files.config.n_codebooks == 3
    codes = random_codes(model.config, 8)[:3]
    assert_same_sound(in_chunks(load_decoder(files), codes, 2), whole(model, codes))


def test_moshi_decodes_the_same_and_its_files_load(model: MimiModel, directory: Path, tmp_path: Path) -> None:
    os.environ.setdefault("NO_TORCH_COMPILE", "1")
    pytest.importorskip("moshi")
    from csmkit.mimi.moshi import moshi_model

    codes = random_codes(model.config, N_FRAMES)
    theirs = moshi_model(CodecFiles(directory))
    with torch.no_grad():
        expected = theirs.decode(codes[None])[0, 0]
    assert_same_sound(whole(model, codes), expected)

    published = {"in_projs.0.weight": "in_proj_weight", "out_projs.0.weight": "out_proj.weight"}
    for name, renames in (("again", {}), ("published", published)):
        tensors = {}
        for key, tensor in theirs.state_dict().items():
            for new, old in renames.items():
                key = key.replace(new, old)
            tensors[key] = tensor.contiguous()
        folder = tmp_path / name
        folder.mkdir()
        save_file(tensors, folder / "tokenizer-tiny.safetensors")
        (folder / "config.json").write_text((directory / "config.json").read_text())
        for source in (folder, folder / "tokenizer-tiny.safetensors"):
            for chunk in (1, 5, N_FRAMES + 1):
                assert_same_sound(in_chunks(load_decoder(CodecFiles(source)), codes, chunk), expected)


def test_moshi_file_without_config_means_the_published_sizes() -> None:
    config = MimiConfig.from_dict({})
    assert (config.frame_samples, config.n_codebooks, config.window, config.upsample) == (1920, 32, 250, 2)


@pytest.mark.parametrize("raw", [{"rope_theta": 77}, {"rope_parameters": {"rope_type": "default", "rope_theta": 77}}])
def test_the_rotary_base_is_read_from_old_and_new_configs(raw: dict[str, Any]) -> None:
    assert MimiConfig.from_dict(raw).rope_theta == 77.0


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"use_causal_conv": False}, "give a causal codec"),
        ({"trim_right_ratio": 0.5}, "give a codec with 1.0"),
        ({"audio_channels": 2}, "mono"),
        ({"pad_mode": "reflect"}, "constant and replicate"),
        ({"model_type": "encodec"}, "encodec"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        ({"hidden_act": "mish"}, "gelu, relu, silu"),
    ],
)
def test_a_codec_that_cannot_stream_exactly_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        MimiConfig.from_dict(raw)


def test_a_checkpoint_that_is_not_there_or_no_codec_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no codec at"):
        CodecFiles(tmp_path / "nowhere")
    with pytest.raises(CheckpointNotFoundError, match=r"no \.safetensors"):
        CodecFiles(tmp_path)
    save_file({"lm_head.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no codec in"):
        CodecFiles(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="fetch the file again"):
        CodecFiles(tmp_path)


def test_a_partial_or_mismatched_checkpoint_is_refused(directory: Path, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in saved_tensors(directory).items() if "decoder.layers.14" not in name}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    with pytest.raises(CheckpointError, match=r"no tensor 'decoder\.layers\.14\.conv\.weight'"):
        load_decoder(CodecFiles(tmp_path))
    save_file(saved_tensors(directory), tmp_path / "model.safetensors")
    wrong = (directory / "config.json").read_text().replace('"num_filters": 2', '"num_filters": 4')
    (tmp_path / "config.json").write_text(wrong)
    with pytest.raises(CheckpointError, match="they belong to different models"):
        load_decoder(CodecFiles(tmp_path))


def saved_tensors(directory: Path) -> dict[str, Tensor]:
    files = CodecFiles(directory)
    return {name: files.read_raw(name) for name in files.names}
