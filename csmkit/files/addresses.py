"""Files and folders at an address such as ``s3://bucket/path``; fsspec opens them, and local paths as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from csmkit.errors import InputError, MissingDependencyError

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}  # by the beginning of the address


def open_address(address: str, mode: str) -> Any:
    """Open a text file at an address or a path, as `open` does; missing folders are created.

    Args:
        address: address or path of the file.
        mode: ``r`` or ``w``.

    Raises:
        MissingDependencyError: fsspec, or the package of that store, is not installed.
        InputError: fsspec knows no store for such an address.
        OSError: the file cannot be opened.
    """
    with _explained(address):
        import fsspec

        return fsspec.open(address, mode, encoding="utf-8", auto_mkdir=True)


def find_store(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it without a slash at its end.

    Raises:
        MissingDependencyError, InputError: as in `open_address`.
    """
    with _explained(address):
        import fsspec

        system, path = fsspec.core.url_to_fs(address)
    return system, path.rstrip("/")


@contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        package = _PACKAGES.get(address.partition("://")[0], error.name or "fsspec")
        raise MissingDependencyError(f"{address!r} needs {package}: pip install {package}") from error
    except ValueError as error:
        cure = "give a folder, or an address such as s3://bucket/path"
        raise InputError(f"{address!r} is not an address that fsspec knows ({error}): {cure}") from error
