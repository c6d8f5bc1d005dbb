"""Converters of pools to ONNX: windows, bins, and whole images."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.graph import Node
from numbacnn.geometry import AdaptiveGeometry, PoolGeometry

if TYPE_CHECKING:
    from numbacnn.onnx.exports import Order, Row
    from numbacnn.onnx.writer import Writer


def max_pool(w: "Writer", node: Node, xs: list[str], y: str, order: "Order | None") -> None:
    """The maximum of each window."""
    g: PoolGeometry = node.geometry
    _add_pool(w, "MaxPool", xs, y, g, (g.pad_top, g.pad_left, *_reach(g, g.pad_top, g.pad_left)))


def average_pool(w: "Writer", node: Node, xs: list[str], y: str, order: "Order | None") -> None:
    """Runtimes disagree about ceil_mode, so the pads are those that the last windows reach, and padding that counts
    beyond which windows reach is a Pad of its own."""
    g: PoolGeometry = node.geometry
    reach = _reach(g, g.pad_top, g.pad_left)
    pads = g.pad_top, g.pad_left, *reach
    counted = g.count_include_pad and any(pads)
    if counted and (reach[0] > g.pad_bottom or reach[1] > g.pad_right):
        around = (0, 0, g.pad_top, g.pad_left, 0, 0, g.pad_bottom, g.pad_right)
        xs = [w.add("Pad", [*xs, w.integers(f"{y}:pads", around)], f"{y}:padded")]
        pads, counted = (0, 0, max(0, reach[0] - g.pad_bottom), max(0, reach[1] - g.pad_right)), False
    _add_pool(w, "AveragePool", xs, y, g, pads, count_include_pad=int(counted))


def _reach(g: PoolGeometry, top: int, left: int) -> tuple[int, int]:
    """Return the rows and columns beyond the image that the last windows reach."""
    return (
        max(0, (g.p - 1) * g.stride_h + g.r - g.h - top),
        max(0, (g.q - 1) * g.stride_w + g.s - g.w - left),
    )


def _add_pool(
    w: "Writer", op: str, xs: list[str], y: str, g: PoolGeometry, pads: tuple[int, ...], **options: int
) -> None:
    w.add(op, xs, y, kernel_shape=(g.r, g.s), strides=(g.stride_h, g.stride_w), pads=pads, **options)


def global_pool(op: str) -> "Row":
    """Return the row of an operator on whole images, whose output may be features."""

    def row(w: "Writer", node: Node, xs: list[str], y: str, order: "Order | None") -> None:
        if len(node.shape) == 3:
            w.add(op, xs, y)
        else:
            w.add("Flatten", [w.add(op, xs, f"{y}:image")], y)

    return row


def adaptive_average(w: "Writer", node: Node, xs: list[str], y: str, order: "Order | None") -> None:
    """Bins of one size are windows; others are two products with matrices of averages, over rows and over columns."""
    g: AdaptiveGeometry = node.geometry
    if not _add_equal_bins(w, "AveragePool", node, xs, y):
        rows, columns = averages(g.h, g.p), averages(g.w, g.q)
        x = w.add("MatMul", [w.constant(f"{y}:rows", rows), *xs], f"{y}:over_rows")
        w.add("MatMul", [x, w.constant(f"{y}:columns", columns.T)], y)


def adaptive_max(w: "Writer", node: Node, xs: list[str], y: str, order: "Order | None") -> None:
    """Bins of one size are windows; of others, the maxima of slices, over rows and then over columns."""
    g: AdaptiveGeometry = node.geometry
    if not _add_equal_bins(w, "MaxPool", node, xs, y):
        x = _maxima(w, xs[0], f"{y}:rows", 2, _bins(g.h, g.p), f"{y}:over_rows")
        _maxima(w, x, f"{y}:columns", 3, _bins(g.w, g.q), y)


def _add_equal_bins(w: "Writer", op: str, node: Node, xs: list[str], y: str) -> bool:
    g: AdaptiveGeometry = node.geometry
    if g.h % g.p or g.w % g.q:
        return False
    window = g.h // g.p, g.w // g.q
    w.add(op, xs, y, kernel_shape=window, strides=window)
    return True


def _bins(size: int, count: int) -> list[tuple[int, int]]:
    """Return the first element and the end of each bin."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def averages(size: int, count: int) -> NDArray[np.float32]:
    """Return the matrix (count, size) that averages each bin of an adaptive pool over an axis."""
    matrix = np.zeros((count, size), np.float32)
    for row, (first, end) in zip(matrix, _bins(size, count), strict=True):
        row[first:end] = 1 / (end - first)
    return matrix


def _maxima(w: "Writer", x: str, name: str, axis: int, bins: list[tuple[int, int]], y: str) -> str:
    axes, parts = w.integers(f"{name}:axis", [axis]), []
    for i, (first, end) in enumerate(bins):
        ends = w.integers(f"{name}:{i}:first", [first]), w.integers(f"{name}:{i}:end", [end])
        part = w.add("Slice", [x, *ends, axes], f"{name}:{i}:part")
        reduced = [part, axes] if w.opset >= 18 else [part]
        attributes = {} if w.opset >= 18 else {"axes": [axis]}
        parts.append(w.add("ReduceMax", reduced, f"{name}:{i}", keepdims=1, **attributes))
    return w.add("Concat", parts, y, axis=axis)
