"""What torch is told about the machine, in one place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from typer.testing import CliRunner

from csmkit import cli, machine
from csmkit.cli.options import ModelOptions
from csmkit.errors import InputError

BIG, SMALL = machine.SMALL_MODEL, machine.SMALL_MODEL - 1


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nobody has said how many threads; three are torch's own choice."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CSMKIT_THREADS", raising=False)
    torch.set_num_threads(3)
    monkeypatch.setattr(machine, "TORCH_THREADS", 3)
    monkeypatch.setattr(machine.THREADS, "known", {3})
    yield
    torch.set_num_threads(before)


def threads_for(n_values: int) -> int:
    machine.prepare(torch.device("cpu"), n_values)
    return torch.get_num_threads()


def test_a_small_voice_gets_one_thread_and_a_big_one_all(untouched: None):
    assert threads_for(BIG) == 3
    assert threads_for(SMALL) == 1
    assert threads_for(BIG) == 3, "what a smaller voice was given is nobody's choice"


def test_threads_that_someone_has_chosen_stay(untouched: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_for(SMALL) == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(2)
    assert threads_for(SMALL) == 2


class FakeTorch:
    """The settings of a GPU that this machine need not have."""

    def __init__(self, value: bool) -> None:
        self.value = value

    def setting(self, default: bool) -> machine.Setting:
        return machine.Setting(lambda: self.value, lambda value: setattr(self, "value", value), [default])


def test_a_setting_of_torch_is_changed_only_while_nobody_else_has_changed_it():
    fake = FakeTorch(True)
    setting = fake.setting(True)
    setting.set(False)
    assert fake.value is False
    setting.set(True)
    assert fake.value is True, "what csmkit has set it may set again"
    fake.value = False
    setting.set(True)
    assert fake.value is False
    chosen = FakeTorch(True)
    chosen.setting(False).set(False)
    assert chosen.value is True, "chosen before csmkit was imported"


def test_preparing_cuda_keeps_what_somebody_has_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CSMKIT_TF32", raising=False)
    matmul, attention, cudnn = FakeTorch(True), FakeTorch(True), FakeTorch(True)
    monkeypatch.setattr(machine, "MATMUL_TF32", matmul.setting(False))
    monkeypatch.setattr(machine, "CUDNN_TF32", cudnn.setting(True))
    monkeypatch.setattr(machine, "CUDNN_ATTENTION", attention.setting(True))
    machine.prepare(torch.device("cuda"), BIG)
    assert matmul.value is True, "somebody has chosen TF32"
    assert cudnn.value is False and attention.value is False, "torch's own defaults are changed"
    attention.value = True
    machine.prepare(torch.device("cuda"), BIG)
    assert attention.value is True, "chosen after csmkit had set it"


def test_a_precision_set_by_torchs_newer_interface_is_left_alone():
    program = """
import torch
torch.backends.cuda.matmul.fp32_precision = "tf32"
from csmkit import machine
machine.prepare(torch.device("cuda"), 1)
assert torch.backends.cuda.matmul.fp32_precision == "tf32"
assert dict(machine.describe())["tf32"] == "on"
"""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has one interface only")
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_the_variable_says_how_many_threads_whatever_the_size(untouched: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CSMKIT_THREADS", "2")
    assert machine.cpu_threads(SMALL) == machine.cpu_threads(BIG) == threads_for(BIG) == 2
    for wrong in ("0", "many", "-1"):
        monkeypatch.setenv("CSMKIT_THREADS", wrong)
        with pytest.raises(InputError, match=f"CSMKIT_THREADS='{wrong}': give a number from 1"):
            machine.cpu_threads(SMALL)


def test_doctor_reports_every_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CSMKIT_THREADS", "7")
    monkeypatch.setenv("CSMKIT_TF32", "1")
    monkeypatch.setenv("CSMKIT_MEMORY_FRACTION", "0.5")
    out = CliRunner().invoke(cli.app, ["doctor"]).output
    lines = {line[4:].split("  ")[0].strip(): line for line in out.splitlines()}
    assert "7, by CSMKIT_THREADS" in lines["threads"]
    assert lines["tf32"].endswith("on")
    assert "flash" in lines["attention"]
    assert "at most 0.5 of it" in lines["gpu memory"]
    monkeypatch.setenv("CSMKIT_TF32", "0")
    assert dict(machine.describe())["tf32"] == "off: float32 is exact"


def test_int8_is_short_for_a_mode_and_contradicts_another():
    assert ModelOptions().loading().execution == "auto"
    assert {ModelOptions(execution=mode, int8=True).loading().execution for mode in ("auto", "int8")} == {"int8"}
    with pytest.raises(InputError, match="--int8 with --execution graph: give one of them"):
        ModelOptions(execution="graph", int8=True).loading()


def test_the_command_line_loads_the_voice_in_the_mode_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path, caplog):
    say = ["say", "hello.", "--max-audio-ms", "160", "--save", str(tmp_path / "hello.wav"), "--json"]
    out = CliRunner().invoke(cli.app, [*say, "--execution", "static"])
    assert out.exit_code == 0, out.output
    assert '"execution": "static"' in out.output
    out = CliRunner().invoke(cli.app, [*say, "--int8"])
    assert out.exit_code == 0 and '"execution": "int8"' in out.output
    assert not caplog.records
