"""Where figures come from: hardware, versions, commit, and checksums of the models."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import csmkit
from csmkit.versions import PACKAGES, installed


def environment() -> dict[str, Any]:
    """Hardware and versions that figures depend on, as a flat row."""
    import torch

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
