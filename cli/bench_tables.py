"""Tables of ``numbacnn bench``."""

from collections.abc import Mapping, Sequence
from typing import Any

from numbacnn._checks import format_shape
from numbacnn.bench.cases import Case
from numbacnn.bench.measure import BETTER_RUNTIME, KernelResult, rates
from numbacnn.bench.peaks import Peaks
from numbacnn.bench.timing import geometric_mean
from numbacnn.bench.work import algorithm_names
from numbacnn.kernels.convolution import Cost

from . import progress, render

RATES = ("ms", "GFLOP/s", "of peak", "GB/s", "of triad")
NUMBER, RATIO = 9, 19  # widths of columns
MAX_KERNELS = 3  # listed per layer


class KernelTable:
    """A table whose rows are printed as they are measured, so that an interruption loses none."""

    LEFT = (0, 2, 3)

    def __init__(self, cases: Sequence[tuple[Case, str]], peers: Sequence[str], peaks: Peaks, silent: bool) -> None:
        self._peers, self._peaks, self._silent = peers, peaks, silent
        cells = max(len(str(case)) for case, _ in cases), 5, 15, 14
        self._widths = [*cells, *[NUMBER] * len(RATES), *[RATIO] * len(peers)]
        self._total, self._done = len(cases), 0
        if not silent:
            render.text(peaks_line(peaks._asdict()))
            render.table_row(["case", "batch", "direction", "algorithm", *RATES, *peers], self._widths, self.LEFT)

    def add(self, result: KernelResult) -> None:
        """Print a row."""
        self._done += 1
        progress.status()
        figures = result.measurement.figures(self._peaks)
        if not self._silent:
            name = str(result.case), str(result.case.batch), result.direction, algorithm_names(result.algorithms)
            ratios = [ratio_cell(figures, peer) for peer in self._peers]
            render.table_row([*name, *rate_cells(figures), *ratios], self._widths, self.LEFT)
        if self._done < self._total:
            progress.status(f"measuring: {self._done} of {self._total} done …")


def kernel_summaries(summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the summary of the comparisons with each peer."""
    for peer, found in summaries.items():
        if not found:
            continue
        render.text("")
        render.text(f"time of {peer} over ours, {found['compared']} compared:")
        rows = [(f"  geometric mean, {name}", f"{mean:.2f}×") for name, mean in found["geometric_mean"].items()]
        if found["geometric_mean_wide_3x3"]:
            wide = f"{found['geometric_mean_wide_3x3']:.2f}×"
            rows.append(("  geometric mean, 3×3 at stride 1 with at least 64 channels, all directions", wide))
        worst = found["worst"]
        rows.append((f"  worst, {worst['case']} {worst['direction']}", f"{worst['ratio']:.2f}×"))
        rows.append(("  won, lost (whole interval above or below 1)", f"{found['won']}, {found['lost']}"))
        render.table(rows)


def model_times(report: Mapping[str, Any], layers: bool) -> None:
    """Print the result of ``bench train``."""
    peers = list(report["results"][0]["peers"])
    shape = format_shape(report["input_shape"])
    render.text(f"{report['model']} {report['mode']}, input {shape}, {report['parameters']:,} parameters")
    render.text(peaks_line(report["peaks"]))
    rows = [["batch", *RATES, "images/s", *peers]]
    for result in report["results"]:
        ratios = [ratio_cell(result, peer) for peer in peers]
        rows.append([str(result["batch"]), *rate_cells(result), f"{result['images_per_second']:,.0f}", *ratios])
    render.table(rows, left=(0,))
    _better_runtime(report["results"])
    for result in report["results"]:
        if layers:
            render.text("")
            _layers(result, Peaks(**report["peaks"]))
        if "peak_memory" in result:
            sizes = ", ".join(f"{name} {render.size(size)}" for name, size in result["peak_memory"].items())
            render.text(f"peak memory of a training step, batch size {result['batch']}: {sizes}")
    if report["cold"]:
        cold = report["cold"]
        render.text(
            f"with an empty kernel cache, the first training step takes {cold['first_step']:.1f} s and compiles "
            f"{cold['kernels']} functions"
        )


def _better_runtime(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the time of the better inference runtime over ours, if all of them were measured."""
    ratios = {r["batch"]: r["peers"][r["better_runtime"]]["ratio"] for r in results if r["better_runtime"]}
    if not ratios:
        return
    listed = ", ".join(f"{ratio:.2f}× at batch size {batch}" for batch, ratio in ratios.items())
    mean = f"; geometric mean {geometric_mean(list(ratios.values())):.2f}×" if len(ratios) > 1 else ""
    render.text(f"time of {BETTER_RUNTIME} over ours: {listed}{mean}")


def _layers(result: Mapping[str, Any], peaks: Peaks) -> None:
    """Print a row per layer and direction, their total, and the rest of the step."""
    layers = result["layers"]
    total = sum(row["ms"] for row in layers)
    title = f"layers, batch size {result['batch']}"
    rows = [[title, "direction", "algorithm", *RATES, "share", "kernels, slowest first"]]
    for row in layers:
        names = list(row["kernels"])
        more = f" and {len(names) - MAX_KERNELS} more" if len(names) > MAX_KERNELS else ""
        share = f"{100 * row['ms'] / total:.1f} %"
        algorithms = " / ".join(dict.fromkeys(found["name"] for found in row["algorithms"].values()))
        kernels = ", ".join(names[:MAX_KERNELS]) + more
        rows.append([row["layer"], row["direction"], algorithms, *rate_cells(row), share, kernels])
    cost = Cost(sum(row["flops"] for row in layers), sum(row["bytes"] for row in layers))
    rows.append(["total", "", "", *rate_cells(rates(total, cost, peaks))])
    rows.append(["rest: loss, Python", "", "", _number(max(0.0, result["ms"] - total))])
    render.table(rows, left=(0, 1, 2, len(rows[0]) - 1))


def peaks_line(peaks: Mapping[str, Any]) -> str:
    """Format the peaks of the machine."""
    kind = "multiply-adds" if peaks["precision"] == "fp32" else f"multiply-adds in {peaks['precision']}"
    return f"measured peaks: {peaks['gflops']:.1f} GFLOP/s of {kind}, {peaks['bandwidth']:.1f} GB/s of a triad"


def rate_cells(figures: Mapping[str, Any]) -> list[str]:
    """Format the cells of ``RATES``."""
    shares = [f"{100 * figures[name]:.0f} %" for name in ("share_of_peak", "share_of_triad")]
    ms, gflops, bandwidth = (_number(figures[name]) for name in ("ms", "gflops", "bandwidth"))
    return [ms, gflops, shares[0], bandwidth, shares[1]]


def ratio_cell(figures: Mapping[str, Any], peer: str) -> str:
    """Format the speedup over a peer, with its interval."""
    found = figures["peers"].get(peer)
    return f"{found['ratio']:.2f}× [{found['interval'][0]:.2f}, {found['interval'][1]:.2f}]" if found else "–"


def _number(value: float) -> str:
    """Format with at least three significant digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{3 if value < 1 else 2 if value < 100 else 1}f}"
