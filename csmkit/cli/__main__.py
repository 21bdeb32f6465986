"""``python -m csmkit.cli``: the same as the command ``csmkit``."""

from csmkit.cli import run

run()
