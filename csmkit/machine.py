"""This machine: the settings of torch before a model runs, and the hardware and versions that figures are kept with.

Threads, precision, attention kernels and memory are set here alone. A setting that the
program has already changed is kept; to choose one:

- ``CSMKIT_THREADS``: number of CPU threads; ``OMP_NUM_THREADS`` and `torch.set_num_threads` work as well.
- ``CSMKIT_TF32=1``: float32 products on CUDA in TF32, which is faster and keeps 10 bits of each factor.
- ``CSMKIT_MEMORY_FRACTION``: the share of a GPU's memory that this process may allocate.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from csmkit.errors import DeviceError, DeviceMemoryError, InputError
from csmkit.version import __version__

PACKAGES = (
    "torch",
    "transformers",
    "moshi",
    "faster-whisper",
    "ctranslate2",
    "numpy",
)  # figures depend on them
SMALL_MODEL = 50_000_000  # weights; the products of a smaller model end before a second thread has started
TORCH_THREADS = torch.get_num_threads()  # before csmkit changes it


def n_cores() -> int:
    """Number of cores that this process may use, hyperthreads included."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cores() -> set[int]:
    """The numbers of threads that torch may choose by itself: the cores, with or without hyperthreads."""
    counts = {os.cpu_count() or 1, n_cores()}
    return counts | {max(1, n // 2) for n in counts}


class Setting:
    """One of torch's settings. It is changed only while it has torch's default or the value that csmkit has set.

    Args:
        read: returns the present value.
        write: sets a value.
        defaults: the values that torch may have at its start.
    """

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], object], defaults: Iterable[Any]) -> None:
        self._read, self._write, self.known = read, write, set(defaults)

    def set(self, value: Any) -> None:
        """Set a value, unless the program has set another one."""
        try:
            present = self._read()
        except RuntimeError:  # set by torch's other interface to it, after which this one can no longer be read
            return
        if present in self.known:
            self.known = {value}
            self._write(value)


def _attribute(owner: Any, name: str, default: Any) -> Setting:
    return Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), [default])


THREADS = Setting(torch.get_num_threads, torch.set_num_threads, _cores())
MATMUL_TF32 = _attribute(torch.backends.cuda.matmul, "allow_tf32", False)
CUDNN_TF32 = _attribute(torch.backends.cudnn, "allow_tf32", True)
CUDNN_ATTENTION = Setting(torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp, [True])


def choose_device(device: torch.device | str | None) -> torch.device:
    """Return the device; for None CUDA where there is one, else the CPU. DeviceError if the device cannot be used."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        return torch.empty(1, device=chosen).device  # with its index, where none was given
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {str(device)!r} cannot be used ({error}): give 'cpu', or None to choose") from error


def prepare(device: torch.device, n_values: int) -> None:
    """Set up torch for a model; a setting that the program has already changed is kept.

    Args:
        device: where the model runs.
        n_values: number of its weights.

    Raises:
        InputError: an environment variable of this module has a value that cannot be used.
    """
    if device.type == "cuda":
        _prepare_cuda(device)
    elif "OMP_NUM_THREADS" not in os.environ:
        THREADS.set(cpu_threads(n_values))


@contextmanager
def out_of_memory(doing: str) -> Iterator[None]:
    """Raise DeviceMemoryError, which says what was being done, in place of torch's error."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError.during(doing, error) from error


def cpu_threads(n_values: int) -> int:
    """Choose the threads for a model of ``n_values`` weights: one for a small model, else one for each core.

    The threads of a small model wait for one another longer than they compute, and with the recogniser at work on the
    same cores they wait a hundred times as long.
    """
    asked = _number("CSMKIT_THREADS", 1, float("inf"))
    if asked is not None:
        return int(asked)
    return 1 if n_values < SMALL_MODEL else TORCH_THREADS


def _prepare_cuda(device: torch.device) -> None:
    tf32 = bool(_number("CSMKIT_TF32", 0, 1))
    MATMUL_TF32.set(tf32)
    CUDNN_TF32.set(tf32)
    # cuDNN prepares its attention again for every new length, and nearly every prompt has a new length.
    CUDNN_ATTENTION.set(False)
    fraction = _number("CSMKIT_MEMORY_FRACTION", 0.01, 1)
    if fraction is not None:
        torch.cuda.set_per_process_memory_fraction(fraction, device)


def describe() -> list[tuple[str, str]]:
    """List the present settings, each as a subject and its value."""
    cuda, asked = torch.backends.cuda, os.environ.get("CSMKIT_THREADS")
    kernels = {
        "flash": cuda.flash_sdp_enabled(),
        "memory efficient": cuda.mem_efficient_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "cudnn": cuda.cudnn_sdp_enabled(),
    }
    chosen = f"{asked}, by CSMKIT_THREADS" if asked else f"1 for a small voice, else {TORCH_THREADS}"
    fraction = os.environ.get("CSMKIT_MEMORY_FRACTION")
    return [
        ("threads", f"{chosen}; torch uses {torch.get_num_threads()} now, of {os.cpu_count()} cores"),
        ("cpu kernels", torch.backends.cpu.get_cpu_capability()),
        ("tf32", "on" if _tf32() or _number("CSMKIT_TF32", 0, 1) else "off: float32 is exact"),
        ("attention", ", ".join(name for name, on in kernels.items() if on)),
        ("gpu memory", f"at most {fraction} of it, by CSMKIT_MEMORY_FRACTION" if fraction else "all of it"),
    ]


def _tf32() -> bool:
    """Whether float32 products on CUDA are rounded to TF32."""
    try:
        return bool(torch.backends.cuda.matmul.allow_tf32)
    except RuntimeError:  # set by torch's newer interface
        return torch.backends.cuda.matmul.fp32_precision == "tf32"


def _number(variable: str, low: float, high: float) -> float | None:
    """Read a number from an environment variable; None where it is not set."""
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
    """Return the installed version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """List the hardware and the versions that figures depend on, as a flat row."""
    return {
        "csmkit": __version__,
        "commit": commit(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: version for package in PACKAGES if (version := installed(package))},
    }


def machine() -> str:
    """Describe in one line the machine that figures are measured on."""
    here = environment()
    threads = f"{here['threads']} thread{'' if here['threads'] == 1 else 's'} of {here['cores']} cores"
    return f"csmkit {here['csmkit']}, torch {here['torch']}, on {here['gpu'] or here['cpu']} ({threads})"


@cache
def commit() -> str | None:
    """The commit that csmkit runs from, with "-dirty" where tracked files differ; None outside a checkout of it."""
    folder = Path(__file__).parent
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
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()[:16]


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_name() -> str:
    """Return the processor's name; on Linux from /proc/cpuinfo, which `platform` does not read."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
