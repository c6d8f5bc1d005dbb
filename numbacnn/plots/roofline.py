"""A roofline: how fast each piece of work runs, between the memory's roof and the processor's."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from numbacnn.errors import ArgumentError
from numbacnn.plots.figures import BLUE, VERMILION, figure, plain

LABELLED = 25  # points that get their names beside the picture


class Point(NamedTuple):
    """A piece of work: its floating-point operations, the bytes it moves at least, and its time in ms."""

    name: str
    flops: int
    bytes: int
    ms: float

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / self.bytes

    @property
    def gflops(self) -> float:
        """10⁹ operations a second."""
        return self.flops / self.ms / 1e6


def roofline(points: Sequence[Point], gflops: float, bandwidth: float, title: str = "Roofline") -> Any:
    """The points that compute something under the roofs ``gflops`` (GFLOP/s) and ``bandwidth`` (GB/s).

    (Williams, Waterman and Patterson 2009.) Work whose arrays stay in the caches may lie above the memory's roof, and
    Winograd's algorithm, counted by the direct one's operations, above the processor's. The 25 points that take the
    longest have numbers, with their names beside the picture. Raises ArgumentError where no point computes anything.
    """
    points = sorted((point for point in points if point.flops), key=lambda point: -point.ms)
    if not points:
        raise ArgumentError("there is nothing to draw: nothing that was measured computes")
    drawing = figure(11, max(5.5, 0.17 * min(len(points), LABELLED) + 1.5))
    ax = drawing.subplots()
    ax.set_xscale("log")
    ax.set_yscale("log")
    intensities, rates = [point.intensity for point in points], [point.gflops for point in points]
    ridge = gflops / bandwidth
    left, right = min(*intensities, ridge) / 2, max(*intensities, ridge) * 2
    ax.plot([left, ridge, right], [bandwidth * left, gflops, gflops], color=VERMILION, label="roofs")
    ax.plot(intensities, rates, "o", color=BLUE, markersize=4, linestyle="none")
    for number, point in enumerate(points[:LABELLED], 1):
        place = point.intensity, point.gflops
        ax.annotate(str(number), place, (4, 2), textcoords="offset points", fontsize=6)
        label = f"{number}  {plain(point.name, 60)}: {point.ms:.3g} ms, {point.gflops:.3g} GFLOP/s"
        ax.plot([], [], " ", label=label)
    ax.text(right, gflops * 1.06, f"{gflops:.0f} GFLOP/s", ha="right", color=VERMILION, fontsize=8)
    ax.text(left * 1.1, bandwidth * left * 1.6, f"{bandwidth:.0f} GB/s", color=VERMILION, fontsize=8)
    ax.set_xlim(left, right)
    ax.set_xlabel("operations for each byte moved")
    ax.set_ylabel("GFLOP/s of the direct algorithm")
    ax.grid(alpha=0.3, which="both")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, handlelength=1, frameon=False)
    drawing.suptitle(plain(title))
    return drawing
