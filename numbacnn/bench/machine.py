"""The machine of a table of figures: its name, what it can do, and whether it was idle."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numbacnn.bench.peaks import Peaks, measure_peaks
from numbacnn.bench.timing import wait_until_idle
from numbacnn.engine.locks import get_num_threads

QUIET = 0.95  # idle share from which a machine counts as quiet
SAMPLE_SECONDS = 1.0
PROCESSOR_TIMES, PROCESSOR_NAMES = Path("/proc/stat"), Path("/proc/cpuinfo")  # on Linux


def idle_share(seconds: float = SAMPLE_SECONDS) -> float | None:
    """Return the share of all processors' time that no process used while this one slept, or None if unknown."""
    wait_until_idle()  # threads of the libraries measured before may still spin
    before = _processor_times()
    time.sleep(seconds)
    after = _processor_times()
    if before is None or after is None or after[1] == before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def is_quiet(idle: float | None) -> bool:
    """Return whether figures may be measured; an unknown share counts as quiet."""
    return idle is None or idle >= QUIET


def idle_cell(idle: float | None) -> str:
    """Return a cell of a Markdown table, with a mark if the machine was busy."""
    return "" if idle is None else f"{idle:.0%}" + ("" if is_quiet(idle) else " †")


def describe(facts: Mapping[str, Any], versions: Mapping[str, str], quick: bool = False) -> tuple[str, Peaks]:
    """Return the heading of a table in Markdown, and the measured peaks.

    facts: those of ``runs.provenance.processor``.
    """
    peaks = measure_peaks(quick=quick)
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    lanes = facts["vector_bits"] // 32
    return (
        f"**{_processor_name() or facts['name']}** ({facts['name']}, {facts['instruction_set']}, {lanes} lanes of "
        f"float32), {get_num_threads()} threads: {peaks.gflops:.0f} GFLOP/s of multiply-adds, "
        f"{peaks.bandwidth:.1f} GB/s of a triad. {packages}."
    ), peaks


def _processor_times() -> tuple[int, int] | None:
    """Return idle and total time of all processors since the start, in ticks."""
    try:
        line = PROCESSOR_TIMES.read_text().splitlines()[0]
    except OSError:
        return None
    times = [int(part) for part in line.split()[1:9]]  # user, nice, system, idle, iowait, irq, softirq, steal
    return times[3] + times[4], sum(times)


def _processor_name() -> str | None:
    """Return the name by which the processor is sold."""
    try:
        lines = PROCESSOR_NAMES.read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
