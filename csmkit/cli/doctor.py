"""csmkit doctor: what is installed and what works here."""

from __future__ import annotations

import csmkit


def doctor() -> None:
    """Tell what is installed, which devices and presets work, and what to do about the rest."""
    from csmkit.cli.doctor_checks import examine

    print(f"csmkit {csmkit.__version__}")
    for finding in examine():
        mark = "ok" if finding.ok else "--"
        remedy = f"  -> {finding.remedy}" if finding.remedy and not finding.ok else ""
        print(f"{mark}  {finding.subject:34} {finding.seen}{remedy}")
