"""What benchmarks share that measure two servers by turns: the processor's time, and intervals of medians."""

from __future__ import annotations

import os
import subprocess
from math import comb
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(process: subprocess.Popen) -> float:
    """Returns the CPU time of a process in seconds, user and system. The clock has ticks of 10 ms."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def interval(ratios: list[float]) -> tuple[float, float]:
    """Returns the order statistics between which the median lies in 97 % of all cases."""
    n, ordered = len(ratios), sorted(ratios)
    outside, k = 0.0, 0
    while k < n // 2 and 2 * (outside + comb(n, k) / 2**n) <= 0.03:
        outside += comb(n, k) / 2**n
        k += 1
    k = max(k - 1, 0)
    return ordered[k], ordered[n - 1 - k]
