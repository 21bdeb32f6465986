"""This machine: what torch is told about it before a model runs, and the record of it that stands beside figures.

Threads, precision, attention kernels and memory are set in one place, and all of it can be changed from outside:

- ``CSMKIT_THREADS``: CPU threads of a pass; ``OMP_NUM_THREADS`` and `torch.set_num_threads` are heeded likewise.
- ``CSMKIT_TF32=1``: float32 products on CUDA in TF32, which is quicker and keeps 10 bits of each factor.
- ``CSMKIT_MEMORY_FRACTION``: the share of a GPU's memory this process may take.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import csmkit
from csmkit.errors import InputError

PACKAGES = ("torch", "transformers", "moshi", "faster-whisper", "ctranslate2", "numpy")  # that figures depend on
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


def installed(package: str) -> str | None:
    """The installed version of a package; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Hardware and versions that figures depend on, as a flat row."""
    return {
        "csmkit": csmkit.__version__,
        "commit": commit(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: version for package in PACKAGES if (version := installed(package))},
    }


def machine() -> str:
    """On what figures are measured, in a line for a person."""
    here = environment()
    threads = f"{here['threads']} thread{'' if here['threads'] == 1 else 's'} of {here['cores']} cores"
    return f"csmkit {here['csmkit']}, torch {here['torch']}, on {here['gpu'] or here['cpu']} ({threads})"


@cache
def commit() -> str | None:
    """The commit that csmkit runs from, with "-dirty" where tracked files differ; None outside a checkout of it."""
    folder = Path(csmkit.__file__).parent
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:  # installed, maybe below someone's checkout
        return None
    head = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", str(folder))
    return f"{head[:12]}-dirty" if head and changed else head and head[:12]


def checksum(directory: Path) -> str:
    """The first sixteen digits of a SHA-256 over the names and contents of a directory's files, or of one file."""
    files = [directory] if directory.is_file() else [path for path in directory.rglob("*") if path.is_file()]
    return _checksum(tuple(sorted((str(path), path.stat().st_mtime_ns) for path in files)), str(directory))


@cache
def _checksum(files: Iterable[tuple[str, int]], directory: str) -> str:
    digest = hashlib.sha256()
    for name, _ in files:
        digest.update(os.path.relpath(name, directory).encode())
        with open(name, "rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()[:16]


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_name() -> str:
    """The processor's name; Linux keeps it where `platform` does not look."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
