"""The graph of a model as an SVG image."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from os import PathLike

from numbacnn._checks import format_shape, html, path_of
from numbacnn.data.files import replacing
from numbacnn.engine.graph import Graph, Node
from numbacnn.errors import ArgumentError
from numbacnn.inspection.layered import Spot, arrange
from numbacnn.inspection.summary import Summary

LINE, PADDING, GAP, BETWEEN, MARGIN = 15.0, 8.0, 14.0, 22.0, 6.0  # in pixels
LETTER = 6.7  # width of a letter
LETTERS = 40  # of a line; longer names are shortened
FONT = "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11px"
TINTS = {  # part of an op → color
    "conv": "#0072B2",
    "dense": "#CC79A7",
    "pool": "#009E73",
    "norm": "#E69F00",
    "add": "#D55E00",
    "concat": "#D55E00",
    "multiply": "#D55E00",
}


@dataclass(frozen=True)
class Drawing:
    """An SVG image, which a notebook shows. ``str(drawing)`` is its text."""

    title: str
    width: int
    height: int
    content: str

    def __str__(self) -> str:
        paper = f'<rect width="{self.width}" height="{self.height}" fill="#fff"/>'
        return self._svg(paper, "color:#222")

    def save(self, path: str | PathLike[str]) -> None:
        """Write an SVG file, completely or not at all.

        Raises:
            ArgumentError: the name does not end in .svg, or its folder does not exist.
        """
        file = path_of(path, "save")
        if file.suffix.lower() != ".svg":
            raise ArgumentError(f"{file}: choose a file name that ends in .svg")
        if not file.parent.is_dir():
            raise ArgumentError(f"{file}: there is no folder {file.parent}")
        with replacing(file) as out:
            out.write(str(self).encode())

    def _repr_svg_(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html.scrolling(self.inline(), 40)

    def inline(self) -> str:
        """Return the image for a page: it has the color of the text around it, in light and dark themes."""
        return self._svg("", "")

    def _svg(self, background: str, style: str) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" role="img" '
            f'viewBox="0 0 {self.width} {self.height}" aria-label="{html.as_text(self.title)}" '
            f'style="{FONT};{style}">\n{background}{self.content}\n</svg>'
        )


@dataclass
class _Box:
    """The content of a box, and the values that it reads."""

    lines: list[str]
    tip: str
    inputs: list[int]
    tint: str | None = None
    auxiliary: bool = False

    @property
    def width(self) -> float:
        return max(map(len, self.lines)) * LETTER + 2 * PADDING


def draw(graph: Graph, compact: bool = False) -> Drawing:
    """Draw a graph from top to bottom, a box for each layer; ``compact`` draws a layer and its activation as one."""
    boxes, home = _boxes(graph, compact)
    parents = [sorted({home[value] for value in box.inputs}) for box in boxes]
    spots, edges = arrange(parents, [box.width for box in boxes], GAP)
    heights = [0.0] * (1 + max(spot.rank for spot in spots))
    for box, spot in zip(boxes, spots, strict=True):
        heights[spot.rank] = max(heights[spot.rank], len(box.lines) * LINE + PADDING)
    tops = [MARGIN]
    for height in heights:
        tops.append(tops[-1] + height + BETWEEN)
    parts = [_edge(path, tops, heights) for path in edges.values()]
    parts += [_rectangle(box, spot, tops[spot.rank]) for box, spot in zip(boxes, spots, strict=True)]
    right = max(spot.x + spot.width / 2 for path in [*edges.values(), spots] for spot in path)
    title = f"Graph of {len(graph.nodes)} layers, from {graph.names[0]} to {', '.join(graph.output_names)}"
    return Drawing(title, round(right + 2 * MARGIN), round(tops[-1] - BETWEEN + MARGIN), "\n".join(parts))


def model_html(title: str, graph: Graph, summary: Summary) -> str:
    """Return what a notebook shows for a model: its title, a compact drawing, and the summary."""
    drawing = html.scrolling(draw(graph, compact=True).inline())
    return html.lines([title]) + html.row(drawing, f'<div style="max-width:100%">{summary._repr_html_()}</div>')


def _boxes(graph: Graph, compact: bool) -> tuple[list[_Box], list[int]]:
    """Return the boxes of inputs and nodes, and the box of every value."""
    boxes = [
        _Box([name, format_shape(shape)], f"{name}: input {format_shape(shape)}", [])
        for name, shape in zip(graph.input_names, graph.input_shapes, strict=True)
    ]
    home = list(range(len(boxes)))
    inference = set(graph.inference.names)
    for node in graph.nodes:
        if compact and _joins(graph, node):
            box = boxes[home[node.inputs[0]]]
            box.lines[0] = _short(f"{box.lines[0]}, {type(node.layer).__name__}")
            box.lines[1] = format_shape(node.shape)
            box.tip += f"; {_tip(node)}"
            home.append(home[node.inputs[0]])
            continue
        kind = type(node.layer).__name__
        lines = [kind] if compact else [_short(node.name), kind]
        tint = next((color for part, color in TINTS.items() if part in node.layer.op), None)
        boxes.append(_Box([*lines, format_shape(node.shape)], _tip(node), [*node.inputs], tint))
        boxes[-1].auxiliary = node.name not in inference
        home.append(len(boxes) - 1)
    return boxes, home


def _joins(graph: Graph, node: Node) -> bool:
    """Return whether a compact drawing has no box for a node: it only changes one layer's output in values or shape."""
    if len(node.inputs) != 1 or node.inputs[0] < len(graph.input_shapes):
        return False
    keeps = node.shape == node.input_shapes[0] and (not node.parameters or node.layer.normalizes)
    is_conv = hasattr(node.layer, "filters") or "pool" in node.layer.op
    return len(graph.consumers[node.inputs[0]]) == 1 and (keeps or node.layer.is_view) and not is_conv


def _tip(node: Node) -> str:
    count = sum(prod(parameter.shape) for parameter in node.layer.parameters(node.input_shapes).values())
    options = ", ".join(f"{name}={value!r}" for name, value in node.layer.attributes().items())
    return f"{node.name}: {type(node.layer).__name__}({options}) → {format_shape(node.shape)}, {count:,} parameters"


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else f"…{text[1 - LETTERS :]}"


def _rectangle(box: _Box, spot: Spot, top: float) -> str:
    left, height = spot.x - spot.width / 2 + MARGIN, len(box.lines) * LINE + PADDING
    fill = f'fill="{box.tint}" fill-opacity="0.18"' if box.tint else 'fill="none"'
    dashes = ' stroke-dasharray="4 3"' if box.auxiliary else ""
    bold = ' font-weight="bold"'
    lines = "".join(
        f'<text x="{spot.x + MARGIN:.1f}" y="{top + PADDING / 2 + LINE * (i + 0.75):.1f}" text-anchor="middle" '
        f'fill="currentColor"{bold * (i == 0)}>{html.as_text(line)}</text>'
        for i, line in enumerate(box.lines)
    )
    return (
        f'<g><title>{html.as_text(box.tip)}</title><rect x="{left:.1f}" y="{top:.1f}" width="{spot.width:.1f}" '
        f'height="{height:.1f}" rx="4" {fill} stroke="currentColor" stroke-opacity="0.6"{dashes}/>{lines}</g>'
    )


def _edge(path: Sequence[Spot], tops: list[float], heights: list[float]) -> str:
    """Return a curve from the bottom of the first spot to the top of the last, with an arrowhead."""
    x, y = path[0].x + MARGIN, tops[path[0].rank] + heights[path[0].rank]
    steps = [f"M{x:.1f} {y:.1f}"]
    for upper, lower in pairwise(path):
        end, x0, x1 = tops[lower.rank], upper.x + MARGIN, lower.x + MARGIN
        start = tops[upper.rank] + heights[upper.rank]
        middle = (start + end) / 2
        steps.append(f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {end:.1f}")
        if lower.is_bend:
            steps.append(f"V{end + heights[lower.rank]:.1f}")
    tip = path[-1].x + MARGIN
    head = f"M{tip - 3:.1f} {end - 6:.1f}L{tip:.1f} {end:.1f}L{tip + 3:.1f} {end - 6:.1f}z"
    return (
        f'<path d="{"".join(steps)}" fill="none" stroke="currentColor" stroke-opacity="0.6"/>'
        f'<path d="{head}" fill="currentColor" fill-opacity="0.7"/>'
    )
