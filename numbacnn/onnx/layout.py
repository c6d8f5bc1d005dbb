"""The order of a value's elements: how the axes of an ONNX tensor run over our memory.

Our memory is one axis, split into ``factors`` from the slowest to the fastest: (h, w, c) of an image. An axis of ONNX
runs over some of the factors. A transpose exchanges axes, a reshape splits and joins them; neither moves an element.
"""

from itertools import accumulate, pairwise
from math import prod
from typing import NamedTuple

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """``factors`` are the sizes of our memory's factors; ``axes`` lists those of each axis but the batch's."""

    factors: Shape
    axes: tuple[tuple[int, ...], ...]

    @classmethod
    def contiguous(cls, shape: Shape) -> "Layout":
        """Return the layout of an array in C order."""
        return _simplified(shape, [[i] for i in range(len(shape))])

    @classmethod
    def channels_first(cls, shape: Shape) -> "Layout":
        """Return the layout (c, h, w) of our image (h, w, c)."""
        return _simplified(shape, [[2], [0], [1]])

    @property
    def shape(self) -> Shape:
        """The sizes of the axes."""
        return tuple(prod(self.factors[i] for i in axis) for axis in self.axes)

    @property
    def flat(self) -> list[int]:
        """The factors in the order of the axes."""
        return [i for axis in self.axes for i in axis]

    @property
    def moved(self) -> bool:
        """Whether the elements are in another order than in our memory."""
        return self.flat != sorted(self.flat)

    def transposed(self, order: Shape) -> "Layout":
        """Return the layout with its axes in another order."""
        return _simplified(self.factors, [list(self.axes[i]) for i in order])

    def reshaped(self, shape: Shape) -> "Layout | None":
        """Return the layout with other axes over the same sequence of elements, or None if it would need a copy."""
        factors: list[list[int]] = [[size] for size in self.factors]  # each split into parts, slowest first
        pending = [(i, size) for i in self.flat for size in [self.factors[i]]]
        axes: list[list[tuple[int, int]]] = []  # (factor, part), parts counted as they are taken
        taken: dict[int, list[int]] = {i: [] for i in range(len(factors))}
        for size in shape:
            axis, left = [], size
            while left > 1:
                if not pending:
                    return None
                i, have = pending.pop(0)
                part = min(have, left)
                if have % part or left % part:
                    return None
                axis.append((i, len(taken[i])))
                taken[i].append(part)
                left //= part
                if have > part:
                    pending.insert(0, (i, have // part))
            axes.append(axis)
        if any(size > 1 for _, size in pending):
            return None
        starts = [*accumulate((len(taken[i]) for i in range(len(factors))), initial=0)]
        parts = [size for i in range(len(factors)) for size in taken[i]]
        return _simplified(tuple(parts), [[starts[i] + part for i, part in axis] for axis in axes])


def _simplified(factors: Shape, axes: list[list[int]]) -> Layout:
    """Drop factors of one element, and join those that are neighbors in memory and in an axis."""
    kept = [[i for i in axis if factors[i] > 1] for axis in axes]
    after = {a: b for axis in kept for a, b in pairwise(axis)}
    order = sorted(i for axis in kept for i in axis)
    sizes: list[int] = []
    number: dict[int, int] = {}
    for position, i in enumerate(order):
        before = order[position - 1] if position else -1
        if position and after.get(before) == i:
            sizes[-1] *= factors[i]
        else:
            sizes.append(factors[i])
        number[i] = len(sizes) - 1
    joined = tuple(tuple(dict.fromkeys(number[i] for i in axis)) for axis in kept)
    return Layout(tuple(sizes), joined)
