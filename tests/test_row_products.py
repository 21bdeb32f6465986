"""Big weights are laid out for the kernel that is fastest here, and what "auto" is on a CPU follows from that."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from tiny import save_voice, tiny_csm
from torch import nn

from csmkit import Generator
from csmkit.csm.checkpoint import load_model
from csmkit.csm.execution import choose, row_products
from csmkit.csm.execution.row_products import KERNELS, RowWeight, arrange, frame_s, measure
from csmkit.csm.quantization import rounded_places
from csmkit.csm.transformer import product


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_voice(tiny_csm(seed=3, depth_head_dim=16), tmp_path_factory.mktemp("products"))


@pytest.fixture(autouse=True)
def every_weight_is_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_products, "SMALLEST", 1)


def codes(generator: Generator) -> torch.Tensor:
    return torch.stack(list(generator.frames("hello.", 1, seed=4, max_audio_length_ms=1_600)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_each_kernel_gives_the_product(kernel: str, dtype: torch.dtype):
    torch.manual_seed(0)
    weight = torch.randn(96, 160).to(dtype)
    x = torch.randn(1, 96).to(dtype)
    expected = x.float() @ weight.float()
    allowed = 1e-5 if dtype == torch.float32 else 1e-2
    laid_out = RowWeight(weight, kernel)
    assert float((product(x, laid_out).float() - expected).norm() / expected.norm()) < allowed
    several = torch.cat((x, -x, 2 * x))
    given = product(several, laid_out).float()
    assert float((given - several.float() @ weight.float()).norm() / given.norm()) < allowed


def test_a_processor_without_packed_weights_never_takes_that_kernel(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    times = measure(load_model(directory))
    assert all(one[row_products.PACKED] == float("inf") > one[row_products.LINEAR] for one in times.values())


@pytest.mark.parametrize("fastest", KERNELS)
def test_the_fastest_kernel_is_taken_and_says_the_same(directory: Path, fastest: str, monkeypatch: pytest.MonkeyPatch):
    plain = Generator.load(directory, device="cpu", execution="static")
    monkeypatch.setattr(row_products, "_time", lambda _: {name: float(name != fastest) for name in KERNELS})
    generator = Generator.load(directory, device="cpu", execution="eager")
    for owner, name in rounded_places(generator.model):
        weight = getattr(owner, name)
        part = weight[0] if name == "other_heads" and fastest != row_products.PLAIN else weight
        assert isinstance(part, nn.Parameter if fastest == row_products.PLAIN else RowWeight), name
        assert fastest == row_products.PLAIN or part.kernel == fastest
    assert torch.equal(codes(generator), codes(plain))


def test_small_weights_stay_as_they_are(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(row_products, "SMALLEST", 2**19)
    model = load_model(directory)
    before = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    arrange(model)
    assert {name: weight.data_ptr() for name, weight in model.named_parameters()} == before


def test_a_frame_counts_each_product_as_often_as_it_is_made(directory: Path):
    model = load_model(directory)
    timings = measure(model)
    shapes = {tuple(getattr(owner, name).shape[-2:]) for owner, name in rounded_places(model)}
    assert timings.keys() == shapes and all(times.keys() == KERNELS.keys() for times in timings.values())
    ones = {shape: dict.fromkeys(KERNELS, 1.0) for shape in shapes}
    n_others, n_layers = model.config.n_codebooks - 1, 2
    assert frame_s(model, ones) == 4 * n_layers + 4 * n_layers * n_others + 1 + n_others


@pytest.mark.parametrize(("seconds", "mode"), [(0.01, "eager"), (10.0, "int8")])
def test_auto_on_a_cpu_goes_by_size_and_measured_speed_and_says_so(
    directory: Path, seconds: float, mode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(row_products, "frame_s", lambda *_: seconds)
    assert Generator.load(directory, device="cpu").execution == "eager", "a small voice is not measured"
    monkeypatch.setattr(choose, "SMALL_MODEL", 1)
    with caplog.at_level(logging.INFO):
        generator = Generator.load(directory, device="cpu")
    assert generator.execution == mode
    took = f"{seconds * 1000:.0f}"
    assert f"execution='auto' is {mode!r}: the float32 products of a frame of 80 ms take {took} ms here" in caplog.text
    if mode == "int8":
        monkeypatch.setattr(choose, "find_spec", lambda _: None)
        with caplog.at_level(logging.INFO):
            assert Generator.load(directory, device="cpu").execution == "eager"
        assert "; for 'int8' install onnx and onnxruntime" in caplog.text
