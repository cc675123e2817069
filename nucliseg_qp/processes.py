"""What processes use: memory and CPU time of this one and of those it started."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

__all__ = ["child_usage", "peak_memory_mb", "processor_name", "usable_cores"]

_PROC = Path("/proc")


def usable_cores() -> int:
    """Give the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """Give the processor's name, as far as the system tells it."""
    for line in _text(_PROC / "cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_mb() -> float | None:
    """Give the most memory this process held so far, in MB of 1024 x 1024 bytes.

    None on Windows, which keeps no such record for a program without further packages.
    """
    peak_mb = _high_water_mb(os.getpid())
    if peak_mb is not None:
        return peak_mb
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def child_usage() -> list[tuple[float, float]]:
    """Give CPU seconds and peak memory in MB of each process this one started.

    Only on Linux, where /proc tells; else nothing.  Java and helpers of Python that used less than
    a tenth of a second are left out.
    """
    found = []
    for listing in _PROC.glob(f"{os.getpid()}/task/*/children"):
        for child in _text(listing).split():
            cpu, peak_mb = _cpu_seconds(child), _high_water_mb(child)
            if cpu > 0.1 and peak_mb is not None:
                found.append((cpu, peak_mb))
    return found


def _high_water_mb(process: int | str) -> float | None:
    for line in _text(_PROC / str(process) / "status").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def _cpu_seconds(process: str) -> float:
    # The fields after the name in brackets, which may hold blanks: user and system time.
    fields = _text(_PROC / process / "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
