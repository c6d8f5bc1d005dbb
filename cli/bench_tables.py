"""How ``bench`` shows what it measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from numbacnn.bench.cases import Case
from numbacnn.bench.measure import KernelResult, rates
from numbacnn.bench.peaks import Roofs
from numbacnn.bench.work import Cost

from . import progress, render

RATES = ("ms", "GFLOP/s", "of peak", "GB/s", "of triad")
NUMBER, RATIO = 9, 19  # characters of a column
MOST_KERNELS = 3  # of a layer, the slowest


class KernelTable:
    """A table whose rows are printed as they come: a whole one takes long, and what was measured is then not lost."""

    WORDS = (0, 2)

    def __init__(self, cases: Sequence[tuple[Case, str]], peers: Sequence[str], roofs: Roofs, silent: bool) -> None:
        self._peers, self._roofs, self._silent = peers, roofs, silent
        self._widths = [max(len(str(case)) for case, _ in cases), 5, 15, *[NUMBER] * len(RATES), *[RATIO] * len(peers)]
        self._total, self._done = len(cases), 0
        if not silent:
            render.text(roofs_line(roofs._asdict()))
            _print(["case", "batch", "direction", *RATES, *peers], self._widths, self.WORDS)

    def add(self, result: KernelResult) -> None:
        """Prints a row."""
        self._done += 1
        progress.status()
        figures = result.measurement.figures(self._roofs)
        if not self._silent:
            name = str(result.case), str(result.case.batch), result.direction
            ratios = [ratio_cell(figures, peer) for peer in self._peers]
            _print([*name, *rate_cells(figures), *ratios], self._widths, self.WORDS)
        if self._done < self._total:
            progress.status(f"measuring: {self._done} of {self._total} done …")


def _print(cells: Sequence[str], widths: Sequence[int], words: tuple[int, ...]) -> None:
    """A row; the columns ``words`` are left-aligned."""
    padded = enumerate(zip(cells, widths, strict=True))
    render.text("  ".join(cell.ljust(w) if i in words else cell.rjust(w) for i, (cell, w) in padded).rstrip())


def kernel_summaries(summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """The figures over all cases, against each peer."""
    for peer, found in summaries.items():
        if not found:
            continue
        render.text("")
        render.text(f"times of {peer} over ours, {found['compared']} compared:")
        rows = [(f"  geometric mean, {name}", f"{mean:.2f}×") for name, mean in found["geometric_mean"].items()]
        if found["geometric_mean_wide_3x3"]:
            wide = f"{found['geometric_mean_wide_3x3']:.2f}×"
            rows.append(("  geometric mean, 3×3 at stride 1 of 64 channels and more, all directions", wide))
        worst = found["worst"]
        rows.append((f"  worst, {worst['case']} {worst['direction']}", f"{worst['ratio']:.2f}×"))
        rows.append(("  whole interval above 1, below 1", f"{found['won']}, {found['lost']}"))
        render.table(rows)


def model_times(report: Mapping[str, Any], layers: bool) -> None:
    """What ``bench train`` found out."""
    peers = list(report["results"][0]["peers"])
    shape = "×".join(map(str, report["input_shape"]))
    render.text(f"{report['model']} {report['mode']}, input {shape}, {report['parameters']:,} parameters")
    render.text(roofs_line(report["roofs"]))
    rows = [["batch", *RATES, "images/s", *peers]]
    for result in report["results"]:
        cells = rate_cells(result)
        ratios = [ratio_cell(result, peer) for peer in peers]
        rows.append([str(result["batch"]), *cells, f"{result['images_per_second']:,.0f}", *ratios])
    render.table(rows, left=(0,))
    for result in report["results"]:
        if layers:
            render.text("")
            _layers(result, Roofs(**report["roofs"]))
        if "peak_memory" in result:
            told = ", ".join(f"{name} {render.size(size)}" for name, size in result["peak_memory"].items())
            render.text(f"peak memory of a training step, batches of {result['batch']}: {told}")
    if report["cold"]:
        cold = report["cold"]
        render.text(
            f"with an empty kernel cache: {cold['kernels']} kernels compile in {cold['seconds']:.1f} s, "
            f"the first training step takes {cold['first_step']:.1f} s"
        )


def _layers(result: Mapping[str, Any], roofs: Roofs) -> None:
    """Each step of the layers, what they are together, and what the whole takes beside them."""
    total = sum(row["ms"] for row in result["layers"])
    rows = [[f"layers, batches of {result['batch']}", "direction", *RATES, "share", "kernels, slowest first"]]
    for row in result["layers"]:
        names = list(row["kernels"])
        more = f" and {len(names) - MOST_KERNELS} more" if len(names) > MOST_KERNELS else ""
        share = f"{100 * row['ms'] / total:.1f} %"
        rows.append([row["layer"], row["direction"], *rate_cells(row), share, ", ".join(names[:MOST_KERNELS]) + more])
    rest = max(0.0, result["ms"] - total)
    rows.append(["all of these", "", *rate_cells(rates(total, _whole(result["layers"]), roofs)), "", ""])
    rows.append(["rest: loss, Python", "", _number(rest), *[""] * len(RATES), ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        _print(cells, widths, words=(0, 1, len(widths) - 1))


def _whole(rows: Sequence[Mapping[str, Any]]) -> Cost:
    return Cost(sum(row["flops"] for row in rows), sum(row["bytes"] for row in rows))


def roofs_line(roofs: Mapping[str, Any]) -> str:
    """What the machine can do."""
    adds = "multiply-adds" if roofs["precision"] == "fp32" else f"multiply-adds in {roofs['precision']}"
    return f"measured here: {roofs['gflops']:.1f} GFLOP/s of {adds}, {roofs['bandwidth']:.1f} GB/s of a triad"


def rate_cells(figures: Mapping[str, Any]) -> list[str]:
    """The cells of ``RATES``."""
    shares = [f"{100 * figures[name]:.0f} %" for name in ("share_of_peak", "share_of_triad")]
    ms, gflops, bandwidth = (_number(figures[name]) for name in ("ms", "gflops", "bandwidth"))
    return [ms, gflops, shares[0], bandwidth, shares[1]]


def ratio_cell(figures: Mapping[str, Any], peer: str) -> str:
    """How many times as fast we are, with its interval."""
    found = figures["peers"].get(peer)
    return f"{found['ratio']:.2f}× [{found['interval'][0]:.2f}, {found['interval'][1]:.2f}]" if found else "–"


def _number(value: float) -> str:
    """Three digits or more."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{3 if value < 1 else 2 if value < 100 else 1}f}"
