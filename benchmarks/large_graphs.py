"""Time to plan and to summarize graphs of many nodes: long chains, and values that are all alive at once.

    python benchmarks/large_graphs.py [--nodes 100000]

The time is that of the processor. A plan is made for inference; a summary makes that and one for training.
"""

import argparse
import time

import numbacnn as nc
from numbacnn.engine.device import get_device
from numbacnn.engine.graph import Graph, Tensor
from numbacnn.engine.plan import make_plan
from numbacnn.inspection.summary import summarize

FAN_IN = 1000  # inputs of an addition


def chain(nodes: int, layers: tuple[type[nc.Layer], ...]) -> Graph:
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


def main() -> None:
    """Print a line for each kind of graph."""
    parser = argparse.ArgumentParser(description="Time plans and summaries of large graphs.")
    parser.add_argument("--nodes", type=int, default=100_000)
    nodes = parser.parse_args().nodes
    sizes = get_device("cpu").sizes
    for name, make in (
        ("chain of ReLU", lambda: chain(nodes, (nc.ReLU,))),
        ("chain of batch normalization and ReLU", lambda: chain(nodes, (nc.BatchNorm, nc.ReLU))),
        ("sums", lambda: wide(nodes)),
    ):
        graph = make()
        times = [time.process_time()]
        make_plan(graph, sizes, 1, training=False)
        times.append(time.process_time())
        summarize(graph, sizes)
        times.append(time.process_time())
        print(
            f"{name}: {nodes:,} nodes, plan {times[1] - times[0]:.2f} s, summary {times[2] - times[1]:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
