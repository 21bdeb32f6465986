"""Which packages figures depend on, and which versions of them are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "transformers", "moshi", "faster-whisper", "ctranslate2", "numpy")


def installed(package: str) -> str | None:
    """The installed version of a package; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
