"""Shapes, parameters, FLOPs and memory of a model, as data and as a table."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from numbacnn._checks import format_shape, html
from numbacnn._checks.garbage import without_collection
from numbacnn._checks.text import for_output
from numbacnn.engine.graph import Graph
from numbacnn.engine.plan import make_plan
from numbacnn.geometry import Shape
from numbacnn.layers.bindings import Sizes

BATCH = 64  # for which memory is computed
NO_ALGORITHMS: Mapping[str, str] = {}
COLUMNS = ("layer", "kind", "output", "parameters", "MFLOP", "algorithms")


@dataclass(slots=True)
class Row:
    """One layer. ``flops`` are those of the direct algorithm for one image, a multiply-add counted as two.

    ``algorithms`` names the convolution algorithms: "forward" in inference, and in training "weight_gradient" and
    "input_gradient" if these gradients are needed. A transposed convolution runs them the other way round.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output_shape: Shape
    parameters: int
    flops: int
    training_only: bool = False  # only auxiliary outputs need it
    algorithms: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """The rows of a model and their totals; ``memory`` is in bytes, for a batch of 64.

    ``parameters`` includes rows that run only in training, ``flops`` does not.
    """

    rows: tuple[Row, ...]
    input_shapes: tuple[Shape, ...]
    parameters: int
    flops: int
    memory: dict[str, int]

    def __str__(self) -> str:
        columns = zip(COLUMNS, *map(_cells, self.rows), strict=True)
        aligned = [_align(column, right=i in (3, 4)) for i, column in enumerate(columns)]
        table = ["  ".join(line).rstrip() for line in zip(*aligned, strict=True)]
        table.insert(1, "─" * max(map(len, table)))
        return for_output("\n".join([self._inputs, *table, *self._totals]))

    def _repr_html_(self) -> str:
        return html.table(COLUMNS, [_cells(row) for row in self.rows], self._inputs) + html.lines(self._totals)

    @property
    def _inputs(self) -> str:
        return f"input {', '.join(map(format_shape, self.input_shapes))}"

    @property
    def _totals(self) -> list[str]:
        memory = ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in self.memory.items())
        return [
            f"{self.parameters:,} parameters, {self.flops / 1e6:.3f} MFLOP an image",
            f"memory at batch {BATCH}: {memory}",
            *["* in training only"] * any(row.training_only for row in self.rows),
        ]


def summarize(graph: Graph, sizes: Sizes) -> Summary:
    """Summarize a graph; ``sizes`` as in ``make_plan``."""
    with without_collection():
        return _summarize(graph, sizes)


def _summarize(graph: Graph, sizes: Sizes) -> Summary:
    names, training_only = graph.names, set(graph.names).difference(graph.inference.names)
    algorithms: dict[str, Mapping[str, str]] = {}
    memory = {mode: _plan(graph, sizes, mode == "training", algorithms) for mode in ("inference", "training")}
    rows = tuple(
        [
            Row(
                node.name,
                node.layer.op,
                tuple([names[value] for value in node.inputs]),
                node.kind.shape,
                node.kind.parameter_count,
                node.kind.flops,
                node.name in training_only,
                algorithms.get(node.name, NO_ALGORITHMS),
            )
            for node in graph.nodes
        ]
    )
    parameters = sum([row.parameters for row in rows])
    flops = sum([row.flops for row in rows if not row.training_only])
    return Summary(rows, tuple(graph.input_shapes), parameters, flops, {"parameters": 4 * parameters, **memory})


def _plan(graph: Graph, sizes: Sizes, training: bool, algorithms: dict[str, Mapping[str, str]]) -> int:
    """Make a plan, add its algorithms to those found before, by node and direction, and return its bytes."""
    plan = make_plan(graph, sizes, BATCH, training=training)
    merged: dict[tuple[int, int], tuple[Mapping[str, str], Mapping[str, str]]] = {}  # equal nodes share a mapping
    for step in itertools.chain(plan.forward, plan.backward):
        if not step.algorithms:
            continue
        for part in (step, *step.then):
            before = algorithms.get(part.node.name, NO_ALGORITHMS)
            key = id(before), id(step.algorithms)
            if key not in merged:
                names = {direction: algorithm.name for direction, algorithm in step.algorithms.items()}
                merged[key] = before, {**before, **{new: names[new] for new in names if new not in before}}
            algorithms[part.node.name] = merged[key][1]
    return plan.bytes


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.name} *" if row.training_only else row.name,
        row.op,
        *_figures(row.output_shape, row.parameters, row.flops),
        " / ".join(dict.fromkeys(row.algorithms.values())),
    )


@lru_cache(1024)
def _figures(shape: Shape, parameters: int, flops: int) -> tuple[str, str, str]:
    """Return a row's figures as text. The many rows of a large graph have few different ones."""
    return format_shape(shape), f"{parameters:,}", f"{flops / 1e6:.3f}"


def _align(column: Sequence[str], right: bool) -> list[str]:
    """Align words left and numbers right."""
    width = max(map(len, column))
    return [cell.rjust(width) if right else cell.ljust(width) for cell in column]
