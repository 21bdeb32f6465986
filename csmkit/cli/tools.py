"""csmkit convert and csmkit doctor: a checkpoint in another layout, and what is installed and works here."""

from __future__ import annotations

import os
import platform
import site
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import csmkit
from csmkit.errors import CsmkitError

PACKAGES = {  # package: the extra of csmkit that installs it; None where every installation has it
    "torch": None,
    "transformers": None,
    "numpy": None,
    "safetensors": None,
    "soxr": None,
    "soundfile": None,
    "stream2sentence": None,
    "num2words": None,
    "faster-whisper": "asr",
    "jupyterlab": "notebook",
    "ipywidgets": "notebook",
    "anywidget": "notebook",
    "matplotlib": "notebook",
    "pandas": "eval",
    "jiwer": "eval",
    "pyloudnorm": "eval",
    "moshi": "moshi",
}


def convert(
    source: Annotated[str, "A checkpoint directory, pocket or a hub id."],
    target: Annotated[Path, "A directory that is empty or does not exist yet."],
    *,
    to: Annotated[str | None, "transformers, sesame, int4 or int8; default the layout that SOURCE is not in."] = None,
    codec: Annotated[str | None, "A Mimi directory, moshi's file, a hub id, or none; default SOURCE's own."] = None,
) -> None:
    """Convert a checkpoint from Sesame's layout to transformers', or back; or round its weights to 4 or 8 bits."""
    from csmkit.convert import convert as convert_checkpoint

    done = convert_checkpoint(source, target, to=to, codec=codec)
    print(f"{' -> '.join(done.layouts)}: {done.n_tensors} tensors, {done.n_bytes / 1e6:.1f} MB in {done.target}")
    for note in done.notes:
        print(f"  {note}")


def doctor() -> None:
    """Show what is installed, which devices and presets work, and how to install what is missing."""
    print(f"csmkit {csmkit.__version__}")
    for finding in examine():
        mark = "ok" if finding.ok else "--"
        remedy = f"  -> {finding.remedy}" if finding.remedy and not finding.ok else ""
        print(f"{mark}  {finding.subject:34} {finding.result}{remedy}")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was examined.
        ok: whether it can be used.
        result: what was found.
        remedy: what to do if it cannot be used; empty if nothing can be done.
    """

    subject: str
    ok: bool
    result: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Examine Python, packages, devices and presets; nothing is downloaded, no model is loaded."""
    packages = [_package(name, extra) for name, extra in PACKAGES.items()]
    return [_python(), *packages, front_end(), *_devices(), *_presets()]


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding(
        "python", ok, f"{platform.python_version()} on {platform.system()}", "" if ok else "use 3.11 or newer"
    )


def _package(name: str, extra: str | None) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        if name == "moshi":
            return Finding(name, False, "not installed (optional)", "make moshi, see README")
        target = f"csmkit[{extra}]" if extra else "csmkit"
        return Finding(name, False, "not installed", f"pip install '{target}'")


def front_end() -> Finding:
    """Whether the JupyterLab of this environment has the JavaScript of the player.

    A JupyterLab in another environment, as on notebook instances with several of them, needs anywidget there.
    """
    roots = (sys.prefix, site.getuserbase())
    places = [Path(root) / "share" / "jupyter" / "labextensions" / "anywidget" for root in roots]
    if any(place.is_dir() for place in places):
        return Finding("player's front end", True, "in this environment's JupyterLab")
    remedy = "pip install 'csmkit[notebook]' where JupyterLab runs, then reload its page; until then a plain control"
    return Finding("player's front end", False, "not installed", remedy)


def _devices() -> list[Finding]:
    try:
        import torch
    except ImportError:
        return []
    from csmkit import machine

    found = [Finding(subject, True, result) for subject, result in machine.describe()]
    if not torch.cuda.is_available():
        remedy = "" if torch.version.cuda else "this is a CPU build of torch; install a CUDA build to use a GPU"
        return [*found, Finding("cuda", False, "no CUDA device", remedy)]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        found.append(Finding(f"cuda:{index}", True, f"{card.name}, {card.total_memory / 2**30:.0f} GiB"))
    return found


def _presets() -> list[Finding]:
    from csmkit.asr.directory import NAMES, check_directory, resolve
    from csmkit.files.hub import find_voice
    from csmkit.stack import PRESETS

    chosen = os.environ.get("CSMKIT_PRESET") or "pocket"
    found = [Finding("preset", chosen in PRESETS, f"{chosen} is the default", f"choose one of {', '.join(PRESETS)}")]
    for name in ("voice", *NAMES):
        try:
            if name == "voice":
                find_voice("pocket")
            else:
                check_directory(Path(resolve(name)))
            found.append(Finding(f"pocket {name}", True, "bundled"))
        except CsmkitError as error:
            found.append(Finding(f"pocket {name}", False, "missing", str(error)))
    return [*found, _hub(PRESETS["sesame"].speech), _hub(PRESETS["sesame"].llm)]


def _hub(repository: str) -> Finding:
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(repository, "config.json"), str):
        return Finding(repository, True, "in the local cache")
    page = f"https://huggingface.co/{repository}"
    return Finding(repository, False, "not on this machine", f"accept the licence on {page}, log in, then use it")
