"""Limits of graphs from files of unknown origin: a few bytes may ask for any amount of time and memory.

What a graph may need grows with the bytes of its weights. The networks of the literature, at the sizes that they are
used at, stay far below.
"""

from math import prod
from typing import Any

from numbacnn.engine.graph import Graph
from numbacnn.errors import ModelFileError
from numbacnn.geometry import Shape, as_image

MAX_NODES = 20_000
MAX_INPUTS = 1_024
"""Of one node."""
MAX_INTEGER = (1 << 31) - 1
MAX_VALUES = 1 << 27
"""Numbers in all values of one image, and ``_PER_BYTE`` more for each byte of weights."""
MAX_FLOPS = 1 << 42
"""Floating-point operations for one image: almost three times those of U-Net for 1024×1024 pixels."""
_PER_BYTE = 16
_REMEDY = "if the file is your own, load it with limits=False (--no-limits)"


def check_form(form: dict[str, Any]) -> None:
    """Raise ModelFileError if a graph in a file has too many nodes or inputs, or too large integers."""
    nodes = form["nodes"]
    if len(nodes) > MAX_NODES:
        raise ModelFileError(f"the graph has {len(nodes):,} nodes, more than {MAX_NODES:,}; {_REMEDY}")
    for node in nodes:
        if len(node["inputs"]) > MAX_INPUTS:
            count = f"{len(node['inputs']):,} inputs, more than {MAX_INPUTS:,}"
            raise ModelFileError(f'node "{node["name"]}" has {count}; {_REMEDY}')
        _check_integers(node["attributes"], f'node "{node["name"]}"')
    _check_integers({"inputs": [item["shape"] for item in form["inputs"]]}, "the graph")


def _check_integers(attributes: dict[str, Any], whose: str) -> None:
    for name, value in attributes.items():
        pending = [value]
        while pending:
            part = pending.pop()
            if isinstance(part, list):
                pending += part
            elif isinstance(part, int) and abs(part) > MAX_INTEGER:
                raise ModelFileError(f"{whose} has an integer above {MAX_INTEGER:,} in its attribute {name!r}")


def check_graph(graph: Graph, weight_bytes: int) -> None:
    """Raise ModelFileError if running a graph on one image needs too much memory or time."""
    most = MAX_VALUES + _PER_BYTE * weight_bytes
    values, flops = sum(map(prod, graph.input_shapes)), 0
    for node in graph.nodes:
        values += prod(node.shape)
        values += sum(_halo_size(shape, node.layer.input_halo(node.geometry)) for shape in node.input_shapes)
        flops += node.layer.flops(node.geometry, node.shape)
        if values > most:
            needs = f"{_shown(values)} numbers for one image, more than {most:,}"
        elif flops > MAX_FLOPS:
            needs = f"{_shown(flops)} floating-point operations for one image, more than {MAX_FLOPS:,}"
        else:
            continue
        raise ModelFileError(f'the layers up to "{node.name}" need {needs}; {_REMEDY}')


def _halo_size(shape: Shape, halo: tuple[int, int, int, int]) -> int:
    """Return how many zeros a halo adds to an image."""
    if not any(halo):
        return 0
    height, width, channels = as_image(shape)
    top, bottom, left, right = halo
    return ((height + top + bottom) * (width + left + right) - height * width) * channels


def _shown(count: int) -> str:
    return f"{count:,}" if count < 1 << 64 else "over 10^19"
