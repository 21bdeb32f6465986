"""What torch is told about this machine before a model runs: threads, precision, attention kernels, memory.

All of it in one place, and all of it can be changed from outside:

- ``CSMKIT_THREADS``: CPU threads of a pass; ``OMP_NUM_THREADS`` and `torch.set_num_threads` are heeded likewise.
- ``CSMKIT_TF32=1``: float32 products on CUDA in TF32, which is quicker and keeps 10 bits of each factor.
- ``CSMKIT_MEMORY_FRACTION``: the share of a GPU's memory this process may take.
"""

from __future__ import annotations

import os

import torch

from csmkit.errors import InputError

SMALL_MODEL = 50_000_000  # values; the products of a smaller one end before a second thread has woken up
_UNTOUCHED = torch.get_num_threads()
_ours = _UNTOUCHED  # what torch began with or was told here; any other number is somebody's choice


def prepare(device: torch.device, n_values: int) -> None:
    """Set up torch for a model; what someone has set before stays.

    Args:
        device: where it runs.
        n_values: of its weights.

    Raises:
        InputError: one of the variables above has a value that cannot be used.
    """
    global _ours
    if device.type == "cuda":
        _prepare_cuda(device)
    elif "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() == _ours:
        _ours = cpu_threads(n_values)
        torch.set_num_threads(_ours)


def cpu_threads(n_values: int) -> int:
    """Threads for a model of so many values: one where it is small, else a core each.

    A small model's threads wait for one another more than they compute, and with the recogniser at work on the same
    cores they wait a hundred times as long.
    """
    asked = _number("CSMKIT_THREADS", 1, float("inf"))
    if asked is not None:
        return int(asked)
    return 1 if n_values < SMALL_MODEL else _UNTOUCHED


def _prepare_cuda(device: torch.device) -> None:
    exact = not _number("CSMKIT_TF32", 0, 1)
    torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.allow_tf32 = not exact
    # cuDNN plans its attention anew for every length, and a prompt has a new length every time.
    torch.backends.cuda.enable_cudnn_sdp(False)
    fraction = _number("CSMKIT_MEMORY_FRACTION", 0.01, 1)
    if fraction is not None:
        torch.cuda.set_per_process_memory_fraction(fraction, device)


def describe() -> list[tuple[str, str]]:
    """What holds now, as subject and setting."""
    cuda, asked = torch.backends.cuda, os.environ.get("CSMKIT_THREADS")
    kernels = {
        "flash": cuda.flash_sdp_enabled(),
        "memory efficient": cuda.mem_efficient_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "cudnn": cuda.cudnn_sdp_enabled(),
    }
    chosen = f"{asked}, by CSMKIT_THREADS" if asked else f"1 for a small voice, else {_UNTOUCHED}"
    fraction = os.environ.get("CSMKIT_MEMORY_FRACTION")
    return [
        ("threads", f"{chosen}; torch uses {torch.get_num_threads()} now, of {os.cpu_count()} cores"),
        ("cpu kernels", torch.backends.cpu.get_cpu_capability()),
        ("tf32", "on" if cuda.matmul.allow_tf32 or _number("CSMKIT_TF32", 0, 1) else "off: float32 is exact"),
        ("attention", ", ".join(name for name, on in kernels.items() if on)),
        ("gpu memory", f"at most {fraction} of it, by CSMKIT_MEMORY_FRACTION" if fraction else "all of it"),
    ]


def _number(variable: str, low: float, high: float) -> float | None:
    """The value of an environment variable; None where it is not set."""
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InputError(f"{variable}={text!r}: give a number from {low:g} to {high:g}, or leave it unset")
    return value
