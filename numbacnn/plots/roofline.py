"""A roofline: how fast each piece of work runs, between the memory's roof and the processor's."""

from collections.abc import Sequence
from typing import Any

from numbacnn.errors import ArgumentError
from numbacnn.plots.figures import BLUE, VERMILION, figure, plain

LABELLED = 30  # points that get their names beside the picture


def roofline(
    points: Sequence[tuple[str, float, float]], gflops: float, bandwidth: float, title: str = "Roofline"
) -> Any:
    """Points (name, operations for each byte moved, GFLOP/s) under the roofs ``gflops`` and ``bandwidth`` (GB/s).

    (Williams, Waterman and Patterson 2009.) Work whose arrays stay in the caches may lie above the memory's roof, and
    Winograd's algorithm, counted by the direct one's operations, above the processor's. The slowest points of up to 30
    have numbers, with their names beside the picture. Raises ArgumentError where there is no point.
    """
    if not points:
        raise ArgumentError("there is nothing to draw: nothing that was measured computes")
    drawing = figure(11, max(5.5, 0.17 * min(len(points), LABELLED) + 1.5))
    ax = drawing.subplots()
    ax.set_xscale("log")
    ax.set_yscale("log")
    intensities, rates = [x for _, x, _ in points], [y for *_, y in points]
    ridge = gflops / bandwidth
    left, right = min(*intensities, ridge) / 2, max(*intensities, ridge) * 2
    ax.plot([left, ridge, right], [bandwidth * left, gflops, gflops], color=VERMILION, label="roofs")
    ax.plot(intensities, rates, "o", color=BLUE, markersize=4, linestyle="none")
    named = sorted(range(len(points)), key=rates.__getitem__)[:LABELLED]
    for number, i in enumerate(sorted(named), 1):
        name, x, y = points[i]
        ax.annotate(str(number), (x, y), (4, 2), textcoords="offset points", fontsize=6)
        ax.plot([], [], " ", label=f"{number}  {plain(name, 60)}: {y:.3g}")
    ax.text(right, gflops * 1.06, f"{gflops:.0f} GFLOP/s", ha="right", color=VERMILION, fontsize=8)
    ax.text(left * 1.1, bandwidth * left * 1.6, f"{bandwidth:.0f} GB/s", color=VERMILION, fontsize=8)
    ax.set_xlim(left, right)
    ax.set_xlabel("operations for each byte moved")
    ax.set_ylabel("GFLOP/s of the direct algorithm")
    ax.grid(alpha=0.3, which="both")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, handlelength=1, frameon=False)
    drawing.suptitle(plain(title))
    return drawing
