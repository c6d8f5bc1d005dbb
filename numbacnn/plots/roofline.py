"""A roofline plot: how fast each kernel or layer runs, under the limits of memory and of the processor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from numbacnn._checks import listed, number
from numbacnn._checks.names import checks_call
from numbacnn.errors import ArgumentError
from numbacnn.plots.figures import BLUE, VERMILION, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LABELED = 25  # points in the legend


class Point(NamedTuple):
    """A kernel or layer: its floating-point operations, the minimum of bytes that it moves, and its time in ms."""

    name: str
    flops: int
    bytes: int
    ms: float

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: operations per byte."""
        return self.flops / self.bytes

    @property
    def gflops(self) -> float:
        """Throughput in GFLOP/s."""
        return self.flops / self.ms / 1e6


@checks_call
def roofline(points: Sequence[Point], gflops: float, bandwidth: float, title: str = "Roofline") -> "Figure":
    """Plot points under the peaks ``gflops`` (GFLOP/s) and ``bandwidth`` (GB/s).

    (Williams, Waterman and Patterson 2009.) Work whose arrays stay in the caches can exceed the memory's peak, and
    Winograd's algorithm, whose operations are counted as the direct algorithm's, the processor's. The 25 points that
    take the longest are numbered, with their names in the legend. Points without operations are left out.

    Raises:
        ArgumentError: no point has operations.
    """
    gflops, bandwidth = number(gflops, "gflops", 0, above=True), number(bandwidth, "bandwidth", 0, above=True)
    points = sorted((point for point in listed(points, "points", Point) if point.flops), key=lambda point: -point.ms)
    if not points:
        raise ArgumentError("there is nothing to plot: no measurement has floating-point operations")
    figure = new_figure(11, max(5.5, 0.17 * min(len(points), MAX_LABELED) + 1.5))
    ax = figure.subplots()
    ax.set_xscale("log")
    ax.set_yscale("log")
    intensities, rates = [point.intensity for point in points], [point.gflops for point in points]
    ridge = gflops / bandwidth
    left, right = min(*intensities, ridge) / 2, max(*intensities, ridge) * 2
    ax.plot([left, ridge, right], [bandwidth * left, gflops, gflops], color=VERMILION, label="peaks")
    ax.plot(intensities, rates, "o", color=BLUE, markersize=4, linestyle="none")
    for i, point in enumerate(points[:MAX_LABELED], 1):
        ax.annotate(str(i), (point.intensity, point.gflops), (4, 2), textcoords="offset points", fontsize=6)
        label = f"{i}  {plain(point.name, 60)}: {point.ms:.3g} ms, {point.gflops:.3g} GFLOP/s"
        ax.plot([], [], " ", label=label)
    ax.text(right, gflops * 1.06, f"{gflops:.0f} GFLOP/s", ha="right", color=VERMILION, fontsize=8)
    ax.text(left * 1.1, bandwidth * left * 1.6, f"{bandwidth:.0f} GB/s", color=VERMILION, fontsize=8)
    ax.set_xlim(left, right)
    ax.set_xlabel("arithmetic intensity (FLOP/byte)")
    ax.set_ylabel("GFLOP/s of the direct algorithm")
    ax.grid(alpha=0.3, which="both")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, handlelength=1, frameon=False)
    figure.suptitle(plain(title))
    return figure
