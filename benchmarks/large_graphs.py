"""Time to plan and to summarize graphs of many nodes: long chains, and values that are all alive at once.

    python benchmarks/large_graphs.py [--nodes 100000] [--repeat 1]

The time is that of the processor, the shortest of the repetitions, each with a new graph. A plan is made for inference;
a summary makes that and one for training.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numbacnn as nc
from numbacnn.engine.device import get_device
from numbacnn.engine.graph import Graph, Tensor
from numbacnn.engine.plan import make_plan
from numbacnn.inspection.summary import summarize

FAN_IN = 1000  # inputs of an addition


def conv() -> nc.Layer:
    """Return a convolution that keeps the shape."""
    return nc.Conv2D(2, 3, padding="same")


def chain(nodes: int, layers: Sequence[Callable[[], nc.Layer]]) -> Graph:
    """Layers after each other."""
    start = x = nc.Input((4, 4, 2))
    for i in range(nodes):
        x = layers[i % len(layers)]()(x)
    return Graph([start], [x])


def wide(nodes: int) -> Graph:
    """A tree of sums of values that are all computed from the input."""
    start = nc.Input((4, 4, 2))
    level: list[Tensor] = [nc.ReLU()(start) for _ in range(nodes)]
    while len(level) > 1:
        groups = [level[i : i + FAN_IN] for i in range(0, len(level), FAN_IN)]
        level = [nc.Add()(group) if len(group) > 1 else group[0] for group in groups]
    return Graph([start], level)


def residual(nodes: int) -> Graph:
    """Blocks of a convolution, a batch normalization, an addition and ReLU."""
    start = x = nc.Input((4, 4, 2))
    for _ in range(nodes // 4):
        x = nc.ReLU()(nc.Add()([x, nc.BatchNorm()(conv()(x))]))
    return Graph([start], [x])


FAMILIES: dict[str, Callable[[int], Graph]] = {
    "chain of ReLU": lambda nodes: chain(nodes, [nc.ReLU]),
    "chain of batch normalization and ReLU": lambda nodes: chain(nodes, [nc.BatchNorm, nc.ReLU]),
    "sums": wide,
    "residual blocks": residual,
    "chain of convolutions": lambda nodes: chain(nodes, [conv]),
}


def measure(graph: Graph) -> tuple[float, float]:
    """Return the seconds of a plan and of a summary."""
    sizes = get_device("cpu").sizes
    times = [time.process_time()]
    make_plan(graph, sizes, 1, training=False)
    times.append(time.process_time())
    summarize(graph, sizes)
    times.append(time.process_time())
    return times[1] - times[0], times[2] - times[1]


def main() -> None:
    """Print a line for each kind of graph."""
    parser = argparse.ArgumentParser(description="Time plans and summaries of large graphs.")
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument(
        "--repeat", type=int, default=1, help="number of measurements, of which the shortest is printed"
    )
    arguments = parser.parse_args()
    for name, make in FAMILIES.items():
        times = [measure(make(arguments.nodes)) for _ in range(arguments.repeat)]
        plan, summary = map(min, zip(*times, strict=True))
        print(f"{name}: {arguments.nodes:,} nodes, plan {plan:.2f} s, summary {summary:.2f} s", flush=True)


if __name__ == "__main__":
    main()
