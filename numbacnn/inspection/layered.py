"""Positions for the drawing of a graph: ranks from top to bottom, and edges that pass between the boxes.

The steps are those of Sugiyama, Tagawa and Toda (1981): ranks by the longest path, a bend of no width where an edge
passes a rank, an order within each rank by the mean of the neighbors, and then horizontal positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SWEEPS = 8
BEND_WIDTH = 10.0
BEND_PULL = 4.0  # how much more an edge between two bends pulls, so that long edges are straight


@dataclass(eq=False)
class Spot:
    """A box, or the bend of a long edge. ``x`` is its center."""

    rank: int
    width: float
    is_bend: bool = False
    x: float = 0.0
    above: list["Spot"] = field(default_factory=list)
    below: list["Spot"] = field(default_factory=list)


def arrange(
    parents: Sequence[Sequence[int]], widths: Sequence[float], gap: float
) -> tuple[list[Spot], dict[tuple[int, int], list[Spot]]]:
    """Return a spot for each box, and for each edge (parent, child) its spots from top to bottom.

    ``parents`` are indices of earlier boxes, without repetition. No two spots of a rank are closer than ``gap``.
    """
    boxes = list[Spot]()
    for own, width in zip(parents, widths, strict=True):
        boxes.append(Spot(1 + max((boxes[i].rank for i in own), default=-1), width))
    ranks: list[list[Spot]] = [[] for _ in range(1 + max(box.rank for box in boxes))]
    for box in boxes:
        ranks[box.rank].append(box)
    edges = {}
    for child, own in enumerate(parents):
        for parent in own:
            between = range(boxes[parent].rank + 1, boxes[child].rank)
            bends = [Spot(rank, BEND_WIDTH, is_bend=True) for rank in between]
            for bend in bends:
                ranks[bend.rank].append(bend)
            edges[parent, child] = [boxes[parent], *bends, boxes[child]]
    for path in edges.values():
        for upper, lower in pairwise(path):
            upper.below.append(lower)
            lower.above.append(upper)
    _order(ranks)
    for sweep in range(SWEEPS):
        for rank in ranks if sweep % 2 == 0 else reversed(ranks):
            _set_positions(rank, gap, [*_neighbors(rank, sweep)])
    left = min(spot.x - spot.width / 2 for rank in ranks for spot in rank)
    for rank in ranks:
        for spot in rank:
            spot.x -= left
    return boxes, edges


def _order(ranks: list[list[Spot]]) -> None:
    """Sort every rank by the mean index of the neighbors above, then below, and so on."""
    for sweep in range(SWEEPS):
        downward = sweep % 2 == 0
        index: dict[int, float] = {}
        for rank in ranks if downward else reversed(ranks):
            own = {id(spot): float(i) for i, spot in enumerate(rank)}
            means = {
                id(spot): sum(index[id(other)] for other in near) / len(near) if near else own[id(spot)]
                for spot in rank
                for near in [spot.above if downward else spot.below]
            }
            rank.sort(key=lambda spot, means=means: means[id(spot)])  # type: ignore[misc]
            index |= {id(spot): float(i) for i, spot in enumerate(rank)}


def _neighbors(rank: list[Spot], sweep: int) -> list[tuple[float, float]]:
    """Return the position that each spot should have, the mean of its neighbors', and its weight."""
    desired = []
    for spot in rank:
        near = (spot.above if sweep % 2 == 0 else spot.below) if sweep < SWEEPS - 2 else spot.above + spot.below
        pulls = [BEND_PULL if spot.is_bend and other.is_bend else 1.0 for other in near]
        total = sum(pulls)
        mean = sum(p * other.x for p, other in zip(pulls, near, strict=True)) / total if total else spot.x
        desired.append((mean, total or 0.1))
    return desired


def _set_positions(rank: list[Spot], gap: float, desired: list[tuple[float, float]]) -> None:
    """Set the positions in the given order that are closest to the desired (least squares) without overlap.

    With the widths subtracted, that is an isotonic regression, by pooling adjacent violators (Barlow et al. 1972).
    """
    offset, offsets = 0.0, []
    for i, spot in enumerate(rank):
        if i:
            offset += (rank[i - 1].width + spot.width) / 2 + gap
        offsets.append(offset)
    pools = list[tuple[float, float, int]]()  # mean, weight, number of spots
    for (position, weight), start in zip(desired, offsets, strict=True):
        pool = (position - start, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, total, count = pools.pop()
            both = total + pool[1]
            pool = ((mean * total + pool[0] * pool[1]) / both, both, count + pool[2])
        pools.append(pool)
    means = [mean for mean, _, count in pools for _ in range(count)]
    for spot, mean, start in zip(rank, means, offsets, strict=True):
        spot.x = mean + start
