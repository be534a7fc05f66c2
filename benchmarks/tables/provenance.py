"""What every result file says about where its numbers come from."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import protok

PACKAGES = ("torch", "numpy", "biotite", "gemmi", "pyarrow")


def provenance(command: str, packages: Iterable[str] = PACKAGES, **more: Any) -> dict[str, Any]:
    """Version, command, packages and hardware, with whatever else belongs there."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "protok": protok.__version__,
        "command": command,
        "packages": versions,
        "python": platform.python_version(),
        "hardware": {"cpu": cpu_model(), "machine": platform.machine()},
        **more,
    }


def circumstances(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of a file that keeps rows of several runs says of its own: command, date, machine, load."""
    return {
        "command": result["command"],
        "date": datetime.date.today().isoformat(),
        "cpu": result["hardware"]["cpu"],
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),  # above 1 others ran: figures are low, ratios hold
    }


def cpu_model() -> str:
    """Model of the processor, as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def digest(files: Iterable[Path]) -> str:
    """sha256 over names and contents of files, in the order of their names."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.name):
        total.update(file.name.encode())
        total.update(file.read_bytes())
    return total.hexdigest()


def write(path: str | Path, result: Mapping[str, Any]) -> None:
    """Write a result file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}")
